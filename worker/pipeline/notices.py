"""Which facts are worth a person's notice, and what is said of them: ids and counts, no user."""

import re
from dataclasses import dataclass

from worker.pipeline import facts
from worker.pipeline.facts import Fact

_STOP_AGAIN_MS = 300_000
_LOST_AGAIN_MS = 600_000
_REPLACED_AGAIN_MS = 60_000
_BROKEN_AGAIN_MS = 3_600_000


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
            text = f"Nothing is sent to Braze any more: {in_words(fact.reason)}. {fact.todo}"
            return Notice(fact.name, text, once="stopped", again_ms=_STOP_AGAIN_MS)
        case facts.DestinationUnreachable():
            return Notice(fact.name, _unreachable_said(fact))
        case facts.DestinationResumed(by="answer"):
            text = f"Braze is sent to again: it answers, after {fact.seconds:,.0f} s."
            return Notice(fact.name, text) if fact.was_noticed else None
        case facts.DestinationResumed():
            by = "a test request was taken" if fact.by == "probe" else f"resumed by {fact.by}"
            return Notice(fact.name, f"Braze is sent to again: {by}.", clears="stopped")
        case facts.DeletesStopped():
            text = f"Braze deletes no profiles for us: {fact.reason}. {fact.todo}"
            return Notice(fact.name, text, once="deletes", again_ms=_STOP_AGAIN_MS)
        case facts.DeletesResumed():
            return Notice(fact.name, "Braze deletes profiles again.", clears="deletes")
        case facts.WorkerLost():
            return Notice(fact.name, _lost_said(fact), once="lost", again_ms=_LOST_AGAIN_MS)
        case facts.ServerReplaced():
            return Notice(fact.name, _REPLACED, once="replaced", again_ms=_REPLACED_AGAIN_MS)
        case facts.RegistryBroken():
            text = _broken_said(fact)
            return Notice(fact.name, text, once="registry", again_ms=_BROKEN_AGAIN_MS)
        case facts.RegistryPublished() if fact.replaced:
            return Notice(fact.name, _published_said(fact), clears="registry")
        case facts.SweepBegun() if fact.points:
            return Notice(fact.name, _sweep_said(fact), fact.audience)
        case facts.BudgetReached():
            return Notice(fact.name, _budget_said(fact), fact.audience)
        case facts.FlipsUnusual():
            return Notice(fact.name, _flips_said(fact), fact.audience)
        case _:
            return None


def in_words(reason: str) -> str:
    """A reason's code for people; what is in words already stays as it is."""
    if not _CODE.fullmatch(reason):
        return reason
    if status := _STATUS.fullmatch(reason):
        return f"it answers with an error ({status[1]})"
    return _WORDS.get(reason, reason.replace("_", " "))


_STATUS = re.compile(r"status_(\d{3})")
_CODE = re.compile(r"[a-z0-9_]+")
_WORDS = {
    "smaller_requests": "one request was too large, so smaller ones are sent for an hour",
    "recovering": "after trouble, going back to full speed",
    "rate_limit_remaining": "its limit of requests is used up for now",
    "rate_limited": "it asks to wait (429)",
    "no_key": "there is no key to send with: it is gone, empty, or no key at all",
    "invalid_key_or_wrong_instance": "the key is not valid, or belongs to another instance",
    "forbidden_plan_or_key_permission": "the key or the plan does not allow it (403)",
    "payment_required": "it wants to be paid (402)",
    "valve": "it refused too many objects (the valve)",
    "wrong_address": "it is not at this address (404)",
    "redirected": "the address answers with a redirect",
    "proxy_credentials_refused": "the proxy refuses the login",
    "not_connected": "no connection can be made",
    "timeout": "it did not answer in time",
    "reset": "the connection broke",
    "unreadable": "what it answers is no HTTP",
    "unreadable_body": "what it answers is not understood",
    "nothing_accepted": "it answers, but accepts nothing",
}


_REPLACED = (
    "The Redis server was restarted, or another one took over. It may have forgotten the last "
    "moments: what was sent in them is looked at, and sent again if need be."
)


def _unreachable_said(fact: facts.DestinationUnreachable) -> str:
    return (
        f"Nothing gets through to Braze for {fact.seconds:,.0f} s now: {in_words(fact.reason)}. "
        "Nothing is lost, and workers go on trying. If it lasts: look at your network and at "
        "status.braze.com."
    )


def _lost_said(fact: facts.WorkerLost) -> str:
    return (
        f"A worker had {many(fact.users, 'user')} in hand, in {many(fact.claims, 'request')}, and "
        "was not heard of in time: it ended, or could not reach the server. They are sent again. "
        "More of the same are not told for 10 minutes."
    )


def _broken_said(fact: facts.RegistryBroken) -> str:
    more = f" (and {many(fact.more, 'line')} more in `check`)" if fact.more else ""
    return (
        f"audiences.yaml on {fact.host} cannot be taken up, the registry before it stays in "
        f"force: {fact.reason}{more}"
    )


def _published_said(fact: facts.RegistryPublished) -> str:
    changes = {
        "new": fact.added,
        "gone": fact.removed,
        "another lane": fact.moved,
        "other boundaries": fact.timed,
        "not sent, for another key has the attribute": fact.shadowed,
    }
    said = "; ".join(f"{what}: {names}" for what, names in changes.items() if names)
    return f"All workers go by registry {fact.version}. {said}".strip()


def _flips_said(fact: facts.FlipsUnusual) -> str:
    return (
        f"{fact.audience}: {fact.flips:,} memberships changed in this hour; usual are "
        f"{fact.median:,.0f}, at most {fact.busiest:,} in an hour of the last two days. Nothing "
        "is held back."
    )


def _sweep_said(fact: facts.SweepBegun) -> str:
    why = {
        "resync": "what Braze was sent is sent again",
        "exit_changed": "leaving is written in another way, and is sent again to those who left",
        "retire": "it is retired, and everybody is sent its last value",
    }.get(fact.work, fact.work)
    behind = (
        f" The attribute {fact.left_behind} keeps its last values in Braze."
        if fact.left_behind
        else ""
    )
    return (
        f"{fact.audience}: {why}: {many(fact.users, 'user')}, {many(fact.points, 'data point')}, "
        f"{many(fact.requests, 'request')}, {fact.seconds:,.0f} s at least.{behind}"
    )


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


def many(count: int, noun: str) -> str:
    """`1 user`, `1,200 users`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
