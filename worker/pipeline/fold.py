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
    no end yet. `is_refused`: Braze refused this very version. `is_settled`: a request of ours
    settled what is acknowledged, or its end is unknown, so that nobody else can say it.
    """

    value: str
    rank: Rank
    acknowledged: str | None = None
    is_open: bool = True
    is_refused: bool = False
    is_settled: bool = False

    @property
    def differs(self) -> bool:
        """True if there is something to send."""
        return not self.is_refused and self.value != self.acknowledged


def fold(
    state: Desired | None, change: Ranked, *, is_held: bool = False
) -> tuple[Desired, list[End]]:
    """Apply one change to the state of its attribute, no request being under way for it.

    `is_held`: Braze is said to hold this value already. That is believed of the change that ranks
    highest, and only while no request of ours knows better.

    Returns the new state and the ends it caused: of this change, of the one it replaces, or of
    neither (this change is then open).
    """
    if state is None:
        said = change.value if is_held else None
        new = Desired(change.value, change.rank, acknowledged=said, is_open=not is_held)
        return new, [End.UNCHANGED] if is_held else []
    believed = is_held and not state.is_settled
    if change.rank == state.rank:
        if believed and change.value == state.value:
            return _held(state, End.UNCHANGED)
        return state, [End.UNCHANGED]
    if change.rank < state.rank:
        return state, [End.SUPERSEDED]
    folded = replace(state, value=change.value, rank=change.rank, is_refused=False)
    if believed:
        return _held(folded, End.SUPERSEDED)
    ends = [End.SUPERSEDED] if state.is_open else []
    if folded.differs:
        return replace(folded, is_open=True), ends
    return replace(folded, is_open=False), [*ends, End.UNCHANGED]


def _held(state: Desired, of_the_open: End) -> tuple[Desired, list[End]]:
    """The desired value is what Braze holds: this change, and one that was open, have ended."""
    ends = [of_the_open] if state.is_open else []
    return replace(state, acknowledged=state.value, is_open=False), [*ends, End.UNCHANGED]
