"""Work on many users, ordered and watched, also when the server goes away meanwhile."""

import json
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as ServerGone

from console.many_users import Under
from console.watching import Look
from worker.pipeline.rules import Work


class Unanswered(Under):
    """Work on a server that is gone once it was ordered."""

    def look(self) -> Look:
        """Nobody answers."""
        raise ServerGone("Error 111 connecting to redis://:hush@host:1. Connection refused.")


@pytest.fixture
def under() -> Unanswered:
    """A resync that was just ordered."""
    return Unanswered(cast("Any", None), Work.RESYNC, "vip", 0)


def test_what_was_ordered_stands(under: Unanswered, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is gone ends the watching in words, not the work; exit 1, and no password."""
    assert under.go_on({}, wait=False, as_json=False) == 1
    said = capsys.readouterr().out
    assert said.startswith("What was ordered stands: it goes on by itself; ")
    assert "The Redis server does not answer: Error 111" in said
    assert "hush" not in said


def test_for_programs(under: Unanswered, capsys: pytest.CaptureFixture[str]) -> None:
    """The document says that it has begun, and what is in the way."""
    assert under.go_on({"audience": "vip"}, wait=False, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["begun"], report["done"], report["audience"]) == (True, False, "vip")
    assert [one["code"] for one in report["in_the_way"]] == ["server_away"]
