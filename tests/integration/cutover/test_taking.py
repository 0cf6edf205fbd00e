"""What is read from Braze, taken into the state: only what nobody knows, in one exact step."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ResponseError

from worker.pipeline.outcome import Verdict

Read = Callable[..., Any]
T = 1_700_000_000_000
NULL_EXIT = ("r", 0, "n", 1)
DISABLED = ("r", 0, "f", 0)
MINUTE = timedelta(minutes=1)


def asked(seeding: Any, *users: str) -> dict[str, set[str]]:
    """Who would be read, and which attributes."""
    found, _ = seeding.unread(0, users, timedelta())
    return {user.user_id: set(user.attributes.values()) for user in found}


class TestTaking:
    def test_an_equal_value_needs_no_request(self, world: Any, read: Read) -> None:
        """The open change ends unchanged, the user leaves the lists, a data point is saved."""
        world.say(world.change("u1", "vip", True, T))
        done = read({"u1": {"vip": "true"}})
        assert (done.values, done.equal, done.to_send, done.left) == (1, 1, 0, 0)
        assert world.lists("u1") == {}
        assert world.ends() == {"unchanged": 1}
        assert world.flush() == {}

    def test_a_different_value_is_sent(self, world: Any, read: Read) -> None:
        """What Braze holds is known now, and the desired value goes out when it was due."""
        world.say(world.change("u1", "vip", True, T))
        before = world.lists("u1")
        done = read({"u1": {"vip": "false"}})
        assert (done.equal, done.to_send) == (0, 1)
        assert world.state("u1", "vip").acknowledged == "false"
        assert world.lists("u1") == before
        assert world.flush() == {"u1": {"vip": "true"}}
        assert world.ends() == {"delivered": 1}

    def test_one_of_two_attributes(self, world: Any, read: Read) -> None:
        """A user stays listed for the attribute that differs, and only that is sent."""
        world.say(world.change("u1", "vip", True, T), world.change("u1", "gold", True, T))
        read({"u1": {"vip": "true", "gold": "null"}})
        assert world.flush() == {"u1": {"gold": "true"}}
        assert world.ends() == {"unchanged": 1, "delivered": 1}

    def test_both_lanes(self, world: Any, read: Read) -> None:
        """A user who waits in both lanes leaves the one in which nothing differs any more."""
        world.declare(("daily", ("b", 0, "f", 1)))
        world.say(world.change("u1", "vip", True, T), world.change("u1", "daily", True, T))
        assert sorted(world.lists("u1")) == ["bt:ready", "rt:ready"]
        read({"u1": {"vip": "true"}})
        assert list(world.lists("u1")) == ["bt:ready"]
        read({"u1": {"daily": "true"}})
        assert world.lists("u1") == {}

    def test_who_waits_for_a_budget(
        self, world: Any, read: Read, ids: Callable[[str], str]
    ) -> None:
        """A user held for want of data points leaves, too: none is needed for an equal value."""
        world.say(world.change("u1", "vip", True, T))
        world.client.sadd("ps1:{0}:over", ids("vip"))
        world.say(world.change("u2", "vip", True, T))
        waiting = f"ps1:{{0}}:over:{ids('vip')}"
        assert world.client.zrange(waiting, 0, -1) == [b"u2"]
        read({"u2": {"vip": "true"}})
        assert not world.client.exists(waiting)

    def test_not_set_is_what_null_makes(self, world: Any, read: Read) -> None:
        """Absent equals an exit that is written as null; for a plain exit it is a difference."""
        world.declare(("gone", NULL_EXIT))
        world.say(world.change("u1", "gone", False, T), world.change("u1", "vip", False, T))
        done = read({"u1": {"gone": "null", "vip": "null"}})
        assert (done.equal, done.to_send) == (1, 1)
        assert world.flush() == {"u1": {"vip": "false"}}

    def test_a_later_change_waits_for_no_gap(self, world: Any, read: Read) -> None:
        """A reading is no request: the next change may go at once."""
        world.say(world.change("u1", "vip", True, T))
        read({"u1": {"vip": "true"}})
        world.say(world.change("u1", "vip", False, T + 1))
        assert world.flush() == {"u1": {"vip": "false"}}

    def test_reading_again_changes_nothing(self, world: Any, read: Read, seeding: Any) -> None:
        """What is known is left alone, and nobody would ask for it again."""
        world.say(world.change("u1", "vip", True, T))
        read({"u1": {"vip": "false"}})
        done = read({"u1": {"vip": "true"}})
        assert (done.values, done.left) == (0, 1)
        assert world.state("u1", "vip").acknowledged == "false"
        assert asked(seeding, "u1") == {}

    def test_what_cannot_be_believed_yet_is_not_asked_for(self, world: Any, seeding: Any) -> None:
        """Until hold and lag are over nobody is named; it is told how many, and until when."""
        world.say(world.change("u1", "vip", True, T), world.change("u1", "gold", True, T))
        world.say(world.change("u2", "vip", True, T))
        world.flush(verdict=Verdict.UNKNOWN)
        world.say(world.change("u3", "vip", True, T))
        found, fresh = seeding.unread(0, ["u1", "u2", "u3"], MINUTE)
        assert [user.user_id for user in found] == ["u3"]
        assert (fresh.users, fresh.values) == (2, 3)
        world.now = fresh.from_ms - 1
        assert [user.user_id for user in seeding.unread(0, ["u1", "u3"], MINUTE)[0]] == ["u3"]
        world.now = fresh.from_ms
        found, fresh = seeding.unread(0, ["u1", "u2", "u3"], MINUTE)
        assert [(user.user_id, len(user.attributes)) for user in found] == [
            ("u1", 2), ("u2", 1), ("u3", 1),
        ]  # fmt: skip
        assert fresh.values == 0

    def test_the_journal_tells_it(self, world: Any, read: Read) -> None:
        """`trace` can say where an acknowledged value came from."""
        world.say(world.change("u1", "vip", True, T))
        read({"u1": {"vip": "true"}})
        last = world.journal.of_user(0, "u1")[-1]
        assert (last["fact"], last["values"]) == ("read_from_braze", {"vip": "true"})

    def test_a_wrong_type_changes_nothing(self, world: Any, read: Read) -> None:
        """One user's key of a wrong type fails the whole reading before anything is written."""
        world.say(world.change("u1", "vip", True, T))
        world.client.set("ps1:{0}:u:u2", "planted")
        before = world.everything()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            read({"u1": {"vip": "true"}, "u2": {"vip": "true"}})
        assert world.everything() == before


class TestLeftAlone:
    def test_what_braze_acknowledged_to_us(self, world: Any, read: Read, seeding: Any) -> None:
        """An export lags; Braze's answer to our request does not."""
        world.say(world.change("u1", "vip", True, T))
        world.flush()
        assert asked(seeding, "u1") == {}
        assert read({"u1": {"vip": "false"}}).left == 1
        assert world.state("u1", "vip").acknowledged == "true"
        assert world.lists("u1") == {}

    def test_what_is_under_way(self, world: Any, read: Read, seeding: Any) -> None:
        """A request in flight decides; other attributes of its user are taken."""
        world.say(world.change("u1", "vip", True, T))
        world.later(200)
        claim = world.claim()
        world.say(world.change("u1", "gold", True, T))
        assert asked(seeding, "u1") == {"u1": {"gold"}}
        done = read({"u1": {"vip": "true", "gold": "true"}})
        assert (done.equal, done.left) == (1, 1)
        assert world.lists("u1") == {}
        world.settle(claim)
        assert world.lists("u1") == {}
        assert world.ends() == {"delivered": 1, "unchanged": 1}

    def test_what_was_settled_while_it_was_read(self, world: Any, read: Read) -> None:
        """Delivered between the question and the answer: the answer is too old."""
        world.say(world.change("u1", "vip", True, T))
        begun = world.now
        world.flush()
        assert read({"u1": {"vip": "null"}}, at=begun).left == 1
        assert world.state("u1", "vip").acknowledged == "true"

    def test_what_may_land_late(self, world: Any, read: Read, seeding: Any) -> None:
        """After an unknown end a reading counts that was begun after the hold, and the lag."""
        world.say(world.change("u1", "vip", True, T))
        world.flush(Verdict.UNKNOWN)
        world.say(world.change("u1", "vip", False, T + 1))
        assert asked(seeding, "u1") == {}
        assert read({"u1": {"vip": "false"}}, lag=MINUTE).left == 1
        world.later(30_000)
        assert asked(seeding, "u1") == {"u1": {"vip"}}
        assert read({"u1": {"vip": "false"}}, lag=MINUTE).left == 1
        world.later(60_000)
        assert read({"u1": {"vip": "false"}}, lag=MINUTE).equal == 1
        assert world.lists("u1") == {}
        assert world.ends() == {"superseded": 1, "unchanged": 1}

    def test_a_value_that_is_to_be_sent_again(self, world: Any, read: Read, seeding: Any) -> None:
        """A re-send that proves needless is no end of anything: the books stay as they are."""
        world.say(world.change("u1", "vip", True, T))
        world.flush()
        world.say(world.change("u1", "vip", False, T + 1))
        world.later(5_000)
        world.flush(Verdict.DELIVERED)
        assert world.ends() == {"delivered": 2}
        assert seeding.forget(0, ["u1"], 1, 2**53) == (1, 1)
        assert world.lists("u1")
        assert read({"u1": {"vip": "false"}}).equal == 1
        assert world.lists("u1") == {}
        assert world.ends() == {"delivered": 2}

    def test_what_braze_refused(self, world: Any, read: Read, seeding: Any) -> None:
        """A refused version is not sent anyway; nothing is asked for it."""
        world.say(world.change("u1", "vip", True, T))
        world.flush(Verdict.DEAD)
        assert asked(seeding, "u1") == {}
        assert read({"u1": {"vip": "true"}}).left == 1

    def test_what_is_disabled(self, world: Any, seeding: Any) -> None:
        """An audience that is recorded and not sent costs no export."""
        world.declare(("off", DISABLED))
        world.say(world.change("u1", "off", True, T))
        assert asked(seeding, "u1") == {}

    def test_who_is_not_known(self, world: Any, read: Read, seeding: Any) -> None:
        """A user of whom nothing was ever said is neither asked for nor created."""
        world.say(world.change("u1", "vip", True, T))
        assert asked(seeding, "u1", "stranger") == {"u1": {"vip"}}
        assert read({"stranger": {"vip": "true"}}).left == 1
        assert set(world.users()) == {"u1"}
