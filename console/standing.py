"""How the system stands, read from the stores: what `status` prints and the demo waits for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.audiences.registry import Registry
from worker.bootstrap import Stores
from worker.pipeline.schedule import Lane, boundary_after
from worker.stores.allowance import OPERATOR, Destination
from worker.stores.budget import DAY_MS

NOTICES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One reading of everything. Not atomic: numbers may be a moment apart."""

    report: dict[str, Any]

    @property
    def is_idle(self) -> bool:
        """Inbox empty, nothing due, held or in flight."""
        return bool(self.report["idle"])


def read_standing(stores: Stores, registry: Registry, partitions: int) -> Standing:
    """Read the counters, the lists and the destination. Raises redis' errors."""
    now = stores.allowance.now_ms()
    # All claims are read for this: once, not for each lane.
    in_flight = [stores.memberships.in_flight(partition) for partition in range(partitions)]
    lanes = {
        lane: _lane(stores, lane, partitions, now, sum(found[lane] for found in in_flight))
        for lane in Lane
    }
    realtime, batched = lanes[Lane.REALTIME], lanes[Lane.BATCHED]
    linger, _, every, offset = registry.lane_terms()
    inbox = sum(stores.inbox.size(partition) for partition in range(partitions))
    balance = stores.ledger.balance(partitions)
    mode = stores.mode.read()
    in_shadow = mode.counted_in_shadow(balance.values)
    refused, skipped = stores.ledger.door(partitions)
    destination = stores.allowance.destination()
    state, reason, until = destination_state(destination, now)
    oldest = realtime["first_due_ms"]
    next_boundary = batched["next_due_ms"] or boundary_after(now, every, offset)
    over = stores.budget.held(partitions, now)
    busy = inbox or any(
        (
            sum(item.users for item in over),
            realtime["ready"], realtime["held"], realtime["in_flight"],
            batched["due"], batched["held"], batched["in_flight"],
        )
    )  # fmt: skip
    return Standing(
        {
            "mode": mode.mode or "live",
            "workers": stores.workers.alive(),
            "inbox": inbox,
            "lanes": {
                "realtime": {
                    "ready": realtime["ready"],
                    "held": realtime["held"],
                    "in_flight": realtime["in_flight"],
                    "oldest_age_s": (
                        None
                        if oldest is None
                        else max(0.0, round((now - oldest + linger) / 1e3, 3))
                    ),
                },
                "batched": {
                    "pending": batched["ready"] - batched["due"],
                    "due": batched["due"],
                    "held": batched["held"],
                    "in_flight": batched["in_flight"],
                    "next_boundary": iso(next_boundary),
                },
            },
            "destination": {
                "state": state,
                "reason": reason,
                "until": iso(until) if until else None,
            },
            "budget": {
                "per_day": stores.budget.per_day,
                "per_audience": stores.budget.per_audience,
                "today": stores.budget.today(partitions, now),
                "until": iso((now // DAY_MS + 1) * DAY_MS),
                "held": [
                    {"audience": item.audience, "today": item.points, "users": item.users}
                    for item in over
                ],
            },
            "notices": [
                {
                    "at": iso(item.at_ms),
                    "kind": item.kind,
                    "audience": item.audience or None,
                    "text": item.text,
                }
                for item in stores.notices.latest(NOTICES_SHOWN)
            ],
            "dead_letters": sum(stores.dead_letters.size(p) for p in range(partitions)),
            "idle": not busy,
            "ends": balance.ends,
            "accepted": balance.accepted,
            "pending": balance.pending,
            "refused": refused,
            "skipped": skipped,
            "data_points": balance.values - in_shadow,
            "shadow_data_points": in_shadow,
            "resent": balance.resent,
        }
    )


def destination_state(found: Destination, now_ms: int) -> tuple[str, str | None, int | None]:
    """`connected`, `slowed`, `paused` or `unreachable`; why; until when (ms), if that is known."""
    if found.stop:
        since = iso(found.stopped_at_ms) if found.stopped_at_ms else None
        is_ours = found.stop == OPERATOR
        reason = stop_said(found.stop, found.by, found.why, since) if is_ours else found.stop
        return "paused", reason, None
    if found.width and found.failures:
        until = found.until_ms if found.until_ms > now_ms else None
        return "unreachable", found.last_reason, until
    if found.until_ms > now_ms:
        return "paused", found.reason, found.until_ms
    if found.width:
        return "slowed", "recovering", None
    if found.most_objects or found.most_bytes:
        return "slowed", "smaller_requests", None
    if found.hint_left == 0 and found.hint_reset_ms > now_ms:
        return "slowed", "rate_limit_remaining", found.hint_reset_ms
    return "connected", None, None


def stop_said(stop: str, by: str | None, why: str | None, since: str | None) -> str:
    """A stop in words: `operator: WHY (by NAME, since T)`; who and why only an operator has."""
    told = ", ".join([*([f"by {by}"] if by else []), *([f"since {since}"] if since else [])])
    return stop + (f": {why}" if why else "") + (f" ({told})" if told else "")


def iso(at_ms: int) -> str:
    """An instant in UTC with `Z`, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lane(stores: Stores, lane: Lane, partitions: int, now: int, in_flight: int) -> dict[str, Any]:
    waiting = [stores.memberships.waiting(p, lane, now) for p in range(partitions)]
    first = [item.first_due_ms for item in waiting if item.first_due_ms is not None]
    coming = [item.next_due_ms for item in waiting if item.next_due_ms is not None]
    return {
        "ready": sum(item.ready for item in waiting),
        "due": sum(item.due for item in waiting),
        "held": sum(item.held for item in waiting),
        "in_flight": in_flight,
        "first_due_ms": min(first, default=None),
        "next_due_ms": min(coming, default=None),
    }
