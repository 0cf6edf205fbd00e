"""How long to wait: after a failure, and after a pause. Pure: the caller brings the random number.

Nothing here ever says "give up": transient trouble is the destination's, so it only spaces
the attempts (rule 9). `random` is uniform in [0, 1) everywhere.
"""

from datetime import timedelta

_SPREAD_SHARE = 0.1
_SPREAD_MOST = 5.0  # seconds


def delay(failures: int, base: timedelta, cap: timedelta, random: float) -> timedelta:
    """The wait after `failures` failures in a row (1 or more): full jitter, exponential.

    Uniform between a floor of `base / 2` and a ceiling of `base * 2 ** (failures - 1)`, both at
    most `cap`; never zero, so that a loop cannot spin. Any number of failures is fine.
    """
    ceiling = max(_doubled(base, max(failures - 1, 0), cap), timedelta.resolution)
    floor = min(max(base / 2, timedelta.resolution), ceiling)
    return floor + (ceiling - floor) * random


def _doubled(base: timedelta, times: int, cap: timedelta) -> timedelta:
    """`base * 2 ** times`, at most `cap`; compared as a ratio, since the product may overflow."""
    if base <= timedelta(0):
        return min(base, cap)
    if times >= 64 or 2.0**times >= cap / base:
        return cap
    doubled: timedelta = base * 2**times
    return doubled


def spread(wait: float, random: float) -> float:
    """Seconds until one worker wakes from a pause of `wait` seconds that holds for all of them.

    Never earlier than `wait`; later by at most a tenth of it and at most 5 s. Braze's hourly
    window resets on the clock hour, and without this every worker would wake at hh:00
    (Braze docs: api_limits).
    """
    return wait + random * min(wait * _SPREAD_SHARE, _SPREAD_MOST)
