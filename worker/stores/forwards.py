"""Profiles that Braze is to delete: a durable queue, taken with a lease like everything else.

A user id is here until Braze has taken the deletion or refused it for good; asking twice for the
same is harmless, so what is under way with a lost worker is simply asked for again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgpack

from worker.durations import to_ms
from worker.pipeline.outcome import ItemVerdict, Verdict
from worker.stores.keys import key
from worker.stores.scripts import Scripts

# Braze deletes within five minutes of saying so (Braze docs: post_user_delete).
CARRIED_OUT = timedelta(minutes=5)
_CODE = {Verdict.DELIVERED: "d", Verdict.RETRY: "r", Verdict.UNKNOWN: "r", Verdict.DEAD: "x"}


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What settling did: taken by Braze, to be asked for again, refused for good."""

    taken: int
    again: int
    refused: int


class Forwards:
    """`lease` as of a claim; `remembers`: changes of a deleted user are skipped for a time."""

    def __init__(self, scripts: Scripts, lease: timedelta, *, remembers: bool = True) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._lease = lease
        self._remembers = remembers

    def take(self, partition: int, claim_id: str, most: int) -> list[str]:
        """Take users whose time has come. Until the lease is over nobody else is given them."""
        users = self._scripts.on_partition(
            "forward_take", partition, claim_id, most, to_ms(self._lease)
        )
        return [user.decode() for user in users]

    def settle(
        self,
        partition: int,
        claim_id: str,
        verdicts: Sequence[tuple[str, ItemVerdict]],
        again_after: timedelta,
    ) -> Forwarded:
        """End users of a claim. Who was deleted again, or taken by somebody else, is passed over.

        An unknown end is asked for again like one that is surely none.
        """
        named = [(user, _CODE[item.verdict], item.reason) for user, item in verdicts]
        result = self._scripts.on_partition(
            "forward_settle",
            partition,
            claim_id,
            msgpack.packb(named),
            to_ms(again_after),
            to_ms(CARRIED_OUT),
            int(self._remembers),
        )
        return Forwarded(*(int(count) for count in result))

    def next_due(self, partition: int) -> int | None:
        """When the first user may be asked for, ms; None if there is none."""
        first = self._client.zrange(key(partition, "forward"), 0, 0, withscores=True)
        return int(first[0][1]) if first else None

    def waiting(self, partitions: int) -> int:
        """Users whose deletion Braze has not taken yet, those under way included."""
        return sum(int(self._client.zcard(key(p, "forward"))) for p in range(partitions))

    def taken(self, partitions: int) -> int:
        """Deletions that Braze took, ever."""
        counts = (self._client.hget(key(p, "ledger"), "forwarded") for p in range(partitions))
        return sum(int(count or 0) for count in counts)
