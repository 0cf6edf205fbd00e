"""A heartbeat outlives whatever the server answers, and tells of an outage twice."""

from collections.abc import Callable, Sequence

import pytest
from redis.exceptions import ConnectionError as ServerAway
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError

from worker.observe.heartbeat import SECONDS, Heartbeat, HeartbeatFailed, HeartbeatHeard
from worker.pipeline.facts import Fact


def beaten(answers: Sequence[Exception | None]) -> list[Fact]:
    """What is told while the server answers these beats so, one after the other."""
    left, told, now = list(answers), list[Fact](), [0.0]

    def beat() -> None:
        if (error := left.pop(0)) is not None:
            raise error

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return not left

    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    Heartbeat(beat, told.append, wait, clock).run()
    assert left == [], "each was tried"
    return told


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReadOnlyError("You can't write against a read only replica."), "ReadOnlyError"),
        (OutOfMemoryError("command not allowed."), "OutOfMemoryError"),
        (NoScriptError("No matching script. Please use EVAL."), "NoScriptError"),
        (ResponseError("MISCONF Errors writing to the AOF file"), "MISCONF"),
        (ServerAway("Error 111 connecting to 127.0.0.1:1."), "ConnectionError"),
        (KeyError("17"), "KeyError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_next_beat_is_tried_whatever_the_last_one_met(error: Exception, reason: str) -> None:
    """The answer is told once, and once that it has passed."""
    assert beaten([None, error, error, None, None]) == [
        HeartbeatFailed(reason=reason),
        HeartbeatHeard(seconds=2 * SECONDS),
    ]


def test_each_outage_is_told() -> None:
    """What failed, passed and failed again is two outages; the second is not over."""
    away = ServerAway()
    assert [type(fact) for fact in beaten([away, None, away, away])] == [
        HeartbeatFailed,
        HeartbeatHeard,
        HeartbeatFailed,
    ]


def test_nothing_is_told_of_a_server_that_takes_each_beat() -> None:
    """All is well, and that is no news."""
    assert beaten([None, None, None]) == []
