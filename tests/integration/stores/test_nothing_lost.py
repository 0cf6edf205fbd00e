"""Rules 8, 12, 14 and 23 at the stores: applied once, counted once, also in bad times."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from worker.contract import ENVELOPE, inbox_key
from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane
from worker.stores.inbox import Inbox
from worker.stores.terms import Terms

LINGER = 200
TYPES = {
    "ledger": "hash", "members": "hash", "attrs": "hash", "names": "hash", "meta": "hash",
    "rules": "hash", "torn": "hash", "owned": "hash", "rt:ready": "zset", "rt:held": "zset",
    "bt:ready": "zset", "bt:held": "zset", "journal": "stream", "dead": "stream",
    "journal:size": "string",
}  # fmt: skip


class TestInbox:
    def test_rule_08_an_entry_is_applied_once(self, world: Any) -> None:
        """Two workers with the same entry: the second finds nothing to do."""
        world.append(world.change("u", "vip", True, world.now))
        (entry,) = world.inbox.read(0, 10)
        assert world.apply(entry).is_applied
        before = world.everything()
        assert not world.apply(entry).is_applied
        assert not world.memberships.refuse_envelope(0, entry.id, "late")
        assert world.everything() == before
        assert world.inbox.size(0) == 0

    def test_rule_08_what_was_read_and_not_applied_is_taken_over(self, world: Any) -> None:
        """A killed worker's entry comes again, and says how often it was delivered."""
        world.append(world.change("u", "vip", True, world.now))
        assert [entry.deliveries for entry in world.inbox.read(0, 10)] == [1]
        assert world.inbox.read(0, 10) == []
        assert world.inbox.has_work(0)
        for deliveries in (2, 3):
            (entry,) = world.inbox.take_over(0, 10)
            assert entry.deliveries == deliveries
        assert world.apply(entry).opened == 1
        assert not world.inbox.has_work(0)

    def test_rule_08_not_before_its_time(self, world: Any) -> None:
        """An entry that another worker may still be applying is left alone."""
        world.append(world.change("u", "vip", True, world.now))
        world.inbox.read(0, 10)
        patient = Inbox(world.client, 15_000)
        assert patient.take_over(0, 10) == []
        assert not patient.has_work(0)

    def test_rule_08_the_group_is_made_where_it_is_missing(self, world: Any) -> None:
        """Envelopes appended before any worker ran are read from the beginning."""
        world.client.delete(inbox_key(0))
        world.append(world.change("u", "vip", True, world.now))
        assert world.inbox.read(0, 10) == []
        assert len(world.inbox.read(0, 10)) == 1

    def test_rule_08_a_bad_envelope_dies_whole(self, world: Any) -> None:
        """What cannot be applied is kept as it is, and each of its changes is counted dead."""
        world.append(world.change("u", "vip", True), world.change("v", "vip", True))
        (entry,) = world.inbox.read(0, 10)
        assert world.memberships.refuse_envelope(0, entry.id, "too_many_deliveries")
        (letter,) = world.letters()
        assert (letter.kind, letter.reason) == ("envelope", "too_many_deliveries")
        assert letter.envelope == entry.data
        assert world.users() == {}
        assert world.ends() == {"dead": 2}
        assert world.memberships.replay(0, letter.id) == -1
        assert len(world.letters()) == 1

    def test_rule_08_a_torn_envelope_dies_in_part(self, world: Any) -> None:
        """Given up after a script failed half-way, only what was not applied is counted dead."""
        world.append(*(world.change(u, "vip", True, world.now) for u in "aabc"))
        (entry,) = world.inbox.read(0, 10)
        world.break_accept(3)
        with pytest.raises(ResponseError, match="planted"):
            world.apply(entry)
        world.memberships.refuse_envelope(0, entry.id, "too_many_deliveries")
        assert sorted(world.users()) == ["a", "b"]
        assert world.ends() == {"superseded": 1, "dead": 1, "pending": 2}
        assert world.client.hlen("ps1:{0}:torn") == 0

    def test_rule_08_a_torn_envelope_goes_on_where_it_stopped(self, world: Any) -> None:
        """After the cause is gone each change is applied and counted once."""
        world.append(*(world.change(u, "vip", True, world.now) for u in "abc"))
        (entry,) = world.inbox.read(0, 10)
        for at in (2, 3):
            world.break_accept(at)
            with pytest.raises(ResponseError, match="planted"):
                world.apply(entry)
        world.break_accept(None)
        assert world.flush() == {"a": {"vip": "true"}, "b": {"vip": "true"}}
        assert world.apply(entry).opened == 1
        assert world.flush() == {"c": {"vip": "true"}}
        assert world.ends() == {"delivered": 3}

    @pytest.mark.parametrize("name", TYPES)
    def test_rule_08_a_wrong_type_changes_nothing(self, world: Any, name: str) -> None:
        """A key that somebody spoiled fails the script before it writes; mended, all is well."""
        world.append(world.change("u", "vip", True, world.now), world.change("v", "b", 1))
        (entry,) = world.inbox.read(0, 10)
        key = f"ps1:{{0}}:{name}"
        kept = world.client.dump(key)
        if TYPES[name] == "hash":
            world.client.set(key, "planted")
        else:
            world.client.delete(key)
            world.client.hset(key, "planted", 1)
        before = world.everything()
        with pytest.raises(ResponseError):
            world.apply(entry)
        assert world.everything() == before
        assert world.deliveries() == [1]
        world.client.delete(key)
        if kept:
            world.client.restore(key, 0, kept)
        assert world.apply(entry).opened == 2
        assert world.ends() == {"pending": 2}

    def test_refusals_are_counted_at_the_door_once(self, world: Any) -> None:
        """Counts and samples of refused messages are noted with the entry's end; no change is."""
        id_ = world.client.xadd(inbox_key(0), {"e": "{}", "n": 0}).decode()
        world.inbox.read(0, 10)
        counts, samples = {"refused:broken_json": 3}, [("broken_json", "u", "line 7")]
        assert world.memberships.count_door(0, id_, counts, samples)
        assert not world.memberships.count_door(0, id_, counts, samples)
        assert world.client.hgetall("ps1:{0}:door") == {b"refused:broken_json": b"3"}
        (fact,) = world.journal.of_user(0, "u")
        assert (fact["fact"], fact["code"], fact["where"]) == ("refused", "broken_json", "line 7")


class TestLedger:
    @pytest.mark.parametrize(
        ("verdict", "ends"),
        [
            (Verdict.DELIVERED, {"delivered": 1}),
            (Verdict.DEAD, {"dead": 1}),
            (Verdict.RETRY, {"pending": 1}),
            (Verdict.UNKNOWN, {"pending": 1}),
        ],
    )
    def test_rule_12_every_change_has_one_end(
        self, world: Any, verdict: Verdict, ends: dict[str, int]
    ) -> None:
        """A verdict ends a change or leaves it pending; what follows ends it once."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(verdict)
        assert world.ends() == ends
        world.later(60_000)
        world.flush()
        assert world.ledger().pending == 0
        assert sum(world.ledger().ends.values()) == 1

    def test_rule_12_a_resend_is_counted_apart(self, world: Any) -> None:
        """A value sent again after its end counts as resent; data points are counted each time."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush(Verdict.DEAD)
        world.memberships.replay(0, world.letters()[0].id)
        world.flush()
        balance = world.ledger()
        assert (balance.values, balance.objects, balance.resent) == (1, 1, 1)
        assert world.ends() == {"dead": 1}

    def test_rule_12_what_is_in_the_inbox_is_pending(self, world: Any) -> None:
        """Accepted counts from the append on."""
        world.append(world.change("u", "vip", True, world.now))
        assert world.ends() == {"pending": 1}

    def test_beyond_the_limit_an_undeclared_key_is_a_dead_letter(
        self, make_world: Callable[..., Any]
    ) -> None:
        """The first keys are registered on sight; a further one dies, declared ones do not."""
        world = make_world(terms=Terms(undeclared_limit=2))
        world.declare(("known", ("r", 0, "f", 1)))
        names = ("a", "b", "c", "known", "a")
        applied = world.say(*(world.change("u", n, True, world.now) for n in names))
        assert (applied.opened, applied.dead, applied.superseded) == (4, 1, 1)
        assert sorted(world.users()["u"][0]) == ["a", "b", "known"]
        (letter,) = world.letters()
        assert (letter.kind, letter.reason) == ("change", "undeclared_limit")
        assert letter.values[0][:2] == ("c", "true")
        world.declare(("c", ("r", 0, "f", 1)), ("known", ("r", 0, "f", 1)))
        assert world.say(world.change("u", "c", True, world.now)).opened == 1

    def test_a_key_that_is_no_longer_declared_counts_as_undeclared(
        self, make_world: Callable[..., Any]
    ) -> None:
        """A key taken out of the registry uses a place of the undeclared; put back, it frees it."""
        world = make_world(terms=Terms(undeclared_limit=1))
        world.declare(("a", ("b", 0, "f", 1)))
        world.declare()
        assert world.say(world.change("u", "new", True, world.now)).dead == 1
        assert world.say(world.change("u", "a", True, world.now)).opened == 1
        assert list(world.lists("u")) == ["rt:ready"]
        world.declare(("a", ("b", 0, "f", 1)))
        assert world.say(world.change("u", "new", True, world.now)).opened == 1


class TestMemory:
    @pytest.fixture
    def full(self, world: Any) -> Iterator[Callable[[], None]]:
        """Makes the server's memory full until the test is over."""

        def fill() -> None:
            world.client.config_set("maxmemory", 1)

        yield fill
        world.client.config_set("maxmemory", 0)

    def test_rule_14_draining_goes_on_when_memory_is_full(
        self, world: Any, full: Callable[[], None]
    ) -> None:
        """Producers are refused; accept, claim, settle and void still run, and make room."""
        world.append(world.change("u", "vip", True, world.now))
        world.append(world.change("v", "vip", True, world.now))
        full()
        with pytest.raises(OutOfMemoryError):
            world.client.set("more", 1)
        entries = world.inbox.read(0, 10)
        assert world.apply(entries[0]).opened == 1
        assert world.memberships.refuse_envelope(0, entries[1].id, "bad")
        assert world.allowance.reserve("p", Lane.REALTIME, 0).is_granted
        assert world.flush(Verdict.DEAD) == {"u": {"vip": "true"}}
        assert world.memberships.replay(0, world.letters()[1].id) == 1
        assert world.flush() == {"u": {"vip": "true"}}
        assert world.ledger().pending == 0

    def test_rule_23_the_journal_is_bounded_in_bytes(self, make_world: Callable[..., Any]) -> None:
        """Old facts go first; the size that is counted is the size that is there."""
        world = make_world(terms=Terms(journal_bytes=2_000))
        for number in range(40):
            world.say(world.change(f"u{number}", "vip", True, world.now))
            world.flush()
        entries = world.client.xrange("ps1:{0}:journal")
        size = sum(len(fields[b"b"]) for _, fields in entries)
        assert 1_000 < size <= 2_000
        assert int(world.client.get("ps1:{0}:journal:size")) == size
        assert world.journal.of_user(0, "u0") == []
        assert [f["fact"] for f in world.journal.of_user(0, "u39")] == ["accepted", "delivered"]

    def test_rule_23_one_entry_for_each_call(self, world: Any) -> None:
        """However many users a script touches, it writes one journal entry."""
        world.say(*(world.change(f"u{n}", "vip", True, world.now) for n in range(50)))
        world.flush()
        assert world.client.xlen("ps1:{0}:journal") == 2

    def test_rule_23_the_journal_tells_one_users_story(self, world: Any) -> None:
        """Every fact in order, with its attribute, value and request."""
        at = world.now
        said = world.change("ü", "vip", True, at, arrived_at=7)
        world.say(said, world.change("ü", "vip", False, at - 1), world.change("v", "vip", True, at))
        world.say(said)
        world.flush(Verdict.RETRY)
        world.look()
        world.settle(world.claim())
        story = world.journal.of_user(0, "ü")
        facts = ["accepted", "superseded", "unchanged", "retry", "delivered"]
        assert [fact["fact"] for fact in story] == facts
        assert (story[1]["attribute"], story[1]["value"]) == ("vip", "false")
        assert story[4]["values"] == {"vip": "true"}
        assert story[4]["request"] == "req"


class TestSeeing:
    def test_a_trace_changes_nothing(self, world: Any) -> None:
        """It shows every attribute of the user as it is."""
        world.say(world.change("u", "vip", True, world.now), world.change("u", "b", 450.0))
        world.flush()
        world.later(1)
        world.say(world.change("u", "vip", False, world.now))
        before = world.everything()
        b, vip = world.memberships.trace(0, "u")
        assert world.everything() == before
        assert (b.attribute, b.desired, b.acknowledged, b.due_at_ms) == ("b", "450", "450", None)
        assert (vip.desired, vip.acknowledged, vip.in_flight) == ("false", "true", False)
        assert vip.acknowledged_at_ms == world.START + LINGER
        assert vip.due_at_ms == world.START + LINGER + 5_000
        assert world.memberships.trace(0, "nobody") == []

    def test_a_trace_shows_what_is_in_flight_and_refused(self, world: Any) -> None:
        """In flight are the attributes of the claim, not the user's others."""
        world.say(world.change("u", "vip", True, world.now))
        world.later(LINGER)
        claim = world.claim()
        world.say(world.change("u", "b", True, world.now))
        assert [x.in_flight for x in world.memberships.trace(0, "u")] == [False, True]
        world.settle(claim, Verdict.DEAD)
        assert [x.is_refused for x in world.memberships.trace(0, "u")] == [False, True]

    def test_waiting_users_are_counted_by_lane(self, world: Any) -> None:
        """Ready, due, held and in flight; when the first is due."""
        world.declare(("daily", ("b", 0, "f", 1)))
        world.say(world.change("u", "vip", True, world.now), world.change("v", "daily", True))
        waiting = world.memberships.waiting(0, Lane.BATCHED, world.now)
        assert (waiting.ready, waiting.due, waiting.held) == (1, 0, 0)
        assert waiting.first_due_ms == world.START + 10_000
        world.later(LINGER)
        assert world.memberships.waiting(0, Lane.REALTIME, world.now).due == 1
        world.claim(id_="r1")
        assert world.memberships.in_flight(0)[Lane.REALTIME] == 1

    def test_the_envelope_is_the_contracts(self, world: Any) -> None:
        """What this suite appends is what producers may append."""
        world.append(world.change("u", "vip", True, world.now))
        (entry,) = world.inbox.read(0, 10)
        assert ENVELOPE.validate_json(entry.data).kind == "changes"
