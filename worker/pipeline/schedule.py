"""When something may be sent: the specification of `stores/lua/parts/due.lua`.

All instants are milliseconds since 1970 UTC, all spans milliseconds.
"""

from collections.abc import Iterable
from enum import StrEnum


class Lane(StrEnum):
    """Realtime goes out after a short linger; batched at its boundary only, never early."""

    REALTIME = "realtime"
    BATCHED = "batched"

    @property
    def code(self) -> str:
        """The one-letter form that the scripts use."""
        return self.value[0]


def boundary_after(at: int, every: int, offset: int = 0) -> int:
    """The first boundary strictly after an instant: multiples of `every` on the UTC clock.

    The same interval means the same boundary, whatever the audience.
    """
    return ((at - offset) // every + 1) * every + offset


def batched_since(
    now: int, came: int, delivered: Iterable[int], *, every: int, offset: int = 0
) -> int:
    """Since when a batched value differs that is folded now: what decides its boundary.

    A change that `came` before the latest boundary, while nobody was there to fold it, has missed
    that one and goes at once; unless the user's batched values were `delivered` after it already:
    at most one object in a window.
    """
    latest = boundary_after(now, every, offset) - every
    if came >= latest or any(at >= latest for at in delivered):
        return now
    return came


def realtime_due(last_change: int, first_change: int, linger: int, max_wait: int) -> int:
    """When a user's realtime changes go out at the latest: a linger that new changes extend."""
    return min(last_change + linger, first_change + max_wait)


def not_before(
    value: str,
    *,
    acknowledged: str | None,
    acknowledged_at: int,
    gap: int,
    ambiguous: str | None,
    hold_until: int,
) -> int:
    """Earliest moment for a value: a different one waits out the gap and the hold (rule 4)."""
    at = 0
    if acknowledged is not None and value != acknowledged:
        at = acknowledged_at + gap
    if ambiguous is not None and value != ambiguous:
        at = max(at, hold_until)
    return at
