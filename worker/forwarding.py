"""Has Braze delete the profiles of deleted users, up to 50 in a request.

It has an allowance of its own: Braze counts and permits /users/delete apart from /users/track, so
that a key which may not delete, or a limit that is used up, holds up no delivery. What stops all
sending stops this, too. Nothing is sent in shadow mode; the users wait in the queue. How one
request is made is in sending.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from worker.braze.deletes import IDS_MAX, body, pack
from worker.pipeline import facts
from worker.pipeline.outcome import Course, ItemVerdict, Outcome, Then, Verdict
from worker.pipeline.reply import Reply
from worker.pipeline.schedule import Lane
from worker.sending import (
    NOT_SENT,
    RESUMED,
    Sent,
    ask,
    ask_again,
    holding,
    is_final,
    last_start_of,
    learn,
    new_id,
    send,
    todo_of,
    try_again,
)
from worker.stores.allowance import Allowance
from worker.stores.forwards import Forwards
from worker.tools import Probed, Tools

TODO = {
    "forbidden_plan_or_key_permission": "Make a Braze key with users.delete besides users.track, "
    "or set PERSONA_SYNC_FORWARD_DELETES=false; permissions are fixed at creation.",
    "invalid_key_or_wrong_instance": "Check PERSONA_SYNC_BRAZE_API_KEY and "
    "PERSONA_SYNC_BRAZE_ENDPOINT.",
    "wrong_address": "Check PERSONA_SYNC_BRAZE_ENDPOINT: there is no /users/delete there.",
    "redirected": "Check PERSONA_SYNC_BRAZE_ENDPOINT: it answers with a redirect.",
    "no_key": "Put the key into PERSONA_SYNC_BRAZE_API_KEY: nothing else, on one line.",
    "payment_required": "Settle it with Braze.",
    "proxy_credentials_refused": "Correct the login in PERSONA_SYNC_BRAZE_PROXY.",
    "valve": "Braze refuses too many deletions. Look at the dead letters of the kind `deletion`.",
}


class DeletesProfiles(Probed, Protocol):
    """What forwarding needs of the client: one call, one reply, no retries."""

    def delete(self, user_ids: Sequence[str], *, total: timedelta | None = None) -> Reply: ...


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
        is_due = self._is_due(partition, until_ms)
        return is_due and self._main.may_go() and self._tools.allowance.may_go()

    def _is_due(self, partition: int, until_ms: int) -> bool:
        due = self._forwards.next_due(partition)
        return due is not None and due <= until_ms

    def drain(self, partition: int, until: float) -> ForwardTally:
        """Ask for everybody who is due, request by request, until then (seconds of the clock)."""
        tools, tally = self._tools, ForwardTally()
        while not tools.wait(0):
            if tools.clock() >= until:
                tally.ended = "time_over"
                return tally
            if not self._is_due(partition, tools.allowance.now_ms()):
                tally.ended = "empty"
                return tally
            permit, why = self._permission(until)
            if permit is None:
                tally.ended = why
                return tally
            began, claim = tools.clock(), new_id()
            with holding(tools, permit):
                most_ids, most_bytes = tools.allowance.limits()
                users = self._forwards.take(partition, claim, min(IDS_MAX, most_ids))
            if not users:
                tools.allowance.give_back(permit)
                continue
            asking = _Asking(
                tools, self._main, self._forwards, self._braze, partition, claim, began, tally
            )
            asking.run(pack(users, most_bytes), permit)
        return tally

    def _permission(self, until: float) -> tuple[str | None, str]:
        """A permit, or why there is none. Whether anything at all may be sent is looked at last,
        as this endpoint's permission may have had to be waited for."""
        tools = self._tools
        if not tools.allowance.may_go():
            return None, "paused"
        permit, _, why = ask(tools, Lane.BATCHED, until)
        if permit is None:
            return None, why
        with holding(tools, permit):
            if self._main.may_go():
                return permit, ""
        tools.allowance.give_back(permit)
        return None, "paused"

    def probe(self, now_ms: int, interval_ms: int) -> None:
        """Once in a while, or with a new key, see whether Braze lets us delete again."""
        if try_again(self._tools, self._braze, now_ms, interval_ms) == RESUMED:
            self._tools.record(facts.DeletesResumed())


class _Asking:
    """The users of one claim. `began` was taken before the claim was asked for."""

    def __init__(
        self,
        tools: Tools,
        main: Allowance,
        forwards: Forwards,
        braze: DeletesProfiles,
        partition: int,
        claim: str,
        began: float,
        tally: ForwardTally,
    ) -> None:
        self._tools = tools
        self._main = main
        self._forwards = forwards
        self._braze = braze
        self._partition = partition
        self._claim = claim
        self._tally = tally
        self._last_start = last_start_of(tools.policy, began)

    def run(self, groups: Sequence[Sequence[str]], permit: str) -> None:
        """Ask for all of them; halves find whom Braze refuses. Asking twice is harmless."""
        waiting, granted = [list(group) for group in groups], iter([permit])
        while waiting:
            group = waiting.pop(0)
            outcome = self._ask(group, next(granted, None))
            if outcome is None:
                waiting.insert(0, group)
                break
            items = list(zip(group, outcome.items, strict=True))
            if outcome.then is Then.NOTHING:
                self._settle(items)
            else:
                self._settle([item for item in items if is_final(item[1])])
                rest = [user for user, item in items if not is_final(item)]
                middle = 0 if outcome.then is Then.RESEND_REST else len(rest) // 2
                waiting[:0] = [part for part in (rest[:middle], rest[middle:]) if part]
            if outcome.course is not Course.FINE:
                break
        self._settle([(user, NOT_SENT) for group in waiting for user in group])

    def _ask(self, users: Sequence[str], permit: str | None) -> Outcome | None:
        """One request. None if it may not begin any more: nothing was sent."""
        tools = self._tools
        is_fresh = permit is not None
        permit = permit or ask_again(tools, Lane.BATCHED, self._last_start)
        if permit is None:
            return None
        with holding(tools, permit):
            may_go = is_fresh or self._main.may_go()
            if not may_go or tools.clock() > self._last_start:
                tools.allowance.give_back(permit)
                return None
            sent = send(
                tools,
                permit,
                lambda: self._braze.delete(users, total=tools.policy.total),
                users=len(users),
                body_bytes=len(body(users)),
            )
        return self._learn(sent)

    def _learn(self, sent: Sent) -> Outcome:
        """Tell all workers what the reply says of this endpoint; the verdicts as they stand."""
        tools = self._tools
        lesson = learn(tools, sent)
        outcome = lesson.outcome
        if lesson.has_stopped:
            todo = todo_of(tools, TODO, outcome.reason)
            tools.record(facts.DeletesStopped(reason=outcome.reason, todo=todo))
        self._said(sent, outcome)
        return outcome

    def _said(self, sent: Sent, outcome: Outcome) -> None:
        self._tally.requests += 1
        counted = [item.verdict for item in outcome.items]
        taken, refused = counted.count(Verdict.DELIVERED), counted.count(Verdict.DEAD)
        self._tools.record(
            facts.DeletesAsked(
                request=self._claim,
                status=sent.status,
                users=len(counted),
                taken=taken,
                again=len(counted) - taken - refused,
                refused=refused,
                seconds=round(sent.reply.seconds, 4),
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
