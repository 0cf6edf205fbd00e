"""Law (rule 12): after every history the books balance, and Braze ends with the right values.

A history is any mixture of what producers, workers, Braze, the clock and operators do. Braze is
a small model: a write may be taken, refused, or be of unknown end; then it lands at once, late
(at any time until the hold ends) or never.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ResponseError

from worker.pipeline.ingest import Rank
from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane, batched_since, boundary_after, not_before
from worker.stores.deletions import DeletionTerms
from worker.stores.memberships import Claim

GAP, HOLD, LEASE = 5_000, 30_000, 30_000
LINGER, MAX_WAIT, EVERY = 200, 2_000, 10_000
MEMORY = 15_000  # ms for which changes of a deleted user are skipped
USERS = ["u1", "u2"]
# Two realtime attributes (one undeclared), one whose exit is null, two batched, one disabled.
RULES = {
    "vip": ("r", 0, "f", 1),
    "nul": ("r", 0, "n", 1),
    "daily": ("b", 0, "f", 1),
    "slow": ("b", 20_000, "f", 1),
    "off": ("r", 0, "f", 0),
}
UNDECLARED = ("r", 0, "f", 1)
ATTRIBUTES = [*RULES, "tier"]
Place = tuple[str, str]

_users = st.sampled_from(USERS)
_attributes = st.sampled_from([*ATTRIBUTES, "vip", "daily"])
_lanes = st.sampled_from(Lane)
_verdicts = st.sampled_from([*Verdict, Verdict.DELIVERED, Verdict.UNKNOWN])


def _rule(attribute: str) -> tuple[str, int, str, int]:
    return RULES.get(attribute, UNDECLARED)


def _wire(attribute: str, value: str) -> str:
    return "null" if value == "false" and _rule(attribute)[2] == "n" else value


@dataclass
class Sent:
    """What is known of one attribute from the replies alone."""

    acknowledged: str | None = None
    acknowledged_at: int = 0
    # Values of ambiguous sends, each with the end of its hold.
    ambiguous: list[tuple[str, int]] = field(default_factory=list)
    since: int | None = None  # when it began to differ
    refused: Rank | None = None


class Histories(RuleBasedStateMachine):
    """Does anything in any order, and keeps its own books beside the server's."""

    def __init__(self, make_world: Callable[..., Any]) -> None:
        super().__init__()
        self.world = make_world(deletion=DeletionTerms(timedelta(milliseconds=MEMORY)))
        self.world.declare(*RULES.items(), lanes=(LINGER, MAX_WAIT, EVERY, 0))
        self.top: dict[Place, tuple[Rank, str, int]] = {}  # rank, value, accepted at
        self.sent: dict[Place, Sent] = {}
        self.braze: dict[Place, str] = {}
        self.late: list[tuple[int, Place, str]] = []
        self.open: dict[str, Claim] = {}
        self.leases: dict[str, int] = {}
        self.gone: list[str] = []
        self.chance = random.Random(0)
        self.refused_once: Counter[Place] = Counter()
        self.skipped_until: dict[str, int] = {}

    # --- producers and accept

    @initialize(seed=st.integers(0, 1_000))
    def begin(self, seed: int) -> None:
        """How late writes fare is drawn once for a history."""
        self.chance = random.Random(seed)

    @rule(
        changes=st.lists(
            st.tuples(_users, _attributes, st.booleans(), st.sampled_from([-30_000, -1, 0])),
            min_size=1,
            max_size=4,
        )
    )
    def append(self, changes: list[tuple[str, str, bool, int]]) -> None:
        """Something is said; by now, or of a while ago."""
        made = [self.world.change(u, a, v, self.world.now + at) for u, a, v, at in changes]
        self.world.append(*made)

    @rule(torn=st.booleans())
    def accept(self, torn: bool) -> None:
        """The inbox is read and applied; perhaps the first script fails on its second user."""
        entries = self.world.inbox.take_over(0, 100) + self.world.inbox.read(0, 100)
        for entry in entries:
            users = self.world.ingested(entry).users
            if torn and len(users) > 1:
                self.world.break_accept(2)
                with pytest.raises(ResponseError, match="planted"):
                    self.world.apply(entry)
                self.world.break_accept(None)
                torn = False
            applied = self.world.apply(entry)
            assert applied.is_applied
            assert not self.world.apply(entry).is_applied
            for user, changes in users.items():
                if self.skipped_until.get(user, 0) > self.world.now:
                    continue
                for change in changes:
                    self._note((user, change.attribute), change.rank, change.value)

    @rule(user=_users, attribute=_attributes, value=st.booleans(), waits=st.booleans())
    def say(self, user: str, attribute: str, value: bool, waits: bool) -> None:
        """One change comes and is applied; perhaps a claim's lease runs meanwhile."""
        self.append([(user, attribute, value, 0)])
        self.accept(False)
        if waits:
            self._wait(LINGER)

    @rule(user=_users)
    def forget(self, user: str) -> None:
        """A user is deleted, whatever is under way; changes are skipped for a while."""
        self.accept(False)
        self.world.forget(user)
        until = self.world.deletions.remembered(0, user, self.world.now).until_ms
        assert until >= self.world.now + MEMORY
        self.skipped_until[user] = until
        for kept in (self.top, self.sent):
            for place in [place for place in kept if place[0] == user]:
                del kept[place]
        assert not self.world.lists(user)

    @rule()
    def accept_lost(self) -> None:
        """A worker reads and is killed."""
        self.world.inbox.read(0, 100)

    def _note(self, place: Place, rank: Rank, value: str) -> None:
        known = self.top.get(place)
        if known and rank <= known[0]:
            return
        sent = self.sent.setdefault(place, Sent())
        was_refused = sent.refused is not None
        sent.refused = None
        self.top[place] = (rank, value, self.world.now)
        if not self._differs(place):
            if not self._in_flight(place):
                sent.since = None
        elif sent.since is None or was_refused:
            sent.since = self._since(place, rank.arrived_ms)

    def _since(self, place: Place, came: int) -> int:
        user, (lane, every, _, _) = place[0], _rule(place[1])
        if lane == "r" or any(self._in_flight((user, name)) for name in (*RULES, place[1])):
            return self.world.now
        delivered = [
            sent.acknowledged_at
            for (whose, name), sent in self.sent.items()
            if whose == user and sent.acknowledged is not None and _rule(name)[0] == "b"
        ]
        return batched_since(self.world.now, came, delivered, every=every or EVERY)

    # --- workers

    @rule(lane=_lanes, objects=st.sampled_from([1, 2, 75]), looks=st.booleans())
    def claim(self, lane: Lane, objects: int, looks: bool) -> None:
        """Somebody takes what is due, and asks twice for the same claim."""
        if looks:
            self.world.look(lane, objects)
        before = self.world.users()
        claim = self.world.claim(lane, objects=objects)
        again = self.world.claim(lane, claim.id, objects=objects)
        assert again.users == claim.users
        if not claim.users:
            return
        assert len(claim.users) <= objects
        self.open[claim.id] = claim
        self.leases[claim.id] = self.world.now + LEASE
        for user in claim.users:
            assert user.values
            assert before[user.user_id][1] is None, "a user in two claims"
            for attribute, value in user.values:
                self._may_be_sent((user.user_id, attribute), value)

    def _may_be_sent(self, place: Place, value: str) -> None:
        now, sent = self.world.now, self.sent[place]
        lane, every, _, enabled = _rule(place[1])
        assert enabled
        assert value == _wire(place[1], self.top[place][1]), "not the newest value"
        assert self._differs(place), "not a difference"
        for ambiguous, until in [*sent.ambiguous, ("", 0)]:
            free = not_before(
                value,
                acknowledged=sent.acknowledged,
                acknowledged_at=sent.acknowledged_at,
                gap=GAP,
                ambiguous=ambiguous,
                hold_until=until,
            )
            assert free <= now, "sent within the gap or the hold"
        if lane == "b":
            assert sent.since is not None
            assert boundary_after(sent.since, every or EVERY) <= now, "batched sent early"

    @rule(
        lane=_lanes,
        verdict=_verdicts,
        meanwhile=st.lists(st.tuples(_attributes, st.booleans()), max_size=2),
    )
    def flush(self, lane: Lane, verdict: Verdict, meanwhile: list[tuple[str, bool]]) -> None:
        """A worker comes when the lane is due; while it sends, more is said of the same users."""
        due = self.world.memberships.next_due(0, lane)
        if due is None:
            return
        self._wait(max(0, due - self.world.now))
        before = set(self.open)
        self.claim(lane, 75, True)
        for id_ in set(self.open) - before:
            claim = self.open[id_]
            for user in claim.users:
                for attribute, value in meanwhile:
                    self.say(user.user_id, attribute, value, False)
            self._settle(claim, dict.fromkeys(range(len(claim.users)), verdict))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A reply settles some or all users of a claim; settling again changes nothing."""
        claim = data.draw(st.sampled_from(list(self.open.values())))
        places = data.draw(st.sets(st.integers(0, len(claim.users) - 1), min_size=1))
        self._settle(claim, {place: data.draw(_verdicts) for place in sorted(places)})

    def _settle(self, claim: Claim, verdicts: dict[int, Verdict]) -> None:
        self._end(claim, verdicts)
        named = [(place, verdict, "why") for place, verdict in verdicts.items()]
        self.world.memberships.settle(0, claim.id, named)
        before = self.world.everything()
        self.world.memberships.settle(0, claim.id, named)
        assert self.world.everything() == before, "settling twice changed something"

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def settle_gone(self, data: st.DataObject) -> None:
        """A frozen worker wakes and settles a claim that has long ended."""
        before = self.world.everything()
        id_ = data.draw(st.sampled_from(self.gone))
        assert self.world.memberships.settle(0, id_, [(0, Verdict.DELIVERED, "")]).users == 0
        assert self.world.everything() == before

    @precondition(lambda self: self.open)
    @rule()
    def void(self) -> None:
        """Claims whose lease is over become unknown; others do not."""
        for id_, claim in list(self.open.items()):
            if self.leases[id_] <= self.world.now:
                assert id_ in self.world.memberships.expired_claims(0, self.world.now)
                left = dict.fromkeys(self._standing(claim), Verdict.UNKNOWN)
                self._end(claim, left)
                self.world.memberships.void(0, id_)
            else:
                assert self.world.memberships.void(0, id_).users == 0

    def _standing(self, claim: Claim) -> list[int]:
        record = self.world.claims()[claim.id]
        return [place for place, item in enumerate(record) if item]

    def _end(self, claim: Claim, verdicts: dict[int, Verdict]) -> None:
        """Let Braze do what the verdict says, and keep the books."""
        record = self.world.claims()[claim.id]
        standing = self._standing(claim)
        now = self.world.now
        for number, verdict in verdicts.items():
            if number not in standing:
                continue
            user = claim.users[number]
            ranks = {tuple(value[2:6]) for value in record[number][1]}
            for attribute, value in user.values:
                place = (user.user_id, attribute)
                sent, (rank, _, accepted) = self.sent[place], self.top[place]
                is_current = tuple(rank) in ranks
                if verdict is Verdict.DELIVERED:
                    self.braze[place] = value
                    sent.acknowledged, sent.acknowledged_at = value, now
                    sent.ambiguous = [item for item in sent.ambiguous if item[1] > now]
                elif verdict is Verdict.UNKNOWN:
                    sent.acknowledged = None
                    sent.ambiguous.append((value, now + HOLD))
                    lands = self.chance.choice(["now", "late", "never"])
                    if lands == "now":
                        self.braze[place] = value
                    elif lands == "late":
                        self.late.append((now + HOLD, place, value))
                elif verdict is Verdict.DEAD and is_current:
                    sent.refused = rank
                    self.refused_once[place] += 1
                if not self._differs(place):
                    sent.since = None
                elif verdict in (Verdict.DELIVERED, Verdict.DEAD) and not is_current:
                    sent.since = accepted
        if set(standing) <= set(verdicts):
            del self.open[claim.id]
            self.gone.append(claim.id)

    # --- the clock, late writes, operators

    @rule(ms=st.sampled_from([1, 200, 1_000, 4_999, 5_000, 10_000, 20_000, 30_000]))
    def wait(self, ms: int) -> None:
        """Time passes; what lands late lands at the last moment of its hold, if not before."""
        self._wait(ms)

    def _wait(self, ms: int) -> None:
        until = self.world.now + ms
        for item in [item for item in self.late if item[0] <= until]:
            self.late.remove(item)
            self.braze[item[1]] = item[2]
        self.world.later(ms)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        """A late write lands."""
        item = data.draw(st.sampled_from(self.late))
        self.late.remove(item)
        self.braze[item[1]] = item[2]

    @precondition(lambda self: self.refused_once)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """An operator replays a dead letter."""
        letters = self.world.letters()
        if letters:
            letter = data.draw(st.sampled_from(letters))
            self.world.memberships.replay(0, letter.id)
            for attribute, _, _ in letter.values:
                place = (str(letter.user_id), attribute)
                if self.sent[place].refused is not None:
                    self.sent[place].refused = None
                    if self._differs(place):
                        self.sent[place].since = self.world.now

    # --- what always holds

    def _differs(self, place: Place) -> bool:
        sent = self.sent[place]
        wanted = _wire(place[1], self.top[place][1])
        return sent.refused is None and sent.acknowledged != wanted

    def _in_flight(self, place: Place) -> bool:
        return any(
            user.user_id == place[0] and place[1] in dict(user.values)
            for claim in self.open.values()
            for number, user in enumerate(claim.users)
            if number in self._standing(claim)
        )

    @invariant()
    def books_balance(self) -> None:
        """accepted = the ends + what is open, counted from the state itself."""
        users, names = self.world.users(), self.world.names()
        pending = self.world.pending_in_inbox()
        pending += sum(x.is_open for attributes, _ in users.values() for x in attributes.values())
        for record in self.world.claims().values():
            for user, values in (item for item in record if item):
                for id_, _, *rank, was_open, _entry in values:
                    now = users[user][0][names[id_]]
                    pending += was_open == 1 and tuple(rank) != now.rank
        torn = self.world.client.hgetall("ps1:{0}:torn").values()
        pending -= sum(int(item.split(b":")[1]) for item in torn)
        assert self.world.ledger().pending == pending

    @invariant()
    def the_server_knows_what_we_know(self) -> None:
        """Desired, acknowledged and refused are what the history makes of them."""
        users = self.world.users()
        assert {(u, a) for u, (x, _) in users.items() for a in x} == set(self.top)
        for (user, attribute), (rank, value, _) in self.top.items():
            x, sent = users[user][0][attribute], self.sent[user, attribute]
            assert (x.value, x.rank) == (value, tuple(rank))
            assert (x.acknowledged or None) == sent.acknowledged
            assert x.is_refused == (sent.refused is not None)
            assert (x.since or None) == sent.since
        true = Counter(a for (_, a), (_, value, _) in self.top.items() if value == "true")
        assert self.world.members() == dict(true)

    @invariant()
    def each_audience_has_its_numbers(self) -> None:
        """The pending sets and the counts by audience are what the states say."""
        self.world.assert_exact()

    @invariant()
    def every_difference_is_listed_or_in_flight(self) -> None:
        """A clean user or one in flight is in no list; any other where its values belong."""
        lists = self.world.lists()
        records = self.world.claims()
        flying = {item[0]: id_ for id_, record in records.items() for item in record if item}
        now = self.world.now
        for user, (attributes, owner) in self.world.users().items():
            listed = {name: at[user] for name, at in lists.items() if user in at}
            assert flying.get(user) == owner
            if owner:
                assert not listed
                continue
            latest = max(x.changed for x in attributes.values()) + LINGER
            free: dict[str, list[int]] = {"r": [], "b": []}
            ready: dict[str, list[int]] = {"r": [], "b": []}
            for attribute, x in attributes.items():
                lane, every, _, enabled = _rule(attribute)
                if not enabled or not self._differs((user, attribute)):
                    continue
                sent = self.sent[user, attribute]
                value = _wire(attribute, x.value)
                at = max(
                    not_before(
                        value,
                        acknowledged=sent.acknowledged,
                        acknowledged_at=sent.acknowledged_at,
                        gap=GAP,
                        ambiguous=ambiguous,
                        hold_until=until,
                    )
                    for ambiguous, until in [*sent.ambiguous, ("", 0)]
                )
                assert sent.since is not None
                due = latest if lane == "r" else boundary_after(sent.since, every or EVERY)
                free[lane].append(at)
                ready[lane].append(max(-(-at // 1_000) * 1_000, due))
            for lane, name in (("r", "rt"), ("b", "bt")):
                scores = [at for key, at in listed.items() if key.startswith(name)]
                assert bool(scores) == bool(free[lane]), "listed without a difference, or lost"
                if scores:
                    assert min(scores) <= min(ready[lane]), "due, and listed for later"
                    early = f"{name}:ready" in listed and (lane == "r" or min(scores) <= now)
                    if early:
                        assert min(free[lane]) <= now, "ready within its gap or hold"

    def teardown(self) -> None:
        """Once all is delivered, Braze holds what was said last, and nothing is left."""
        self.accept(False)
        for claim in list(self.open.values()):
            self._deliver(claim)
        for _ in range(100):
            due = [self.world.memberships.next_due(0, lane) for lane in Lane]
            if due == [None, None]:
                break
            self._wait(max(0, min(at for at in due if at is not None) - self.world.now))
            for lane in Lane:
                self.world.look(lane, token="end")
                claim = self.world.claim(lane, token="end")
                for user in claim.users:
                    for attribute, value in user.values:
                        self._may_be_sent((user.user_id, attribute), value)
                if claim.users:
                    self.open[claim.id] = claim
                    self._deliver(claim)
            # A gatherer's token lives by the real clock: a new one may not have to wait for it.
            self.world.client.delete("ps1:{0}:gather:r", "ps1:{0}:gather:b")
        else:
            raise AssertionError("the lists never became empty")
        self._wait(HOLD)
        self.books_balance()
        self.every_difference_is_listed_or_in_flight()
        for place, (_, value, _) in self.top.items():
            if self.sent[place].refused is None and _rule(place[1])[3]:
                assert self.braze.get(place) == _wire(place[1], value), f"{place} is wrong in Braze"
        balance = self.world.ledger()
        disabled = sum(
            x.is_open for x in (a.get("off") for a, _ in self.world.users().values()) if x
        )
        assert balance.pending == disabled

    def _deliver(self, claim: Claim) -> None:
        everyone = range(len(claim.users))
        self._end(claim, dict.fromkeys(everyone, Verdict.DELIVERED))
        self.world.settle(claim)


def test_rule_12_every_history_balances(make_world: Callable[..., Any]) -> None:
    """After any history each change has one end, and Braze holds the right values."""
    run_state_machine_as_test(
        lambda: Histories(make_world),
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],  # shrinking such a history takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
