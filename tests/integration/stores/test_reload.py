"""Rule 21 at the stores: a registry is published with a version, and moves whoever it concerns."""

import threading
from typing import Any

import pytest

from worker.audiences.registry import read_registry
from worker.pipeline.rules import Work
from worker.pipeline.schedule import Lane
from worker.stores.memberships import Memberships
from worker.stores.publication import NameHeld, Publication, RetiredKey
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts

HOUR = 3_600_000
LINGER = 200


def registry(*entries: str, every: str = "1h") -> str:
    """An audiences.yaml with these entries."""
    lanes = f"lanes: {{realtime: {{linger: 200ms, max_wait: 2s}}, batched: {{every: {every}}}}}\n"
    return lanes + ("audiences:\n" + "".join(f"  - {{{one}}}\n" for one in entries))


REALTIME = registry("key: vip, cadence: realtime")
BATCHED = registry("key: vip, cadence: batched")


class TestStale:
    def test_rule_21_stale_worker_is_refused_and_repeats(self, world: Any) -> None:
        """A claim by old rules takes nothing; repeated by the new ones it sends by them."""
        world.publish(registry("key: vip, attribute: old_name"))
        world.say(world.change("u", "vip", True, world.now))
        assert world.rulebook.attribute(0, "1") == "old_name"
        other = Rulebook(world.scripts)
        before, world.rulebook.put = world.rulebook.version(0), other.put
        # Published by somebody else: this process still knows the old page.
        world.publication._rulebook = other
        world.publish(registry("key: vip, attribute: new_name"))
        assert world.rulebook.version(0) == before
        refused = world.scripts.on_partition(
            "claim", 0, "c0", "r", 75, 10**6, 30_000, 5_000, "me", "", "", before
        )
        assert refused == [None, -1]
        assert world.claims() == {}
        assert world.flush() == {"u": {"new_name": "true"}}

    def test_rule_21_stale_accept_applies_nothing_and_repeats(self, world: Any) -> None:
        """The entry of a worker with old rules is applied once, by the new ones."""
        world.publish(REALTIME)
        world.rulebook.read(0)
        Rulebook(world.scripts).put(0, "other", world.rulebook.read(0).rules)
        world.rulebook._pages[0, 0] = world.rulebook._pages[0, 0].__class__(
            "gone", world.rulebook._pages[0, 0].rules, {}, {}
        )
        applied = world.say(world.change("u", "vip", True, world.now))
        assert applied.is_applied
        assert applied.opened == 1
        assert world.rulebook.version(0) == "other"

    def test_rule_21_every_worker_goes_by_the_published_rules(self, world: Any) -> None:
        """A process that never saw the file sends under the published name."""
        world.publish(registry("key: vip, attribute: seg_vip"))
        stranger = Memberships(world.scripts, world.terms, Rulebook(world.scripts))
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = stranger.claim(0, Lane.REALTIME, "c", "me", objects=75, size=10**6)
        assert world.sent(claim) == {"u": {"seg_vip": "true"}}


class TestPublishing:
    def test_the_same_meaning_is_the_same_version(self, world: Any) -> None:
        """A comment changes nothing; publishing again takes nobody anywhere."""
        assert world.publish(REALTIME) is not None
        version = world.publication.version()
        assert not world.publication.publish(read_registry(REALTIME), REALTIME, "there")
        assert world.publish("# a comment\n" + REALTIME) is None
        assert world.publication.version() == version

    def test_it_says_who_and_what_was_before(self, world: Any) -> None:
        """Publishing notes the host, the time, the text and the version that it replaced."""
        world.publish(REALTIME, "first")
        first = world.publication.version()
        world.later(1_000)
        world.publish(BATCHED, "second")
        published = world.publication.read()
        assert (published.by, published.at_ms) == ("second", world.now)
        assert (published.text, published.replaced) == (BATCHED, first)
        assert published.version.startswith(read_registry(BATCHED).version)

    def test_an_older_file_again_is_a_new_version(self, world: Any) -> None:
        """Going back is a change like any other: workers that missed one do not miss two."""
        world.publish(REALTIME)
        first = world.publication.version()
        world.publish(BATCHED)
        world.publish(REALTIME)
        assert world.publication.version() != first
        assert world.publication.read().digest == read_registry(REALTIME).version

    def test_many_publish_at_once(self, quick: Any, world: Any) -> None:
        """Whoever wins, the partition goes by the one that is published."""
        texts = [registry(f"key: k{n}, cadence: batched") for n in range(8)]

        def go(text: str) -> None:
            with quick.client() as client:
                scripts = Scripts(client)
                publication = Publication(scripts, Rulebook(scripts))
                publication.publish(read_registry(text), text, "host")
                publication.catch_up(0)

        threads = [threading.Thread(target=go, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.publication.catch_up(0)
        published, page = world.publication.read(), world.rulebook.read(0)
        assert page.version == published.version
        assert set(page.rules.of) == set(published.declared.of)

    def test_a_publisher_that_dies_midway_is_finished_by_others(self, world: Any) -> None:
        """Published for all, but no partition knows: the next tick of anybody takes it up."""
        world.publication.publish(read_registry(BATCHED), BATCHED, "here")
        assert world.rulebook.read(0).version == "test"
        assert world.publication.catch_up(0) is not None
        assert world.rulebook.read(0).version == world.publication.version()
        assert world.publication.catch_up(0) is None

    def test_a_fault_stays_until_a_good_file(self, world: Any) -> None:
        """It is noted once, and is over with the next good file, be it the old one."""
        world.publish(REALTIME)
        assert world.publication.note_fault("audiences.yaml:3: what?", "host")
        assert not world.publication.note_fault("audiences.yaml:3: what?", "host")
        fault = world.publication.read().fault
        assert (fault.text, fault.by, fault.at_ms) == ("audiences.yaml:3: what?", "host", world.now)
        world.publication.publish(read_registry(REALTIME), REALTIME, "host")
        assert world.publication.read().fault is None

    def test_undeclared_keys_are_counted(self, world: Any) -> None:
        """A key that is declared later, or no longer, changes how many are undeclared."""
        world.say(world.change("u", "seen", True, world.now))
        counted = lambda: int(world.client.hget("ps1:{0}:meta", "undeclared"))  # noqa: E731
        assert counted() == 1
        world.publish(registry("key: seen", "key: new"))
        assert counted() == 0
        world.publish(registry("key: new"))
        assert counted() == 1
        world.publication.disable("never_seen", "me")
        world.publication.catch_up(0)
        assert counted() == 2


class TestLaneMoves:
    def test_rule_21_to_batched(self, world: Any) -> None:
        """A user who waits in realtime goes at the boundary after the moment it differs since."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        assert "rt:ready" in world.lists("u")
        taken = world.publish(BATCHED)
        assert [(one.work, one.key, one.users) for one in taken.work] == [
            (Work.RESCHEDULE, "vip", 1)
        ]
        world.sweep()
        assert world.lists("u") == {"bt:ready": world.now + HOUR}
        assert world.flush() == {}
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {"u": {"vip": "true"}}
        assert world.lists() == {name: {} for name in world.lists()}

    def test_rule_21_to_realtime(self, world: Any) -> None:
        """A user who waits for a boundary goes now."""
        world.publish(BATCHED)
        world.say(world.change("u", "vip", True, world.now))
        world.later(60_000)
        world.publish(REALTIME)
        world.sweep()
        assert set(world.lists("u")) == {"rt:ready"}
        assert world.flush() == {"u": {"vip": "true"}}

    def test_rule_21_claims_by_new_rules_before_the_sweep_send_nothing_early(
        self, world: Any
    ) -> None:
        """Listed as realtime still, a user whose audience is batched now is not sent, nor lost."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.publish(BATCHED)
        assert world.flush() == {}
        assert set(world.lists("u")) == {"bt:ready"}
        world.sweep()
        assert set(world.lists("u")) == {"bt:ready"}

    @pytest.mark.parametrize("moves", [(BATCHED, REALTIME), (REALTIME, BATCHED)])
    def test_rule_21_held_users_move_and_stay_held(self, world: Any, moves: Any) -> None:
        """A user within the gap of the old lane is held in the new one for as long."""
        before, after = moves
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.publish(before)
        world.say(world.change("u", "vip", False, world.now + 1))
        world.publish(after)
        world.sweep()
        at = world.now
        assert world.flush() == {}
        world.later(HOUR)
        world.look(Lane.BATCHED)
        lane = Lane.BATCHED if after == BATCHED else Lane.REALTIME
        assert world.flush(lane=lane) == {"u": {"vip": "false"}}
        assert world.now >= at + 5_000
        assert world.lists("u") == {}

    def test_rule_21_in_flight_users_move_when_settled(self, world: Any) -> None:
        """The sweep passes over who is in a request; settling lists them by the new rules."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.say(world.change("u", "vip", False, world.now))
        world.publish(BATCHED)
        world.sweep()
        assert world.lists("u") == {}
        world.settle(claim)
        assert set(world.lists("u")) <= {"bt:ready", "bt:held"}
        assert world.lists("u")

    def test_rule_21_other_interval_in_mid_window(self, world: Any) -> None:
        """A shorter interval moves who waits to its boundary; a longer one sends nobody early."""
        world.publish(BATCHED)
        world.later(60_000)
        world.say(world.change("u", "vip", True, world.now))
        world.publish(registry("key: vip, cadence: batched, batched: {every: 10m}"))
        world.sweep()
        assert world.lists("u") == {"bt:ready": world.START + HOUR // 6}
        world.publish(registry("key: vip, cadence: batched", every="2h"))
        world.sweep()
        assert world.lists("u") == {"bt:ready": world.START + 2 * HOUR}

    def test_rule_21_the_lanes_interval_moves_those_without_their_own(self, world: Any) -> None:
        """The lane's `every` concerns audiences that have none of their own."""
        own = "key: slow, cadence: batched, batched: {every: 8h}"
        world.publish(registry("key: vip, cadence: batched", own))
        world.say(
            world.change("u", "vip", True, world.now), world.change("v", "slow", True, world.now)
        )
        taken = world.publish(registry("key: vip, cadence: batched", own, every="10m"))
        assert [one.key for one in taken.work] == ["vip"]

    def test_rule_21_an_entry_that_is_removed_is_realtime(self, world: Any) -> None:
        """Without an entry a key is undeclared: its users go now."""
        world.publish(BATCHED)
        world.say(world.change("u", "vip", True, world.now))
        world.publish(registry("key: other"))
        world.sweep()
        assert world.flush() == {"u": {"vip": "true"}}


class TestEnabling:
    def test_rule_21_disabled_is_recorded_and_enabled_is_sent(self, world: Any) -> None:
        """Nothing is sent of a disabled audience, all stays pending, and enabling sends it."""
        world.publish(REALTIME)
        world.publication.disable("vip", "me", "campaign")
        world.publication.catch_up(0)
        world.say(world.change("u", "vip", True, world.now))
        assert world.flush() == {}
        assert world.dirty()["vip"] == {"u": world.START}
        assert world.lists("u") == {}
        world.publication.enable("vip")
        assert world.publication.catch_up(0).work[0].work is Work.RESCHEDULE
        world.sweep()
        assert world.flush() == {"u": {"vip": "true"}}

    def test_rule_21_disabling_stops_who_waits(self, world: Any) -> None:
        """Who was listed when it was disabled is not sent, and is found again later."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.publication.disable("vip", "me")
        world.publication.catch_up(0)
        assert world.flush() == {}
        assert world.lists("u") == {}
        assert world.dirty()["vip"]
        world.publication.enable("vip")
        world.publication.catch_up(0)
        world.sweep()
        assert world.flush() == {"u": {"vip": "true"}}

    def test_an_order_outlives_the_file(self, world: Any) -> None:
        """The file cannot enable what an operator disabled, nor enabling what the file disables."""
        world.publish(REALTIME)
        world.publication.disable("vip", "me", "why")
        world.publish(BATCHED)
        rule = world.rulebook.read(0).rules.rule("vip")
        assert (rule.lane, rule.enabled) == ("b", 0)
        order = world.publication.orders()["vip"]
        assert (order.is_disabled, order.by, order.why, order.at_ms) == (
            True, "me", "why", world.now,
        )  # fmt: skip
        world.publish(registry("key: vip, enabled: false"))
        world.publication.enable("vip")
        world.publication.catch_up(0)
        assert world.rulebook.read(0).rules.rule("vip").enabled == 0


class TestMeaning:
    def test_rule_21_another_attribute_is_a_resync(self, world: Any) -> None:
        """All that Braze holds under the old name is sent under the new one, exits too."""
        world.publish(REALTIME)
        world.say(*(world.change(user, "vip", user == "u", world.now) for user in "uv"))
        world.flush()
        assert world.lists() == {name: {} for name in world.lists()}
        taken = world.publish(registry("key: vip, attribute: seg_vip"))
        assert [(one.work, one.users) for one in taken.work] == [(Work.RESYNC, 2)]
        world.sweep()
        assert world.flush() == {"u": {"seg_vip": "true"}, "v": {"seg_vip": "false"}}
        assert world.ends() == {"delivered": 2}
        world.assert_exact()

    def test_rule_21_what_is_under_way_under_the_old_name_is_sent_again(self, world: Any) -> None:
        """A request begun by the old rules counts as delivered, and for nothing under the new."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        assert world.sent(claim) == {"u": {"vip": "true"}}
        world.publish(registry("key: vip, attribute: seg_vip"))
        world.sweep()
        world.later(1_000)
        world.settle(claim)
        assert world.ends() == {"delivered": 1}
        assert world.state("u", "vip").acknowledged == ""
        assert world.flush() == {"u": {"seg_vip": "true"}}
        assert world.ledger().resent == 1
        assert world.lists("u") == {}
        world.assert_exact()

    def test_rule_21_a_second_change_of_the_file_forgets_nothing_of_the_first(
        self, world: Any
    ) -> None:
        """Renamed while a request is under way, then changed again: it is still sent again."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        renamed = "key: vip, attribute: seg_vip, cadence: realtime"
        world.publish(registry(renamed))
        world.sweep()
        world.later(1)
        world.publish(registry(renamed, "key: other"))
        world.settle(claim)
        assert world.flush() == {"u": {"seg_vip": "true"}}

    def test_rule_21_what_was_sent_under_the_new_name_already_is_not_sent_again(
        self, world: Any
    ) -> None:
        """The sweep comes late: who was sent under the new name by then costs nothing more."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(10_000)
        world.publish(registry("key: vip, attribute: seg_vip"))
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        assert world.flush() == {"u": {"seg_vip": "false"}}
        world.sweep()
        assert world.flush() == {}

    def test_rule_21_another_exit_sends_exits_only(self, world: Any) -> None:
        """Who left is sent null instead of false; members are not touched."""
        world.publish(REALTIME)
        world.say(*(world.change(user, "vip", user == "u", world.now) for user in "uvw"))
        world.flush()
        world.later(5_000)
        taken = world.publish(registry("key: vip, on_exit: null"))
        assert [(one.work, one.users) for one in taken.work] == [(Work.EXIT_CHANGED, 2)]
        world.sweep()
        assert world.flush() == {"v": {"vip": "null"}, "w": {"vip": "null"}}
        world.publish(REALTIME)
        world.sweep()
        world.later(5_000)
        assert world.flush() == {"v": {"vip": "false"}, "w": {"vip": "false"}}
        world.assert_exact()

    def test_rule_21_an_exit_that_needs_nothing_any_more_has_its_end(self, world: Any) -> None:
        """A change that waits to write what Braze holds by the new rules ends as unchanged."""
        world.publish(registry("key: vip, on_exit: null"))
        world.say(world.change("u", "vip", False, world.now))
        world.flush()
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now + 1))
        world.say(world.change("u", "vip", False, world.now + 2))
        world.publish(registry("key: vip, on_exit: null"))
        world.sweep()
        assert world.lists("u") == {}
        assert world.ends() == {"delivered": 1, "superseded": 1, "unchanged": 1}
        world.assert_exact()


class TestRetired:
    @pytest.mark.parametrize("value", ["false", "null"])
    def test_rule_21_everybody_gets_the_last_value(self, world: Any, value: str) -> None:
        """Members and those who left are sent the value, whatever exits are written as."""
        world.publish(registry("key: vip, on_exit: null"))
        world.say(*(world.change(user, "vip", user == "u", world.now) for user in "uv"))
        world.flush()
        world.later(10_000)
        world.publication.retire("vip", value, "me", "over")
        world.publication.catch_up(0)
        world.sweep()
        expected = {"u": {"vip": value}} | ({"v": {"vip": value}} if value == "false" else {})
        assert world.flush() == expected
        assert world.members() == {}
        assert world.ends() == {"delivered": 2}
        world.assert_exact()

    def test_rule_21_changes_of_a_retired_key_are_skipped(self, world: Any) -> None:
        """They end as skipped, counted for the key, and revive nothing."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.publication.retire("vip", "false", "me")
        world.publication.catch_up(0)
        world.sweep()
        later = world.now + 60_000
        applied = world.say(
            world.change("u", "vip", True, later), world.change("new", "vip", True, later),
            world.change("new", "other", True, later),
        )  # fmt: skip
        assert applied.skipped == 2
        assert world.ends() == {"delivered": 1, "skipped": 2, "pending": 1}
        assert world.counted("skipped") == {"vip": 2}
        assert world.state("u", "vip").value == "false"
        assert "vip" not in world.users()["new"][0]
        world.assert_exact()

    def test_rule_21_a_retired_key_is_closed_for_good(self, world: Any) -> None:
        """No file may declare it again, and no order may revive it."""
        world.publish(REALTIME)
        world.publication.retire("vip", "false", "me")
        assert not world.publication.publish(read_registry(REALTIME), REALTIME, "here")
        with pytest.raises(RetiredKey, match="vip was retired by me"):
            world.publish(BATCHED)
        for order in (
            lambda: world.publication.enable("vip"),
            lambda: world.publication.disable("vip", "me"),
            lambda: world.publication.retire("vip", "null", "me"),
        ):
            with pytest.raises(RetiredKey, match="closed for good"):
                order()
        world.publish(registry("key: other"))
        assert world.rulebook.read(0).rules.rule("vip").retired == "false"

    def test_rule_21_a_disabled_audience_can_be_retired(self, world: Any) -> None:
        """Its last value is sent: retiring is the later word."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.publication.disable("vip", "me")
        world.publication.catch_up(0)
        world.later(10_000)
        world.publication.retire("vip", "null", "me")
        world.publication.catch_up(0)
        world.sweep()
        assert world.flush() == {"u": {"vip": "null"}}

    def test_rule_21_retired_while_in_flight(self, world: Any) -> None:
        """A request under way ends as it ends; the last value follows after the gap."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.publication.retire("vip", "false", "me")
        world.publication.catch_up(0)
        world.sweep()
        world.settle(claim)
        assert world.ends() == {"delivered": 1}
        assert world.flush() == {}
        world.later(5_000)
        assert world.flush() == {"u": {"vip": "false"}}
        world.assert_exact()

    def test_rule_21_a_retired_key_keeps_its_lane_and_its_name(self, world: Any) -> None:
        """Taken out of the file, it is still sent at its boundary, under the name that it had."""
        world.publish(registry("key: vip, cadence: batched, attribute: seg_vip"))
        world.say(world.change("u", "vip", True, world.now))
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {"u": {"seg_vip": "true"}}
        world.publication.retire("vip", "null", "me")
        world.publication.catch_up(0)
        assert world.publish(registry("key: other")).work == ()
        world.sweep()
        assert set(world.lists("u")) == {"bt:ready"}
        world.later(HOUR)
        assert world.flush(lane=Lane.BATCHED) == {"u": {"seg_vip": "null"}}


class TestOneWriter:
    def test_rule_21_a_name_waits_for_the_retirement(self, world: Any) -> None:
        """Another key has the attribute only when the last value of the retired one is settled."""
        world.publish(registry("key: vip, attribute: seg"))
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(10_000)
        new = registry("key: new, attribute: seg")

        def is_refused() -> bool:
            with pytest.raises(NameHeld, match="new cannot have the attribute seg yet: vip"):
                world.publish(new)
            return len(world.publication.refused(read_registry(new))) == 1

        world.publication.retire("vip", "null", "me")
        assert is_refused(), "no partition knows it yet"
        world.publication.catch_up(0)
        assert is_refused(), "the sweep is not done"
        world.sweep()
        assert is_refused(), "the value waits"
        world.later(LINGER)
        claim = world.claim()
        assert is_refused(), "the value is under way"
        world.settle(claim)
        assert world.publication.refused(read_registry(new)) == []
        world.publish(new)
        world.say(world.change("u", "new", True, world.now))
        assert world.flush() == {"u": {"seg": "true"}}
        assert world.rulebook.read(0).rules.rule("vip").shadowed == "new"
        world.assert_exact()

    @pytest.mark.parametrize("is_known_before", [True, False])
    def test_rule_21_an_undeclared_key_does_not_write_a_declared_ones_attribute(
        self, world: Any, is_known_before: bool
    ) -> None:
        """Its changes are recorded and nothing of it is sent, seen before or not; until it may."""
        new = registry("key: new, attribute: vip")
        if is_known_before:
            world.say(world.change("u", "vip", True, world.now))
            world.flush()
            world.later(10_000)
        taken = world.publish(new)
        assert taken.shadowed == (("vip",) if is_known_before else ())
        assert ("vip" in world.names().values()) is is_known_before, "no key is made up"
        world.say(world.change("u", "new", False, world.now), world.change("u", "vip", True))
        assert world.flush() == {"u": {"vip": "false"}}
        assert world.flush() == {}
        assert world.state("u", "vip").value == "true"
        assert world.rulebook.read(0).rules.rule("vip").shadowed == "new"
        assert world.rulebook.keys_of(0, "vip") == ["new"]
        world.later(10_000)
        world.publish(registry("key: new, attribute: other"))
        world.sweep()
        assert world.flush() == {"u": {"vip": "true", "other": "false"}}
        world.assert_exact()

    def test_rule_21_a_key_that_lost_its_entry_is_shadowed_by_the_one_that_has_its_name(
        self, world: Any
    ) -> None:
        """A claim of before ends; then only the declared key is sent under the name."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now), world.change("v", "vip", True))
        world.later(LINGER)
        claim = world.claim()
        world.publish(registry("key: new, attribute: vip"))
        world.say(world.change("u", "vip", False, world.now + 1), world.change("u", "new", True))
        assert world.flush() == {}, "the user is in flight"
        world.settle(claim)
        assert world.flush() == {"u": {"vip": "true"}}
        world.assert_exact()

    def test_rule_21_a_resync_of_all_revives_no_shadowed_key(self, world: Any) -> None:
        """What is doubted of a retired key is not sent over the values of its successor."""
        world.publish(REALTIME)
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(10_000)
        world.publication.retire("vip", "null", "me")
        world.publication.catch_up(0)
        world.sweep()
        world.flush()
        world.publish(registry("key: new, attribute: vip"))
        world.say(world.change("u", "new", True, world.now))
        world.flush()
        world.later(10_000)
        world.sweeps.resync(0, None, "me")
        world.sweep()
        assert world.flush() == {"u": {"vip": "true"}}
