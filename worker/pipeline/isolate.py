"""Finds the refused item of a request that Braze refused without naming it, by halves.

A group that is known to hold a refused item is never sent again whole: one half is tested;
if that half is fine, the other holds it. An item is dead only once it was refused alone.
Of 75 with one bad item, it is found within 8 further requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suspects:
    """Places of items of which at least one is refused. `proven`: the group was refused as it is,
    rather than inferred from the other half's success."""

    places: tuple[int, ...]
    proven: bool = True

    @property
    def is_found(self) -> bool:
        """True if one item is left and it was refused alone."""
        return self.proven and len(self.places) == 1


def group_to_test(suspects: Suspects) -> tuple[int, ...]:
    """The places to send next: the first half, or the only one left."""
    return suspects.places[: max(1, len(suspects.places) // 2)]


def narrow(suspects: Suspects, tested: Sequence[int], was_refused: bool) -> Suspects | None:
    """What is suspected after a test; None if nothing is any more."""
    if was_refused:
        return Suspects(tuple(tested))
    rest = suspects.places[len(tested) :]
    return Suspects(rest, proven=False) if rest else None
