"""Has Braze delete the profiles of deleted users, up to 50 in a request.

It has an allowance of its own: Braze counts and permits /users/delete apart from /users/track, so
that a key which may not delete, or a limit that is used up, holds up no delivery. What stops all
sending stops this, too. Nothing is sent in shadow mode; the users wait in the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from worker.braze.client import UnusableKey
from worker.braze.deletes import IDS_MAX
from worker.delivery import DeliveryPolicy, Tools, ask, new_id
from worker.pipeline import facts
from worker.pipeline.outcome import Course, ItemVerdict, Outcome, Then, Verdict, read
from worker.pipeline.reply import Reply
from worker.pipeline.retry import delay, spread
from worker.pipeline.schedule import Lane
from worker.stores.allowance import Allowance
from worker.stores.forwards import Forwards

_MARGIN = 0.5
_NOT_ASKED = ItemVerdict(Verdict.RETRY, "not_sent")

TODO = {
    "forbidden_plan_or_key_permission": "Make a Braze key with users.delete besides users.track, "
    "or set PERSONA_SYNC_FORWARD_DELETES=false; permissions are fixed at creation.",
    "invalid_key_or_wrong_instance": "Check PERSONA_SYNC_BRAZE_API_KEY and "
    "PERSONA_SYNC_BRAZE_ENDPOINT.",
    "valve": "Braze refuses too many deletions. Look at the dead letters of the kind `deletion`.",
}


class DeletesProfiles(Protocol):
    """What forwarding needs of the client: one call, one reply, no retries."""

    def delete(self, user_ids: Sequence[str], *, total: timedelta | None = None) -> Reply: ...
    def probe(self) -> Reply: ...


@dataclass(slots=True)
class ForwardTally:
    """What one drain did; Flower shows it as the task's result."""

    requests: int = 0
    taken: int = 0
    again: int = 0
    refused: int = 0
    ended: str = ""


class Forwarding:
    """One for each process; safe to use from many threads.

    `tools` are those of deliveries; `allowance` is that of /users/delete.
    """

    def __init__(
        self, tools: Tools, allowance: Allowance, forwards: Forwards, braze: DeletesProfiles
    ) -> None:
        self._tools = replace(tools, allowance=allowance)
        self._main = tools.allowance
        self._forwards = forwards
        self._braze = braze

    def has_work(self, partition: int, until_ms: int) -> bool:
        """Whether somebody may be asked for by then, and Braze may be asked at all."""
        due = self._forwards.next_due(partition)
        return due is not None and due <= until_ms and self.may_go()

    def may_go(self) -> bool:
        """False while nothing may be sent at all, or nothing may be deleted."""
        return self._main.may_go() and self._tools.allowance.may_go()

    def drain(self, partition: int, until: float) -> ForwardTally:
        """Ask for everybody who is due, request by request, until then (seconds of the clock)."""
        tools, tally = self._tools, ForwardTally()
        while not tools.wait(0):
            if tools.clock() >= until:
                tally.ended = "time_over"
                return tally
            if not self.has_work(partition, tools.allowance.now_ms()):
                tally.ended = "empty" if self.may_go() else "paused"
                return tally
            permit, _, why = ask(tools, Lane.BATCHED, until)
            if permit is None:
                tally.ended = why
                return tally
            began, claim = tools.clock(), new_id()
            users = self._forwards.take(partition, claim, IDS_MAX)
            if not users:
                tools.allowance.give_back(permit)
                continue
            asking = _Asking(tools, self._forwards, self._braze, partition, claim, began, tally)
            asking.run(users, permit)
        return tally

    def probe(self, now_ms: int, interval_ms: int) -> None:
        """Once in a while, or with a new key, see whether Braze lets us delete again."""
        allowance, key_print = self._tools.allowance, self._tools.key_print()
        found = allowance.destination()
        if found.stop is None or found.stop == "valve":
            return
        if found.key_print == key_print and found.next_probe_ms > now_ms:
            return
        allowance.probe_later(now_ms + interval_ms, key_print)
        try:
            reply = self._braze.probe()
        except UnusableKey:
            return
        # To name nobody is a mistake, and a key that may delete is told so.
        outcome = read(reply, 0, body_bytes=0, now=self._tools.wall())
        if reply.status is None or outcome.course in (Course.STOP, Course.FAILING):
            return
        if allowance.resume(found.stop):
            self._tools.record(facts.DeletesResumed())


class _Asking:
    """The users of one claim. `began` was taken before the claim was asked for."""

    def __init__(
        self,
        tools: Tools,
        forwards: Forwards,
        braze: DeletesProfiles,
        partition: int,
        claim: str,
        began: float,
        tally: ForwardTally,
    ) -> None:
        self._tools = tools
        self._forwards = forwards
        self._braze = braze
        self._partition = partition
        self._claim = claim
        self._tally = tally
        policy: DeliveryPolicy = tools.policy
        self._last_start = (
            began + policy.lease.total_seconds() - policy.total.total_seconds() - _MARGIN
        )

    def run(self, users: Sequence[str], permit: str) -> None:
        """Ask for all of them; halves find whom Braze refuses. Asking twice is harmless."""
        waiting, granted = [list(users)], iter([permit])
        while waiting:
            group = waiting.pop(0)
            outcome = self._ask(group, next(granted, None))
            if outcome is None:
                rest = [user for some in (group, *waiting) for user in some]
                self._settle([(user, _NOT_ASKED) for user in rest])
                return
            items = list(zip(group, outcome.items, strict=True))
            if outcome.then in (Then.ISOLATE, Then.HALVES) and len(group) > 1:
                middle = len(group) // 2
                waiting[:0] = [group[:middle], group[middle:]]
            elif outcome.then is Then.RESEND_REST:
                self._settle([item for item in items if item[1].verdict is Verdict.DEAD])
                waiting.insert(0, [u for u, item in items if item.verdict is not Verdict.DEAD])
            else:
                self._settle(items)
            if outcome.course is not Course.FINE:
                self._settle([(user, _NOT_ASKED) for some in waiting for user in some])
                return

    def _ask(self, users: Sequence[str], permit: str | None) -> Outcome | None:
        """One request. None if it may not begin any more: nothing was sent."""
        tools = self._tools
        if permit is None:
            until = min(self._last_start, tools.clock() + 2.0)
            permit, _, _ = ask(tools, Lane.BATCHED, until, insists=True)
        if permit is None:
            return None
        if tools.clock() > self._last_start:
            tools.allowance.give_back(permit)
            return None
        try:
            reply = self._braze.delete(users, total=tools.policy.total)
        except UnusableKey:
            reply = Reply(status=401)
        except BaseException:
            tools.allowance.give_back(permit)
            raise
        outcome = read(reply, len(users), body_bytes=0, now=tools.wall())
        return self._learn(permit, reply, outcome)

    def _learn(self, permit: str, reply: Reply, outcome: Outcome) -> Outcome:
        """Tell all workers what the reply says of this endpoint; the verdicts as they stand."""
        tools, policy = self._tools, self._tools.policy
        if outcome.wait is not None:
            outcome = replace(outcome, wait=spread(outcome.wait, tools.random()))
        learned = tools.allowance.report(
            permit,
            outcome,
            status=str(reply.status or reply.trouble),
            objects=len(outcome.items),
            key_print=tools.key_print(),
            final=sum(i.verdict in (Verdict.DELIVERED, Verdict.DEAD) for i in outcome.items),
        )
        self._pause(outcome, learned.failures, policy)
        if learned.valve_tripped:
            again = tuple(
                ItemVerdict(Verdict.RETRY, "valve") if i.verdict is Verdict.DEAD else i
                for i in outcome.items
            )
            outcome = replace(
                outcome, items=again, then=Then.NOTHING, course=Course.STOP, reason="valve"
            )
        if outcome.course is Course.STOP:
            todo = TODO.get(outcome.reason, "Look at the reason.")
            tools.record(facts.DeletesStopped(reason=outcome.reason, todo=todo))
        self._said(reply, outcome)
        return outcome

    def _pause(self, outcome: Outcome, failures: int, policy: DeliveryPolicy) -> None:
        """Back off where Braze did not say for how long."""
        tools = self._tools
        beyond = failures - policy.failures + 1
        if outcome.course is Course.WAIT and outcome.wait is None:
            waited = delay(failures, policy.backoff_base * 2, policy.backoff_cap, tools.random())
            tools.allowance.pause(waited, outcome.reason, narrow=False)
        elif outcome.course is Course.FAILING and beyond > 0:
            waited = delay(beyond, policy.backoff_base, policy.backoff_cap, tools.random())
            waited = max(waited, timedelta(seconds=outcome.wait or 0))
            tools.allowance.pause(waited, outcome.reason, narrow=True)

    def _said(self, reply: Reply, outcome: Outcome) -> None:
        self._tally.requests += 1
        counted = [item.verdict for item in outcome.items]
        taken, refused = counted.count(Verdict.DELIVERED), counted.count(Verdict.DEAD)
        self._tools.record(
            facts.DeletesAsked(
                request=self._claim,
                status=str(reply.status or reply.trouble),
                users=len(counted),
                taken=taken,
                again=len(counted) - taken - refused,
                refused=refused,
                seconds=round(reply.seconds, 4),
                reason=outcome.reason,
            )
        )

    def _settle(self, verdicts: Sequence[tuple[str, ItemVerdict]]) -> None:
        if not verdicts:
            return
        # Trouble that lasts has pauses of its own.
        again = self._tools.policy.backoff_base * 2
        ended = self._forwards.settle(self._partition, self._claim, verdicts, again)
        self._tally.taken += ended.taken
        self._tally.again += ended.again
        self._tally.refused += ended.refused
