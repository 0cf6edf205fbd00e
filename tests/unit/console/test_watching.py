"""Watching work until it is over; leaving is not stopping it."""

from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as ServerGone

from console.watching import Look, StoppedWatching, watch


def looks(*numbers: int) -> Iterator[Look]:
    """What is left, look by look; over at 0."""
    for left in numbers:
        yield Look(f"{left} left", 10 - left, 10, left == 0)


def test_it_ends_with_the_last_look() -> None:
    """Looked at until it is over, with a rest after each look but the last."""
    coming, rests = looks(10, 4, 0, 7), list[float]()
    found = watch(lambda: next(coming), rests.append)
    assert (found.said, found.is_over, len(rests)) == ("0 left", True, 2)


def test_ctrl_c_stops_the_watching() -> None:
    """It is told apart from an end."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    coming = looks(10, 4)
    with pytest.raises(StoppedWatching):
        watch(lambda: next(coming), interrupted)


def test_a_log_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is drawn."""
    coming = looks(10, 4, 0)
    watch(lambda: next(coming), lambda _: None)
    assert capsys.readouterr().err == ""


class TestServerAway:
    """A restart of the server ends no watching."""

    def test_it_is_waited_for(self) -> None:
        """What was seen last stays, and what comes after counts."""
        seen = list[str]()
        coming = [Look("4 left", 6, 10, False), ServerGone("refused"), Look("0 left", 10, 10, True)]

        def look() -> Look:
            found = coming.pop(0)
            seen.append(str(found))
            if isinstance(found, ServerGone):
                raise found
            return found

        assert watch(look, lambda _: None).said == "0 left"
        assert len(seen) == 3

    def test_not_for_ever(self) -> None:
        """After half a minute without an answer whoever watches is let go."""
        now = [0.0]

        def rest(seconds: float) -> None:
            now[0] += 5

        def gone() -> Look:
            raise ServerGone("refused")

        with pytest.raises(ServerGone):
            watch(gone, rest, lambda: now[0])
        assert now[0] == 30
