"""How the system stands, read from the stores: what `status` prints and the demo waits for.

What rules the system (budget, lanes) is the workers' to say, not this process's own settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from console.deletions_shown import deletions
from console.destination import as_shown
from console.instants import iso
from console.notices_shown import shown as notices_shown
from worker.audiences.registry import Registry
from worker.pipeline.schedule import Lane, boundary_after
from worker.settings import Settings
from worker.snapshot import LaneSnapshot, Snapshot, take
from worker.stored import Stores
from worker.stores.budget import DAY_MS, Over
from worker.stores.in_force import Published

NOTICES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One reading of everything. Not atomic: numbers may be a moment apart."""

    report: dict[str, Any]

    @property
    def is_idle(self) -> bool:
        """Inbox empty, nothing due, held or in flight."""
        return bool(self.report["idle"])


def partitions_of(stores: Stores, settings: Settings) -> int:
    """How many there are: the server knows since the first start; before it, the settings."""
    return stores.in_force.partitions() or settings.partitions


def read_standing(stores: Stores, registry: Registry, partitions: int) -> Standing:
    """Read the counters, the lists and the destination. Raises redis' errors."""
    seen = take(stores, partitions)
    rules = stores.in_force.latest()
    over = stores.budget.held(partitions, seen.now_ms)
    mode = stores.mode.read()
    in_shadow = mode.counted_in_shadow(seen.balance.values)
    notices = stores.notices.latest(NOTICES_SHOWN)
    is_stopped = seen.destination.stop is not None
    return Standing(
        {
            "mode": mode.mode or "live",
            "workers": seen.workers,
            "in_force": {"worker": rules.worker, "since": iso(rules.at_ms)} if rules else None,
            "inbox": seen.inbox,
            "lanes": _lanes(seen, _lane_terms(stores, registry)),
            "destination": as_shown(seen.destination, mode.mode, seen.now_ms),
            "budget": {
                **bounds_of(stores, rules),
                "today": stores.budget.today(partitions, seen.now_ms),
                **_held(over, seen.now_ms),
            },
            "notices": notices_shown(
                notices,
                now_ms=seen.now_ms,
                is_stopped=is_stopped,
                is_unreachable=seen.destination.state(seen.now_ms)[0] == "unreachable",
                is_broken=stores.publication.read().fault is not None,
                held={item.audience for item in over if item.users},
            ),
            "dead_letters": seen.dead_letters,
            "deletions": deletions(stores, partitions, mode.mode, seen.now_ms),
            "idle": not (seen.is_busy or any(item.users for item in over)),
            "ends": seen.balance.ends,
            "accepted": seen.balance.accepted,
            "pending": seen.balance.pending,
            "refused": seen.refused,
            "skipped": seen.skipped,
            "data_points": seen.balance.values - in_shadow,
            "shadow_data_points": in_shadow,
            "resent": seen.balance.resent,
        }
    )


def _lane_terms(stores: Stores, registry: Registry) -> tuple[int, int, int, int]:
    """As published; before the first start, those of this process's file."""
    page = stores.rulebook.read(0)
    return page.rules.lanes if page.version else registry.lane_terms()


def _lanes(seen: Snapshot, terms: tuple[int, int, int, int]) -> dict[str, Any]:
    linger, _, every, offset = terms
    realtime, batched = seen.lanes[Lane.REALTIME], seen.lanes[Lane.BATCHED]
    next_boundary = batched.next_due_ms or boundary_after(seen.now_ms, every, offset)
    return {
        "realtime": {
            "ready": realtime.ready,
            "held": realtime.held,
            "in_flight": realtime.in_flight,
            "oldest_age_s": _age(realtime, seen.now_ms, linger),
        },
        "batched": {
            "pending": batched.pending,
            "due": batched.due,
            "held": batched.held,
            "in_flight": batched.in_flight,
            "next_boundary": iso(next_boundary),
        },
    }


def _age(lane: LaneSnapshot, now_ms: int, linger_ms: int) -> float | None:
    """Seconds since the oldest change; it was due a linger after it came."""
    if lane.first_due_ms is None:
        return None
    return max(0.0, round((now_ms - lane.first_due_ms + linger_ms) / 1e3, 3))


def bounds_of(stores: Stores, rules: Published | None) -> dict[str, Any]:
    """The bounds that the workers keep to; before the first has started, those of the settings."""
    if rules is None:
        return {"per_day": stores.budget.per_day, "per_audience": stores.budget.per_audience}
    return {
        "per_day": rules.settings.get("data_points_per_day"),
        "per_audience": rules.settings.get("data_points_per_audience_per_day"),
    }


def _held(over: Sequence[Over], now_ms: int) -> dict[str, Any]:
    return {
        "until": iso((now_ms // DAY_MS + 1) * DAY_MS),
        "held": [
            {"audience": item.audience, "today": item.points, "users": item.users} for item in over
        ],
    }
