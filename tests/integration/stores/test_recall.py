"""Rule 13 at the stores: what was sent, compared with what a server remembers."""

from datetime import timedelta
from typing import Any

from worker.pipeline.outcome import Verdict

HOLD = 30_000
NOW = timedelta()


def acknowledged(world: Any, user: str = "u", value: bool = False) -> None:
    """Braze holds a value of this user, and the state knows."""
    world.say(world.change(user, "vip", value, world.now))
    world.flush()


def test_rule_13_an_older_value_becomes_unknown(world: Any) -> None:
    """It is due again, and a different value than the one that was sent waits out the hold."""
    acknowledged(world)
    assert world.memberships.recall(0, [("u", [("vip", "true", NOW)])]) == (1, [])
    state = world.state("u", "vip")
    assert (state.acknowledged, state.ambiguous) == ("", "true")
    assert state.hold_until == world.now + HOLD
    assert "rt:held" in world.lists("u")
    world.later(HOLD + 200)
    assert world.flush() == {"u": {"vip": "false"}}
    assert world.ends() == {"delivered": 1}
    assert world.ledger().resent == 1


def test_rule_13_the_value_that_was_sent_stays(world: Any) -> None:
    """Nothing was forgotten: nothing changes, nothing is sent."""
    acknowledged(world)
    before = world.everything()
    assert world.memberships.recall(0, [("u", [("vip", "false", NOW)])]) == (0, [])
    assert world.everything() == before


def test_rule_13_nothing_is_created(world: Any) -> None:
    """Neither a user nor an attribute that the server does not know."""
    acknowledged(world)
    before = world.everything()
    told = [("nobody", [("vip", "true", NOW)]), ("u", [("never_heard_of", "1", NOW)])]
    assert world.memberships.recall(0, told) == (0, [])
    assert world.everything() == before


def test_rule_13_who_is_in_flight_is_asked_for_again(world: Any) -> None:
    """What a claim acknowledges at its end would overwrite what is told now."""
    acknowledged(world)
    acknowledged(world, "v")
    world.later(6_000)
    world.say(world.change("u", "vip", True, world.now))
    world.later(200)
    claim = world.claim()
    told = [("v", [("vip", "true", NOW)]), ("u", [("vip", "7", NOW)])]
    assert world.memberships.recall(0, told) == (1, [1])
    assert world.state("u", "vip").acknowledged == "false"
    world.settle(claim, Verdict.DELIVERED)
    assert world.memberships.recall(0, told[1:]) == (1, [])
    assert world.state("u", "vip").acknowledged == ""


def test_rule_13_a_longer_hold_stays(world: Any) -> None:
    """Comparing twice neither shortens a hold nor counts a value twice."""
    acknowledged(world)
    told = [("u", [("vip", "true", NOW)])]
    world.memberships.recall(0, told)
    held = world.state("u", "vip").hold_until
    world.now -= 1_000
    assert world.memberships.recall(0, told) == (0, [])
    assert world.state("u", "vip").hold_until == held


def test_rule_13_the_journal_tells_of_it(world: Any) -> None:
    """Who asks why a value was sent again finds the reason."""
    acknowledged(world)
    world.memberships.recall(0, [("u", [("vip", "true", NOW)])])
    last = world.journal.of_user(0, "u")[-1]
    assert (last["fact"], last["values"]) == ("forgotten_by_the_server", {"vip": "true"})


def test_rule_13_what_was_acknowledged_since_stays(world: Any) -> None:
    """Another worker has sent a newer value, and the server knows of it: nothing was lost."""
    acknowledged(world)
    world.later(5_000)
    before = world.everything()
    earlier = timedelta(seconds=9)
    assert world.memberships.recall(0, [("u", [("vip", "true", earlier)])]) == (0, [])
    assert world.everything() == before


def test_rule_13_what_may_have_come_late_is_compared_with_everything(world: Any) -> None:
    """A request of a claim that is gone may have overtaken what was acknowledged before its end."""
    acknowledged(world)
    assert world.memberships.recall(0, [("u", [("vip", "true", None)])]) == (1, [])


def test_rule_13_what_is_unknown_already_waits_no_longer(world: Any) -> None:
    """A claim that was void since has seen to the hold."""
    world.say(world.change("u", "vip", True, world.now))
    world.flush(Verdict.UNKNOWN)
    world.later(1_000)
    before = world.everything()
    earlier = timedelta(seconds=1)
    assert world.memberships.recall(0, [("u", [("vip", "true", earlier)])]) == (0, [])
    assert world.everything() == before
    world.memberships.recall(0, [("u", [("vip", "true", None)])])
    assert world.state("u", "vip").hold_until == world.now + HOLD
