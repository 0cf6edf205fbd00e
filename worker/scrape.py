"""Reads the server for one scrape. A server that is away is an answer, too: None."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from worker.observe.server_metrics import LaneReading, ServerReading
from worker.pipeline.schedule import Lane
from worker.stores.allowance import Allowance, Destination
from worker.stores.dead_letters import DeadLetters
from worker.stores.inbox import Inbox
from worker.stores.ledger import Ledger
from worker.stores.memberships import Memberships
from worker.stores.server import Server
from worker.stores.workers import Workers


@dataclass(frozen=True, slots=True)
class ServerReader:
    """Called once for each scrape, from any thread. Its stores have connections of their own, so
    that no task waits for a scrape; it only reads."""

    client: Server
    inbox: Inbox
    memberships: Memberships
    allowance: Allowance
    dead_letters: DeadLetters
    ledger: Ledger
    workers: Workers
    partitions: int

    def __call__(self) -> ServerReading | None:
        try:
            return self._read()
        except RedisError:
            return None

    def close(self) -> None:
        """Give back the connections."""
        self.client.close()

    def _read(self) -> ServerReading:
        everywhere = range(self.partitions)
        now = self.allowance.now_ms()
        balance = self.ledger.balance(self.partitions)
        refused, skipped = self.ledger.door(self.partitions)
        counts = self.allowance.counts()
        destination = self.allowance.destination()
        tick_age = self.workers.tick_age_ms()
        until = destination.until_ms
        return ServerReading(
            accepted=balance.accepted,
            ends=balance.ends,
            pending=balance.pending,
            data_points=balance.values,
            objects=balance.objects,
            resent=balance.resent,
            replayed=balance.replayed,
            dropped=balance.dropped,
            envelopes_dead=balance.envelopes_dead,
            refused=refused,
            skipped=skipped,
            statuses=_under("status:", counts),
            courses=_under("course:", counts),
            objects_sent=counts.get("objects", 0),
            inbox=sum(self.inbox.size(partition) for partition in everywhere),
            lanes=self._lanes(now),
            dead_letters=sum(self.dead_letters.size(partition) for partition in everywhere),
            workers=self.workers.alive(),
            tick_age_seconds=math.inf if tick_age is None else tick_age / 1000,
            state=state_of(destination, now),
            is_stopped=destination.stop is not None,
            paused_until=until / 1000 if until > now else 0.0,
        )

    def _lanes(self, now: int) -> dict[Lane, LaneReading]:
        in_flight = [self.memberships.in_flight(p) for p in range(self.partitions)]
        return {lane: self._lane(lane, now, sum(f[lane] for f in in_flight)) for lane in Lane}

    def _lane(self, lane: Lane, now: int, in_flight: int) -> LaneReading:
        found = [self.memberships.waiting(p, lane, now) for p in range(self.partitions)]
        due = sum(item.due for item in found)
        first = min((item.first_due_ms or now for item in found), default=now)
        return LaneReading(
            users={
                "waiting": sum(item.ready for item in found) - due,
                "due": due,
                "held": sum(item.held for item in found),
                "in_flight": in_flight,
            },
            oldest_ready_seconds=max(0, now - first) / 1000,
            ages=self.ledger.ages(self.partitions, lane),
        )


def _under(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    found = (
        (name.removeprefix(prefix), n) for name, n in counts.items() if name.startswith(prefix)
    )
    return dict(found)


def state_of(found: Destination, now_ms: int) -> str:
    """`connected`, `slowed`, `paused` or `unreachable`: the word that `status` has for it, too."""
    if found.stop:
        return "paused"
    if found.width and found.failures:
        return "unreachable"
    if found.until_ms > now_ms:
        return "paused"
    is_hinted = found.hint_left == 0 and found.hint_reset_ms > now_ms
    if found.width or found.most_objects or found.most_bytes or is_hinted:
        return "slowed"
    return "connected"
