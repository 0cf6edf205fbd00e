"""accept, flush, recover: the architecture, read top to bottom.

Accept folds what is in the inbox into what each user should hold. Flush claims the users that
differ and delivers them. Recover, once a second, ends what lost workers left behind and rings
for work that nobody was rung for. Each works for a bounded time and makes room; losing or
repeating any of them costs nothing but time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from worker.contract import ENVELOPE, Changes, Deletion, Refusals, TaskName
from worker.delivery import Delivery, Tally
from worker.forgetting import Forgetting
from worker.forwarding import ForwardTally
from worker.pipeline import facts
from worker.pipeline.ingest import EntryId, ingest
from worker.pipeline.schedule import Lane
from worker.reload import Reload
from worker.sending import RESUMED, ask, new_id, try_again
from worker.stores.bells import Bells
from worker.stores.inbox import Entry, Inbox
from worker.stores.memberships import Applied, Claim
from worker.stores.scripts import ScriptFailed
from worker.sweeping import Sweeping, SweepTally
from worker.tools import Tools
from worker.watch import Watch

FLUSH_TASK = {Lane.REALTIME: TaskName.FLUSH_REALTIME, Lane.BATCHED: TaskName.FLUSH_BATCHED}
_ENTRIES_AT_ONCE = 8
# Rung a little ahead: the gatherer waits out the rest to the millisecond.
_AHEAD_MS = 1_000
_AGAIN = "again"
# What other drains learned of smaller requests is taken up within this time.
_LIMITS_SECONDS = 1.0
# One drain asks for more hands at most this often.
_RING_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """`budget` seconds bound a batched or accept drain, `realtime_budget` a realtime one, which
    stands in nobody's way. `deliveries`: tries before an envelope is given up."""

    budget: float = 2.0
    realtime_budget: float = 10.0
    deliveries: int = 5
    future_tolerance_ms: int = 300_000
    probe_interval_ms: int = 30_000
    partitions: int = 1


@dataclass(slots=True)
class AcceptTally:
    """What one accept drain did; Flower shows it as the task's result."""

    envelopes: int = 0
    changes: int = 0
    superseded: int = 0
    unchanged: int = 0
    refused: int = 0
    skipped: int = 0
    deleted: int = 0


@dataclass(slots=True)
class RecoverTally:
    """What one tick did."""

    void: int = 0
    rung: list[str] = field(default_factory=list)
    probed: str = ""


class Flow:
    """The engine of one worker process; safe to use from many threads.

    `ring(task, partition)` puts a Celery message on its way; it may raise, and is rung again
    by the next tick.
    """

    def __init__(
        self,
        tools: Tools,
        inbox: Inbox,
        bells: Bells,
        watch: Watch,
        ring: Callable[[str, int], None],
        policy: FlowPolicy,
        forgetting: Forgetting,
        reload: Reload,
        sweeping: Sweeping,
    ) -> None:
        self._tools = tools
        self._inbox = inbox
        self._bells = bells
        self._watch = watch
        self._ring_out = ring
        self._policy = policy
        self._forgetting = forgetting
        self._reload = reload
        self._sweeping = sweeping

    # --- accept -------------------------------------------------------------------------

    def accept(self, partition: int) -> AcceptTally:
        """Apply what is in the inbox, what lost workers left behind first."""
        self._bells.clear(TaskName.ACCEPT, partition)
        tally = AcceptTally()
        until = self._tools.clock() + self._policy.budget
        # One at a time: an entry that ends workers must not use up its neighbours' deliveries.
        entries = self._inbox.take_over(partition, 1)
        while not self._tools.wait(0):
            entries = entries or self._inbox.read(partition, _ENTRIES_AT_ONCE)
            if not entries:
                return tally
            for entry in entries:
                self._apply_or_leave(partition, entry, tally)
            entries = self._inbox.take_over(partition, 1)
            if self._tools.clock() > until:
                break
        if self._inbox.has_work(partition):
            self.ring(TaskName.ACCEPT, partition)
        return tally

    def _apply(self, partition: int, entry: Entry, tally: AcceptTally) -> None:
        tally.envelopes += 1
        if entry.deliveries > self._policy.deliveries:
            self._refuse(partition, entry, "too_many_deliveries", tally)
            return
        try:
            envelope = ENVELOPE.validate_json(entry.data)
        except ValidationError as error:
            self._refuse(partition, entry, _unreadable(error), tally)
            return
        if isinstance(envelope, Changes):
            self._fold(partition, entry, envelope, tally)
        elif isinstance(envelope, Refusals):
            self._count_door(partition, entry, envelope)
        else:
            self._delete(partition, entry, envelope, tally)

    def _apply_or_leave(self, partition: int, entry: Entry, tally: AcceptTally) -> None:
        """An entry that can neither be applied nor refused does not stop those behind it."""
        try:
            self._apply(partition, entry, tally)
        except ScriptFailed as error:
            # The entry stays pending: it is tried again, and given up after some tries.
            self._tools.record(facts.EnvelopeFailed(entry=entry.id, reason=str(error)[:200]))

    def _fold(self, partition: int, entry: Entry, envelope: Changes, tally: AcceptTally) -> None:
        id_ = EntryId.parse(entry.id)
        ingested = ingest(envelope, id_, self._policy.future_tolerance_ms)
        applied = self._tools.memberships.accept(
            partition, entry.id, id_.ms, ingested, acknowledged=envelope.acknowledged
        )
        if not applied.is_applied:
            return
        tally.changes += len(envelope.changes)
        tally.superseded += applied.superseded
        tally.unchanged += applied.unchanged
        tally.skipped += applied.skipped
        self._tools.record(
            facts.EnvelopeApplied(
                entry=entry.id,
                changes=len(envelope.changes),
                opened=applied.opened,
                superseded=applied.superseded,
                unchanged=applied.unchanged,
                dead=applied.dead,
                skipped=applied.skipped,
                clamped=ingested.clamped,
            )
        )
        self._ring_if_ready(partition, applied)

    def _ring_if_ready(self, partition: int, applied: Applied) -> None:
        full = self._tools.allowance.policy.objects
        if applied.realtime_ready >= full or (applied.realtime_ready and not applied.has_gatherer):
            self.ring(TaskName.FLUSH_REALTIME, partition, even_paused=False)

    def _delete(self, partition: int, entry: Entry, envelope: Deletion, tally: AcceptTally) -> None:
        deleted = self._forgetting.delete(partition, entry.id, envelope.user_id)
        tally.deleted += deleted.is_applied
        tally.skipped += deleted.skipped
        if deleted.ask_at_ms is not None:
            self._ring_for_deletes(partition, self._tools.allowance.now_ms())

    def _ring_for_deletes(self, partition: int, now_ms: int) -> bool:
        if not self._forgetting.has_to_ask(partition, now_ms + _AHEAD_MS):
            return False
        return self.ring(TaskName.FORWARD_DELETES, partition)

    def _count_door(self, partition: int, entry: Entry, envelope: Refusals) -> None:
        counts = {f"refused:{code}": n for code, n in envelope.refused.items()}
        counts |= {f"skipped:{code}": n for code, n in envelope.skipped.items()}
        # Lua would make a hole of None, and the rest of the list unreadable.
        samples = [(item.code, item.user_id or "", item.where) for item in envelope.samples]
        self._tools.memberships.count_door(partition, entry.id, counts, samples)

    def _refuse(self, partition: int, entry: Entry, reason: str, tally: AcceptTally) -> None:
        if self._tools.memberships.refuse_envelope(partition, entry.id, reason):
            tally.refused += 1
            self._tools.record(facts.EnvelopeRefused(entry=entry.id, reason=reason))

    # --- flush --------------------------------------------------------------------------

    def flush(self, partition: int, lane: Lane) -> Tally:
        """Claim and deliver what a lane has due, request by request."""
        self._bells.clear(FLUSH_TASK[lane], partition)
        tools, tally, token = self._tools, Tally(), new_id()
        realtime = lane is Lane.REALTIME
        budget = self._policy.realtime_budget if realtime else self._policy.budget
        until = tools.clock() + budget
        limits, asked_at = tools.allowance.limits(), tools.clock()
        are_many, rung_at, booked = False, 0.0, None
        while not tools.wait(0):
            if tools.recollection.has_doubts:
                self.recollect()
            if tools.clock() >= until:
                tally.ended = "time_over"
                self._ring_if_left(partition, lane, token)
                break
            # While full requests wait there is nothing to gather.
            if not are_many:
                why = self._gather(partition, lane, limits[0], token, until)
                if why == _AGAIN:
                    continue
                if why:
                    tally.ended = why
                    break
            permit, waited_ms, why = ask(tools, lane, until, booked=booked)
            booked = None
            if permit is None:
                tools.memberships.stop_gathering(partition, lane, token)
                tally.ended = why
                break
            began = tools.clock()
            claim = self._claim(partition, lane, token, permit, limits)
            are_many = bool(claim.users) and claim.left >= limits[0]
            if not claim.users:
                continue
            # Somebody else may go on beside us; if permission had to be waited for, more hands
            # would not help.
            if claim.left and not waited_ms and tools.clock() - rung_at > _RING_SECONDS:
                rung_at = tools.clock()
                self.ring(FLUSH_TASK[lane], partition, even_paused=False)
            delivery = Delivery(tools, partition, lane, claim, began, tally)
            delivery.run(permit, *limits, books=are_many and tools.clock() < until)
            booked = delivery.booked
            if delivery.was_too_large or tools.clock() - asked_at > _LIMITS_SECONDS:
                limits, asked_at = tools.allowance.limits(), tools.clock()
        if booked and booked.permission.is_granted:
            tools.allowance.give_back(booked.permit)
        self._watch.give()
        return tally

    def _gather(self, partition: int, lane: Lane, full: int, token: str, until: float) -> str:
        """Wait for a request to fill. Empty: there is one; `_AGAIN`: look again; else why not."""
        look = self._tools.memberships.look(partition, lane, full, token)
        if look.state in ("empty", "busy", "quiet"):
            return look.state
        if look.state != "wait":
            return ""
        if look.wait_ms / 1000 > until - self._tools.clock():
            self._tools.memberships.stop_gathering(partition, lane, token)
            return "not_due"
        self._tools.wait(look.wait_ms / 1000)
        return _AGAIN

    def _claim(
        self, partition: int, lane: Lane, token: str, permit: str, limits: tuple[int, int]
    ) -> Claim:
        """Take users for the request that `permit` allows; without users it is given back."""
        claim = None
        try:
            claim = self._tools.memberships.claim(
                partition, lane, lane.code + new_id(), token, objects=limits[0], size=limits[1]
            )
        finally:
            if claim is None or not claim.users:
                self._tools.allowance.give_back(permit)
        return claim

    def _ring_if_left(self, partition: int, lane: Lane, token: str) -> None:
        self._tools.memberships.stop_gathering(partition, lane, token)
        due = self._tools.memberships.next_due(partition, lane)
        if due is not None and due <= self._tools.allowance.now_ms() + _AHEAD_MS:
            self.ring(FLUSH_TASK[lane], partition, even_paused=False)

    # --- forward deletes ------------------------------------------------------------------

    def forward_deletes(self, partition: int) -> ForwardTally:
        """Have Braze delete the profiles of users who were deleted."""
        self._bells.clear(TaskName.FORWARD_DELETES, partition)
        forwarding = self._forgetting.forwarding
        if forwarding is None:
            return ForwardTally(ended="empty")
        return forwarding.drain(partition, self._tools.clock() + self._policy.budget)

    # --- sweep ----------------------------------------------------------------------------

    def sweep(self, partition: int) -> SweepTally:
        """Do some of the work on many users: a resync, a flush, what new rules make necessary."""
        self._bells.clear(TaskName.SWEEP, partition)
        tally = self._sweeping.drain(partition, self._tools.clock() + self._policy.budget)
        if tally.ended == "time_over":
            self.ring(TaskName.SWEEP, partition)
        return tally

    # --- recover ------------------------------------------------------------------------

    def recollect(self) -> None:
        """Compare what this process sent lately with a server that may have forgotten it.

        Each process does it for itself, before it claims again and with each heartbeat.
        """
        found = self._tools.recollection.compare()
        if found is not None:
            self._tools.record(
                facts.ServerReplaced(seconds=found.waited.total_seconds(), forgotten=found.values)
            )

    def recover(self) -> RecoverTally:
        """Void what lost workers hold, let go whom the budget held, ring for waiting work, try
        refused credentials again, give notices, take up a changed registry."""
        tally = RecoverTally()
        tools = self._tools
        now = tools.allowance.now_ms()
        tally.probed = self._probe(now)
        if self._forgetting.forwarding:
            self._forgetting.forwarding.probe(now, self._policy.probe_interval_ms)
        destination = tools.allowance.destination()
        may_send = destination.stop is None and destination.until_ms <= now + _AHEAD_MS
        users_lost = 0
        for partition in range(self._policy.partitions):
            for claim_id in tools.memberships.expired_claims(partition, now):
                settled = tools.memberships.void(partition, claim_id)
                if settled.users:
                    tally.void += 1
                    users_lost += settled.users
                    tools.record(facts.ClaimVoid(claim=claim_id, users=settled.users))
            self._watch.let_go(partition, now)
            if self._inbox.has_work(partition) and self.ring(TaskName.ACCEPT, partition):
                tally.rung.append(TaskName.ACCEPT)
            for lane, task in FLUSH_TASK.items():
                due = tools.memberships.next_due(partition, lane) if may_send else None
                if due is not None and due <= now + _AHEAD_MS and self.ring(task, partition):
                    tally.rung.append(task)
            if self._ring_for_deletes(partition, now):
                tally.rung.append(TaskName.FORWARD_DELETES)
            self._forgetting.go_on(partition, now)
            if self._sweeping.has_work(partition) and self.ring(TaskName.SWEEP, partition):
                tally.rung.append(TaskName.SWEEP)
        if tally.void:
            tools.record(facts.WorkerLost(claims=tally.void, users=users_lost))
        self._watch.look(now)
        self._reload.look()
        return tally

    def _probe(self, now: int) -> str:
        """Try refused credentials with a harmless request; resume if they are taken again."""
        tools = self._tools
        probed = try_again(tools, tools.braze, now, self._policy.probe_interval_ms)
        if probed == RESUMED:
            tools.record(facts.DestinationResumed(by="probe"))
        return probed

    def ring_again(self, task: str, partition: int) -> bool:
        """Ring for a bell that was heard, but that nobody could answer."""
        self._bells.clear(task, partition)
        return self.ring(task, partition)

    def ring(self, task: str, partition: int, *, even_paused: bool = True) -> bool:
        """Ring one doorbell unless one is outstanding. A failure to ring costs at most a tick.

        Not `even_paused`: nobody is rung for while nothing may be sent; the tick does it after.
        """
        if not self._bells.take(task, partition):
            return False
        if not even_paused and not self._tools.allowance.may_go():
            self._bells.clear(task, partition)
            return False
        try:
            self._ring_out(task, partition)
        except Exception as error:  # noqa: BLE001 - whatever the broker raises, the tick rings again
            self._bells.clear(task, partition)
            self._tools.record(facts.BellFailed(task=task, reason=type(error).__name__))
            return False
        return True


def _unreadable(error: ValidationError) -> str:
    """A short reason: where it is wrong and how, without the value."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    return f"unreadable: {where}: {first['type']}" if where else f"unreadable: {first['type']}"
