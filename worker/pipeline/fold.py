"""How changes become one desired value: the specification of `stores/lua/accept.lua`.

The fold is order-free and idempotent: whatever the order and the repeats, the change of the
highest rank is what remains. Every change has exactly one end.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from worker.pipeline.ingest import Rank, Ranked


class End(StrEnum):
    """How a change can end. DELIVERED, DEAD and SKIPPED are decided after the fold."""

    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    UNCHANGED = "unchanged"
    DEAD = "dead"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Desired:
    """What Segment last said of one attribute of one user, and what Braze surely holds.

    `acknowledged` is None while it is unknown. `is_open`: the change that set `value` has had
    no end yet. `is_refused`: Braze refused this very version.
    """

    value: str
    rank: Rank
    acknowledged: str | None = None
    is_open: bool = True
    is_refused: bool = False

    @property
    def differs(self) -> bool:
        """True if there is something to send."""
        return not self.is_refused and self.value != self.acknowledged


def fold(state: Desired | None, change: Ranked) -> tuple[Desired, list[End]]:
    """Apply one change to the state of its attribute, no request being under way for it.

    Returns the new state and the ends it caused: of this change, of the one it replaces, or of
    neither (this change is then open).
    """
    if state is None:
        return Desired(change.value, change.rank), []
    if change.rank == state.rank:
        return state, [End.UNCHANGED]
    if change.rank < state.rank:
        return state, [End.SUPERSEDED]
    ends = [End.SUPERSEDED] if state.is_open else []
    folded = replace(state, value=change.value, rank=change.rank, is_refused=False)
    if folded.differs:
        return replace(folded, is_open=True), ends
    return replace(folded, is_open=False), [*ends, End.UNCHANGED]
