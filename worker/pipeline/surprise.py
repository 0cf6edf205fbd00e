"""Is this hour of an audience unusual? Decides on counts of memberships that changed by hour.

An hour is unusual if more memberships changed than, all three:
- the least that is worth a notice, so that a small audience never is;
- `factor` times the median hour, as far as the hour has come: a steady audience is noticed
  early, and one that is moved now and then is not noticed for being moved;
- twice the busiest hour: an audience that is computed once a day, all at once, is as usual
  as yesterday, and a surprise is not repeated hour after hour.
An audience that has been known for less than a few hours has no usual hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HOURS = 48
_KNOWN_HOURS = 6
_TIMES_BUSIEST = 2
# Of the hour's first minutes too much would be made otherwise.
_LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class SurprisePolicy:
    """`factor` 0 is off; `least` changes in an hour are worth a notice at all."""

    factor: float = 10.0
    least: int = 1_000


@dataclass(frozen=True, slots=True)
class Usual:
    """What the hours before this one were like."""

    median: float
    busiest: int


def usual(previous_hours: Sequence[int]) -> Usual | None:
    """The usual hour, of at most the last 48 in any order; None for an audience that is new."""
    if len(previous_hours) < _KNOWN_HOURS:
        return None
    return Usual(float(median(previous_hours)), max(previous_hours))


def is_unusual(
    current_hour: int,
    previous_hours: Sequence[int],
    elapsed_share: float,
    policy: SurprisePolicy,
) -> bool:
    """True if far more changed in this hour than in those before.

    `previous_hours` begin with the first in which the audience was known, quiet hours included
    as 0; `elapsed_share` is how much of this hour is over, from 0 to 1.
    """
    known = usual(previous_hours)
    if policy.factor <= 0 or known is None:
        return False
    share = min(1.0, max(_LEAST_SHARE, elapsed_share))
    return current_hour >= policy.least and current_hour > max(
        policy.factor * known.median * share, _TIMES_BUSIEST * known.busiest
    )
