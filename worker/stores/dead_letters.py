"""What Braze refused for good, and envelopes that could not be applied: kept, replayable.

A letter of a user holds the attributes, values and ranks as they were sent, the reason and the
request. A letter of an envelope holds it whole.
"""

from dataclasses import dataclass

import msgpack

from worker.stores.keys import key
from worker.stores.server import Server


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. `values`: (attribute, value as JSON text, event ms); `at_ms` when it died."""

    id: str
    partition: int
    kind: str
    at_ms: int
    reason: str
    user_id: str | None
    values: tuple[tuple[str, str, int], ...]
    request: str | None
    envelope: bytes | None


class DeadLetters:
    """Reads the dead letters; scripts write them."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def size(self, partition: int) -> int:
        """How many there are."""
        return int(self._client.xlen(key(partition, "dead")))

    def read(self, partition: int, after: str = "-", count: int = 100) -> list[DeadLetter]:
        """Letters in the order they died; go on with `(` and the last id."""
        found = self._client.xrange(key(partition, "dead"), min=after, count=count)
        return [_letter(partition, id_.decode(), fields) for id_, fields in found]


def _letter(partition: int, id_: str, fields: dict[bytes, bytes]) -> DeadLetter:
    values: tuple[tuple[str, str, int], ...] = ()
    if b"values" in fields:
        values = tuple(
            (name, value, int(event_ms))
            for name, value, event_ms, *_ in msgpack.unpackb(fields[b"values"])
        )
    user, request = fields.get(b"user"), fields.get(b"request")
    return DeadLetter(
        id=id_,
        partition=partition,
        kind=fields[b"kind"].decode(),
        at_ms=int(id_.partition("-")[0]),
        reason=fields[b"reason"].decode(),
        user_id=user.decode() if user is not None else None,
        values=values,
        request=request.decode() if request else None,
        envelope=fields.get(b"envelope"),
    )
