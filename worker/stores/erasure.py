"""Erases deleted users from the dead letters and the journal, piece by piece.

Both are streams, and too long for one script. A pass goes through them once for some users, in
pages; where it is stands in `erasing`, so that a pass of a killed worker is gone on with. What is
to remain of an entry is put at the end of its stream, with the time it had. Doing a page again
finds nothing more to do.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgpack

from worker.pipeline.erase import envelope_without, written
from worker.stores.journal import without_users
from worker.stores.keys import key
from worker.stores.scripts import Scripts

_USERS_AT_ONCE = 50
_PAGE = 200
_LOCK_MS = 10_000
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)
Stream = Literal["dead", "journal"]
_AFTER: dict[Stream, Stream | None] = {"dead": "journal", "journal": None}


@dataclass(frozen=True, slots=True)
class _Pass:
    """Users to be erased, and how far it has come: after `at` in `stream`, until `last`."""

    users: tuple[str, ...]
    began_ms: int
    stream: Stream
    at: str
    last: str


class Erasure:
    """One partition at a time."""

    def __init__(self, scripts: Scripts) -> None:
        self._client = scripts.client
        self._scripts = scripts

    def go_on(self, partition: int, is_over: Callable[[], bool]) -> int:
        """Erase until there is nothing more to do, or `is_over`. Returns users done with.

        One worker at a time; the others find nothing to do.
        """
        if not self._client.exists(key(partition, "erase")):
            return 0
        lock = key(partition, "erasing:lock")
        if not self._client.set(lock, "1", nx=True, px=_LOCK_MS):
            return 0
        done = 0
        try:
            while (current := self._current(partition)) is not None:
                done += self._page(partition, current)
                if is_over():
                    break
        finally:
            self._client.delete(lock)
        return done

    def _current(self, partition: int) -> _Pass | None:
        """The pass under way, or a new one; None if there is nobody to erase."""
        found = self._client.hgetall(key(partition, "erasing"))
        if b"users" in found:
            stream: Stream = "dead" if found[b"stream"] == b"dead" else "journal"
            return _Pass(
                tuple(msgpack.unpackb(found[b"users"])),
                int(found[b"began"]),
                stream,
                found[b"at"].decode(),
                found[b"last"].decode(),
            )
        users = self._client.zrange(key(partition, "erase"), 0, _USERS_AT_ONCE - 1)
        if not users:
            return None
        names = tuple(user.decode() for user in users)
        return self._begin(partition, _Pass(names, self._scripts.now_ms(), "dead", "-", ""), "dead")

    def _begin(self, partition: int, current: _Pass, stream: Stream) -> _Pass:
        """Begin with a stream: up to the entry that is now its last."""
        newest = self._client.xrevrange(key(partition, stream), count=1)
        last = newest[0][0].decode() if newest else "0"
        begun = _Pass(current.users, current.began_ms, stream, "-", last)
        self._client.hset(
            key(partition, "erasing"),
            mapping={
                "users": msgpack.packb(begun.users),
                "began": begun.began_ms,
                "stream": stream,
                "at": begun.at,
                "last": begun.last,
            },
        )
        return begun

    def _page(self, partition: int, current: _Pass) -> int:
        """One page; users done with, if it was the last."""
        name = key(partition, current.stream)
        entries = self._client.xrange(name, current.at, current.last, count=_PAGE)
        users = frozenset(current.users)
        forms = {form for user in users for form in written(user)}
        marks = re.compile(b"|".join(re.escape(form) for form in forms))
        for id_, fields in entries:
            if any(marks.search(value) for value in _searched(fields)):
                self._rewrite(partition, current.stream, id_, fields, users)
        if len(entries) == _PAGE:
            at = f"({entries[-1][0].decode()}"
            self._client.hset(key(partition, "erasing"), "at", at)
            return 0
        following = _AFTER[current.stream]
        if following is not None:
            self._begin(partition, current, following)
            return 0
        packed = msgpack.packb(current.users)
        return int(self._scripts.on_partition("erased", partition, current.began_ms, packed))

    def _rewrite(
        self,
        partition: int,
        stream: Stream,
        id_: bytes,
        fields: dict[bytes, bytes],
        users: frozenset[str],
    ) -> None:
        without = _entry_without if stream == "journal" else _letter_without
        try:
            remains = without(id_, fields, users)
        except _UNREADABLE:
            remains = {}  # nobody can read it, and it may name one of them
        if remains == fields:
            return
        flat = [part for item in remains.items() for part in item]
        packed = msgpack.packb(flat, use_bin_type=False) if flat else b""
        self._scripts.on_partition("erase", partition, stream, id_, packed)


def _searched(fields: dict[bytes, bytes]) -> list[bytes]:
    return [fields[name] for name in (b"b", b"user", b"envelope") if name in fields]


def _time_of(id_: bytes, fields: dict[bytes, bytes]) -> bytes:
    return fields.get(b"t") or id_.partition(b"-")[0]


def _entry_without(
    id_: bytes, fields: dict[bytes, bytes], users: frozenset[str]
) -> dict[bytes, bytes]:
    """What remains of a journal entry; empty if nothing does."""
    body = without_users(fields[b"k"].decode(), fields[b"b"], users)
    if body == fields[b"b"]:
        return fields
    return {b"k": fields[b"k"], b"b": body, b"t": _time_of(id_, fields)} if body else {}


def _letter_without(
    id_: bytes, fields: dict[bytes, bytes], users: frozenset[str]
) -> dict[bytes, bytes]:
    """What remains of a dead letter; empty if nothing does.

    A deletion that Braze refused names its user until it is replayed or dropped.
    """
    if fields[b"kind"] == b"deletion":
        return fields
    if b"envelope" not in fields:
        user = fields.get(b"user", b"").decode()
        return {} if user in users else fields
    text, changes = envelope_without(fields[b"envelope"], users)
    if text == fields[b"envelope"]:
        return fields
    if not text:
        return {}
    remaining = {b"envelope": text, b"changes": str(changes).encode()}
    return {**fields, **remaining, b"t": _time_of(id_, fields)}
