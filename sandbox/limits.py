"""Rate limits: fixed windows on multiples of their length, and the ways to announce them.

Braze documents the headers in contradictory ways, so each known form can be chosen:

form        | on an accepted reply                      | on a 429
epoch       | Limit, Remaining, Reset as epoch seconds  | the same
delta       | Limit, Remaining, Reset as seconds left   | the same
mau         | as delta                                  | only X-Ratelimit-Retry-After, in seconds
retry-after | nothing                                   | only Retry-After, in seconds
none        | nothing                                   | nothing
"""

from dataclasses import dataclass
from math import ceil
from typing import Final, Literal, TypeAlias

from sandbox.wire import Headers

HeaderForm: TypeAlias = Literal["epoch", "delta", "mau", "retry-after", "none"]

HEADER_FORMS: Final[tuple[HeaderForm, ...]] = ("epoch", "delta", "mau", "retry-after", "none")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `limit` requests per window of `window_s` seconds; None is no limit at all."""

    limit: int | None
    window_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands after one request: whether it may pass, and what is left until when."""

    allowed: bool
    limit: int
    remaining: int
    resets_at: float


class Window:
    """Counts the requests of the current window. A refused request uses nothing up."""

    __slots__ = ("_begin", "_used")

    def __init__(self) -> None:
        self._begin = 0.0
        self._used = 0

    def take(self, limit: Limit, now: float) -> Standing | None:
        """Count one request; None when there is no limit, hence nothing to announce."""
        if limit.limit is None:
            return None
        begin = now - now % limit.window_s
        if begin != self._begin:
            self._begin = begin
            self._used = 0
        allowed = self._used < limit.limit
        if allowed:
            self._used += 1
        left = max(0, limit.limit - self._used)
        return Standing(allowed, limit.limit, left, begin + limit.window_s)


def announce(form: HeaderForm, standing: Standing | None, now: float) -> Headers:
    """The headers that tell the client where it stands."""
    if standing is None or form == "none":
        return ()
    wait = str(max(1, ceil(standing.resets_at - now)))
    if not standing.allowed:
        if form == "mau":
            return (("X-Ratelimit-Retry-After", wait),)
        if form == "retry-after":
            return (("Retry-After", wait),)
    if form == "retry-after":
        return ()
    return (
        ("X-RateLimit-Limit", str(standing.limit)),
        ("X-RateLimit-Remaining", str(standing.remaining)),
        ("X-RateLimit-Reset", str(ceil(standing.resets_at)) if form == "epoch" else wait),
    )
