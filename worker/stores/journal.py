"""The journal: packed facts of each script call, bounded in bytes, the oldest go first.

It is a witness, not a store: what it no longer holds is still in the user's own state.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import msgpack

from worker.contract import Skip
from worker.stores.deletions import digest_of
from worker.stores.keys import key
from worker.stores.server import Server

_HOW = {"o": "accepted", "s": "superseded", "u": "unchanged", "x": "dead", "k": "skipped"}
_VERDICT = {"d": "delivered", "r": "retry", "u": "unknown", "x": "dead"}
_SKIPS = frozenset(map(str, Skip))


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
        digest = digest_of(self._client, partition, user_id)
        for at, kind, body in self._entries(partition):
            if user_id.encode() not in body and digest.encode() not in body:
                continue
            unpacked = _unpacked(body)
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
            elif kind == "recall":
                found.extend(
                    {
                        "at_ms": at,
                        "fact": "forgotten_by_the_server",
                        "values": {names.get(id_, id_): value for id_, value in values},
                    }
                    for user, values in unpacked
                    if user == user_id
                )
            elif kind == "door":
                found.extend(
                    {"at_ms": at, "fact": _at_the_door(code), "code": code, "where": where}
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
            elif kind in ("delete", "skip"):
                found.extend(_forgotten(at, kind, unpacked, digest))
        # What remains of an entry after a deletion lies behind later ones, with its own time.
        return sorted(found, key=itemgetter("at_ms"))

    def _entries(self, partition: int) -> Iterator[tuple[int, str, bytes]]:
        after = "-"
        while True:
            entries = self._client.xrange(key(partition, "journal"), min=after, count=200)
            for id_, fields in entries:
                at = fields.get(b"t") or id_.partition(b"-")[0]
                yield int(at), fields[b"k"].decode(), fields[b"b"]
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


def _forgotten(at: int, kind: str, body: Any, digest: str) -> Iterator[dict[str, Any]]:
    if kind == "delete":
        entry, whose, attributes, skipped = body
        if whose == digest:
            fact = {"at_ms": at, "fact": "deleted", "attributes": attributes}
            yield {**fact, "changes_skipped": skipped, "entry": entry}
        return
    entry, passed = body
    for whose, changes in passed:
        if whose == digest:
            yield {"at_ms": at, "fact": "skipped", "changes": changes, "entry": entry}


# --- without some users


def without_users(kind: str, body: bytes, users: frozenset[str]) -> bytes:
    """The body of an entry without these users; empty if nothing is left. Others stay as they were.

    A body that names none of them comes back as it is.
    """
    unpacked = _unpacked(body)
    if kind == "accept":
        return _accept_without(body, unpacked, users)
    if kind == "settle":
        claim, request, facts = unpacked
        kept = [fact for fact in facts if fact[0] not in users]
        return body if len(kept) == len(facts) else _packed_if(kept, (claim, request, kept))
    if kind in ("seed", "recall"):
        kept = [fact for fact in unpacked if fact[0] not in users]
        return body if len(kept) == len(unpacked) else _packed_if(kept, kept)
    blanked = _blanked(unpacked, users)
    return body if blanked == unpacked else _packed(blanked)


def _accept_without(body: bytes, unpacked: Any, users: frozenset[str]) -> bytes:
    entry, envelope, passed_over, outcomes = unpacked
    names, everybody = _unpacked(envelope.encode("utf-8", "surrogateescape"))
    if not any(user in users for user, _ in everybody):
        return body
    how, at = "", 0
    kept = []
    for user, changes in everybody[passed_over:]:
        if user not in users:
            kept.append((user, changes))
            how += outcomes[at : at + len(changes)]
        at += len(changes)
    return _packed_if(kept, (entry, _packed((names, kept)), 0, how))


def _blanked(value: Any, users: frozenset[str]) -> Any:
    """The same with an empty text wherever one of the users was named."""
    if isinstance(value, list):
        return [_blanked(item, users) for item in value]
    return "" if isinstance(value, str) and value in users else value


def _unpacked(body: bytes) -> Any:
    # An envelope lies inside as it was packed: bytes, not text.
    return msgpack.unpackb(body, unicode_errors="surrogateescape")


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=False, unicode_errors="surrogateescape")
    return packed


def _packed_if(kept: list[Any], value: Any) -> bytes:
    return _packed(value) if kept else b""


def _at_the_door(code: str) -> str:
    return "skipped" if code in _SKIPS else "refused"
