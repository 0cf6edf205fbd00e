"""Rules 5 and 15, and when a lane flushes: which users and values make up a request."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane, boundary_after

R, B = Lane.REALTIME, Lane.BATCHED
GAP, LINGER, MAX_WAIT, EVERY = 5_000, 200, 2_000, 10_000


@pytest.fixture
def lanes(world: Any) -> Any:
    """A world with an audience in each lane and one with an interval of its own."""
    world.declare(("daily", ("b", 0, "f", 1)), ("slow", ("b", 60_000, "f", 1)))
    return world


class TestOneObject:
    def test_rule_05_one_claim_for_each_user(self, lanes: Any) -> None:
        """A user in flight is taken by nobody else, in either lane, whatever is said meanwhile."""
        lanes.say(lanes.change("u", "vip", True, lanes.now))
        lanes.later(LINGER)
        claim = lanes.claim()
        for attribute in ("b", "daily", "vip"):
            lanes.later(1)
            lanes.say(lanes.change("u", attribute, False, lanes.now))
        lanes.later(EVERY)
        for lane in Lane:
            assert lanes.look(lane).state == "empty"
            assert not lanes.claim(lane).users
        lanes.settle(claim)
        assert set(lanes.lists("u")) == {"rt:ready", "rt:held", "bt:ready"}

    def test_rule_05_both_kinds_due_make_one_object(self, lanes: Any) -> None:
        """A user with both kinds due gets one object, whichever lane comes first."""
        for lane in Lane:
            changes = (lanes.change(lane, name, True, lanes.now) for name in ("vip", "daily"))
            lanes.say(*changes)
            lanes.later(EVERY)
            assert lanes.sent(lanes.claim(lane)) == {lane: {"vip": "true", "daily": "true"}}
            assert lanes.lists(lane) == {}

    def test_rule_05_realtime_leaves_batched_that_is_not_due(self, lanes: Any) -> None:
        """A realtime flush carries no batched value before its boundary."""
        lanes.say(lanes.change("u", "vip", True, lanes.now), lanes.change("u", "daily", True))
        assert lanes.flush() == {"u": {"vip": "true"}}
        assert lanes.lists("u") == {"bt:ready": lanes.START + EVERY}

    def test_rule_05_a_repeated_claim_is_the_same(self, world: Any) -> None:
        """Asked again with its id, a claim is what it was, though more has come since."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim(id_="once")
        world.say(world.change("v", "vip", True, world.now))
        world.later(LINGER)
        before = world.everything()
        assert world.claim(id_="once").users == claim.users
        assert world.everything() == before

    def test_what_is_claimed_is_what_was_recorded(self, world: Any) -> None:
        """The record of a claim holds values and ranks as they were when it was taken."""
        world.say(world.change("u", "vip", True, 5, arrived_at=6, place=7))
        world.later(LINGER)
        claim = world.claim()
        world.say(world.change("u", "vip", False, world.now))
        ((user, ((_, value, *rank, was_open, _),)),) = world.claims()[claim.id]
        assert (user, value, tuple(rank), was_open) == ("u", "true", (5, 6, 0, 7), 1)

    def test_a_user_that_cannot_be_read_changes_nothing(self, world: Any) -> None:
        """A claim that meets a key of the wrong type takes nobody and loses nobody."""
        world.say(*(world.change(u, "vip", True, world.now) for u in "abc"))
        world.later(LINGER)
        world.client.set("ps1:{0}:u:b", "planted")
        before = world.everything()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            world.claim()
        assert world.everything() == before

    def test_a_settling_that_cannot_read_changes_nothing(self, world: Any) -> None:
        """Settling a claim with a broken user leaves all its users in flight."""
        world.say(*(world.change(u, "vip", True, world.now) for u in "abc"))
        world.later(LINGER)
        claim = world.claim()
        kept = world.client.dump("ps1:{0}:u:b")
        world.client.set("ps1:{0}:u:b", "planted")
        before = world.everything()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            world.settle(claim)
        assert world.everything() == before
        world.client.restore("ps1:{0}:u:b", 0, kept, replace=True)
        world.settle(claim)
        assert world.ends() == {"delivered": 3}

    def test_settling_never_creates_a_user(self, world: Any) -> None:
        """A user that is gone stays gone."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.client.delete("ps1:{0}:u:u")
        world.settle(claim)
        assert world.users() == {}
        assert world.claims() == {}


class TestFilling:
    def test_rule_15_lingering_users_fill_a_request(self, world: Any, differing: Callable) -> None:
        """Once a full request is ready it goes at once, the lingering included."""
        differing(f"u{n}" for n in range(100))
        assert (world.look().state, world.look().users) == ("full", 100)
        claim = world.claim()
        assert (len(claim.users), claim.left) == (75, 25)
        assert world.look().state == "wait"
        assert not world.claim().users

    def test_rule_15_held_users_never_fill_a_request(self, world: Any, differing: Callable) -> None:
        """Who waits out a gap is not taken, however empty the request is."""
        differing(["held"])
        world.flush()
        world.later(1)
        world.say(world.change("held", "vip", False, world.now))
        differing(["free"])
        world.later(LINGER)
        assert world.look().users == 1
        assert list(world.sent(world.claim())) == ["free"]

    def test_rule_15_crumbs_go_when_the_first_is_due(self, world: Any, differing: Callable) -> None:
        """Below a full request, all ready users go when the oldest linger is over."""
        differing(["a"])
        world.later(LINGER - 1)
        differing(["b"])
        assert (world.look().state, world.look().wait_ms) == ("wait", 1)
        world.later(1)
        assert world.look().state == "due"
        assert set(world.sent(world.claim())) == {"a", "b"}

    def test_rule_15_one_gatherer_of_crumbs(self, world: Any, differing: Callable) -> None:
        """While one waits for crumbs to come due, the others are told that it does."""
        differing(["a"])
        assert world.look(token="one").state == "wait"
        assert world.look(token="two").state == "busy"
        world.later(LINGER)
        assert world.look(token="two").state == "busy"
        assert not world.claim(token="two").users
        assert world.claim(token="one").users

    def test_rule_15_full_requests_need_no_gatherer(self, world: Any, differing: Callable) -> None:
        """Others may take full requests while one waits for crumbs."""
        differing(["a"])
        assert world.look(token="one").state == "wait"
        differing(f"u{n}" for n in range(75))
        assert world.look(token="two").state == "full"
        assert len(world.claim(token="two").users) == 75

    def test_rule_15_a_gatherer_may_give_up(self, world: Any, differing: Callable) -> None:
        """Whoever stops gathering makes room; another's token is left alone."""
        differing(["a"])
        world.look(token="one")
        world.memberships.stop_gathering(0, R, "two")
        assert world.look(token="two").state == "busy"
        world.memberships.stop_gathering(0, R, "one")
        assert world.look(token="two").state == "wait"

    def test_rule_15_a_request_is_bounded_in_bytes(self, world: Any) -> None:
        """Users that do not fit stay ready; one that alone is too large goes alone."""
        changes = [world.change(f"u{n}", "long", "x" * 255, world.now) for n in range(10)]
        world.say(*changes)
        world.later(LINGER)
        claim = world.claim(size=1_200)
        assert 2 <= len(claim.users) <= 4
        assert claim.left == 10 - len(claim.users)
        world.look()
        assert len(world.claim(size=10).users) == 1

    def test_an_empty_lane_is_empty(self, world: Any) -> None:
        """Nothing said, nothing to do."""
        assert world.look().state == "empty"
        assert not world.claim().users
        assert world.memberships.next_due(0, R) is None


class TestRealtime:
    def test_a_linger_is_extended_up_to_the_longest_wait(self, world: Any) -> None:
        """Each change makes the user linger anew, but not for ever."""
        for n in range(30):
            world.say(world.change("u", "tier", n, world.now))
            due = world.lists("u")["rt:ready"]
            assert due == min(world.now + LINGER, world.START + MAX_WAIT)
            world.later(100)

    def test_held_users_come_free_together(self, world: Any) -> None:
        """The ends of gaps are rounded up, so that those users fill a request together."""
        for user in ("a", "b"):
            world.say(world.change(user, "vip", True, world.now))
            world.later(LINGER)
            world.look()
            world.settle(world.claim())
            world.later(11)
            world.say(world.change(user, "vip", False, world.now))
        (at_a,), (at_b,) = world.lists("a").values(), world.lists("b").values()
        assert at_a % LINGER == at_b % LINGER == 0
        assert at_a >= world.START + LINGER + GAP

    def test_a_retry_is_due_at_once(self, world: Any, differing: Callable) -> None:
        """What was surely not accepted is ready again, not held."""
        differing(["u"])
        world.flush(Verdict.RETRY)
        assert list(world.lists("u")) == ["rt:ready"]
        assert world.look().state == "due"


class TestBatched:
    def test_batched_is_never_early(self, lanes: Any) -> None:
        """Not a millisecond before the boundary, however many are waiting."""
        lanes.later(1)
        lanes.say(*(lanes.change(f"u{n}", "daily", True, lanes.now) for n in range(200)))
        lanes.later(EVERY - 2)
        assert (lanes.look(B).state, lanes.look(B).users) == ("wait", 0)
        assert not lanes.claim(B).users
        lanes.later(1)
        assert lanes.look(B).state == "full"
        assert len(lanes.claim(B).users) == 75

    def test_the_boundary_is_on_the_clock(self, lanes: Any) -> None:
        """Whenever a change comes, it is due at the next multiple of its interval."""
        for wait in (1, 3_000, 9_000, 10_000):
            lanes.later(wait)
            user = f"u{wait}"
            lanes.say(lanes.change(user, "daily", True, lanes.now))
            assert lanes.lists(user) == {"bt:ready": boundary_after(lanes.now, EVERY)}

    def test_an_audience_may_have_its_own_interval(self, lanes: Any) -> None:
        """Each has its own boundary; where they meet, a user in both gets one object."""
        names = ("slow", "daily")
        lanes.say(*(lanes.change("u", name, True, lanes.now) for name in names))
        lanes.later(EVERY)
        assert lanes.sent(lanes.claim(B)) == {"u": {"daily": "true"}}
        lanes.say(*(lanes.change("v", name, True, lanes.now) for name in names))
        lanes.later(60_000 - EVERY)
        assert lanes.sent(lanes.claim(B)) == {"v": {"slow": "true", "daily": "true"}}

    def test_later_changes_do_not_move_the_boundary(self, lanes: Any) -> None:
        """The boundary is that of the first difference; the value sent is the newest."""
        for n in range(5):
            lanes.say(lanes.change("u", "daily", n, lanes.now))
            lanes.later(1_999)
        assert lanes.lists("u") == {"bt:ready": lanes.START + EVERY}
        lanes.later(10)
        assert lanes.sent(lanes.claim(B)) == {"u": {"daily": "4"}}

    def test_a_user_who_comes_back_in_the_window_costs_nothing(self, lanes: Any) -> None:
        """Leaving and coming back before the boundary sends nothing."""
        lanes.say(lanes.change("u", "daily", True, lanes.now))
        lanes.later(EVERY)
        lanes.settle(lanes.claim(B))
        lanes.later(EVERY)
        for value in (False, True):
            lanes.later(1_000)
            lanes.say(lanes.change("u", "daily", value, lanes.now))
        assert lanes.look(B).state == "empty"
        assert lanes.ends() == {"delivered": 1, "superseded": 1, "unchanged": 1}

    def test_a_change_in_flight_waits_for_the_next_boundary(self, lanes: Any) -> None:
        """What is said while a batch is under way belongs to the next one."""
        lanes.say(lanes.change("u", "daily", True, lanes.now))
        lanes.later(EVERY)
        claim = lanes.claim(B)
        lanes.later(1)
        lanes.say(lanes.change("u", "daily", False, lanes.now))
        lanes.settle(claim)
        assert lanes.lists("u") == {"bt:ready": lanes.START + 2 * EVERY}

    def test_a_gap_beyond_the_boundary_is_kept(self, lanes: Any) -> None:
        """If the gap ends after the boundary, the value goes then and not before."""
        lanes.say(lanes.change("u", "daily", True, lanes.now))
        lanes.later(EVERY)
        claim = lanes.claim(B)
        lanes.later(EVERY - 1_000)
        lanes.say(lanes.change("u", "daily", False, lanes.now))
        lanes.settle(claim)
        lanes.later(1_000)
        lanes.look(B)
        assert not lanes.claim(B).users
        lanes.later(GAP - 1_000)
        lanes.look(B)
        assert lanes.sent(lanes.claim(B)) == {"u": {"daily": "false"}}
