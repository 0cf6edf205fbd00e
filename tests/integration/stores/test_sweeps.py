"""Rule 21: work on many users is done once, whatever interrupts it, and flushes concern one key."""

from typing import Any

import msgpack
import pytest

from worker.pipeline.outcome import Verdict
from worker.pipeline.rules import Work
from worker.pipeline.schedule import Lane

HOUR, LINGER = 3_600_000, 200
LANES = (200, 2_000, HOUR, 0)
BATCHED = ("b", 0, "f", 1)
USERS = [f"u{n}" for n in range(40)]


@pytest.fixture
def delivered(make_world: Any) -> Any:
    """Forty users whose membership Braze has acknowledged, and sweeps of few users a step."""
    world = make_world(at_once=10)
    world.say(*(world.change(user, "vip", True, world.now) for user in USERS))
    world.flush()
    world.later(10_000)
    return world


def restart(world: Any) -> None:
    """Let all cursors be of a run of the server that is over."""
    name = "ps1:{0}:sweeps"
    for id_, raw in world.client.hgetall(name).items():
        sweep = msgpack.unpackb(raw)
        if sweep["run"]:
            world.client.hset(name, id_, msgpack.packb(sweep | {"run": "another"}))


class TestResync:
    def test_rule_21_all_is_sent_again(self, delivered: Any) -> None:
        """What was acknowledged is unknown, is sent again, and counts as resent."""
        assert delivered.sweeps.resync(0, "vip", "me", "doubt")
        delivered.sweep()
        assert set(delivered.flush()) == set(USERS)
        balance = delivered.ledger()
        assert (balance.values, balance.resent, balance.pending) == (80, 40, 0)
        delivered.assert_exact()

    def test_rule_21_one_key_leaves_the_others(self, delivered: Any) -> None:
        """Only the key that is named is sent again; for all there is no name."""
        delivered.say(delivered.change("u0", "tier", "gold", delivered.now))
        delivered.flush()
        delivered.sweeps.resync(0, "tier", "me")
        delivered.sweep()
        assert delivered.flush() == {"u0": {"tier": '"gold"'}}
        delivered.sweeps.resync(0, None, "me")
        delivered.sweep()
        sent = delivered.flush()
        assert sent["u0"] == {"tier": '"gold"', "vip": "true"}
        assert len(sent) == 40

    def test_rule_21_since_a_moment(self, delivered: Any) -> None:
        """Only what was acknowledged since then; what an import said was never acknowledged."""
        delivered.say(delivered.change("u1", "vip", False, delivered.now))
        at = delivered.now
        delivered.flush()
        delivered.sweeps.resync(0, "vip", "me", since_ms=at)
        delivered.sweep()
        assert delivered.flush() == {"u1": {"vip": "false"}}

    def test_rule_21_the_gap_to_another_value_stays(self, delivered: Any) -> None:
        """Forgetting what Braze holds does not let another value overtake the one just sent."""
        delivered.say(delivered.change("u1", "vip", False, delivered.now))
        delivered.flush()
        delivered.sweeps.resync(0, "vip", "me")
        delivered.sweep()
        delivered.say(delivered.change("u1", "vip", True, delivered.now))
        assert "u1" not in delivered.flush()
        delivered.later(5_000)
        delivered.look()
        assert delivered.flush() == {"u1": {"vip": "true"}}

    @pytest.mark.parametrize(
        ("verdict", "ends"),
        [
            (Verdict.DELIVERED, {"delivered": 41}),
            (Verdict.RETRY, {"delivered": 40, "pending": 1}),
            (Verdict.UNKNOWN, {"delivered": 40, "pending": 1}),
        ],
    )
    def test_rule_21_what_is_under_way_is_sent_again(
        self, delivered: Any, verdict: Verdict, ends: dict[str, int]
    ) -> None:
        """A request that was begun before has its end, and its value is sent once more after."""
        delivered.say(delivered.change("u1", "vip", False, delivered.now))
        delivered.later(LINGER)
        claim = delivered.claim()
        delivered.sweeps.resync(0, "vip", "me")
        delivered.sweep()
        delivered.settle(claim, verdict)
        assert delivered.ends() == ends
        assert delivered.state("u1", "vip").acknowledged == ""
        delivered.later(40_000)
        delivered.look()
        sent = delivered.flush()
        assert sent["u1"] == {"vip": "false"}
        assert len(sent) == 40
        assert delivered.ends() == {"delivered": 41}
        delivered.assert_exact()

    def test_a_request_that_began_after_counts(self, delivered: Any) -> None:
        """What is claimed after the resync began is acknowledged, though the sweep comes later."""
        delivered.sweeps.resync(0, "vip", "me")
        delivered.later(1)
        delivered.say(delivered.change("u1", "vip", False, delivered.now))
        assert delivered.flush() == {"u1": {"vip": "false"}}
        delivered.sweep()
        assert "u1" not in delivered.flush()

    def test_a_refused_value_stays_refused(self, delivered: Any) -> None:
        """Braze refused this very version: a resync does not send it again."""
        delivered.say(delivered.change("u1", "vip", False, delivered.now))
        delivered.flush(Verdict.DEAD)
        delivered.sweeps.resync(0, "vip", "me")
        delivered.sweep()
        assert "u1" not in delivered.flush()
        delivered.assert_exact()


class TestInterrupted:
    @pytest.mark.parametrize("restarts", [False, True])
    @pytest.mark.parametrize("work", [Work.RESYNC, Work.RETIRE])
    def test_rule_21_interrupted_at_every_step(
        self, delivered: Any, work: Work, restarts: bool
    ) -> None:
        """Each step is lost once before it is done, the server may restart: all users, once."""
        if work is Work.RESYNC:
            delivered.sweeps.resync(0, "vip", "me")
        else:
            delivered.publish("audiences: [{key: vip}]\n")
            delivered.publication.retire("vip", "false", "me")
            delivered.publication.catch_up(0)
        done = False
        for step in range(1_000):
            left = delivered.sweeps.unfinished(0)
            if not left:
                done = True
                break
            assert delivered.sweeps.step(0, left[0])
            # Somebody who was slower does the same step: nothing happens.
            before = delivered.everything()
            assert not delivered.sweeps.step(0, left[0])
            assert delivered.everything() == before
            if restarts and step == 2:
                restart(delivered)
        assert done
        (sweep,) = [one for one in delivered.sweeps.read(0) if one.work is work]
        assert sweep.changed == 40
        assert sweep.points == 40
        sent = delivered.flush()
        assert set(sent) == set(USERS)
        assert delivered.flush() == {}
        delivered.assert_exact()

    def test_progress_is_seen(self, delivered: Any) -> None:
        """Users gone through, changed, and the data points so far; then when it was done."""
        delivered.sweeps.resync(0, "vip", "me", "why")
        (sweep,) = delivered.sweeps.read(0)
        assert (sweep.users, sweep.done_ms, sweep.by, sweep.why) == (0, None, "me", "why")
        delivered.sweep(1)
        (sweep,) = delivered.sweeps.read(0)
        assert sweep.done_ms is None
        delivered.sweep()
        (sweep,) = delivered.sweeps.read(0)
        assert (sweep.users, sweep.changed, sweep.points) == (40, 40, 40)
        assert sweep.done_ms == delivered.now

    def test_the_last_twenty_are_kept(self, delivered: Any) -> None:
        """What is done is shown for a while, and takes no room for ever."""
        for _ in range(25):
            delivered.sweeps.flush(0, "vip", "me")
            delivered.sweep()
            delivered.later(1)
        assert len(delivered.sweeps.read(0)) <= 21

    def test_counting_first_changes_nothing(self, delivered: Any) -> None:
        """A dry run says how many users and data points, and nothing is another after it."""
        before, cursor, users, points = delivered.everything(), 0, 0, 0
        while True:
            cursor, found, cost = delivered.sweeps.count(0, Work.RESYNC, "vip", cursor)
            users, points = users + found, points + cost
            if not cursor:
                break
        assert (users, points) == (40, 40)
        assert delivered.sweeps.count(0, Work.RESYNC, "no such key") == (0, 0, 0)
        assert delivered.everything() == before


class TestFlush:
    def test_rule_21_a_flush_sends_one_audience_now(self, world: Any) -> None:
        """All that waits for the key goes at once; other keys, and other users, keep waiting."""
        world.declare(("a", BATCHED), ("b", BATCHED), lanes=LANES)
        world.say(*(world.change("u", name, True, world.now) for name in "ab"))
        world.say(world.change("v", "b", True, world.now))
        world.later(1_000)
        assert world.sweeps.flush(0, "a", "me")
        assert world.sweeps.pending(0, "a", world.now) == 1
        world.sweep()
        assert world.flush(lane=Lane.BATCHED) == {"u": {"a": "true"}}
        assert world.sweeps.pending(0, "a", world.now) == 0
        assert set(world.dirty()["b"]) == {"u", "v"}
        for user in "uv":
            assert world.lists(user) == {"bt:ready": world.START + HOUR}
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {"u": {"b": "true"}, "v": {"b": "true"}}

    def test_rule_21_what_comes_after_waits_for_its_boundary(self, world: Any) -> None:
        """A flush is for what differed by then."""
        world.declare(("a", BATCHED), lanes=LANES)
        world.say(world.change("u", "a", True, world.now))
        world.sweeps.flush(0, "a", "me")
        world.later(1)
        world.say(world.change("v", "a", True, world.now))
        world.sweep()
        assert world.flush(lane=Lane.BATCHED) == {"u": {"a": "true"}}
        assert world.lists("v") == {"bt:ready": world.START + HOUR}

    def test_rule_21_held_users_keep_their_time(self, world: Any) -> None:
        """The gap to another value holds for a flush, too; then it goes, before the boundary."""
        world.declare(("a", BATCHED), lanes=LANES)
        world.say(world.change("u", "a", True, world.now))
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED)
        world.later(1)
        world.say(world.change("u", "a", False, world.now))
        world.sweeps.flush(0, "a", "me")
        world.sweep()
        assert world.flush(lane=Lane.BATCHED) == {}
        world.later(6_000)
        world.look(Lane.BATCHED)
        assert world.flush(lane=Lane.BATCHED) == {"u": {"a": "false"}}

    def test_a_flush_that_is_repeated_takes_over(self, make_world: Any) -> None:
        """The second one does what was left of the first, and more."""
        world = make_world(at_once=10)
        world.declare(("a", BATCHED), lanes=LANES)
        world.say(*(world.change(f"u{n}", "a", True, world.now) for n in range(300)))
        world.sweeps.flush(0, "a", "me")
        world.sweep(2)
        world.later(1)
        world.say(world.change("late", "a", True, world.now))
        world.sweeps.flush(0, "a", "me")
        assert len(world.sweeps.unfinished(0)) == 1
        world.sweep()
        assert world.look(Lane.BATCHED, 75).users == 301

    def test_a_key_that_was_never_seen(self, world: Any) -> None:
        """There is nothing to flush or to resync, and nothing is left behind."""
        assert not world.sweeps.flush(0, "never", "me")
        assert not world.sweeps.resync(0, "never", "me")
        assert world.sweeps.read(0) == []


class TestMany:
    @pytest.mark.slow
    @pytest.mark.parametrize("work", [Work.RESYNC, Work.RETIRE])
    def test_rule_21_a_hundred_thousand_members(self, make_world: Any, work: Work) -> None:
        """Interrupted by a restart in the middle, and resumed: everybody is sent it once."""
        world, many = make_world(), 100_000
        world.publish("audiences: [{key: vip, cadence: realtime}]\n")
        for first in range(0, many, 500):
            users = range(first, first + 500)
            world.say(*(world.change(f"u{n}", "vip", True, world.now) for n in users))
            world.later(LINGER)
            while (claim := world.claim(objects=500)).users:
                world.settle(claim)
        world.later(10_000)
        if work is Work.RESYNC:
            world.sweeps.resync(0, "vip", "me")
        else:
            world.publication.retire("vip", "false", "me")
            world.publication.catch_up(0)
        assert world.sweep(150) == 150
        restart(world)
        world.sweep()
        (sweep,) = [one for one in world.sweeps.read(0) if one.work is work]
        assert sweep.changed == many
        world.later(LINGER)
        sent: set[str] = set()
        while (claim := world.claim(objects=500)).users:
            assert sent.isdisjoint(user.user_id for user in claim.users)
            sent.update(user.user_id for user in claim.users)
            world.settle(claim)
        assert len(sent) == many
        assert world.ledger().values == 2 * many
        assert world.members() == ({"vip": many} if work is Work.RESYNC else {})
        world.assert_exact()


class TestWindows:
    def test_boundaries_keep_to_the_offset(self, world: Any) -> None:
        """The offset moves every boundary, whatever the interval."""
        lanes = (200, 2_000, HOUR, 90_000)
        world.declare(("h", BATCHED), ("s", ("b", 5_000, "f", 1)), lanes=lanes)
        world.say(world.change("u", "h", True, world.now), world.change("v", "s", True, world.now))
        assert world.lists("u") == {"bt:ready": world.START + 90_000}
        assert world.lists("v") == {"bt:ready": world.START + 5_000}

    def test_a_missed_boundary_is_made_up_at_once(self, world: Any) -> None:
        """Everything was down for three hours: one object, with the newest values."""
        world.declare(("a", BATCHED), lanes=LANES)
        world.say(world.change("u", "a", True, world.now))
        world.later(3 * HOUR + 1_000)
        world.say(world.change("u", "a", False, world.now))
        assert world.flush(lane=Lane.BATCHED) == {"u": {"a": "false"}}
        assert world.flush(lane=Lane.BATCHED) == {}

    def test_one_object_for_three_hourly_audiences(self, world: Any) -> None:
        """The same interval is the same boundary: one object, whenever the changes came."""
        world.declare(*((name, BATCHED) for name in "abc"), lanes=LANES)
        for name in "abc":
            world.say(world.change("u", name, True, world.now))
            world.later(60_000)
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {"u": dict.fromkeys("abc", "true")}
        assert world.ledger().objects == 1

    def test_out_and_in_again_costs_nothing(self, world: Any) -> None:
        """Who left and came back within a window is no data point, and counts as saved."""
        world.declare(("a", BATCHED), lanes=LANES)
        world.say(world.change("u", "a", True, world.now))
        world.later(HOUR)
        world.flush(lane=Lane.BATCHED)
        for at, value in ((1, False), (2, True)):
            world.say(world.change("u", "a", value, world.now + at))
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {}
        assert world.counted("sent") == {"a": 1}
        assert world.counted("saved") == {"a": 2}


class TestBooks:
    def test_an_audience_in_numbers(self, world: Any) -> None:
        """Members, who waits and since when, what was sent and saved, when it goes next."""
        world.declare(("a", BATCHED), ("r", ("r", 0, "f", 1)), lanes=LANES)
        world.say(*(world.change(user, "a", user != "w", world.now) for user in "uvw"))
        world.say(world.change("u", "r", True, world.now))
        world.flush()
        sent_at = world.now
        world.publication.disable("r", "me", "why")
        book = world.books.read(1, world.now)
        a, r = book["a"], book["r"]
        assert (a.lane, a.members, a.known, a.pending) == (Lane.BATCHED, 2, 3, 3)
        assert (a.oldest_ms, a.next_flush_ms) == (world.START, world.START + HOUR)
        assert (a.sent, a.flushed_ms, a.order) == (0, None, None)
        assert (r.sent, r.flushed_ms, r.pending, r.next_flush_ms) == (1, sent_at, 0, None)
        assert (r.order.by, r.order.why, r.order.is_disabled) == ("me", "why", True)
