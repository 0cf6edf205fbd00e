"""The producer's register of metrics, and the board on which its processes keep their figures.

The board is memory that all processes of one producer share, a row for each: whichever is asked
tells the sum of all, and a process that died and was started again goes on in its row. What is
not in the register cannot be counted. docs/metrics.md is written from it.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterator
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from producer.http.ingest import KINDS
from worker.metric import OTHER, PREFIX, Kind, Label, Layer, Metric, NotRegistered

ROUTES = (*KINDS, "batch", "import", "webhook", "openapi", "healthz", "readyz")
STATUSES = (200, 400, 401, 404, 405, 408, 413, 415, 429, 431, 500, 503)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROUTE = Label("route", ROUTES)
_STATUS = Label("status", tuple(str(status) for status in STATUSES))
_KIND = Label("kind", (*KINDS, "delete"))
_OUTCOME = Label("outcome", ("accepted", "refused", "skipped"))
_REASON = Label("reason", ("inbox_full", "memory_full", "server_away", "wrong_server"))
_BYTES = 8


def _metric(kind: Kind, name: str, unit: str, meaning: str, todo: str, *labels: Label) -> Metric:
    edges = _SECONDS if kind is Kind.HISTOGRAM else ()
    name = f"{PREFIX}producer_{name}"
    return Metric(name, kind, Layer.PRODUCER, unit, meaning, todo, labels, edges)


METRICS: tuple[Metric, ...] = (
    _metric(
        Kind.COUNTER, "requests_total", "requests", "Requests that were answered.",
        "401 grows: a key is wrong, or somebody tries. 429 and 503 grow: look at `taking`.",
        _ROUTE, _STATUS,
    ),
    _metric(
        Kind.HISTOGRAM, "request_duration_seconds", "seconds",
        "How long an answer took, from the headers on; waiting for the disk is most of it.",
        "Above a second: look at the server's disk. Segment waits 5 s for a webhook.",
    ),
    _metric(
        Kind.COUNTER, "messages_total", "messages",
        "Messages of requests that were answered with 200, by kind and what became of them.",
        "`refused` grows: `persona-sync status --json` has the codes.",
        _KIND, _OUTCOME,
    ),
    _metric(
        Kind.COUNTER, "received_bytes_total", "bytes", "Bytes of bodies, unpacked.",
        "Nothing by itself; with the messages it says how long they are.",
    ),
    _metric(
        Kind.COUNTER, "appends_total", "appends", "Appends that succeeded; requests share them.",
        "Nothing by itself.",
    ),
    _metric(
        Kind.COUNTER, "appended_requests_total", "requests", "Requests that were in them.",
        "Many to an append: the disk is slow, or the load is high.",
    ),
    _metric(
        Kind.HISTOGRAM, "append_duration_seconds", "seconds",
        "How long an append took until it was on disk.",
        "Above a second: `PERSONA_SYNC_PRODUCER_APPEND_TIMEOUT` makes it a 503.",
    ),
    _metric(
        Kind.COUNTER, "appends_refused_total", "appends", "Appends that were not taken, by reason.",
        "`inbox_full`: start workers. `memory_full`: let them catch up, or give the server more. "
        "The others: the log says what is wrong with the server.",
        _REASON,
    ),
    _metric(
        Kind.GAUGE, "taking", "processes", "Processes that take messages now.",
        "Fewer than there are: the log says why, and `/readyz` too.",
    ),
    _metric(
        Kind.GAUGE, "requests_in_progress", "requests", "Requests under way.",
        "Near the limit of connections: more processes, or a slow disk.",
    ),
    _metric(
        Kind.GAUGE, "held_bytes", "bytes", "Bytes of bodies that are held.",
        "Near `PERSONA_SYNC_PRODUCER_BYTES_HELD`: further requests get 503.",
    ),
    _metric(
        Kind.COUNTER, "process_restarts_total", "processes",
        "Processes that died and were replaced.",
        "Any: the log says how it ended; killed by SIGKILL is mostly a lack of memory.",
    ),
)  # fmt: skip
REGISTER = {metric.name: metric for metric in METRICS}


def _slots(metric: Metric) -> list[tuple[str, ...]]:
    """The label values of each series, in order, `other` included."""
    return list(product(*((*label.values, OTHER) for label in metric.labels)))


def _layout() -> tuple[dict[tuple[str, ...], int], int]:
    """Where each series begins in a row, and how long a row is. A histogram has a number for each
    bucket, one for what is above all, and one for the sum."""
    places: dict[tuple[str, ...], int] = {}
    at = 0
    for metric in METRICS:
        for values in _slots(metric):
            places[metric.name, *values] = at
            at += len(metric.edges) + 2 if metric.edges else 1
    return places, at


_PLACES, _WIDTH = _layout()
_GAUGES = [_PLACES[(metric.name,)] for metric in METRICS if metric.kind is Kind.GAUGE]


class Row:
    """The figures of one process. Written by its threads; two that add to one series at the same
    moment could lose a count, so each series has one writing thread."""

    def __init__(self, numbers: "memoryview[float]") -> None:
        self._numbers = numbers

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to a counter `persona_sync_producer_<name>`; an unforeseen label value is `other`."""
        self._numbers[_place(name, labels)] += by

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._numbers[_place(name, {})] = value

    def observe(self, name: str, value: float) -> None:
        """Put a value into a histogram."""
        at = _place(name, {})
        edges = REGISTER[f"{PREFIX}producer_{name}"].edges
        self._numbers[at + bisect_left(edges, value)] += 1
        self._numbers[at + len(edges) + 1] += value

    def clear_gauges(self) -> None:
        """A new process has nothing under way, whatever the one before it had."""
        for at in _GAUGES:
            self._numbers[at] = 0


class Board(Collector):
    """Rows for so many processes. Made before they are forked."""

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, max(1, rows * _WIDTH * _BYTES))
        self._numbers = memoryview(self._memory).cast("d")
        self._rows = rows

    def row(self, number: int) -> Row:
        """The row of one process."""
        return Row(self._numbers[number * _WIDTH : (number + 1) * _WIDTH])

    def value(self, name: str, **labels: str) -> float:
        """The sum over all processes of a counter or gauge `persona_sync_producer_<name>`."""
        return self._sum(_place(name, labels))

    def collect(self) -> Iterator[Family]:
        """Every metric, for Prometheus."""
        for metric in METRICS:
            yield self._family(metric)

    def registry(self) -> CollectorRegistry:
        """A registry that holds these only."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def _sum(self, at: int) -> float:
        return float(sum(self._numbers[row * _WIDTH + at] for row in range(self._rows)))

    def _family(self, metric: Metric) -> Family:
        names, says = metric.label_names, metric.meaning
        if metric.kind is Kind.HISTOGRAM:
            return self._histogram(metric)
        kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
        family = kind(metric.name, says, labels=names)
        for values in _slots(metric):
            family.add_metric(values, self._sum(_PLACES[metric.name, *values]))
        return family

    def _histogram(self, metric: Metric) -> Family:
        at, total = _PLACES[(metric.name,)], 0.0
        buckets = []
        for number, edge in enumerate((*metric.edges, float("inf"))):
            total += self._sum(at + number)
            buckets.append(("+Inf" if edge == float("inf") else str(edge), total))
        family = HistogramMetricFamily(metric.name, metric.meaning)
        family.add_metric([], buckets, self._sum(at + len(metric.edges) + 1))
        return family


_known: dict[tuple[object, ...], int] = {}


def _place(name: str, labels: dict[str, str]) -> int:
    """Where a series is. Raises NotRegistered."""
    key: tuple[object, ...] = (name, *labels.items())
    at = _known.get(key)
    if at is None:
        metric = REGISTER.get(f"{PREFIX}producer_{name}")
        if metric is None:
            raise NotRegistered(f"{PREFIX}producer_{name} is not in producer/http/metrics.py.")
        bounds = {label.name: label.bounded for label in metric.labels}
        bounded = {k: bounds[k](value) if k in bounds else value for k, value in labels.items()}
        at = _PLACES[metric.name, *metric.place(**bounded)]
        if bounded == labels:  # what comes from outside must not fill the memory
            _known[key] = at
    return at
