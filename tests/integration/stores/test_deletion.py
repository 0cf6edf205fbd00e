"""Rule 22: a deletion owns the user like a claim; nothing of the user stays, or comes back."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgpack
import pytest
from redis import Redis

from worker.contract import inbox_key, key
from worker.pipeline.outcome import ItemVerdict, Verdict
from worker.pipeline.schedule import Lane
from worker.stores.deletions import DeletionTerms, digest_of
from worker.stores.operators import Operators

USER = "someone@example.org"
MEMORY = timedelta(days=2)
FORWARDS = DeletionTerms(MEMORY, forward=True)


def texts(client: Redis) -> Iterator[bytes]:
    """Every key, field and value that the server holds."""
    for name in client.keys("*"):
        yield name
        kind = client.type(name)
        if kind == b"string":
            yield client.get(name) or b""
        elif kind == b"hash":
            yield from (part for item in client.hgetall(name).items() for part in item)
        elif kind == b"zset":
            yield from client.zrange(name, 0, -1)
        elif kind == b"set":
            yield from client.smembers(name)
        elif kind == b"list":
            yield from client.lrange(name, 0, -1)
        else:
            for _, fields in client.xrange(name):
                yield from (part for item in fields.items() for part in item)


def is_named(world: Any, user: str = USER) -> bool:
    """Whether the id is anywhere on the server."""
    return any(user.encode() in text for text in texts(world.client))


def operators(world: Any) -> Operators:
    """What operators do, with the terms of the world."""
    return Operators(world.client, world.terms.gap, world.terms.journal_bytes)


class TestState:
    def test_rule_22_nothing_of_the_user_is_left(self, world: Any) -> None:
        """State, lists, counts: gone; open changes end as skipped; others stay as they were."""
        world.declare(("nightly", ("b", 0, "f", 1)))
        world.say(
            world.change(USER, "vip", True, world.now),
            world.change(USER, "nightly", True, world.now),
            world.change("other", "vip", True, world.now),
        )
        deleted = world.forget(USER)
        assert (deleted.attributes, deleted.skipped, deleted.in_flight) == (2, 2, False)
        assert list(world.users()) == ["other"]
        assert {user for users in world.lists().values() for user in users} == {"other"}
        assert world.members() == {"vip": 1}
        assert world.ends() == {"skipped": 2, "pending": 1}
        assert world.flush() == {"other": {"vip": "true"}}

    def test_rule_22_the_id_is_nowhere_afterwards(self, world: Any) -> None:
        """Whatever happened to the user, no key, field or value names the id."""
        world.declare(("nightly", ("b", 0, "f", 1)))
        others = [world.change(f"u{n}", "vip", True, world.now) for n in range(5)]
        world.say(world.change(USER, "vip", True, world.now), *others)
        world.flush()
        world.later(10_000)
        world.say(world.change(USER, "nightly", True, world.now))
        world.say(world.change(USER, "vip", False, world.now), others[0])
        world.flush(Verdict.DEAD)
        world.later(10_000)
        world.say(world.change(USER, "vip", True, world.now))
        world.flush(Verdict.UNKNOWN)
        sample = [("broken_json", USER, "1"), ("broken_json", "other", USER)]
        entry = world.append_deletion("x")
        world.inbox.read(0, 10)
        world.memberships.count_door(0, entry, {"refused:broken_json": 2}, sample[:1])
        assert is_named(world)
        world.forget(USER)
        assert not is_named(world)

    def test_rule_12_books_balance_after_a_deletion(self, world: Any) -> None:
        """A replaced version in flight and its successor both end as skipped."""
        world.say(world.change(USER, "vip", True, world.now))
        world.later(200)
        claim = world.claim()
        world.say(world.change(USER, "vip", False, world.now))
        deleted = world.forget(USER)
        assert (deleted.skipped, deleted.in_flight) == (2, True)
        assert world.ends() == {"skipped": 2}
        world.settle(claim)
        assert world.ends() == {"skipped": 2}

    def test_repeated_deletion_changes_nothing(self, world: Any) -> None:
        """An entry is applied once; a second deletion finds nothing, and counts as one."""
        world.say(world.change(USER, "vip", True, world.now))
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        assert world.deletions.delete(0, entry, USER).is_applied
        assert not world.deletions.delete(0, entry, USER).is_applied
        again = world.forget(USER)
        assert (again.is_applied, again.attributes, again.skipped) == (True, 0, 0)
        assert world.ends() == {"skipped": 1}
        assert world.deletions.counts(1, world.now).deleted == 2

    def test_unknown_user_can_be_deleted(self, world: Any) -> None:
        """Of whom nothing is known changes are skipped from now on, too."""
        assert world.forget(USER).attributes == 0
        assert world.say(world.change(USER, "vip", True, world.now)).skipped == 1

    def test_wrong_type_changes_nothing(self, world: Any) -> None:
        """What cannot be read is not half deleted."""
        world.client.set(key(0, "suppressed"), "planted")
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        before = world.everything()
        with pytest.raises(Exception, match="WRONGTYPE"):
            world.deletions.delete(0, entry, USER)
        assert world.everything() == before

    def test_user_held_for_the_budget_leaves_that_list(self, make_world: Any) -> None:
        """Who waits for data points is forgotten there, too."""
        from worker.stores.terms import Terms  # other terms than the world's

        world = make_world(terms=Terms(points_per_audience=1))
        users = ("a", USER)
        world.say(*(world.change(user, "vip", True, world.now) for user in users))
        world.flush()
        assert is_named(world)
        world.forget(USER)
        world.forget("a")
        assert not is_named(world)


class TestInFlight:
    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_rule_22_settling_never_creates_a_user(self, world: Any, verdict: Verdict) -> None:
        """Whatever becomes of the request: no state, no list, no letter, nothing counted."""
        world.say(
            world.change(USER, "vip", True, world.now),
            world.change("other", "vip", True, world.now),
        )
        world.later(200)
        claim = world.claim()
        world.forget(USER)
        before = world.ends()
        settled = world.settle(claim, verdict, "why")
        assert (settled.users, settled.is_gone) == (1, False)
        assert list(world.users()) == ["other"]
        assert all(letter.user_id == "other" for letter in world.letters())
        assert world.claims() == {}
        assert before["skipped"] == world.ends()["skipped"] == 1
        assert not is_named(world)

    def test_rule_22_void_creates_nobody(self, world: Any) -> None:
        """A lost worker's claim runs out; the deleted user stays gone."""
        world.say(world.change(USER, "vip", True, world.now))
        world.later(200)
        claim = world.claim()
        world.forget(USER)
        assert world.client.hlen(key(0, "owned")) == 0
        world.later(30_000)
        assert world.memberships.void(0, claim.id).users == 0
        assert (world.users(), world.claims()) == ({}, {})
        assert world.memberships.settle(0, claim.id, [(0, Verdict.DELIVERED, "")]).is_gone

    def test_claim_knows_that_it_lost_a_user(self, world: Any) -> None:
        """Before anything is sent again a worker sees whom it may not send any more."""
        world.say(
            world.change("a", "vip", True, world.now), world.change(USER, "vip", True, world.now)
        )
        world.later(200)
        claim = world.claim()
        places = {user.user_id: place for place, user in enumerate(claim.users)}
        assert not world.memberships.has_lost(0, claim.id, places.values())
        world.forget(USER)
        assert world.memberships.has_lost(0, claim.id, [places[USER]])
        assert not world.memberships.has_lost(0, claim.id, [places["a"]])
        assert world.memberships.has_lost(0, "gone", [])

    def test_user_who_comes_back_is_not_of_the_old_claim(self, make_world: Any) -> None:
        """A change makes a new user once nothing can land late, even without a memory; the old
        request's end is not that user's."""
        world = make_world(deletion=DeletionTerms(timedelta(0)))
        world.say(world.change(USER, "vip", True, world.now))
        world.later(200)
        claim = world.claim()
        world.forget(USER)
        world.later(59_999)
        assert world.say(world.change(USER, "vip", True, world.now)).skipped == 1
        world.later(1)
        world.say(world.change(USER, "vip", True, world.now))
        world.settle(claim)
        assert world.state(USER, "vip").acknowledged == ""
        assert world.state(USER, "vip").is_open
        assert world.ends() == {"skipped": 2, "pending": 1}


class TestSuppression:
    @pytest.fixture
    def world(self, make_world: Callable[..., Any]) -> Any:
        """A world that remembers deletions for two days."""
        return make_world(deletion=DeletionTerms(MEMORY))

    def test_rule_22_later_changes_are_skipped_until_the_time_is_over(self, world: Any) -> None:
        """Skipped to the last millisecond, then accepted as of anybody."""
        world.forget(USER)
        applied = world.say(
            world.change(USER, "vip", True, world.now), world.change("b", "vip", True, world.now)
        )
        assert (applied.skipped, applied.opened) == (1, 1)
        assert not is_named(world)
        world.later(2 * 86_400_000 - 1)
        assert world.say(world.change(USER, "vip", True, world.now)).skipped == 1
        assert world.deletions.trim(0, world.now) == 0
        world.later(1)
        assert world.deletions.remembered(0, USER, world.now) is None
        assert world.say(world.change(USER, "vip", True, world.now)).opened == 1
        assert world.ends() == {"skipped": 2, "pending": 2}

    def test_memory_is_trimmed(self, world: Any) -> None:
        """What is over is forgotten, in pieces; what is not stays."""
        world.forget(USER)
        world.later(1_000)
        world.forget("later")
        world.later(2 * 86_400_000 - 1_000)
        assert world.deletions.trim(0, world.now) == 1
        assert world.deletions.counts(1, world.now).suppressed == 1
        assert world.client.hlen(key(0, "forgotten")) == 1
        assert world.deletions.trim(0, world.now) == 0

    def test_second_deletion_begins_the_time_anew(self, world: Any) -> None:
        """The later end counts; `trace` can say since and until when."""
        world.forget(USER)
        world.later(86_400_000)
        world.forget(USER)
        found = world.deletions.remembered(0, USER, world.now)
        assert (found.at_ms, found.until_ms) == (world.now, world.now + 2 * 86_400_000)
        assert not found.asks_braze

    def test_rule_22_replay_does_not_bring_the_user_back(self, world: Any) -> None:
        """A dead change that is put back before its letter is erased is skipped."""
        world.declare(lanes=world.LANES)
        world.say(world.change(USER, "vip", True, world.now))
        world.flush(Verdict.DEAD)
        (letter,) = world.letters()
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        assert operators(world).replay(0, [letter.id], "me") == (1, 0)
        world.erasure.go_on(0, lambda: False)
        assert (world.users(), is_named(world)) == ({}, False)

    def test_rule_22_requeued_envelope_skips_the_user(self, world: Any) -> None:
        """An envelope that died is accepted anew without the deleted user, whose part is gone."""
        id_ = world.append(
            world.change(USER, "vip", True, world.now), world.change("b", "vip", True, world.now)
        )
        world.inbox.read(0, 10)
        world.memberships.refuse_envelope(0, id_, "too_many_deliveries")
        world.forget(USER)
        (letter,) = world.letters()
        assert (letter.changes, letter.at_ms > 0) == (1, True)
        assert operators(world).requeue(0, [letter.id], "me", high_water=10)
        world.accept()
        assert list(world.users()) == ["b"]
        balance = world.ledger()
        assert (balance.accepted, balance.ends["dead"], balance.pending) == (3, 2, 1)

    def test_envelope_in_the_inbox_is_skipped(self, world: Any) -> None:
        """What was accepted before the deletion, and is applied after it, is skipped."""
        world.append(world.change(USER, "vip", True, world.now))
        entry = world.append_deletion(USER)
        (_, deletion) = world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        assert deletion.id == entry
        (applied,) = world.accept()
        assert applied.skipped == 1

    def test_torn_envelope_names_nobody_who_was_deleted(self, world: Any) -> None:
        """Of an entry that failed midway the journal holds only those who may be named."""
        world.forget(USER)
        world.append(*(world.change(u, "vip", True, world.now) for u in (USER, "b", "c")))
        world.break_accept(2)
        with pytest.raises(Exception, match="planted"):
            world.accept()
        world.break_accept(None)
        world.later(10)
        world.accept()
        assert not is_named(world)
        assert world.ends() == {"skipped": 1, "pending": 2}
        assert [item["fact"] for item in world.journal.of_user(0, "b")] == ["accepted"]

    def test_refused_message_of_a_deleted_user_names_nobody(self, world: Any) -> None:
        """A sample of the door is kept without the user."""
        world.forget(USER)
        entry = world.append_deletion("x")
        world.inbox.read(0, 10)
        samples = [("broken_json", USER, "1"), ("broken_json", "b", "2")]
        world.memberships.count_door(0, entry, {"refused:broken_json": 2}, samples)
        assert not is_named(world)
        assert [item["where"] for item in world.journal.of_user(0, "b")] == ["2"]

    def test_journal_tells_of_the_deletion_to_who_asks(self, world: Any) -> None:
        """Who knows the id finds that it was deleted, and how much was skipped since."""
        world.say(world.change(USER, "vip", True, world.now))
        world.forget(USER)
        world.say(*(world.change(USER, name, True, world.now) for name in ("vip", "gold")))
        facts = world.journal.of_user(0, USER)
        assert [item["fact"] for item in facts] == ["deleted", "skipped"]
        assert (facts[0]["changes_skipped"], facts[1]["changes"]) == (1, 2)
        assert world.journal.of_user(0, "another") == []

    def test_digest_is_the_same_in_both_languages(self, world: Any) -> None:
        """What the script stores is what Python looks for; another server's salt is another."""
        world.forget("ü\u4e16")
        (stored,) = world.client.zrange(key(0, "suppressed"), 0, -1)
        assert stored.decode() == digest_of(world.client, 0, "ü\u4e16")
        world.client.hset(key(0, "meta"), "salt", "another")
        assert stored.decode() != digest_of(world.client, 0, "ü\u4e16")


class TestErasing:
    def test_other_users_keep_their_journal(self, world: Any) -> None:
        """What is left of an entry keeps its time and its place among the others."""
        users = ("a", USER, "c")
        world.say(*(world.change(user, "vip", user != "a", world.now) for user in users))
        world.flush()
        before = {user: world.journal.of_user(0, user) for user in ("a", "c")}
        assert [len(found) for found in before.values()] == [2, 2]
        world.forget(USER)
        assert {user: world.journal.of_user(0, user) for user in ("a", "c")} == before

    def test_size_of_the_journal_stays_exact(self, world: Any) -> None:
        """The bound in bytes is kept with what is really there."""
        for _ in range(3):
            world.say(*(world.change(u, "vip", True, world.now) for u in ("a", USER)))
            world.flush()
            world.later(6_000)
            world.say(*(world.change(u, "vip", False, world.now) for u in ("a", USER)))
            world.flush()
            world.later(6_000)
        world.forget(USER)
        bodies = [fields[b"b"] for _, fields in world.client.xrange(key(0, "journal"))]
        assert int(world.client.get(key(0, "journal:size"))) == sum(map(len, bodies))

    def test_long_streams_are_gone_through_in_pieces(self, world: Any) -> None:
        """Each call does one page; the next goes on; what comes meanwhile is left alone."""
        for number in range(450):
            body = msgpack.packb(["e", [["code", USER, str(number)]]], use_bin_type=False)
            world.client.xadd(key(0, "journal"), {"k": "door", "b": body})
            world.client.incrby(key(0, "journal:size"), len(body))
            letter = {"kind": "change", "reason": "r", "user": USER, "values": msgpack.packb([])}
            world.client.xadd(key(0, "dead"), letter)
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        calls = 0
        while not world.erasure.go_on(0, lambda: True):
            calls += 1
            assert calls < 20
        assert calls >= 5
        assert (world.client.xlen(key(0, "dead")), is_named(world)) == (0, False)
        assert world.erasure.go_on(0, lambda: True) == 0

    def test_pass_of_a_killed_worker_is_gone_on_with(self, world: Any) -> None:
        """The lock runs out; who is deleted meanwhile has a pass of their own."""
        world.say(*(world.change(user, "vip", True, world.now) for user in (USER, "bertha")))
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        world.erasure.go_on(0, lambda: True)
        world.client.set(key(0, "erasing:lock"), "1")
        world.later(1)
        assert world.erasure.go_on(0, lambda: False) == 0
        world.client.delete(key(0, "erasing:lock"))
        assert is_named(world)
        world.forget("bertha")
        assert (is_named(world), is_named(world, "bertha")) == (False, False)

    def test_deleted_again_during_a_pass_is_gone_through_again(self, world: Any) -> None:
        """A pass ends for those only who were not deleted anew since it began."""
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        world.erasure.go_on(0, lambda: True)
        world.later(5)
        entry = world.append_deletion(USER)
        world.inbox.read(0, 10)
        world.deletions.delete(0, entry, USER)
        assert world.erasure.go_on(0, lambda: False) == 1
        assert not is_named(world)

    @pytest.mark.parametrize(
        ("envelope", "left"),
        [
            ({"kind": "deletion", "user_id": USER}, None),
            ({"kind": "changes", "changes": [{"user_id": USER}, {"user_id": "b"}, 7]}, 2),
            ({"kind": "changes", "changes": [{"user_id": USER}]}, None),
            ({"kind": "refusals", "samples": [{"user_id": USER}]}, 0),
            ([USER], None),
            ({"odd": {"deep": [USER]}}, None),
            (f'{{"broken": "{USER}"', None),
            ('{"broken"', 0),
        ],
    )
    def test_dead_envelopes_are_kept_without_the_user(
        self, world: Any, envelope: Any, left: int | None
    ) -> None:
        """What has the shape of an envelope loses the user; else nothing that names one stays."""
        text = envelope if isinstance(envelope, str) else json.dumps(envelope)
        id_ = world.client.xadd(inbox_key(0), {"e": text, "n": 0}).decode()
        world.inbox.read(0, 10)
        world.memberships.refuse_envelope(0, id_, "unreadable")
        world.forget(USER)
        assert [letter.changes for letter in world.letters()] == ([] if left is None else [left])
        assert not is_named(world)


class TestForwards:
    @pytest.fixture
    def world(self, make_world: Callable[..., Any]) -> Any:
        """A world in which Braze is to delete profiles, too."""
        return make_world(deletion=FORWARDS)

    def test_user_without_a_request_is_asked_for_at_once(self, world: Any) -> None:
        """Nothing is on the wire, nothing is waited for."""
        assert world.forget(USER).ask_at_ms == world.now
        assert world.forwards.take(0, "f", 50) == [USER]
        assert world.forwards.take(0, "g", 50) == []

    def test_gap_and_hold_are_waited_out(self, world: Any) -> None:
        """Braze does not order requests: what it took lately, or may have, must have landed."""
        world.say(world.change(USER, "vip", True, world.now), world.change("b", "vip", True))
        world.flush()
        assert world.forget(USER).ask_at_ms == world.now + 5_000
        world.later(10_000)
        world.say(world.change("b", "vip", False, world.now))
        world.flush(Verdict.UNKNOWN)
        assert world.forget("b").ask_at_ms == world.now + 30_000

    def test_rule_22_claim_in_flight_is_waited_for(self, world: Any) -> None:
        """Not before its lease is over and a late write has landed, whoever settles it."""
        world.say(world.change(USER, "vip", True, world.now))
        world.later(200)
        claim = world.claim()
        asked = world.forget(USER).ask_at_ms
        assert asked == world.now + 30_000 + 30_000
        world.settle(claim)
        world.later(59_999)
        assert world.forwards.take(0, "f", 50) == []
        world.later(1)
        assert world.forwards.take(0, "f", 50) == [USER]

    def test_lost_request_is_made_again(self, world: Any) -> None:
        """A lease that runs out gives the users back; its late end changes nothing."""
        world.forget(USER)
        world.forwards.take(0, "lost", 50)
        world.later(30_000)
        assert world.forwards.take(0, "next", 50) == [USER]
        taken = [(USER, ItemVerdict(Verdict.DELIVERED))]
        again = timedelta(seconds=1)
        assert world.forwards.settle(0, "lost", taken, again).taken == 0
        assert world.forwards.settle(0, "next", taken, again).taken == 1
        assert (world.forwards.waiting(1), world.forwards.taken(1)) == (0, 1)
        assert not is_named(world)

    def test_deleted_again_while_asked_for_is_asked_for_again(self, world: Any) -> None:
        """The end of the older request is not the end of the newer deletion."""
        world.forget(USER)
        world.forwards.take(0, "f", 50)
        world.forget(USER)
        taken = [(USER, ItemVerdict(Verdict.DELIVERED))]
        assert world.forwards.settle(0, "f", taken, timedelta(0)).taken == 0
        assert world.forwards.waiting(1) == 1

    def test_changes_are_skipped_until_braze_has_carried_it_out(self, make_world: Any) -> None:
        """However short the memory: a profile that is about to go gets nothing."""
        world = make_world(deletion=DeletionTerms(timedelta(seconds=1), forward=True))
        world.forget(USER)
        world.later(5_000)
        assert world.say(world.change(USER, "vip", True, world.now)).skipped == 1
        assert world.deletions.remembered(0, USER, world.now).asks_braze
        world.forwards.take(0, "f", 50)
        done = [(USER, ItemVerdict(Verdict.DELIVERED))]
        world.forwards.settle(0, "f", done, timedelta(0))
        world.later(299_999)
        assert world.say(world.change(USER, "vip", True, world.now)).skipped == 1
        world.later(1)
        assert world.say(world.change(USER, "vip", True, world.now)).opened == 1

    def test_refused_deletion_is_a_dead_letter_and_can_be_replayed(self, world: Any) -> None:
        """It names the user until then: otherwise nobody could ask again."""
        world.forget(USER)
        world.forwards.take(0, "f", 50)
        refused = [(USER, ItemVerdict(Verdict.DEAD, "no such thing"))]
        assert world.forwards.settle(0, "f", refused, timedelta(0)).refused == 1
        (letter,) = world.letters()
        assert (letter.kind, letter.user_id, letter.reason) == ("deletion", USER, "no such thing")
        world.erasure.go_on(0, lambda: False)
        assert operators(world).replay(0, [letter.id], "me") == (1, 0)
        assert world.letters() == []
        assert world.forwards.take(0, "g", 50) == [USER]
        assert world.ends() == {}


def test_realtime_and_batched_lanes_lose_the_user(world: Any) -> None:
    """A held batched user is gone from both lists of the lane."""
    world.declare(("nightly", ("b", 0, "f", 1)))
    world.say(world.change(USER, "nightly", True, world.now))
    world.later(10_000)
    world.flush(Verdict.UNKNOWN, Lane.BATCHED)
    world.say(world.change(USER, "nightly", False, world.now))
    assert world.lists(USER)
    world.forget(USER)
    assert not world.lists(USER)
