"""What Braze refused for good, and envelopes that could not be applied: kept, replayable.

kind       what died                                             a replay
object     values of one user, as they were sent                 sends the user's newest values
change     one change, over the limit of undeclared audiences    accepts it anew
envelope   a whole envelope that could not be applied            accepts it anew
deletion   a deletion that Braze refused                         asks Braze again
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgpack

from worker.stores.keys import key
from worker.stores.server import Server

PAGE = 500
KINDS = ("object", "change", "envelope", "deletion")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. `values`: (attribute, value as JSON text, event ms); `at_ms` when it died.

    `ranks` goes with `values`: (event ms, arrived ms, arrived sequence, place).
    """

    id: str
    partition: int
    kind: str
    at_ms: int
    reason: str
    user_id: str | None
    values: tuple[tuple[str, str, int], ...]
    request: str | None
    envelope: bytes | None
    ranks: tuple[tuple[int, int, int, int], ...] = ()
    entry: str | None = None
    changes: int = 0


class DeadLetters:
    """Reads the dead letters; scripts write them."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def size(self, partition: int) -> int:
        """How many there are."""
        return int(self._client.xlen(key(partition, "dead")))

    def read(self, partition: int, after: str = "-", count: int = 100) -> list[DeadLetter]:
        """Letters in the order they died; go on with `(` and the last id."""
        return self._range(partition, after, "+", count)

    def newest(self, partition: int) -> str | None:
        """The id of the letter that died last; None if there is none."""
        found = self._client.xrevrange(key(partition, "dead"), count=1)
        return found[0][0].decode() if found else None

    def pages(
        self, partition: int, last: str, from_ms: int = 0, to_ms: int | None = None
    ) -> Iterator[list[DeadLetter]]:
        """Letters up to the id `last` that died in this span, page by page.

        What dies after `last` is left out, so that who replays comes to an end.
        """
        start = f"{max(0, from_ms)}-0"
        end = last
        if to_ms is not None and to_ms < int(last.partition("-")[0]):
            end = str(max(0, to_ms))
        while page := self._range(partition, start, end, PAGE):
            yield page
            start = f"({page[-1].id}"

    def one(self, partition: int, id_: str) -> DeadLetter | None:
        """The letter of that id, if it is still there."""
        found = self._range(partition, id_, id_, 1)
        return found[0] if found else None

    def _range(self, partition: int, start: str, end: str, count: int) -> list[DeadLetter]:
        found = self._client.xrange(key(partition, "dead"), min=start, max=end, count=count)
        return [_letter(partition, id_.decode(), fields) for id_, fields in found]


def _letter(partition: int, id_: str, fields: dict[bytes, bytes]) -> DeadLetter:
    values = msgpack.unpackb(fields[b"values"]) if b"values" in fields else []
    user, request, entry = fields.get(b"user"), fields.get(b"request"), fields.get(b"entry")
    return DeadLetter(
        id=id_,
        partition=partition,
        kind=fields[b"kind"].decode(),
        at_ms=int(fields.get(b"t") or id_.partition("-")[0]),
        reason=fields[b"reason"].decode(),
        user_id=user.decode() if user is not None else None,
        values=tuple((name, value, int(event)) for name, value, event, *_ in values),
        request=request.decode() if request else None,
        envelope=fields.get(b"envelope"),
        ranks=tuple(
            (int(event), int(arrived), int(sequence), int(place))
            for _, _, event, arrived, sequence, place, *_ in values
        ),
        entry=entry.decode() if entry else None,
        changes=_count(fields[b"changes"]) if b"changes" in fields else len(values),
    )


def _count(text: bytes) -> int:
    """The number of changes as an envelope's sender gave it: 0 if that is no number."""
    return int(text) if text.isdigit() else 0
