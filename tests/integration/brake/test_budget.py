"""The budget of data points: exact, for each UTC day, and nobody is held longer than need be."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from worker.contract import TaskName, key
from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane
from worker.stores.terms import Terms

Make = Callable[..., Any]


def flush(world: Any, lane: Lane = Lane.REALTIME) -> None:
    world.later(200)
    world.flow.flush(0, lane)


class TestBound:
    def test_an_audience_stops_at_its_bound(self, make: Make) -> None:
        """Exactly as many values as an audience may have are acknowledged, the ledger says so."""
        world = make(points_per_audience=100)
        world.crowd(260)
        flush(world)
        assert len(world.sent_of("vip")) == 100
        assert world.points() == {"vip": 100, "*": 100}
        assert world.ledger().values == 100
        assert world.held() == {"vip": 160}
        assert world.ends() == {"delivered": 100, "pending": 160}

    def test_other_audiences_go_on(self, make: Make) -> None:
        """A user who is held for one audience is sent with the others."""
        world = make(points_per_audience=3)
        world.crowd(5)
        flush(world)
        world.join("u3", "u4", "new", audience="gold")
        world.later(10_000)
        flush(world)
        assert len(world.sent_of("vip")) == 3
        assert sorted(world.sent_of("gold")) == ["new", "u3", "u4"]
        assert world.held() == {"vip": 2}

    def test_all_together_stop_at_the_bound_of_the_day(self, make: Make) -> None:
        """The day's bound counts every value of every audience, traits included."""
        world = make(points_per_day=7)
        world.crowd(4)
        world.crowd(4, "gold")
        world.say(*(world.change(f"u{n}", "tier", "a", world.now) for n in range(4)))
        flush(world)
        assert world.points()["*"] == world.ledger().values == 7
        assert sum(len(world.sent_of(name)) for name in ("vip", "gold", "tier")) == 7

    def test_both_bounds_hold(self, make: Make) -> None:
        """The smaller of the two decides, for each audience."""
        world = make(points_per_day=5, points_per_audience=3)
        world.crowd(4)
        flush(world)
        world.crowd(4, "gold", first=10)
        flush(world)
        assert world.points() == {"vip": 3, "gold": 2, "*": 5}

    def test_what_is_in_flight_is_booked(self, make: Make) -> None:
        """While a claim is open nobody else sends what it may need; refused, it is free again."""
        world = make(points_per_audience=4)
        world.crowd(10)
        world.later(200)
        first = world.claim(objects=3)
        second = world.claim(objects=3)
        assert (len(first.users), len(second.users)) == (3, 1)
        world.settle(first, Verdict.RETRY)
        world.settle(second)
        assert world.points() == {"vip": 1, "*": 1}
        world.tick()
        third = world.claim(objects=9)
        assert len(third.users) == 3
        world.settle(third)
        assert world.points() == {"vip": 4, "*": 4}

    def test_only_what_is_acknowledged_counts(self, make: Make) -> None:
        """A value whose end is unknown is no data point; sent again and acknowledged, it is one."""
        world = make(points_per_audience=2)
        world.crowd(2)
        world.flush(Verdict.UNKNOWN)
        assert world.points() == {}
        assert world.flush() == {"u0": {"vip": "true"}, "u1": {"vip": "true"}}
        assert world.points() == {"vip": 2, "*": 2}

    def test_a_lost_worker_books_nothing_for_ever(self, make: Make) -> None:
        """A claim that is void gives back what it booked."""
        world = make(points_per_audience=2)
        world.crowd(2)
        world.later(200)
        claim = world.claim()
        world.later(30_000)
        world.tick()
        assert world.ledger().values == 0
        assert not world.client.exists(key(0, "flight"))
        assert len(world.claim().users) == len(claim.users) == 2

    def test_a_request_that_is_full_of_bytes_books_nobody_more(self, make: Make) -> None:
        """Who did not fit into a request has spent nothing."""
        world = make(points_per_audience=3)
        world.say(*(world.change(f"u{n}", "tier", "x" * 200, world.now) for n in range(3)))
        world.later(200)
        claim = world.claim(size=500)
        assert len(claim.users) == 1
        assert len(world.claim().users) == 2

    @pytest.mark.parametrize("seed", range(6))
    def test_never_over_whatever_happens(self, make: Make, seed: int) -> None:
        """After any history no day has more than its bound, and the books say what was taken."""
        chance, each, total = Random(seed), 15, 25
        world = make(points_per_day=total, points_per_audience=each)
        world.declare(("nightly", ("b", 0, "f", 1)))
        mine: Counter[tuple[int, str]] = Counter()
        open_claims: list[Any] = []
        for _ in range(150):
            what = chance.randrange(6)
            if what == 0:
                users = [f"u{chance.randrange(60)}" for _ in range(12)]
                audience = chance.choice(["vip", "gold", "nightly"])
                world.join(*set(users), audience=audience, value=chance.random() < 0.6)
            elif what in (1, 2):
                lane = chance.choice(list(Lane))
                world.look(lane)
                claim = world.claim(lane, objects=chance.choice([1, 5, 75]))
                open_claims += [claim] if claim.users else []
            elif what == 3 and open_claims:
                claim = open_claims.pop(chance.randrange(len(open_claims)))
                verdict = chance.choice([Verdict.DELIVERED] * 4 + list(Verdict))
                world.settle(claim, verdict)
                if verdict is Verdict.DELIVERED:
                    for user in claim.users:
                        for audience, _ in user.values:
                            mine[world.now // world.DAY, audience] += 1
            elif what == 4:
                world.later(chance.choice([200, 5_000, 15_000, 15_000_000]))
            else:
                world.tick()
                standing = world.claims()
                open_claims = [claim for claim in open_claims if claim.id in standing]
            owned = [user.user_id for claim in open_claims for user in claim.users]
            assert len(owned) == len(set(owned)), "a user in two claims"
        days = {day for day, _ in mine}
        assert len(days) > 1
        assert all(count <= each for count in mine.values())
        for day in days:
            assert sum(count for (at, _), count in mine.items() if at == day) <= total
        today = {name: n for (day, name), n in mine.items() if day == world.now // world.DAY}
        assert world.points() == (today | {"*": sum(today.values())} if today else {})
        assert world.ledger().values == sum(mine.values())
        # Nobody is forgotten: with room for all, everything comes to its end.
        for claim in open_claims:
            world.settle(claim, Verdict.RETRY)
        world.start(points_per_day=None, points_per_audience=10_000)
        for _ in range(5):
            world.later(30_000)
            world.tick()
            flush(world)
            flush(world, Lane.BATCHED)
        assert world.held() == {}
        assert world.ledger().pending == 0


class TestGoingOn:
    def test_the_next_day_frees(self, make: Make) -> None:
        """At 00:00 UTC, and not before, a tick rings, and who waited longest goes first."""
        world = make(points_per_audience=2)
        for n in range(5):
            world.crowd(1, first=n)
            world.later(10)
        flush(world)
        world.now = world.NOON + world.DAY // 2 - 2_000
        world.rung.clear()
        assert TaskName.FLUSH_REALTIME not in world.tick().rung
        assert TaskName.FLUSH_REALTIME in world.tick().rung
        flush(world)
        assert world.sent_of("vip") == ["u0", "u1", "u2", "u3"]
        assert world.points() == {"vip": 2, "*": 2}
        assert world.held() == {"vip": 1}

    def test_raising_frees(self, make: Make) -> None:
        """Workers that start with a higher bound send the rest of it within a tick."""
        world = make(points_per_audience=10)
        world.crowd(400)
        flush(world)
        world.start(points_per_audience=300)
        world.rung.clear()
        assert TaskName.FLUSH_REALTIME in world.tick().rung
        flush(world)
        assert world.points() == {"vip": 300, "*": 300}
        assert world.held() == {"vip": 100}

    def test_one_tick_is_enough(self, make: Make) -> None:
        """The tick lets the first go; the claims that follow fetch the others themselves."""
        world = make(points_per_day=10)
        world.crowd(1_500)
        world.crowd(1_500, "gold", first=2_000)
        flush(world)
        world.start(points_per_day=2_500)
        world.tick()
        flush(world)
        assert world.points()["*"] == 2_500
        assert sum(world.held().values()) == 500

    def test_what_was_booked_before_it_was_off_is_forgotten(self, make: Make) -> None:
        """A claim that a worker without a budget ended takes nothing from a later budget."""
        world = make(points_per_audience=5)
        world.crowd(3)
        world.later(200)
        claim = world.claim()
        world.start(points_per_audience=None)
        world.settle(claim, Verdict.RETRY)
        world.start(points_per_audience=5)
        world.crowd(9)
        for _ in range(2):
            flush(world)
            world.tick()
        assert world.points() == {"vip": 5, "*": 5}
        assert not world.client.exists(key(0, "flight"))

    def test_switching_it_off_frees_everybody(self, make: Make) -> None:
        """Without a budget nobody is held, and nothing of it is left."""
        world = make(points_per_day=10)
        world.crowd(1_200)
        world.crowd(1_200, "gold")
        flush(world)
        world.start(points_per_day=None)
        for _ in range(3):
            world.tick()
            flush(world)
        assert len(world.sent_of("vip")) == len(world.sent_of("gold")) == 1_200
        assert world.held() == {}
        assert not world.client.exists(key(0, "flight"))

    def test_lowering_holds_at_once(self, make: Make) -> None:
        """With a bound below what was sent today, nothing more is sent today."""
        world = make(points_per_audience=10)
        world.crowd(5)
        flush(world)
        world.start(points_per_audience=3)
        world.crowd(5, first=5)
        flush(world)
        world.tick()
        flush(world)
        assert len(world.sent_of("vip")) == 5

    def test_an_audience_is_as_before_once_nobody_waits(self, make: Make) -> None:
        """After a day with room for all, changes are delivered as if there had been no hold."""
        world = make(points_per_audience=3)
        world.crowd(5)
        flush(world)
        world.later(world.DAY)
        world.tick()
        flush(world)
        world.tick()
        assert not world.client.exists(key(0, "over"))
        world.join("late")
        assert world.lists("late") == {"rt:ready": world.now + 200}

    def test_the_newest_value_is_sent(self, make: Make) -> None:
        """What changes while it is held goes out as it is when it may go."""
        world = make(points_per_audience=1)
        world.say(world.change("a", "tier", "x", world.now))
        flush(world)
        world.say(world.change("b", "tier", "old", world.now))
        flush(world)
        world.say(world.change("b", "tier", "new", world.now))
        world.later(world.DAY)
        world.tick()
        flush(world)
        assert [item.get("tier") for item in world.braze.objects] == ["x", "new"]
        assert world.ends() == {"delivered": 2, "superseded": 1}

    def test_who_has_nothing_to_send_any_more_is_not_held(self, make: Make) -> None:
        """A value that flips back while it is held leaves the list, and costs nothing."""
        world = make(points_per_audience=1)
        world.join("a")
        flush(world)
        world.later(10_000)
        world.join("a", value=False)
        flush(world)
        assert world.held() == {"vip": 1}
        world.join("a")
        assert world.held() == {"vip": 0}
        world.later(world.DAY)
        world.tick()
        flush(world)
        assert world.sent_of("vip") == ["a"]
        assert world.ends() == {"delivered": 1, "superseded": 1, "unchanged": 1}

    def test_whom_a_claim_owns_is_not_let_go(self, make: Make) -> None:
        """A user in flight with another audience is scheduled when that is settled, not before."""
        world = make(points_per_audience=1)
        world.join("a")
        flush(world)
        world.join("b")
        flush(world)
        world.join("b", audience="gold")
        world.later(200)
        claim = world.claim()
        assert world.sent(claim) == {"b": {"gold": "true"}}
        world.start(points_per_audience=2)
        world.tick()
        assert world.lists("b") == {}
        world.settle(claim)
        world.tick()
        assert world.sent(world.claim()) == {"b": {"vip": "true"}}

    def test_batched_users_go_at_their_boundary(self, make: Make) -> None:
        """The next day sends batched users whose boundary passed, the others wait for theirs."""
        world = make(points_per_audience=1)
        world.declare(("nightly", ("b", 0, "f", 1)))
        world.crowd(3, "nightly")
        world.later(10_000)
        flush(world, Lane.BATCHED)
        assert world.held() == {"nightly": 2}
        assert world.points() == {"nightly": 1, "*": 1}
        world.start(points_per_audience=10)
        world.declare(("nightly", ("b", 0, "f", 1)))
        world.now = world.NOON + 60_500
        world.join("later", audience="nightly")
        world.tick()
        flush(world, Lane.BATCHED)
        assert sorted(world.sent_of("nightly")) == ["u0", "u1", "u2"]
        world.tick()
        assert world.lists("later") == {"bt:ready": world.NOON + 70_000}

    def test_trace_says_until_when(self, make: Make) -> None:
        """A held value is due at the next midnight."""
        world = make(points_per_audience=1)
        world.crowd(1)
        flush(world)
        world.join("u1")
        flush(world)
        (found,) = world.memberships.trace(0, "u1")
        assert found.due_at_ms == world.NOON + world.DAY // 2


class TestCost:
    def test_the_held_cost_a_tick_nothing(self, make: Make) -> None:
        """However many are held, a tick reads no user; what is new of them is held at once."""
        world = make(points_per_audience=1)
        world.crowd(3_000)
        flush(world)
        world.client.config_resetstat()
        world.tick()
        calls = sum(stats["calls"] for stats in world.client.info("commandstats").values())
        assert calls < 60
        world.crowd(500, first=3_000)
        assert not any(world.lists().values())
        assert world.held() == {"vip": 3_499}

    def test_off_leaves_no_trace(self, make: Make) -> None:
        """Without a budget no key of it is written."""
        world = make()
        world.crowd(10)
        flush(world)
        world.tick()
        assert len(world.sent_of("vip")) == 10
        keys = {name.decode() for name in world.client.keys("*")}
        assert not [name for name in keys if "points" in name or "flight" in name or "over" in name]

    def test_counts_of_a_day_go_away(self, make: Make) -> None:
        """The counts of a day expire."""
        world = make(points_per_day=10)
        world.crowd(1)
        flush(world)
        (name,) = world.client.keys("*points*")
        assert 0 < world.client.pttl(name) <= 3 * world.DAY


class TestShares:
    @pytest.mark.parametrize("partitions", [1, 2, 3, 7])
    def test_shares_add_up(self, partitions: int) -> None:
        """The shares of all partitions are the bound, and differ by one at most."""
        terms = Terms(points_per_day=100, points_per_audience=None, partitions=partitions)
        shares = [terms.limits(partition) for partition in range(partitions)]
        in_all = [int(per_day) for per_day, _ in shares]
        assert sum(in_all) == 100
        assert max(in_all) - min(in_all) <= 1
        assert {per_audience for _, per_audience in shares} == {""}


class TestNotices:
    def test_an_audience_is_named_once_a_day(self, make: Make) -> None:
        """Each audience that is held is a notice, once a day, with its bound."""
        world = make(points_per_audience=2)
        world.crowd(5)
        world.crowd(5, "gold")
        for _ in range(3):
            flush(world)
            world.tick()
        reached = [(fact.audience, fact.limit) for fact in world.said("budget_reached")]
        assert sorted(reached) == [("gold", 2), ("vip", 2)]
        assert len(world.texts()) == 2
        world.later(world.DAY)
        for _ in range(3):
            world.tick()
            flush(world)
        world.tick()
        assert len(world.said("budget_reached")) == 4

    def test_a_raised_bound_that_is_spent_is_named_anew(self, make: Make) -> None:
        """The notice before it was of the lower one."""
        world = make(points_per_audience=2)
        world.crowd(5)
        for bound in (2, 4):
            world.start(points_per_audience=bound)
            for _ in range(3):
                flush(world)
                world.tick()
        assert [fact.limit for fact in world.said("budget_reached")] == [2, 4]
        assert ["its 4 data" in text for text in world.texts()] == [True, False]

    def test_the_day_is_one_notice(self, make: Make) -> None:
        """When the day's bound is spent there is one notice, not one for each audience."""
        world = make(points_per_day=2)
        world.crowd(5)
        world.crowd(5, "gold")
        for _ in range(3):
            flush(world)
            world.tick()
        (text,) = world.texts()
        assert "PERSONA_SYNC_DATA_POINTS_PER_DAY" in text
        assert [fact.audience for fact in world.said("budget_reached")] == [""]

    def test_what_is_only_in_flight_is_no_notice(self, make: Make) -> None:
        """Nobody is told of a hold that ends with the requests under way."""
        world = make(points_per_audience=2)
        world.crowd(5)
        world.later(200)
        world.claim(objects=2)
        world.claim()
        assert world.held() == {"vip": 3}
        world.tick()
        assert world.facts == []
