"""Exact counters and gauges: what the server says at the moment of a scrape, as metrics."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from worker.metric import OTHER, Kind, Label, Layer, Metric
from worker.observe.metrics import MODE, STATE, registered
from worker.pipeline.schedule import Lane

# More values than this are exposed only once they have been seen.
_SHOWN_AT_ZERO = 30


@dataclass(frozen=True, slots=True)
class LaneReading:
    """One lane. `users` by state; `ages`: (seconds, changes delivered at that age)."""

    users: Mapping[str, int]
    oldest_ready_seconds: float
    ages: Sequence[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class AudienceReading:
    """One audience, or those that have no series of their own, together."""

    members: int = 0
    pending: int = 0
    oldest_seconds: float = 0.0
    sent: int = 0
    saved: int = 0

    def __add__(self, other: "AudienceReading") -> "AudienceReading":
        return AudienceReading(
            self.members + other.members,
            self.pending + other.pending,
            max(self.oldest_seconds, other.oldest_seconds),
            self.sent + other.sent,
            self.saved + other.saved,
        )


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """Data points of this day, the bounds (0: none), and users who are held for them."""

    today: int = 0
    per_day: int = 0
    per_audience: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class ServerReading:
    """Everything that is read from the server for one scrape. Not atomic as a whole."""

    accepted: int
    ends: Mapping[str, int]
    pending: int
    data_points: int
    objects: int
    resent: int
    replayed: int
    dropped: int
    envelopes_dead: int
    refused: Mapping[str, int]
    skipped: Mapping[str, int]
    statuses: Mapping[str, int]
    courses: Mapping[str, int]
    objects_sent: int
    inbox: int
    lanes: Mapping[Lane, LaneReading]
    dead_letters: int
    workers: int
    tick_age_seconds: float
    state: str
    is_stopped: bool
    paused_until: float
    users_deleted: int = 0
    users_suppressed: int = 0
    deletes_taken: int = 0
    deletes_waiting: int = 0
    deletes_stopped: bool = False
    audiences: Mapping[str, AudienceReading] = field(default_factory=dict)
    registry_refused: bool = False
    sweeps: int = 0
    mode: str = "live"
    budget: BudgetReading = field(default_factory=BudgetReading)


class Sheet:
    """The samples of one scrape. Raises NotRegistered for what is not in the register."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}

    def put(self, name: str, value: float, **labels: str) -> None:
        """One sample of a counter or gauge."""
        metric = registered(name, Layer.SERVER)
        self._add(metric, metric.place(**labels), value)

    def put_each(self, name: str, counts: Mapping[str, float], **labels: str) -> None:
        """A sample for each value of the last label; values not foreseen are one, `other`."""
        label = registered(name, Layer.SERVER).labels[-1]
        found: Counter[str] = Counter()
        if len(label.values) <= _SHOWN_AT_ZERO:
            found.update(dict.fromkeys(label.values, 0))
        for value, count in counts.items():
            found[label.bounded(value)] += count  # type: ignore[assignment]
        for value, count in found.items():
            self.put(name, count, **labels, **{label.name: value})

    def put_ages(self, name: str, ages: Sequence[tuple[float, int]], **labels: str) -> None:
        """A histogram of (seconds, how many)."""
        metric = registered(name, Layer.SERVER)
        buckets = [
            (str(edge), sum(count for age, count in ages if age <= edge)) for edge in metric.edges
        ]
        buckets.append(("+Inf", sum(count for _, count in ages)))
        total = sum(age * count for age, count in ages)
        self._add(metric, metric.place(**labels), buckets, total)

    def families(self) -> Iterator[Family]:
        """What was put, in that order."""
        yield from self._families.values()

    def _add(self, metric: Metric, *sample: object) -> None:
        if metric.name not in self._families:
            self._families[metric.name] = _FAMILY[metric.kind](
                metric.name, metric.meaning, labels=metric.label_names
            )
        self._families[metric.name].add_metric(*sample)


_FAMILY: dict[Kind, Callable[..., Any]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class ServerCollector(Collector):
    """Reads the server at each scrape; `read` returns None if it does not answer."""

    def __init__(self, read: Callable[[], ServerReading | None]) -> None:
        self._read = read

    def describe(self) -> Iterator[Family]:
        """Nothing is read before the first scrape."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """The server's metrics, or that it is away."""
        reading = self._read()
        sheet = Sheet()
        sheet.put("persona_sync_server_up", reading is not None)
        if reading is not None:
            _fill(sheet, reading)
        return sheet.families()


def _fill(sheet: Sheet, reading: ServerReading) -> None:
    put = sheet.put
    put("persona_sync_changes_accepted_total", reading.accepted)
    sheet.put_each("persona_sync_changes_ended_total", reading.ends)
    put("persona_sync_changes_pending", reading.pending)
    put("persona_sync_data_points_total", reading.data_points)
    put("persona_sync_objects_delivered_total", reading.objects)
    put("persona_sync_values_resent_total", reading.resent)
    put("persona_sync_dead_letters_replayed_total", reading.replayed)
    put("persona_sync_dead_letters_dropped_total", reading.dropped)
    put("persona_sync_envelopes_dead_total", reading.envelopes_dead)
    sheet.put_each("persona_sync_messages_refused_total", reading.refused)
    sheet.put_each("persona_sync_messages_skipped_total", reading.skipped)
    sheet.put_each("persona_sync_braze_requests_total", reading.statuses)
    sheet.put_each("persona_sync_braze_replies_total", reading.courses)
    put("persona_sync_braze_objects_sent_total", reading.objects_sent)
    put("persona_sync_inbox_entries", reading.inbox)
    for lane, found in reading.lanes.items():
        sheet.put_each("persona_sync_lane_users", found.users, lane=lane)
        put("persona_sync_oldest_ready_seconds", found.oldest_ready_seconds, lane=lane)
        sheet.put_ages("persona_sync_freshness_seconds", found.ages, lane=lane)
    put("persona_sync_dead_letters", reading.dead_letters)
    put("persona_sync_workers_alive", reading.workers)
    put("persona_sync_tick_age_seconds", reading.tick_age_seconds)
    _put_one_of(sheet, "persona_sync_destination_state", STATE, reading.state)
    _put_one_of(sheet, "persona_sync_mode", MODE, reading.mode)
    put("persona_sync_budget_held_users", reading.budget.held)
    put("persona_sync_budget_data_points_today", reading.budget.today)
    put("persona_sync_budget_data_points", reading.budget.per_day, bound="per_day")
    put(
        "persona_sync_budget_data_points", reading.budget.per_audience, bound="per_audience_per_day"
    )
    put("persona_sync_users_deleted_total", reading.users_deleted)
    put("persona_sync_users_suppressed", reading.users_suppressed)
    put("persona_sync_deletes_taken_total", reading.deletes_taken)
    put("persona_sync_deletes_waiting", reading.deletes_waiting)
    put("persona_sync_deletes_stopped", reading.deletes_stopped)
    for audience, book in reading.audiences.items():
        put("persona_sync_audience_members", book.members, audience=audience)
        put("persona_sync_audience_pending_users", book.pending, audience=audience)
        put("persona_sync_audience_oldest_pending_seconds", book.oldest_seconds, audience=audience)
        put("persona_sync_audience_data_points_total", book.sent, audience=audience)
        put("persona_sync_audience_saved_total", book.saved, audience=audience)
    put("persona_sync_registry_refused", reading.registry_refused)
    put("persona_sync_sweeps_unfinished", reading.sweeps)
    put("persona_sync_destination_stopped", reading.is_stopped)
    put("persona_sync_destination_paused_until_timestamp_seconds", reading.paused_until)


def _put_one_of(sheet: Sheet, name: str, label: Label, value: str) -> None:
    """1 for the value that it is, 0 for the others."""
    for each in (*label.values, OTHER):
        is_it = label.bounded(value) == each
        if is_it or each != OTHER:
            sheet.put(name, is_it, **{label.name: each})
