"""Rules 1 to 4 and 10 at the stores: the value that Braze is to hold in the end."""

from typing import Any

import pytest

from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane

GAP, HOLD, LEASE, LINGER = 5_000, 30_000, 30_000, 200


class TestRank:
    def test_rule_01_rank_decides(self, world: Any) -> None:
        """A lower rank never replaces a higher one, in one envelope or in several."""
        at = world.now
        world.say(world.change("u", "vip", True, at), world.change("u", "vip", False, at - 1))
        world.say(world.change("u", "vip", False, at - 2))
        assert world.state("u", "vip").value == "true"
        assert world.ends() == {"superseded": 2, "pending": 1}

    def test_rule_01_order_of_arrival_decides_a_tie(self, world: Any) -> None:
        """Of two changes of one moment, the one that arrived later stands, whichever came first."""
        at = world.now
        world.say(world.change("u", "a", True, at, arrived_at=7))
        world.say(world.change("u", "a", False, at, arrived_at=6))
        world.say(world.change("u", "b", False, at, arrived_at=6))
        world.say(world.change("u", "b", True, at, arrived_at=7))
        assert world.state("u", "a").value == world.state("u", "b").value == "true"

    def test_rule_01_entry_ids_are_compared_as_numbers(self, world: Any) -> None:
        """The tenth entry of a millisecond comes after the ninth, not before the second."""
        for number in range(11):
            world.append(world.change("u", "tier", number, world.now))
        entries = world.inbox.read(0, 100)
        for entry in reversed(entries):
            world.apply(entry)
        assert world.state("u", "tier").value == "10"

    def test_rule_01_equal_rank_changes_nothing(self, world: Any) -> None:
        """The same message again is unchanged, whatever it says."""
        said = {"at": world.now, "arrived_at": 7}
        world.say(world.change("u", "vip", True, **said))
        before = world.users()
        world.later(1)
        world.say(world.change("u", "vip", False, **said))
        assert world.users() == before
        assert world.ends() == {"unchanged": 1, "pending": 1}

    def test_rule_01_place_in_the_envelope_decides_last(self, world: Any) -> None:
        """Within one envelope, what stands later is newer."""
        at = world.now
        world.say(*(world.change("u", "tier", n, at, arrived_at=7) for n in range(3)))
        assert world.state("u", "tier").value == "2"

    def test_rule_01_the_future_does_not_win_for_ever(self, world: Any) -> None:
        """A change dated a year ahead counts as of its arrival; the next one stands."""
        world.say(world.change("u", "vip", True, world.now + 31_536_000_000))
        world.later(1_000)
        world.say(world.change("u", "vip", False, world.now))
        assert world.state("u", "vip").value == "false"


class TestDifferences:
    def test_rule_02_only_differences_are_sent(self, world: Any) -> None:
        """What Braze holds is not sent again."""
        world.say(world.change("u", "vip", True, world.now))
        assert world.flush() == {"u": {"vip": "true"}}
        world.later(GAP)
        world.say(world.change("u", "vip", True, world.now), world.change("u", "new", True))
        assert world.flush() == {"u": {"new": "true"}}
        assert world.ends() == {"delivered": 2, "unchanged": 1}

    def test_rule_02_leaving_and_coming_back_costs_nothing(self, world: Any) -> None:
        """A user who leaves and comes back before the lane flushes is in no list."""
        world.declare(("daily", ("b", 0, "f", 1)))
        world.say(world.change("u", "vip", True, world.now), world.change("u", "daily", True))
        world.later(20_000)
        world.look(Lane.BATCHED)
        world.settle(world.claim(Lane.BATCHED))
        for value in (False, True):
            world.later(1)
            changes = [world.change("u", a, value, world.now) for a in ("vip", "daily")]
            world.say(*changes)
        assert world.lists("u") == {}
        assert world.ends() == {"delivered": 2, "superseded": 2, "unchanged": 2}

    def test_rule_02_unknown_counts_as_different(self, world: Any) -> None:
        """After an ambiguous end the value is sent again although it did not change."""
        world.say(world.change("u", "vip", True, world.now))
        assert world.flush(Verdict.UNKNOWN) == world.flush() == {"u": {"vip": "true"}}

    def test_rule_02_equal_numbers_are_no_difference(self, world: Any) -> None:
        """450.0 after 450 is unchanged."""
        world.say(world.change("u", "spend", 450, world.now))
        world.flush()
        world.say(world.change("u", "spend", 450.0, world.now))
        assert world.lists("u") == {}

    def test_rule_02_values_keep_their_type(self, world: Any) -> None:
        """The text "true" is not the membership true."""
        world.say(world.change("u", "tier", "true", world.now))
        assert world.flush() == {"u": {"tier": '"true"'}}
        assert world.members() == {}

    def test_a_revert_in_flight_is_sent_after_all(self, world: Any) -> None:
        """What Braze held before a send under way is a difference once that is delivered."""
        world.say(world.change("u", "vip", False, world.now))
        world.flush()
        world.later(GAP)
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.say(world.change("u", "vip", False, world.now))
        assert world.ledger().pending == 2
        world.settle(claim)
        assert world.state("u", "vip").is_open
        world.later(GAP)
        assert world.flush() == {"u": {"vip": "false"}}
        assert world.ends() == {"delivered": 3}

    def test_what_is_sent_already_is_unchanged(self, world: Any) -> None:
        """A newer change to the value under way ends with it and is not sent again."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(1)
        world.say(world.change("u", "vip", True, world.now))
        world.settle(claim)
        assert world.lists("u") == {}
        assert world.ends() == {"delivered": 1, "unchanged": 1}

    def test_a_disabled_attribute_is_recorded_and_not_sent(self, world: Any) -> None:
        """It has its desired value, is in no list and in no claim, and is due never."""
        world.declare(("off", ("r", 0, "f", 0)))
        world.say(world.change("u", "off", True, world.now), world.change("u", "vip", True))
        assert world.flush() == {"u": {"vip": "true"}}
        assert world.state("u", "off").value == "true"
        assert world.lists("u") == {}
        (trace,) = [x for x in world.memberships.trace(0, "u") if x.attribute == "off"]
        assert trace.due_at_ms is None
        assert world.ends() == {"delivered": 1, "pending": 1}

    def test_an_exit_may_be_null(self, world: Any) -> None:
        """With on_exit null a leaving user's attribute is removed, once."""
        world.declare(("vip", ("r", 0, "n", 1)))
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(GAP)
        world.say(world.change("u", "vip", False, world.now))
        assert world.flush() == {"u": {"vip": "null"}}
        world.say(world.change("u", "vip", False, world.now))
        assert world.lists("u") == {}
        assert world.members() == {}

    def test_a_key_sends_under_its_attribute(self, world: Any) -> None:
        """The name in Braze is the registry's."""
        world.declare(("vip", ("r", 0, "f", 1, "seg_vip")))
        world.say(world.change("u", "vip", True, world.now))
        assert world.flush() == {"u": {"seg_vip": "true"}}

    def test_members_are_the_true_ones(self, world: Any) -> None:
        """Members count desired truth, also where a key turns from trait to audience."""
        world.say(*(world.change(u, "vip", True, world.now) for u in "abc"))
        world.later(1)
        world.say(world.change("a", "vip", False, world.now))
        world.say(world.change("x", "odd", True, world.now, **{"class": "trait"}))
        world.later(1)
        world.say(world.change("x", "odd", False, world.now))
        world.say(world.change("b", "vip", "gold", world.now))
        assert world.members() == {"vip": 1}


class TestEnds:
    def test_rule_03_delivered_becomes_acknowledged(self, world: Any) -> None:
        """Acknowledged is the value that was sent, not what was said meanwhile."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        world.settle(claim)
        state = world.state("u", "vip")
        assert (state.acknowledged, state.acknowledged_at) == ("true", world.now)
        assert (state.value, state.is_open) == ("false", True)

    def test_rule_03_not_accepted_changes_nothing(self, world: Any) -> None:
        """After a sure refusal to accept, the user is due again as before, with no hold."""
        world.say(world.change("u", "vip", True, world.now))
        before = world.state("u", "vip")
        assert world.flush(Verdict.RETRY)
        assert world.state("u", "vip") == before
        assert world.lists("u") == {"rt:ready": world.START + LINGER}

    def test_rule_03_ambiguous_is_unknown(self, world: Any) -> None:
        """What may have been accepted makes the acknowledged value unknown."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(GAP)
        world.say(world.change("u", "vip", False, world.now))
        world.flush(Verdict.UNKNOWN)
        state = world.state("u", "vip")
        assert (state.acknowledged, state.ambiguous) == ("", "false")
        assert state.hold_until == world.now + HOLD
        (trace,) = world.memberships.trace(0, "u")
        assert (trace.acknowledged, trace.acknowledged_at_ms) == (None, None)

    def test_rule_03_a_flip_back_after_an_ambiguous_send_is_sent(self, world: Any) -> None:
        """Braze may hold the ambiguous value: going back to the old one is a difference."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(GAP)
        world.say(world.change("u", "vip", False, world.now))
        world.flush(Verdict.UNKNOWN)
        world.later(1)
        world.say(world.change("u", "vip", True, world.now))
        world.later(HOLD)
        assert world.flush() == {"u": {"vip": "true"}}

    def test_rule_03_settling_a_gone_claim_changes_nothing(self, world: Any) -> None:
        """A worker that comes too late cannot undo what was settled."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(LEASE)
        assert world.memberships.void(0, claim.id).users == 1
        before = world.everything()
        assert world.settle(claim, Verdict.DEAD).users == 0
        assert world.everything() == before

    def test_rule_03_a_void_lease_is_unknown(self, world: Any) -> None:
        """A claim is void once its lease is over and not a millisecond before."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(LEASE - 1)
        assert world.memberships.expired_claims(0, world.now) == []
        assert world.memberships.void(0, claim.id).users == 0
        world.later(1)
        assert world.memberships.expired_claims(0, world.now) == [claim.id]
        assert world.memberships.void(0, claim.id).users == 1
        assert world.state("u", "vip").hold_until == world.now + HOLD
        assert world.claims() == {}

    def test_rule_03_users_of_one_claim_end_apart(self, world: Any) -> None:
        """Each user has a verdict; those without keep the claim."""
        world.say(*(world.change(u, "vip", True, world.now) for u in "abc"))
        world.later(LINGER)
        claim = world.claim()
        places = {user.user_id: place for place, user in enumerate(claim.users)}
        world.memberships.settle(
            0, claim.id, [(places["a"], Verdict.DELIVERED, ""), (places["b"], Verdict.RETRY, "")]
        )
        users = world.users()
        assert [users[u][1] for u in "abc"] == [None, None, claim.id]
        assert world.memberships.settle(0, claim.id, [(places["a"], Verdict.DEAD, "")]).dead == 0
        assert world.settle(claim).users == 1
        assert world.ends() == {"delivered": 2, "pending": 1}

    def test_an_entry_that_was_replaced_in_flight_is_superseded(self, world: Any) -> None:
        """If the version under way was not delivered, its end is that a newer one came."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        world.settle(claim, Verdict.RETRY)
        assert world.ends() == {"superseded": 1, "pending": 1}


class TestWaiting:
    def test_rule_04_a_different_value_waits_out_the_gap(self, world: Any) -> None:
        """The next value of an attribute goes no sooner than the gap after the last end."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        end = world.now
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        assert list(world.lists("u")) == ["rt:held"]
        world.later(end + GAP - 1 - world.now)
        world.look()
        assert not world.claim().users
        world.later(1)
        assert world.look().state == "due"
        assert world.sent(world.claim()) == {"u": {"vip": "false"}}

    def test_rule_04_other_attributes_do_not_wait(self, world: Any) -> None:
        """The gap is one attribute's: another of the same user goes at once."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.say(world.change("u", "vip", False, world.now), world.change("u", "b", True))
        assert set(world.lists("u")) == {"rt:ready", "rt:held"}
        assert world.flush() == {"u": {"b": "true"}}
        assert list(world.lists("u")) == ["rt:held"]

    def test_rule_04_a_different_value_waits_out_the_hold(self, world: Any) -> None:
        """After an ambiguous end another value waits until the first can land no more."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        end = world.now
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        world.later(end + HOLD - 1 - world.now)
        world.look()
        assert not world.claim().users
        world.later(1)
        world.look()
        assert world.sent(world.claim()) == {"u": {"vip": "false"}}

    def test_rule_04_the_same_value_need_not_wait(self, world: Any) -> None:
        """The ambiguous value itself is repeated at once."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        assert world.sent(world.claim()) == {"u": {"vip": "true"}}

    def test_rule_04_newer_changes_do_not_shorten_a_hold(self, world: Any) -> None:
        """Neither changing one's mind often nor the same value's delivery ends a hold early."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        until = world.now + HOLD
        world.settle(world.claim())
        for value in (False, True, False):
            world.later(1_000)
            world.say(world.change("u", "vip", value, world.now))
        assert world.lists("u") == {"rt:held": until}
        world.later(until - 1 - world.now)
        world.look()
        assert not world.claim().users

    def test_rule_04_a_late_landing_is_overwritten(self, world: Any) -> None:
        """An ambiguous write that lands at the last moment is followed by the newest value."""
        braze = {}
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        lands = world.now + HOLD - 1
        world.later(100)
        world.say(world.change("u", "vip", False, world.now))
        while world.lists("u"):
            due = world.memberships.next_due(0, Lane.REALTIME)
            if world.now <= lands < due:
                braze["vip"] = "true"
            world.later(max(0, due - world.now))
            world.look()
            claim = world.claim()
            for values in world.sent(claim).values():
                braze |= values
            world.settle(claim)
        assert braze == {"vip": "false"}

    def test_rule_04_a_hold_outlasts_a_refused_send(self, world: Any) -> None:
        """A request that surely was not accepted neither prolongs nor ends a hold."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        until = world.now + HOLD
        world.later(10)
        world.settle(world.claim(), Verdict.RETRY)
        assert world.state("u", "vip").hold_until == until


class TestRefusals:
    def test_rule_10_other_attributes_go_on(self, world: Any) -> None:
        """The refused version is no difference any more; the user's other values are sent."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.DEAD)
        assert world.lists("u") == {}
        world.say(world.change("u", "b", True, world.now))
        assert world.flush() == {"u": {"b": "true"}}
        assert world.ends() == {"dead": 1, "delivered": 1}

    def test_rule_10_a_newer_change_lifts_the_mark(self, world: Any) -> None:
        """The same value said again later is sent again: perhaps it is welcome now."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.DEAD)
        world.say(world.change("u", "vip", True, world.now))
        assert world.flush() == {"u": {"vip": "true"}}

    def test_rule_10_an_older_change_does_not(self, world: Any) -> None:
        """A refusal stands against what is older or the same."""
        at = world.now
        said = world.change("u", "vip", True, at, arrived_at=7)
        world.say(said)
        world.flush(Verdict.DEAD)
        world.say(said, world.change("u", "vip", False, at - 1))
        assert world.lists("u") == {}

    def test_rule_10_it_is_the_version_that_is_refused(self, world: Any) -> None:
        """A change that came while the refused one was under way is sent."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        world.settle(claim, Verdict.DEAD)
        assert world.flush() == {"u": {"vip": "false"}}
        assert world.ends() == {"dead": 1, "delivered": 1}

    def test_rule_10_a_replay_sends_the_newest_value(self, world: Any) -> None:
        """A replay lifts the mark; what goes out is what is desired now, counted as resent."""
        world.say(world.change("u", "vip", True, world.now), world.change("u", "b", 1))
        world.flush(Verdict.DEAD)
        world.say(world.change("u", "b", 2, world.now))
        world.flush()
        (letter,) = world.letters()
        assert (letter.kind, letter.user_id, letter.request) == ("object", "u", "req")
        assert sorted(letter.values)[1][:2] == ("vip", "true")
        assert world.memberships.replay(0, letter.id) == 1
        assert world.flush() == {"u": {"vip": "true"}}
        assert world.letters() == []
        assert world.memberships.replay(0, letter.id) == -1
        assert world.ledger().resent == 1
        assert world.ends() == {"dead": 2, "delivered": 1}

    def test_rule_10_a_replay_in_flight_waits_for_the_claim(self, world: Any) -> None:
        """The user is not listed twice: settling the claim under way lists it."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.DEAD)
        world.say(world.change("u", "b", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.memberships.replay(0, world.letters()[0].id)
        assert world.lists("u") == {}
        world.settle(claim)
        assert world.flush() == {"u": {"vip": "true"}}

    @pytest.mark.parametrize("lane", Lane)
    def test_a_refused_batch_is_not_early_afterwards(self, world: Any, lane: Lane) -> None:
        """What came while a refused value was under way begins its own wait."""
        world.declare(("vip", (lane.code, 0, "f", 1)))
        world.say(world.change("u", "vip", True, world.now))
        world.later(10_000)
        claim = world.claim(lane)
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        changed = world.now
        world.later(3_000)
        world.settle(claim, Verdict.DEAD)
        due = changed + LINGER if lane is Lane.REALTIME else world.START + 20_000
        assert world.memberships.next_due(0, lane) == due
