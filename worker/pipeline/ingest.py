"""From an envelope to ranked changes: what the fold compares, grouped by user.

Order within a user is the envelope's. Nothing is dropped or coerced; an event time too far
ahead of the stream's own clock is clamped to its arrival, and counted; the same message again
has the same rank then, too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from worker.contract import Changes, Scalar

# Beyond this a float has no exact integer (2**53), so 450.0 and 450 are told apart.
_EXACT = 2.0**53


class EntryId(NamedTuple):
    """A stream entry's id: milliseconds of the server's clock, and a sequence number."""

    ms: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """Read `1700000000000-3`. Ids are compared as numbers, never as text."""
        ms, _, seq = text.partition("-")
        return cls(int(ms), int(seq))


class Rank(NamedTuple):
    """What decides between two changes of one attribute; the strictly greater one wins."""

    event_ms: int
    arrived_ms: int
    arrived_seq: int
    place: int


class Ranked(NamedTuple):
    """A change ready to be folded. `value` is canonical JSON text."""

    attribute: str
    value: str
    rank: Rank


@dataclass(frozen=True, slots=True)
class Ingested:
    """One envelope, by user. `clamped` counts event times that lay in the future."""

    users: dict[str, list[Ranked]]
    clamped: int


def value_text(value: Scalar) -> str:
    """A value as canonical JSON text: equal values have equal texts, 450.0 is written 450."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    return orjson.dumps(value).decode()


def ingest(envelope: Changes, entry: EntryId, tolerance_ms: int) -> Ingested:
    """Rank every change of an envelope. Pure; the entry's id is the stream's own clock."""
    users: dict[str, list[Ranked]] = {}
    clamped = 0
    latest = entry.ms + tolerance_ms
    for place, change in enumerate(envelope.changes):
        if change.arrived_at is not None:
            arrived_ms, arrived_seq = change.arrived_at, 0
        else:
            arrived_ms, arrived_seq = entry
        event_ms = change.event_at if change.event_at is not None else arrived_ms
        if event_ms > latest:
            event_ms = arrived_ms if arrived_ms <= latest else entry.ms
            clamped += 1
        rank = Rank(event_ms, arrived_ms, arrived_seq, change.place or place)
        users.setdefault(change.user_id, []).append(
            Ranked(change.attribute, value_text(change.value), rank)
        )
    return Ingested(users, clamped)
