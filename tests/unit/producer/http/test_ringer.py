"""The thread that rings: once for what was asked together, and for as long as the producer runs."""

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from producer.http.ringer import Ringer


class Bell:
    """Notes who was rung for; fails while it is told to."""

    def __init__(self) -> None:
        self.rung: list[int] = []
        self.fails = False
        self.is_closed = False
        self._heard = threading.Semaphore(0)

    def ring(self, partition: int) -> bool:
        """A partition's bell."""
        self.rung.append(partition)
        self._heard.release()
        if self.fails:
            raise AttributeError("a connection that is gone")
        return True

    def close(self) -> None:
        """The end."""
        self.is_closed = True

    def hear(self) -> None:
        """Wait for the next one."""
        assert self._heard.acquire(timeout=5)


@pytest.fixture
def bell() -> Bell:
    """A bell that works."""
    return Bell()


@pytest.fixture
def ringer(bell: Bell) -> Iterator[Ringer]:
    """A ringer at work."""
    ringer = Ringer(bell)
    ringer.start()
    yield ringer
    ringer.close()
    assert bell.is_closed


def test_a_bell_that_fails_in_an_unexpected_way_ends_nothing(bell: Bell, ringer: Ringer) -> None:
    """Whoever is asked for after it is rung for; the log says it once."""
    with capture_logs() as said:
        bell.fails = True
        for partition in (0, 1):
            ringer.ask(partition)
            bell.hear()
        bell.fails = False
        ringer.ask(2)
        bell.hear()
    assert bell.rung == [0, 1, 2]
    assert [(line["event"], line["reason"]) for line in said] == [
        ("ringer_failed", "AttributeError")
    ]


def test_what_was_asked_for_is_rung_for_before_the_end(bell: Bell) -> None:
    """However often a partition was asked for by then, it is rung for once."""
    ringer = Ringer(bell)
    for partition in (3, 1, 3):
        ringer.ask(partition)
    ringer.start()
    ringer.close()
    assert bell.rung == [1, 3]
