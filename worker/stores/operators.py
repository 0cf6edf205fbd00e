"""What operators do to dead letters, and the note of who did what: each step is one script.

A replay of a user's letter is a re-send: the dead end of the change stands, the value is counted
as resent. A replay of changes or of an envelope is a new acceptance. Either way the letter is
gone, so nothing is replayed twice, and the books balance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgpack

from worker.durations import to_ms
from worker.stores.keys import key
from worker.stores.scripts import Scripts
from worker.stores.server import Server

AT_ONCE = 100  # letters in one script, which nobody else runs beside


class InboxIsFull(Exception):
    """The inbox holds as many envelopes as it may; nothing was put into it."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing an operator did: `what` is pause, resume, replay, drop or forget; or, with the
    key, flush, resync, disable, enable or retire."""

    at_ms: int
    by: str
    what: str
    why: str
    letters: tuple[tuple[str, str], ...]  # (letter id, user or '')


class Operators:
    """`gap` and `journal_bytes` are those of the workers."""

    def __init__(self, client: Server, gap: timedelta, journal_bytes: int) -> None:
        self._client = client
        self._scripts = Scripts(client)
        self._gap_ms = to_ms(gap)
        self._journal_bytes = journal_bytes

    def note(self, by: str, what: str, why: str = "") -> None:
        """Write down what was done to the whole deployment; in the first partition's journal."""
        self._scripts.on_partition("note", 0, self._journal_bytes, by, what, why)

    def replay(self, partition: int, ids: Sequence[str], by: str) -> tuple[int, int]:
        """Lift the marks of users' letters: (letters replayed, values that are due again).

        The newest value is sent; a letter that a newer change has outdated only goes away.
        """
        packed = msgpack.packb(list(ids))
        letters, due = self._scripts.on_partition(
            "replay", partition, packed, self._gap_ms, self._journal_bytes, by
        )
        return int(letters), int(due)

    def requeue(
        self,
        partition: int,
        ids: Sequence[str],
        by: str,
        *,
        envelope: bytes = b"",
        changes: int = 0,
        high_water: int,
    ) -> bool:
        """Append letters to the inbox as this envelope, or a single one as the envelope it holds.

        False, and nothing done, if one of them is gone. Raises InboxIsFull.
        """
        packed = msgpack.packb(list(ids))
        done = self._scripts.on_partition(
            "requeue", partition, packed, envelope, changes, high_water, self._journal_bytes, by
        )
        if done < 0:
            raise InboxIsFull
        return bool(done)

    def drop(self, partition: int, ids: Sequence[str], by: str) -> int:
        """Throw letters away for good. Returns how many were still there."""
        packed = msgpack.packb(list(ids))
        dropped = self._scripts.on_partition("drop", partition, packed, self._journal_bytes, by)
        return int(dropped)

    def actions(self, partition: int = 0, count: int = 100) -> Iterator[Action]:
        """What the journal still holds of operators, the newest first, at most `count`."""
        before = "+"
        while count > 0:
            entries = self._client.xrevrange(key(partition, "journal"), max=before, count=500)
            for id_, fields in entries:
                if fields[b"k"] == b"operator" and count > 0:
                    count -= 1
                    at = fields.get(b"t") or id_.partition(b"-")[0]
                    yield _action(int(at), msgpack.unpackb(fields[b"b"]))
            if len(entries) < 500:
                return
            before = f"({entries[-1][0].decode()}"


def _action(at_ms: int, body: Any) -> Action:
    by, what, why, letters = body
    return Action(
        at_ms=at_ms,
        by=by,
        what=what,
        why=why,
        letters=tuple((id_, user) for id_, user in letters),
    )
