"""Delivers one claim: permission, request, verdicts, settling; isolates a refused item.

What was claimed is what is sent, whatever changes meanwhile. Every user of the claim gets a
verdict here, or keeps the claim until its lease is over and its values become unknown.
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

from worker.braze import payload
from worker.braze.client import UnusableKey
from worker.pipeline import facts
from worker.pipeline.isolate import Suspects, group_to_test, narrow
from worker.pipeline.outcome import Course, ItemVerdict, Outcome, Then, Verdict, read
from worker.pipeline.reply import Reply
from worker.pipeline.retry import delay, spread
from worker.pipeline.schedule import Lane
from worker.recollection import MAY_BE_THERE, Recollection
from worker.stores.allowance import Allowance, Learned, Permission
from worker.stores.memberships import Claim, Memberships, Settled
from worker.stores.scripts import Step

# Left between the end of a request and the end of its lease, for settling.
_MARGIN = 0.5
_NOT_SENT = ItemVerdict(Verdict.RETRY, "not_sent")

TODO = {
    "invalid_key_or_wrong_instance": "Check PERSONA_SYNC_BRAZE_API_KEY and "
    "PERSONA_SYNC_BRAZE_ENDPOINT: Braze refuses the key, or it belongs to another instance.",
    "forbidden_plan_or_key_permission": "Give the Braze key the permission users.track, or check "
    "that the plan is active; permissions are fixed at creation, so make a new key.",
    "wrong_address": "Check PERSONA_SYNC_BRAZE_ENDPOINT: there is no /users/track there.",
    "redirected": "Check PERSONA_SYNC_BRAZE_ENDPOINT: it answers with a redirect.",
    "valve": "Look at the dead letters, mend the cause, resume.",
}


class Braze(Protocol):
    """What delivering needs of the client: one call, one reply, no retries."""

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply: ...
    def probe(self) -> Reply: ...


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """`total` bounds a request, `lease` a claim. After `failures` in a row all workers narrow."""

    total: timedelta = timedelta(seconds=10)
    lease: timedelta = timedelta(seconds=30)
    failures: int = 3
    backoff_base: timedelta = timedelta(milliseconds=500)
    backoff_cap: timedelta = timedelta(seconds=60)
    longest_reservation_ms: int = 500
    # The same text, naming the variables by which the secrets of this deployment are set.
    named: Callable[[str], str] = str
    update_existing_only: bool = False


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


@dataclass(frozen=True, slots=True)
class Tools:
    """What the shell of the engine is made of. Time, waiting and chance are given, never taken.

    `clock`: seconds that go on while the machine sleeps. `wait(seconds)` returns True if the
    worker is to stop. `random` is uniform in [0, 1). `key_print` tells keys apart without
    telling them.
    """

    memberships: Memberships
    allowance: Allowance
    braze: Braze
    record: Callable[[facts.Fact], None]
    clock: Callable[[], float]
    wall: Callable[[], float]
    wait: Callable[[float], bool]
    random: Callable[[], float]
    key_print: Callable[[], str]
    recollection: Recollection
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)


def new_id() -> str:
    """An id for a claim, a permit or a request."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Booked:
    """What the allowance said when it was asked for the next request, with the end of this one."""

    permit: str
    permission: Permission


def ask(
    tools: Tools, lane: Lane, until: float, *, insists: bool = False, booked: Booked | None = None
) -> tuple[str | None, int, str]:
    """Get permission for one request before `until`: (permit or None, ms waited, why not).

    After a wait the destination is looked at once more, so that nobody runs into a pause that
    began since; where there was none, the allowance has just looked itself. Who `insists` has
    users in hand, and waits where others give up and come again.
    """
    permit = booked.permit if booked else new_id()
    permission = booked.permission if booked else None
    while True:
        if permission is None:
            permission = tools.allowance.reserve(permit, lane, _longest_wait(tools, lane))
        pause = permission.wait_ms / 1000
        if permission.is_granted:
            if permission.wait_ms and (tools.wait(pause) or not tools.allowance.may_go()):
                tools.allowance.give_back(permit)
                return None, permission.wait_ms, "paused"
            return permit, permission.wait_ms, ""
        books_ahead = permission.why == "rate" and lane is Lane.REALTIME
        if permission.why == "stopped":
            return None, 0, permission.why
        if not insists and (permission.why == "narrowed" or books_ahead):
            return None, 0, permission.why
        if tools.clock() + pause > until or tools.wait(pause + 0.02 * tools.random()):
            return None, 0, permission.why
        permission = None


def _longest_wait(tools: Tools, lane: Lane) -> int:
    # Realtime may book ahead; batched takes what is free now, so it never stands in the way.
    return tools.policy.longest_reservation_ms if lane is Lane.REALTIME else 20


@dataclass(frozen=True, slots=True)
class _Sent:
    """One request that was made, and what its reply means; its permit is not given back yet."""

    permit: str
    reply: Reply
    outcome: Outcome


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
        policy = tools.policy
        self._last_start = (
            began + policy.lease.total_seconds() - policy.total.total_seconds() - _MARGIN
        )
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
                self._settle([(place, _NOT_SENT) for place in (*group, *_flat(groups))])
                break
            if _is_plain(sent.outcome):
                self._end_plain(group, sent, books=books and not groups)
                continue
            outcome = self._learn(sent)
            items = list(zip(group, outcome.items, strict=True))
            if outcome.then is Then.HALVES:
                self.was_too_large = True
                middle = len(group) // 2
                groups.extendleft([group[middle:], group[:middle]])
            elif outcome.then is Then.ISOLATE:
                if not self._isolate(self._end_final(items)):
                    self._settle([(place, _NOT_SENT) for place in _flat(groups)])
                    break
            elif outcome.then is Then.RESEND_REST:
                groups.appendleft(tuple(place for place, _ in self._end_final(items)))
            else:
                self._settle(items)
            if outcome.course is not Course.FINE:
                self._settle([(place, _NOT_SENT) for place in _flat(groups)])
                break
        if self._permit:
            self._tools.allowance.give_back(self._permit)

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
        self._settle([(place, item) for place, item in items if _is_final(item)])
        return [(place, item) for place, item in items if not _is_final(item)]

    def _send(self, group: tuple[int, ...]) -> Outcome | None:
        """One request, and what it teaches. None if it may not begin: nothing was sent."""
        sent = self._exchange(group)
        return self._learn(sent) if sent else None

    def _exchange(self, group: tuple[int, ...]) -> "_Sent | None":
        """One request. None if it may not begin any more: nothing was sent."""
        tools = self._tools
        permit, self._permit = self._permit, None
        if permit is None:
            # Giving up in the middle would begin the search for a refused item from the start.
            until = min(self._last_start, tools.clock() + 2.0)
            permit, _, _ = ask(tools, self._lane, until, insists=True)
            # A user who was deleted since is not sent again; the others are claimed anew.
            place_lost = tools.memberships.has_lost(self._partition, self._claim.id, group)
        else:
            place_lost = False
        if permit is None:
            return None
        is_same_server = tools.recollection.is_same_server(self._claim.epoch)
        if tools.clock() > self._last_start or not is_same_server or place_lost:
            tools.allowance.give_back(permit)
            return None
        objects = [self._objects[place] for place in group]
        body = payload.body(objects, tools.policy.update_existing_only)
        remembered = tools.recollection.begin(self._partition, self._claim.epoch, objects)
        try:
            reply = tools.braze.track(body, total=tools.policy.total)
        except UnusableKey:
            # Nothing was sent. What Braze would say to such a key, it need not be asked.
            reply = Reply(status=401)
        except BaseException:
            tools.allowance.give_back(permit)
            raise
        outcome = read(reply, len(group), body_bytes=len(body), now=tools.wall())
        tools.recollection.end(remembered, outcome.items)
        return _Sent(permit, reply, outcome)

    def _reporting(self, sent: "_Sent", outcome: Outcome) -> Step[Learned]:
        return self._tools.allowance.reporting(
            sent.permit,
            outcome,
            status=str(sent.reply.status or sent.reply.trouble),
            objects=len(outcome.items),
            key_print=self._tools.key_print(),
            final=sum(_is_final(item) for item in outcome.items),
        )

    def _end_plain(self, group: tuple[int, ...], sent: "_Sent", *, books: bool) -> None:
        """Everything was delivered: the report, the settling and the next permission in one go.

        Nothing that the report could answer would change a verdict.
        """
        tools, items = self._tools, list(zip(group, sent.outcome.items, strict=True))
        self._said(sent.reply, sent.outcome)
        steps: list[Step[Any]] = [self._reporting(sent, sent.outcome), self._settling(items)]
        permit = new_id()
        if books:
            longest = _longest_wait(tools, self._lane)
            steps.append(tools.allowance.reserving(permit, self._lane, longest))
        _, settled, *permission = tools.allowance.together(*steps)
        if permission:
            self.booked = Booked(permit, permission[0])
        self._note_settled(items, settled)

    def _learn(self, sent: "_Sent") -> Outcome:
        """Tell all workers what the reply says, and give the verdicts as they stand after that."""
        tools, policy, reply, outcome = self._tools, self._tools.policy, sent.reply, sent.outcome
        if outcome.wait is not None:
            outcome = replace(outcome, wait=spread(outcome.wait, tools.random()))
        learned = self._reporting(sent, outcome).run()
        if outcome.course is Course.WAIT:
            seconds = outcome.wait
            if seconds is None:
                waited = delay(
                    learned.failures, policy.backoff_base * 2, policy.backoff_cap, tools.random()
                )
                tools.allowance.pause(waited, outcome.reason, narrow=False)
                seconds = waited.total_seconds()
            self._quiet_ms = round(seconds * 1000)
            tools.record(facts.DestinationSlowed(reason=outcome.reason, seconds=seconds))
        elif outcome.course is Course.FAILING and learned.failures >= policy.failures:
            beyond = learned.failures - policy.failures + 1
            waited = delay(beyond, policy.backoff_base, policy.backoff_cap, tools.random())
            waited = max(waited, timedelta(seconds=outcome.wait or 0))
            tools.allowance.pause(waited, outcome.reason, narrow=True)
            tools.record(
                facts.DestinationSlowed(
                    reason=outcome.reason,
                    seconds=waited.total_seconds(),
                    failures=learned.failures,
                )
            )
        elif outcome.course is Course.STOP:
            tools.record(
                facts.DestinationStopped(
                    reason=outcome.reason,
                    todo=policy.named(TODO.get(outcome.reason, "Look at the reason.")),
                )
            )
        if learned.valve_tripped:
            tools.record(facts.DestinationStopped(reason="valve", todo=TODO["valve"]))
            outcome = replace(
                outcome,
                items=tuple(
                    ItemVerdict(Verdict.RETRY, "valve") if item.verdict is Verdict.DEAD else item
                    for item in outcome.items
                ),
                then=Then.NOTHING,
                course=Course.STOP,
            )
        self._said(reply, outcome)
        return outcome

    def _said(self, reply: Reply, outcome: Outcome) -> None:
        self._tally.requests += 1
        counted = Tally()
        counted.add(outcome.items)
        self._tools.record(
            facts.RequestEnded(
                lane=self._lane.value,
                request=f"{self._claim.id}.{new_id()}",
                status=str(reply.status or reply.trouble),
                users=len(outcome.items),
                delivered=counted.delivered,
                retry=counted.retry,
                unknown=counted.unknown,
                dead=counted.dead,
                seconds=round(reply.seconds, 4),
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


def _is_final(item: ItemVerdict) -> bool:
    return item.verdict in (Verdict.DELIVERED, Verdict.DEAD)


def _flat(groups: "deque[tuple[int, ...]]") -> list[int]:
    return [place for group in groups for place in group]
