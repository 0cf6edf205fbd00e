"""Forgets users: what is known of one goes in a single step, and later changes are skipped.

What a step cannot reach (dead letters, the journal) is erased piece by piece; see `erasure.py`.
That a user was deleted is remembered as a digest, with a salt of this server's own. It is a
pseudonym: it names nobody, but who holds the server's data and guesses an id can test the guess.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from worker.durations import to_ms
from worker.stores.keys import key
from worker.stores.scripts import Scripts
from worker.stores.server import Server
from worker.stores.terms import Terms

_TRIM_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class DeletionTerms:
    """`memory`: for so long a deleted user's changes are skipped. `forward`: Braze is to delete
    the profile, too."""

    memory: timedelta = timedelta(days=30)
    forward: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did. `is_applied` is False if somebody else had applied the entry.

    `skipped`: open changes that ended with it. `ask_at_ms`: when Braze may be asked to delete the
    profile; None if it is not to be asked.
    """

    is_applied: bool
    attributes: int = 0
    skipped: int = 0
    in_flight: bool = False
    ask_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """That a user was deleted, and until when changes are skipped. Instants in ms.

    `asks_braze`: the deletion is still on its way to Braze; changes are skipped until it is there.
    """

    at_ms: int | None
    until_ms: int | None
    asks_braze: bool


@dataclass(frozen=True, slots=True)
class DeletionCounts:
    """Users `deleted` ever; `suppressed` now; still to be `erased` from letters and journal."""

    deleted: int
    suppressed: int
    erasing: int


class Deletions:
    """The deletions of one deployment, by partition."""

    def __init__(self, scripts: Scripts, terms: Terms, own: DeletionTerms | None = None) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._terms = terms
        self._own = own or DeletionTerms()

    def delete(self, partition: int, entry_id: str, user_id: str) -> Deleted:
        """Forget a user and acknowledge the entry that asks for it. Repeating it changes nothing.

        Open changes end as skipped. A claim on the user is blanked: settling it changes nothing.
        """
        result = self._scripts.on_partition(
            "delete",
            partition,
            entry_id,
            user_id,
            to_ms(self._own.memory),
            secrets.token_hex(16),
            int(self._own.forward),
            to_ms(self._terms.gap),
            to_ms(self._terms.hold),
            self._terms.journal_bytes,
        )
        if result[0] == 0:
            return Deleted(False)
        _, attributes, skipped, in_flight, ask_at = result
        return Deleted(True, attributes, skipped, bool(in_flight), int(ask_at) or None)

    def remembered(self, partition: int, user_id: str, now_ms: int) -> Remembered | None:
        """What is remembered of a deletion of this user; None if nothing is. Reads only."""
        digest = digest_of(self._client, partition, user_id)
        until = self._client.zscore(key(partition, "suppressed"), digest)
        asks = self._client.zscore(key(partition, "forward"), user_id) is not None
        is_over = until is None or until <= now_ms
        if is_over and not asks:
            return None
        at = self._client.hget(key(partition, "forgotten"), digest)
        return Remembered(
            int(at) if at else None, None if is_over or until is None else int(until), asks
        )

    def trim(self, partition: int, now_ms: int) -> int:
        """Forget that users were deleted whose time is over, some at a time. Returns how many."""
        first = self._client.zrange(key(partition, "suppressed"), 0, 0, withscores=True)
        if not first or first[0][1] > now_ms:
            return 0
        return int(self._scripts.on_partition("trim", partition, _TRIM_AT_ONCE))

    def counts(self, partitions: int, now_ms: int) -> DeletionCounts:
        """Of all partitions together. Reads only."""
        deleted = suppressed = erasing = 0
        for partition in range(partitions):
            deleted += int(self._client.hget(key(partition, "ledger"), "deleted") or 0)
            name = key(partition, "suppressed")
            suppressed += int(self._client.zcount(name, f"({now_ms}", "+inf"))
            erasing += int(self._client.zcard(key(partition, "erase")))
        return DeletionCounts(deleted, suppressed, erasing)


def digest_of(client: Server, partition: int, user_id: str) -> str:
    """The digest under which a deletion is remembered; `digest_of` of parts/deleted.lua."""
    salt = client.hget(key(partition, "meta"), "salt") or b""
    return hashlib.sha1(salt + user_id.encode(), usedforsecurity=False).hexdigest()
