"""Delivers one claim: whose users go in which request, and what becomes of each of them.

What was claimed is what is sent, whatever changes meanwhile. Every user of the claim gets a
verdict here, or keeps the claim until its lease is over and its values become unknown. How one
request is made is in sending.py; a refused item is isolated here.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.braze import payload
from worker.pipeline import facts
from worker.pipeline.isolate import Suspects, group_to_test, narrow
from worker.pipeline.outcome import Course, ItemVerdict, Outcome, Then, Verdict
from worker.pipeline.schedule import Lane
from worker.recollection import MAY_BE_THERE
from worker.sending import (
    NOT_SENT,
    Booked,
    Sent,
    ask_again,
    holding,
    is_final,
    last_start_of,
    learn,
    longest_wait_ms,
    new_id,
    reporting,
    send,
    todo_of,
)
from worker.stores.memberships import Claim, Settled
from worker.stores.scripts import Step
from worker.tools import Tools

TODO = {
    "invalid_key_or_wrong_instance": "Check PERSONA_SYNC_BRAZE_API_KEY and "
    "PERSONA_SYNC_BRAZE_ENDPOINT: Braze refuses the key, or it belongs to another instance.",
    "forbidden_plan_or_key_permission": "Give the Braze key the permission users.track, or check "
    "that the plan is active; permissions are fixed at creation, so make a new key.",
    "wrong_address": "Check PERSONA_SYNC_BRAZE_ENDPOINT: there is no /users/track there.",
    "redirected": "Check PERSONA_SYNC_BRAZE_ENDPOINT: it answers with a redirect.",
    "no_key": "Put the key into PERSONA_SYNC_BRAZE_API_KEY: nothing else, on one line.",
    "payment_required": "Settle it with Braze.",
    "proxy_credentials_refused": "Correct the login in PERSONA_SYNC_BRAZE_PROXY.",
    "valve": "Look at the dead letters, mend the cause, resume.",
}


@dataclass(slots=True)
class Tally:
    """What one drain did; Flower shows it as the task's result."""

    requests: int = 0
    delivered: int = 0
    retry: int = 0
    unknown: int = 0
    dead: int = 0
    ended: str = ""

    def add(self, items: Sequence[ItemVerdict]) -> None:
        """Count verdicts."""
        counted = Counter(item.verdict for item in items)
        self.delivered += counted[Verdict.DELIVERED]
        self.retry += counted[Verdict.RETRY]
        self.unknown += counted[Verdict.UNKNOWN]
        self.dead += counted[Verdict.DEAD]


class Delivery:
    """One claim on its way. `began` was taken before the claim was asked for."""

    def __init__(
        self, tools: Tools, partition: int, lane: Lane, claim: Claim, began: float, tally: Tally
    ) -> None:
        self._tools = tools
        self._partition = partition
        self._lane = lane
        self._claim = claim
        self._objects = [(user.user_id, user.values) for user in claim.users]
        self._last_start = last_start_of(tools.policy, began)
        self._tally = tally
        self._permit: str | None = None
        # While Braze asked us to wait: what is given back is not to be claimed before.
        self._quiet_ms = 0
        # Braze asked for smaller requests, and all workers have been told.
        self.was_too_large = False
        # Asked for with the end of the last request, if `books`: a round trip less for the next.
        self.booked: Booked | None = None

    def run(self, permit: str, most_objects: int, most_bytes: int, *, books: bool = False) -> None:
        """Send everything that was claimed, as far as time and the destination allow."""
        self._permit = permit
        existing = self._tools.policy.update_existing_only
        packed = payload.pack(self._objects, most_objects, most_bytes, existing)
        groups = deque(tuple(group) for group in packed)
        while groups:
            group = groups.popleft()
            sent = self._exchange(group)
            if sent is None:
                groups.appendleft(group)
                break
            if _is_plain(sent.outcome):
                self._end_plain(group, sent, books=books and not groups)
            elif not self._go_on(group, self._learn(sent), groups):
                break
        self._settle([(place, NOT_SENT) for group in groups for place in group])
        if self._permit:
            self._tools.allowance.give_back(self._permit)

    def _go_on(
        self, group: tuple[int, ...], outcome: Outcome, groups: deque[tuple[int, ...]]
    ) -> bool:
        """Settle who has a verdict, and put who is to be sent again at once before the other
        groups. False if nothing more is to be sent now."""
        items = list(zip(group, outcome.items, strict=True))
        if outcome.then is Then.HALVES:
            self.was_too_large = True
            middle = len(group) // 2
            groups.extendleft([group[middle:], group[:middle]])
        elif outcome.then is Then.ISOLATE:
            return self._isolate(self._end_final(items))
        elif outcome.then is Then.RESEND_REST:
            groups.appendleft(tuple(place for place, _ in self._end_final(items)))
        else:
            self._settle(items)
        return outcome.course is Course.FINE

    def _isolate(self, items: list[tuple[int, ItemVerdict]]) -> bool:
        """Find whom Braze refuses, by halves. False if the destination stopped us midway."""
        standing = dict(items)
        suspects: Suspects | None = Suspects(tuple(standing))
        while suspects is not None:
            tested = group_to_test(suspects)
            outcome = self._send(tested)
            if outcome is None:
                self._settle([(place, standing[place]) for place in suspects.places])
                return False
            results = list(zip(tested, outcome.items, strict=True))
            if outcome.course is not Course.FINE:
                others = [place for place in suspects.places if place not in tested]
                self._settle([*results, *((place, standing[place]) for place in others)])
                return False
            found = len(tested) == 1 and outcome.items[0].verdict is Verdict.DEAD
            if outcome.then is Then.ISOLATE or found:
                # The half that was not tested is no longer suspected: it goes back to the others.
                others = [place for place in suspects.places if place not in tested]
                self._settle([(place, standing[place]) for place in others])
                standing.update(results)
                left = tuple(place for place, _ in self._end_final(results))
                suspects = narrow(suspects, left, was_refused=True) if left else None
            else:
                self._settle(results)
                suspects = narrow(suspects, tested, was_refused=False)
        return True

    def _end_final(self, items: list[tuple[int, ItemVerdict]]) -> list[tuple[int, ItemVerdict]]:
        """Settle what was delivered or named dead; the others are returned."""
        self._settle([(place, item) for place, item in items if is_final(item)])
        return [(place, item) for place, item in items if not is_final(item)]

    def _send(self, group: tuple[int, ...]) -> Outcome | None:
        """One request, and what it teaches. None if it may not begin: nothing was sent."""
        sent = self._exchange(group)
        return self._learn(sent) if sent else None

    def _exchange(self, group: tuple[int, ...]) -> Sent | None:
        """One request. None if it may not begin any more: nothing was sent."""
        tools = self._tools
        permit, self._permit = self._permit, None
        is_fresh = permit is not None
        permit = permit or ask_again(tools, self._lane, self._last_start)
        if permit is None:
            return None
        with holding(tools, permit):
            if not self._may_begin(group, is_fresh=is_fresh):
                tools.allowance.give_back(permit)
                return None
            return self._post(group, permit)

    def _may_begin(self, group: tuple[int, ...], *, is_fresh: bool) -> bool:
        """Whether there is time left, and what was claimed is still ours to send."""
        tools, claim = self._tools, self._claim
        # A user who was deleted since is not sent again; the others are claimed anew.
        if not is_fresh and tools.memberships.has_lost(self._partition, claim.id, group):
            return False
        return tools.recollection.is_same_server(claim.epoch) and tools.clock() <= self._last_start

    def _post(self, group: tuple[int, ...], permit: str) -> Sent:
        tools = self._tools
        objects = [self._objects[place] for place in group]
        body = payload.body(objects, tools.policy.update_existing_only)
        remembered = tools.recollection.begin(self._partition, self._claim.epoch, objects)
        sent = send(
            tools,
            permit,
            lambda: tools.braze.track(body, total=tools.policy.total),
            users=len(group),
            body_bytes=len(body),
        )
        tools.recollection.end(remembered, sent.outcome.items)
        return sent

    def _end_plain(self, group: tuple[int, ...], sent: Sent, *, books: bool) -> None:
        """Everything was delivered: the report, the settling and the next permission in one go.

        Nothing that the report could answer would change a verdict.
        """
        tools, items = self._tools, list(zip(group, sent.outcome.items, strict=True))
        self._said(sent, sent.outcome)
        steps: list[Step[Any]] = [reporting(tools, sent), self._settling(items)]
        permit = new_id()
        if books:
            longest = longest_wait_ms(tools, self._lane)
            steps.append(tools.allowance.reserving(permit, self._lane, longest))
        with holding(tools, sent.permit), holding(tools, permit):
            _, settled, *permission = tools.allowance.together(*steps)
        if permission:
            self.booked = Booked(permit, permission[0])
        self._note_settled(items, settled)

    def _learn(self, sent: Sent) -> Outcome:
        """Tell all workers what the reply says, and give the verdicts as they stand after that."""
        tools = self._tools
        lesson = learn(tools, sent)
        outcome, pause = lesson.outcome, lesson.pause
        if pause:
            if outcome.course is Course.WAIT or outcome.wait is not None:
                self._quiet_ms = round(pause.seconds * 1000)
            tools.record(
                facts.DestinationSlowed(
                    reason=outcome.reason, seconds=pause.seconds, failures=pause.failures
                )
            )
        if lesson.has_stopped:
            todo = todo_of(tools, TODO, outcome.reason)
            tools.record(facts.DestinationStopped(reason=outcome.reason, todo=todo))
        self._said(sent, outcome)
        return outcome

    def _said(self, sent: Sent, outcome: Outcome) -> None:
        self._tally.requests += 1
        counted = Tally()
        counted.add(outcome.items)
        self._tools.record(
            facts.RequestEnded(
                lane=self._lane.value,
                request=f"{self._claim.id}.{new_id()}",
                status=sent.status,
                users=len(outcome.items),
                delivered=counted.delivered,
                retry=counted.retry,
                unknown=counted.unknown,
                dead=counted.dead,
                seconds=round(sent.reply.seconds, 4),
                reason=outcome.reason,
            )
        )

    def _settle(self, items: Sequence[tuple[int, ItemVerdict]]) -> None:
        if items:
            self._note_settled(items, self._settling(items).run())

    def _settling(self, items: Sequence[tuple[int, ItemVerdict]]) -> Step[Settled]:
        return self._tools.memberships.settling(
            self._partition,
            self._claim.id,
            [(place, item.verdict, item.reason) for place, item in items],
            request_id=self._claim.id,
            quiet_ms=self._quiet_ms,
        )

    def _note_settled(self, items: Sequence[tuple[int, ItemVerdict]], settled: Settled) -> None:
        self._tally.add([item for _, item in items])
        if settled.is_gone:
            self._tools.record(facts.ClaimGone(claim=self._claim.id, users=len(items)))
            sent = [self._objects[place] for place, item in items if item.verdict in MAY_BE_THERE]
            self._tools.recollection.doubt(self._partition, sent)


def _is_plain(outcome: Outcome) -> bool:
    """Everybody was delivered, and nothing else is to be done."""
    return (
        outcome.course is Course.FINE
        and outcome.then is Then.NOTHING
        and all(item.verdict is Verdict.DELIVERED for item in outcome.items)
    )
