"""Memberships that change, counted by hour; and the notice of an audience that flips too much."""

from collections.abc import Callable
from typing import Any

import pytest

from worker.pipeline.surprise import SurprisePolicy

Make = Callable[..., Any]
LOW = SurprisePolicy(factor=10, least=50)


@pytest.fixture
def world(make: Make) -> Any:
    """A deployment that counts, and takes 50 changes for worth a notice."""
    return make(counts_flips=True, surprises=LOW)


def usual_hours(world: Any, count: int) -> None:
    """Hours in which four users enter and leave."""
    for hour in range(count):
        world.crowd(4, value=hour % 2 == 0)
        world.tick()
        world.now += world.HOUR - 1_000


class TestCounts:
    def test_each_change_of_a_membership_counts(self, world: Any) -> None:
        """Entries and exits count, one by one, also those within one envelope."""
        now = world.now
        world.say(
            world.change("a", "vip", True, now),
            world.change("a", "vip", False, now + 1),
            world.change("a", "vip", True, now + 2),
            world.change("b", "vip", True, now),
            world.change("b", "gold", True, now),
        )
        world.say(world.change("b", "vip", False, now + 5))
        assert world.counted_flips() == {"vip": 5, "gold": 1}

    def test_what_changes_nothing_does_not_count(self, world: Any) -> None:
        """Repeated, older and first `false` statements, traits, and imports of what Braze holds."""
        now = world.now
        world.join("a")
        world.say(
            world.change("a", "vip", True, now),
            world.change("a", "vip", True, now + 1),
            world.change("a", "vip", False, now - 9),
            world.change("z", "vip", False, now),
            world.change("a", "tier", "gold", now),
            world.change("a", "tier", "silver", now + 1),
        )
        world.append(world.change("y", "vip", True, now))
        (entry,) = world.inbox.read(0, 1)
        world.memberships.accept(0, entry.id, now, world.ingested(entry), acknowledged=True)
        assert world.counted_flips() == {"vip": 1}

    def test_a_torn_entry_is_counted_once(self, world: Any) -> None:
        """An entry whose script fails midway and is applied again counts each change once."""
        world.append(*(world.change(f"u{n}", "vip", True, world.now) for n in range(4)))
        (entry,) = world.inbox.read(0, 1)
        world.break_accept(3)
        with pytest.raises(Exception, match="planted"):
            world.apply(entry)
        world.break_accept(None)
        world.apply(entry)
        assert world.counted_flips() == {"vip": 4}

    def test_hours_are_apart_and_go_away(self, world: Any) -> None:
        """A new hour begins at 0; old ones expire."""
        world.crowd(3)
        world.later(world.HOUR)
        assert world.counted_flips() == {}
        (name,) = world.client.keys("ps1:{0}:flips:*")
        assert 48 * world.HOUR < world.client.pttl(name) <= 50 * world.HOUR

    def test_off_leaves_no_trace(self, make: Make) -> None:
        """With the factor at 0 nothing is counted and nothing written."""
        world = make(surprises=SurprisePolicy(factor=0))
        usual_hours(world, 8)
        world.crowd(500)
        world.tick()
        assert world.facts == []
        assert [name for name in world.client.keys("*") if b"flips" in name] == []


class TestNotice:
    def test_a_surprise_is_told_once_an_hour(self, world: Any) -> None:
        """Far more changes than usual are one notice, with the numbers; nothing is held."""
        usual_hours(world, 8)
        assert world.facts == []
        world.crowd(80, first=100)
        for _ in range(130):
            world.tick()
        (fact,) = world.said("flips_unusual")
        assert (fact.audience, fact.flips, fact.median, fact.busiest) == ("vip", 80, 4.0, 4)
        (text,) = world.texts()
        assert "vip: 80 memberships changed" in text
        assert "Nothing is held back" in text
        world.later(200)
        assert len(world.claim(objects=200).users) == 84

    def test_a_new_audience_does_not_shout(self, world: Any) -> None:
        """The first hours of an audience are its filling."""
        usual_hours(world, 8)
        world.crowd(400, "fresh")
        for _ in range(3):
            world.tick()
        assert world.said("flips_unusual") == []

    def test_a_quiet_audience_that_wakes_is_told(self, world: Any) -> None:
        """Hours without a change count as such, so that it is seen when a sleeper wakes."""
        world.crowd(4)
        world.tick()
        world.later(100 * world.HOUR)
        world.crowd(80, first=100)
        world.tick()
        assert [fact.audience for fact in world.said("flips_unusual")] == ["vip"]

    def test_the_last_minute_of_an_hour_is_seen(self, world: Any) -> None:
        """What comes after the hour's last look is told in the next hour's first."""
        usual_hours(world, 8)
        world.now += world.HOUR - world.now % world.HOUR - 40_000
        world.tick()
        world.crowd(80, first=100)
        world.now += 62_000
        world.tick()
        (fact,) = world.said("flips_unusual")
        assert fact.flips == 80

    def test_one_worker_looks_a_minute(self, world: Any) -> None:
        """Of many ticks one in a minute reads the counts."""
        usual_hours(world, 8)
        world.later(60_000)
        world.tick()
        world.client.config_resetstat()
        world.tick()
        calls = world.client.info("commandstats")
        assert "cmdstat_hmget" not in calls or calls["cmdstat_hmget"]["calls"] == 0
