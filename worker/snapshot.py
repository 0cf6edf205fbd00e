"""One look at the deployment: what both `status` and a scrape tell, read once, in one way.

Not atomic: the numbers may be a moment apart. Reads only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.pipeline.schedule import Lane
from worker.stores.allowance import Allowance, Destination
from worker.stores.dead_letters import DeadLetters
from worker.stores.deletions import Deletions
from worker.stores.forwards import Forwards
from worker.stores.inbox import Inbox
from worker.stores.ledger import Balance, Ledger
from worker.stores.memberships import Memberships, Waiting
from worker.stores.workers import Workers


class Sources(Protocol):
    """The stores that are looked at."""

    @property
    def inbox(self) -> Inbox: ...
    @property
    def memberships(self) -> Memberships: ...
    @property
    def allowance(self) -> Allowance: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def workers(self) -> Workers: ...
    @property
    def deletions(self) -> Deletions: ...
    @property
    def forwards(self) -> Forwards: ...
    @property
    def delete_allowance(self) -> Allowance: ...


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """Users of one lane, by state. `pending` are not due yet; instants in ms, None for nobody."""

    pending: int
    due: int
    held: int
    in_flight: int
    first_due_ms: int | None
    next_due_ms: int | None

    @property
    def ready(self) -> int:
        """Those who wait, due or not; the realtime lane may take them early."""
        return self.pending + self.due


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All partitions together. `inbox`: envelopes; `refused`, `skipped`: at the door, by code."""

    now_ms: int
    inbox: int
    lanes: Mapping[Lane, LaneSnapshot]
    balance: Balance
    refused: Mapping[str, int]
    skipped: Mapping[str, int]
    destination: Destination
    dead_letters: int
    workers: int

    @property
    def is_busy(self) -> bool:
        """Something is in the inbox, due, held or in flight. Who waits for a boundary is not."""
        realtime, batched = self.lanes[Lane.REALTIME], self.lanes[Lane.BATCHED]
        return bool(
            self.inbox
            or (realtime.ready or realtime.held or realtime.in_flight)
            or (batched.due or batched.held or batched.in_flight)
        )


def take(sources: Sources, partitions: int) -> Snapshot:
    """Look. Raises redis' errors."""
    everywhere = range(partitions)
    now = sources.allowance.now_ms()
    refused, skipped = sources.ledger.door(partitions)
    return Snapshot(
        now_ms=now,
        inbox=sum(sources.inbox.size(partition) for partition in everywhere),
        lanes=_lanes(sources.memberships, everywhere, now),
        balance=sources.ledger.balance(partitions),
        refused=refused,
        skipped=skipped,
        destination=sources.allowance.destination(),
        dead_letters=sum(sources.dead_letters.size(partition) for partition in everywhere),
        workers=sources.workers.alive(),
    )


def _lanes(memberships: Memberships, everywhere: range, now: int) -> dict[Lane, LaneSnapshot]:
    # All claims are read for this: once, not for each lane.
    in_flight = [memberships.in_flight(partition) for partition in everywhere]
    return {
        lane: _together(
            [memberships.waiting(partition, lane, now) for partition in everywhere],
            sum(found[lane] for found in in_flight),
        )
        for lane in Lane
    }


def _together(waiting: Sequence[Waiting], in_flight: int) -> LaneSnapshot:
    due = sum(item.due for item in waiting)
    return LaneSnapshot(
        pending=sum(item.ready for item in waiting) - due,
        due=due,
        held=sum(item.held for item in waiting),
        in_flight=in_flight,
        first_due_ms=min(
            (at for it in waiting if (at := it.first_due_ms) is not None), default=None
        ),
        next_due_ms=min((at for it in waiting if (at := it.next_due_ms) is not None), default=None),
    )
