"""Which facts are worth a person's notice, and what is said of them: ids and counts, no user."""

from dataclasses import dataclass

from worker.pipeline import facts
from worker.pipeline.facts import Fact

_STOP_AGAIN_MS = 300_000
_LOST_AGAIN_MS = 600_000


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to a person. With `once`, none of the same for `again_ms`, unless a notice that
    `clears` it comes between."""

    kind: str
    text: str
    audience: str = ""
    once: str = ""
    again_ms: int = 0
    clears: str = ""


def notice_of(fact: Fact) -> Notice | None:
    """The notice that a fact is worth; None for most."""
    match fact:
        case facts.DestinationStopped():
            text = f"Nothing is sent to Braze any more: {fact.reason}. {fact.todo}"
            return Notice(fact.name, text, once="stopped", again_ms=_STOP_AGAIN_MS)
        case facts.DestinationResumed():
            return Notice(fact.name, f"Braze is sent to again (by {fact.by}).", clears="stopped")
        case facts.ClaimVoid():
            text = (
                f"A worker was lost with {_many(fact.users, 'user')} in hand; they are sent again. "
                "More of the same are not told for 10 minutes."
            )
            return Notice(fact.name, text, once="lost", again_ms=_LOST_AGAIN_MS)
        case facts.BudgetReached():
            return Notice(fact.name, _budget_said(fact), fact.audience)
        case facts.FlipsUnusual():
            text = (
                f"{fact.audience}: {fact.flips:,} memberships changed in this hour; usual are "
                f"{fact.median:,.0f}, at most {fact.busiest:,} in an hour of the last two days. "
                "Nothing is held back."
            )
            return Notice(fact.name, text, fact.audience)
        case _:
            return None


def _budget_said(fact: facts.BudgetReached) -> str:
    until = "until 00:00 UTC, or until {} is raised and the workers are restarted."
    if fact.audience:
        name = "PERSONA_SYNC_DATA_POINTS_PER_AUDIENCE_PER_DAY"
        return f"{fact.audience} has had its {fact.limit:,} data points of today and is held " + (
            until.format(name)
        )
    name = "PERSONA_SYNC_DATA_POINTS_PER_DAY"
    return f"The {fact.limit:,} data points of today are spent; all that is left is held " + (
        until.format(name)
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
