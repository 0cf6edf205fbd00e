"""Why an audience is in its lane, in a few words."""

from collections.abc import Iterable

from worker.audiences.cadence import Code, Decision, Reason

SHORT = {
    Code.REALTIME_BY_DEFAULT: "realtime by default",
    Code.DECLARED: "declared",
    Code.EVENT_WITHIN: "time window",
    Code.EVENT_BETWEEN: "past time window",
    Code.NOT_DONE_WITHIN: "not done within a time",
    Code.RELATIVE_DATE: "date against today",
    Code.TRAIT_VALUES_NOT_ISO: "dates not ISO",
    Code.DATE_NOT_ISO: "date not ISO",
    Code.FUNNEL: "funnel",
    Code.DYNAMIC_PROPERTY: "dynamic property",
    Code.ACCOUNT_LEVEL: "accounts",
    Code.LINKED_ENTITY: "linked entity",
    Code.BATCHED_AUDIENCE: "batched audience",
    Code.BATCHED_TRAIT: "batched trait",
    Code.SQL_TRAIT: "SQL trait",
    Code.SLIDING_WINDOW: "sliding window",
}


def why(decided: Decision) -> str:
    """The reasons of a decision, each once, in a few words."""
    if not decided.disagrees:
        if decided.reading is None and decided.declared is not None:
            return SHORT[Code.DECLARED]
        return _short(decided.reasons)
    assert decided.reading is not None
    return f"declared; its query reads as {decided.reading.lane}: {_short(decided.reading.reasons)}"


def _short(reasons: Iterable[Reason]) -> str:
    words = (f"{SHORT[one.code]} {one.via[0]}" if one.via else SHORT[one.code] for one in reasons)
    return ", ".join(dict.fromkeys(words))
