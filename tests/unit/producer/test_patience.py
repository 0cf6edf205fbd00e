"""Waiting for an inbox that takes nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from producer.patience import GaveUp, Patience
from producer.refusals import InboxFull, ProducerRefused, ServerAway, WrongServer


class Time:
    """A clock whose sleep moves it on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failing(times: int, error: ProducerRefused) -> Callable[[], str]:
    left = iter(range(times))

    def action() -> str:
        if next(left, None) is not None:
            raise error
        return "done"

    return action


def patience(time: Time, said: list[str], minutes: float = 1) -> Patience:
    return Patience(timedelta(minutes=minutes), time.sleep, lambda: time.now, said.append)


def test_pauses_grow_to_a_limit() -> None:
    """It says why it waits, and each pause doubles up to five seconds."""
    time, said = Time(), list[str]()
    assert patience(time, said).keep_trying(failing(7, InboxFull("full"))) == "done"
    assert time.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert said == ["full"] * 7


def test_gives_up_with_the_reason() -> None:
    """After the patience the error says how long it waited and why."""
    time = Time()
    with pytest.raises(GaveUp, match=r"after 1m\. away"):
        patience(time, []).keep_trying(failing(1_000, ServerAway("away")))
    assert 60 <= time.now - 100 < 66


def test_no_waiting_where_it_does_not_help() -> None:
    """A server that does not fit the settings is said at once."""
    time = Time()
    with pytest.raises(WrongServer):
        patience(time, []).keep_trying(failing(1, WrongServer("partitions")))
    assert time.pauses == []
