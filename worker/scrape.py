"""Reads the server for one scrape. A server that is away is an answer, too: None."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from redis.exceptions import RedisError

from worker.metric import OTHER
from worker.observe.metrics import AUDIENCE
from worker.observe.server_metrics import (
    AudienceReading,
    BudgetReading,
    LaneReading,
    ServerReading,
)
from worker.pipeline.schedule import Lane
from worker.snapshot import LaneSnapshot, Sources, take
from worker.stores.audience_books import AudienceBook, AudienceBooks
from worker.stores.budget import Budget
from worker.stores.mode import ModeStore
from worker.stores.publication import Publication
from worker.stores.server import Server
from worker.stores.sweeps import Sweeps


class Scraped(Sources, Protocol):
    """The stores that a scrape looks at."""

    @property
    def audience_books(self) -> AudienceBooks: ...
    @property
    def publication(self) -> Publication: ...
    @property
    def sweeps(self) -> Sweeps: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def mode(self) -> ModeStore: ...


@dataclass(frozen=True, slots=True)
class ServerReader:
    """Called once for each scrape, from any thread. Its stores have connections of their own, so
    that no task waits for a scrape; it only reads."""

    client: Server
    stores: Scraped
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
        seen = take(self.stores, self.partitions)
        counts = self.stores.allowance.counts()
        deleted = self.stores.deletions.counts(self.partitions, seen.now_ms)
        tick_age = self.stores.workers.tick_age_ms()
        balance, until = seen.balance, seen.destination.until_ms
        mode = self.stores.mode.read().mode or "live"
        state, _, _ = seen.destination.state(seen.now_ms, mode)
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
            refused=seen.refused,
            skipped=seen.skipped,
            statuses=_under("status:", counts),
            courses=_under("course:", counts),
            objects_sent=counts.get("objects", 0),
            inbox=seen.inbox,
            lanes={lane: self._lane(lane, it, seen.now_ms) for lane, it in seen.lanes.items()},
            dead_letters=seen.dead_letters,
            workers=seen.workers,
            tick_age_seconds=math.inf if tick_age is None else tick_age / 1000,
            state=state,
            is_stopped=seen.destination.stop is not None,
            paused_until=until / 1000 if until > seen.now_ms else 0.0,
            users_deleted=deleted.deleted,
            users_suppressed=deleted.suppressed,
            deletes_taken=self.stores.forwards.taken(self.partitions),
            deletes_waiting=self.stores.forwards.waiting(self.partitions),
            deletes_stopped=self.stores.delete_allowance.destination().stop is not None,
            audiences=by_audience(
                self.stores.audience_books.read(self.partitions, seen.now_ms), seen.now_ms
            ),
            registry_refused=self.stores.publication.read().fault is not None,
            mode=mode,
            budget=self._budget(seen.now_ms),
            sweeps=sum(len(self.stores.sweeps.unfinished(p)) for p in range(self.partitions)),
        )

    def _budget(self, now_ms: int) -> BudgetReading:
        budget = self.stores.budget
        return BudgetReading(
            today=budget.today(self.partitions, now_ms),
            per_day=budget.per_day or 0,
            per_audience=budget.per_audience or 0,
            held=sum(item.users for item in budget.held(self.partitions, now_ms)),
        )

    def _lane(self, lane: Lane, seen: LaneSnapshot, now_ms: int) -> LaneReading:
        first = seen.first_due_ms or now_ms
        return LaneReading(
            users={
                "waiting": seen.pending,
                "due": seen.due,
                "held": seen.held,
                "in_flight": seen.in_flight,
            },
            oldest_ready_seconds=max(0, now_ms - first) / 1000,
            ages=self.stores.ledger.ages(self.partitions, lane),
        )


def by_audience(books: Mapping[str, AudienceBook], now_ms: int) -> dict[str, AudienceReading]:
    """Those that are declared, as many as have series of their own; the others as `other`. Keys
    that nobody declared come from outside, and are shown to nobody here."""
    declared = sorted(name for name, book in books.items() if book.rule.declared and name != OTHER)
    shown = frozenset(declared[: AUDIENCE.most])
    found = {name: _audience(books[name], now_ms) for name in sorted(shown)}
    rest = (_audience(book, now_ms) for name, book in books.items() if name not in shown)
    return {**found, OTHER: sum(rest, AudienceReading())}


def _audience(book: AudienceBook, now_ms: int) -> AudienceReading:
    since = now_ms if book.oldest_ms is None else book.oldest_ms
    return AudienceReading(
        members=book.members,
        pending=book.pending,
        oldest_seconds=max(0, now_ms - since) / 1000,
        sent=book.sent,
        saved=book.saved,
    )


def _under(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    found = (
        (name.removeprefix(prefix), n) for name, n in counts.items() if name.startswith(prefix)
    )
    return dict(found)
