"""The journal: packed facts of each script call, bounded in bytes, the oldest go first.

It is a witness, not a store: what it no longer holds is still in the user's own state.
"""

from collections.abc import Iterator
from typing import Any

import msgpack

from worker.stores.keys import key
from worker.stores.server import Server

_HOW = {"o": "accepted", "s": "superseded", "u": "unchanged", "x": "dead"}
_VERDICT = {"d": "delivered", "r": "retry", "u": "unknown", "x": "dead"}


class Journal:
    """Reads one partition's journal."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def of_user(self, partition: int, user_id: str) -> list[dict[str, Any]]:
        """What the journal still holds of one user, oldest first.

        Reads the whole journal in pieces: some hundred milliseconds at its bound.
        """
        names = {
            k.decode(): v.decode() for k, v in self._client.hgetall(key(partition, "names")).items()
        }
        found: list[dict[str, Any]] = []
        wanted = msgpack.packb(user_id)
        for id_, kind, body in self._entries(partition):
            if user_id.encode() not in body and wanted not in body:
                continue
            at = int(id_.partition("-")[0])
            # An envelope lies inside as it was packed: bytes, not text.
            unpacked = msgpack.unpackb(body, unicode_errors="surrogateescape")
            if kind == "accept":
                found.extend(_accepted(at, unpacked, user_id))
            elif kind == "settle":
                found.extend(_settled(at, unpacked, user_id, names))
            elif kind == "seed":
                found.extend(
                    {
                        "at_ms": at,
                        "fact": "read_from_braze",
                        "values": {names.get(id_, id_): value for id_, value in values},
                    }
                    for user, values in unpacked
                    if user == user_id
                )
            elif kind == "door":
                found.extend(
                    {"at_ms": at, "fact": "refused", "code": code, "where": where}
                    for code, user, where in unpacked[1]
                    if user == user_id
                )
            elif kind == "operator":
                by, what, _, letters = unpacked
                found.extend(
                    {"at_ms": at, "fact": f"{what} of a dead letter", "letter": letter, "by": by}
                    for letter, user in letters
                    if user == user_id
                )
        return found

    def _entries(self, partition: int) -> Iterator[tuple[str, str, bytes]]:
        after = "-"
        while True:
            entries = self._client.xrange(key(partition, "journal"), min=after, count=200)
            for id_, fields in entries:
                yield id_.decode(), fields[b"k"].decode(), fields[b"b"]
            if len(entries) < 200:
                return
            after = f"({entries[-1][0].decode()}"


def _accepted(at: int, body: Any, user_id: str) -> Iterator[dict[str, Any]]:
    entry, envelope, passed_over, outcomes = body
    names, users = msgpack.unpackb(envelope.encode("utf-8", "surrogateescape"))
    how = iter(outcomes)
    for user, changes in users[passed_over:]:
        for index, value, event_ms, *_ in changes:
            outcome = next(how)
            if user == user_id:
                yield {
                    "at_ms": at,
                    "fact": _HOW[outcome],
                    "attribute": names[index - 1],
                    "value": value,
                    "event_ms": int(event_ms),
                    "entry": entry,
                }


def _settled(at: int, body: Any, user_id: str, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    _claim, request, users = body
    for user, verdict, reason, values in users:
        if user == user_id:
            fact = {
                "at_ms": at,
                "fact": _VERDICT[verdict],
                "values": {names.get(id_, id_): value for id_, value, *_ in values},
                "request": request,
            }
            yield {**fact, "reason": reason} if reason else fact
