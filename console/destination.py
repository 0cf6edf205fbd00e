"""How Braze is, as all workers see it: the state, in a document and in words."""

from typing import Any

from console.instants import iso
from worker.pipeline.notices import in_words
from worker.stored import Stores
from worker.stores.allowance import OPERATOR, Destination

CONNECTED, SHADOW = "connected", "shadow"


def destination_shown(stores: Stores) -> dict[str, Any]:
    """For whoever waits for a delivery, see `as_shown`."""
    mode = stores.mode.read().mode
    return as_shown(stores.allowance.destination(), mode, stores.allowance.now_ms())


def as_shown(found: Destination, mode: str, now_ms: int) -> dict[str, Any]:
    """`state`, `reason` and `until`, for programs."""
    state, reason, until = destination_state(found, now_ms, mode)
    return {"state": state, "reason": reason, "until": iso(until) if until else None}


def destination_state(
    found: Destination, now_ms: int, mode: str = "live"
) -> tuple[str, str | None, int | None]:
    """The destination's own word, reason and end (ms); an operator's stop with who and why."""
    state, reason, until = found.state(now_ms, mode)
    if found.stop == OPERATOR:
        since = iso(found.stopped_at_ms) if found.stopped_at_ms else None
        reason = stop_said(OPERATOR, found.by, found.why, since)
    return state, reason, until


def state_said(state: str, reason: str | None, until: str | None = None) -> str:
    """A state for people: `slowed: its limit of requests is used up for now, until T`."""
    if state == SHADOW:
        return "nothing is sent to it: this is a shadow"
    why = f": {in_words(reason)}" if reason else ""
    return f"{state}{why}" + (f", until {until}" if until else "")


def stop_said(stop: str, by: str | None, why: str | None, since: str | None) -> str:
    """A stop in words: `operator: WHY (by NAME, since T)`; who and why only an operator has."""
    told = ", ".join([*([f"by {by}"] if by else []), *([f"since {since}"] if since else [])])
    return in_words(stop) + (f": {why}" if why else "") + (f" ({told})" if told else "")
