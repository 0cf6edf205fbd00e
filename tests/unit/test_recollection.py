"""What a process remembers of its requests, and what it tells a server that may have forgotten."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ServerAway

from worker.pipeline.outcome import ItemVerdict, Verdict
from worker.recollection import Recollection
from worker.stores.identity import ServerIdentity
from worker.stores.memberships import ToldOf

DELIVERED = ItemVerdict(Verdict.DELIVERED)
RETRY = ItemVerdict(Verdict.RETRY, "rate_limited")


class State:
    """Stands for the memberships: keeps what it is told; some users are in flight."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str, dict[str, str]]] = []
        self.ages: list[timedelta | None] = []
        self.in_flight: set[str] = set()
        self.is_away = False
        self.forgotten = 0

    def recall(self, partition: int, sent: Sequence[ToldOf]) -> tuple[int, list[int]]:
        """Compares nothing."""
        if self.is_away:
            raise ServerAway
        owned = [place for place, (user, _) in enumerate(sent) if user in self.in_flight]
        for user, values in sent:
            if user not in self.in_flight:
                self.told.append((partition, user, {name: text for name, text, _ in values}))
                self.ages += [age for _, _, age in values]
        return self.forgotten, owned


class Scene:
    """A recollection with a clock of the test's, and one request after the other."""

    def __init__(self, **options: Any) -> None:
        self.state = State()
        self.identity = ServerIdentity(1, timedelta(seconds=10))
        self.now = 100.0
        self.made = Recollection(
            self.state,  # type: ignore[arg-type]
            self.identity,
            lambda: self.now,
            **options,
        )

    def send(self, *users: str, value: str = "true", verdict: ItemVerdict = DELIVERED) -> None:
        """One request that sends the same to each."""
        objects = [(user, (("vip", value),)) for user in users]
        sent = self.made.begin(0, self.identity.epoch, objects)
        self.made.end(sent, [verdict] * len(users))

    def told(self) -> dict[str, str]:
        """What is told of a change of servers now."""
        self.identity.epoch += 1
        self.state.told.clear()
        assert self.made.has_doubts
        self.made.compare()
        return {user: values["vip"] for _, user, values in self.state.told}


@pytest.fixture
def scene() -> Scene:
    """The usual terms."""
    return Scene()


def test_the_value_that_was_sent_last_is_told(scene: Scene) -> None:
    """One value for each user and attribute, however often it changed."""
    scene.send("a", "b")
    scene.send("b", value="false")
    assert scene.told() == {"a": "true", "b": "false"}


def test_it_is_told_once(scene: Scene) -> None:
    """What was compared is not in doubt any more."""
    scene.send("a")
    scene.told()
    assert not scene.made.has_doubts
    assert scene.told() == {}


def test_nothing_is_told_to_the_same_server(scene: Scene) -> None:
    """Without a change there is nothing to compare, and nobody is asked."""
    scene.send("a")
    assert not scene.made.has_doubts
    assert scene.made.compare() is None
    assert scene.state.told == []


def test_what_is_older_than_the_memory_goes(scene: Scene) -> None:
    """Counted from the last request, so that nothing goes while the server is away."""
    scene.send("old")
    scene.now += 9
    scene.send("a")
    scene.now += 9
    scene.send("b")
    scene.now += 3_600
    assert scene.told() == {"a": "true", "b": "true"}


def test_its_size_is_bounded() -> None:
    """Of more users than it may keep, the latest are kept."""
    scene = Scene(most_users=2)
    for user in "abcd":
        scene.send(user)
    assert scene.told() == {"c": "true", "d": "true"}


def test_what_was_surely_not_accepted_is_not_told(scene: Scene) -> None:
    """Braze did not take it, so the state is right."""
    scene.send("a", verdict=RETRY)
    scene.send("b", verdict=ItemVerdict(Verdict.UNKNOWN, "timeout"))
    assert scene.told() == {"b": "true"}


def test_a_request_under_way_is_told_at_once_and_again_at_its_end(scene: Scene) -> None:
    """Its claim may be forgotten; and until it ends it may change what Braze holds."""
    sent = scene.made.begin(0, scene.identity.epoch, [("a", (("vip", "true"),))])
    scene.now += 2
    assert scene.told() == {"a": "true"}
    scene.made.end(sent, [DELIVERED])
    assert scene.made.has_doubts
    assert scene.made.compare() is None
    assert scene.state.ages == [timedelta(seconds=2), None]


def test_of_what_came_late_and_what_was_sent_the_latest_counts(scene: Scene) -> None:
    """Whichever of the two was noted first."""
    scene.send("a", value="1")
    scene.now += 1
    scene.made.doubt(0, [("a", (("vip", "2"),))])
    assert scene.told() == {"a": "2"}
    scene.made.doubt(0, [("a", (("vip", "2"),))])
    scene.now += 1
    scene.send("a", value="3")
    assert scene.told() == {"a": "3"}


def test_users_in_flight_are_asked_for_again_a_little_later(scene: Scene) -> None:
    """What their claim acknowledges may be older than what is told."""
    scene.send("a", "b")
    scene.state.in_flight = {"a"}
    assert scene.told() == {"b": "true"}
    assert not scene.made.has_doubts
    scene.now += 1
    scene.state.in_flight = set()
    assert scene.made.has_doubts
    scene.made.compare()
    assert [user for _, user, _ in scene.state.told] == ["b", "a"]


def test_a_server_that_is_away_is_told_later(scene: Scene) -> None:
    """Nothing is lost by asking in vain."""
    scene.send("a")
    scene.identity.epoch += 1
    scene.state.is_away = True
    with pytest.raises(ServerAway):
        scene.made.compare()
    scene.state.is_away = False
    scene.state.forgotten = 1
    found = scene.made.compare()
    assert found is not None
    assert found.values == 1
    assert [user for _, user, _ in scene.state.told] == ["a"]


def test_many_users_of_many_partitions_are_told_in_pieces(scene: Scene) -> None:
    """Each user once, under the right partition."""
    for partition in (0, 1):
        objects = [(f"u{n}", (("vip", "true"),)) for n in range(450)]
        scene.made.doubt(partition, objects)
    scene.made.compare()
    assert {(partition, user) for partition, user, _ in scene.state.told} == {
        (partition, f"u{n}") for partition in (0, 1) for n in range(450)
    }
    assert len(scene.state.told) == 900
