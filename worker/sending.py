"""How one request to Braze is made and learned from, whoever is in it and whatever it asks.

Permission, the call, its reply; then all workers are told what the reply says of the endpoint that
`tools.allowance` is for. It is sent once. Whose users they are, and what becomes of each, is the
caller's: see delivery.py and forwarding.py.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from worker.braze.client import UnusableKey
from worker.pipeline.outcome import Course, ItemVerdict, Outcome, Then, Verdict, read
from worker.pipeline.reply import Reply, Trouble
from worker.pipeline.retry import delay, spread
from worker.pipeline.schedule import Lane
from worker.stores.allowance import Learned, Permission
from worker.stores.scripts import Step
from worker.tools import DeliveryPolicy, Probed, Tools

NOT_SENT = ItemVerdict(Verdict.RETRY, "not_sent")
RESUMED = "resumed"
# Left between the end of a request and the end of its lease, for settling.
_MARGIN = 0.5
# Who has users in hand waits so long for permission to go on with them.
_INSISTS_SECONDS = 2.0
# Stops that only a person lifts; any other is tried again with a harmless request.
_VALVE = "valve"
_HELD_BY_HAND = (_VALVE, "operator")


def new_id() -> str:
    """An id for a claim, a permit or a request."""
    return secrets.token_hex(8)


# --- permission


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
            permission = tools.allowance.reserve(permit, lane, longest_wait_ms(tools, lane))
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


def ask_again(tools: Tools, lane: Lane, last_start: float) -> str | None:
    """A permit for a further request of users in hand; None if there is none in time.

    Giving up in the middle would begin the search for a refused item from the start.
    """
    until = min(last_start, tools.clock() + _INSISTS_SECONDS)
    return ask(tools, lane, until, insists=True)[0]


def longest_wait_ms(tools: Tools, lane: Lane) -> int:
    """Realtime may book ahead; batched takes what is free now, so it never stands in the way."""
    return tools.policy.longest_reservation_ms if lane is Lane.REALTIME else 20


def last_start_of(policy: DeliveryPolicy, began: float) -> float:
    """Until when a request may begin for a claim that was asked for at `began`: all of it fits
    into the lease. Seconds of the clock."""
    return began + policy.lease.total_seconds() - policy.total.total_seconds() - _MARGIN


@contextmanager
def holding(tools: Tools, permit: str) -> Iterator[None]:
    """Whatever is raised here, nobody waits for the place of this permit."""
    try:
        yield
    except BaseException:
        tools.allowance.give_back(permit)
        raise


# --- the request


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that was made, and what its reply means; its permit is not given back yet."""

    permit: str
    reply: Reply
    outcome: Outcome

    @property
    def status(self) -> str:
        """The status, or in its place what was the trouble."""
        return str(self.reply.status or self.reply.trouble)


def send(
    tools: Tools, permit: str, post: Callable[[], Reply], users: int, body_bytes: int = 0
) -> Sent:
    """Make the request, and read its reply. A wait that Braze asks for is spread."""
    try:
        reply = post()
    except UnusableKey:
        reply = Reply(trouble=Trouble.NO_KEY)
    outcome = read(reply, users, body_bytes=body_bytes, now=tools.wall())
    if outcome.wait is not None:
        outcome = replace(outcome, wait=spread(outcome.wait, tools.random()))
    return Sent(permit, reply, outcome)


# --- what it teaches


@dataclass(frozen=True, slots=True)
class Pause:
    """All workers wait for `seconds`. `failures`: transient ones in a row; 0 after a 429."""

    seconds: float
    failures: int = 0


def reporting(tools: Tools, sent: Sent) -> Step[Learned]:
    """Give the permit back with what the reply says of the destination, prepared."""
    items = sent.outcome.items
    return tools.allowance.reporting(
        sent.permit,
        sent.outcome,
        status=sent.status,
        objects=len(items),
        key_print=tools.key_print(),
        final=sum(is_final(item) for item in items),
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """The verdicts as they stand, the pause that the reply brought, and whether it has stopped
    the destination: of all that run into one stop, the first."""

    outcome: Outcome
    pause: Pause | None
    has_stopped: bool


def learn(tools: Tools, sent: Sent) -> Lesson:
    """Tell all workers what the reply says."""
    learned, stop = tools.allowance.report(reporting(tools, sent))
    pause = _pause(tools, sent.outcome, learned.failures)
    outcome = _kept_by_valve(sent.outcome) if learned.valve_tripped else sent.outcome
    return Lesson(outcome, pause, outcome.course is Course.STOP and _is_news(outcome.reason, stop))


def _is_news(reason: str, before: str | None) -> bool:
    """Whether a stop is another one than that before; only the valve goes over a person's."""
    if before is None or reason == before:
        return before is None
    return reason == _VALVE or not before.startswith(_HELD_BY_HAND)


def _pause(tools: Tools, outcome: Outcome, failures: int) -> Pause | None:
    """Have all workers wait as long as Braze asked, or back off where it said nothing."""
    policy, allowance = tools.policy, tools.allowance
    asked = outcome.wait
    if outcome.course is Course.WAIT:
        if asked is None:
            base = policy.backoff_base * 2
            waited = delay(failures, base, policy.backoff_cap, tools.random())
            allowance.pause(waited, outcome.reason, narrow=False)
            return Pause(waited.total_seconds())
        # The report has begun it already.
        return Pause(asked)
    if outcome.course is not Course.FAILING:
        return None
    waited, beyond = timedelta(seconds=asked or 0), failures - policy.failures + 1
    if beyond > 0:
        backoff = delay(beyond, policy.backoff_base, policy.backoff_cap, tools.random())
        waited = max(waited, backoff)
    if not waited:
        return None
    allowance.pause(waited, outcome.reason, narrow=beyond > 0)
    return Pause(waited.total_seconds(), failures)


def _kept_by_valve(outcome: Outcome) -> Outcome:
    """Nobody is given up while the valve is shut."""
    items = tuple(
        ItemVerdict(Verdict.RETRY, _VALVE) if item.verdict is Verdict.DEAD else item
        for item in outcome.items
    )
    return replace(outcome, items=items, then=Then.NOTHING, course=Course.STOP, reason=_VALVE)


def is_final(item: ItemVerdict) -> bool:
    """True if this request ends it: delivered, or refused for good."""
    return item.verdict in (Verdict.DELIVERED, Verdict.DEAD)


def todo_of(tools: Tools, todos: Mapping[str, str], reason: str) -> str:
    """What a person is to do about a stop."""
    return tools.policy.named(todos.get(reason, "Look at the reason."))


# --- after a stop


def try_again(tools: Tools, braze: Probed, now_ms: int, interval_ms: int) -> str:
    """Once in a while, or with a new key, see with a harmless request whether Braze takes them
    again. RESUMED, or why not; empty if it was not tried. A person's stop is left to persons."""
    allowance, key_print = tools.allowance, tools.key_print()
    found = allowance.destination()
    if found.stop is None or found.stop.startswith(_HELD_BY_HAND):
        return ""
    if found.key_print == key_print and found.next_probe_ms > now_ms:
        return ""
    allowance.probe_later(now_ms + interval_ms, key_print)
    try:
        reply = braze.probe()
    except UnusableKey as error:
        return str(error)
    # To name nobody may be refused as a mistake; who may not send is told so.
    outcome = read(reply, 0, body_bytes=0, now=tools.wall())
    if reply.status is None or outcome.course in (Course.STOP, Course.FAILING):
        return outcome.reason
    return RESUMED if allowance.resume(found.stop) else outcome.reason
