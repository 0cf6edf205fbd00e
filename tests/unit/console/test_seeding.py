"""What `seed` says, asks for and understands, without a server."""

from collections.abc import Callable

import pytest

from console.commands.seeding import _estimate_said, _listed, _show_report
from console.seeding import Estimate, Pace, _held
from worker.braze.readback import Exported
from worker.stores.seeding import Progress, Unread


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestPace:
    def test_requests_are_evenly_spaced(self) -> None:
        """The first goes at once; no minute has more than its share, whatever a request takes."""
        clock = Clock()
        pace = Pace(250, clock, clock.sleep)
        begun = []
        for _ in range(1_000):
            pace.wait()
            begun.append(clock.now)
            clock.now += 0.05
        assert begun[0] == 0.0
        for first, next_minute in zip(begun, begun[250:], strict=False):
            assert next_minute - first >= 60 - 1e-6
        assert begun[-1] == pytest.approx(999 * 60 / 250)

    def test_lost_time_is_not_caught_up(self) -> None:
        """After a slow answer the next request goes at once, and those after it do not hurry."""
        clock = Clock()
        pace = Pace(60, clock, clock.sleep)
        pace.wait()
        clock.now = 10.0
        pace.wait()
        assert clock.now == 10.0
        pace.wait()
        assert clock.now == 11.0

    def test_a_pause_holds(self) -> None:
        """A wait that Braze asked for comes before the pace; a shorter one does not shorten it."""
        clock = Clock()
        pace = Pace(60, clock, clock.sleep)
        pace.pause(30)
        pace.pause(5)
        pace.wait()
        assert clock.now == 30.0


USER = Unread("u1", {"1": "vip", "2": "plan"})


class TestReading:
    @pytest.mark.parametrize(
        ("held", "texts"),
        [
            ({"vip": True, "plan": "gold"}, [("1", "true"), ("2", '"gold"')]),
            ({"vip": False}, [("1", "false"), ("2", "null")]),
            ({"vip": None, "plan": 450.0}, [("1", "null"), ("2", "450")]),
            ({"vip": 1, "plan": 0.5}, [("1", "1"), ("2", "0.5")]),
            ({"vip": ["a"], "plan": {"a": 1}}, []),
            ({"vip": "x" * 255, "plan": "x" * 256}, [("1", '"' + "x" * 255 + '"')]),
        ],
    )
    def test_values_are_texts_as_they_are_sent(
        self, held: dict[str, object], texts: list[tuple[str, str]]
    ) -> None:
        """Absent and null are null; what no change can have is not read at all."""
        assert _held(USER, Exported({"u1": held}, frozenset())) == texts

    def test_whom_braze_does_not_know(self) -> None:
        """Said to be unknown, nothing is set of him; not mentioned at all, nothing is known."""
        assert _held(USER, Exported({}, frozenset({"u1"}))) == [("1", "null"), ("2", "null")]
        assert _held(USER, Exported({}, frozenset())) == []


class TestEstimate:
    @pytest.mark.parametrize(
        ("users", "requests", "span"),
        [
            (1, "1 request", "less than a minute"),
            (25_000, "500 requests", "about 2 minutes"),
            (1_000_000, "20,000 requests", "about 80 minutes"),
            (10_000_000, "200,000 requests", "about 13.3 hours"),
        ],
    )
    def test_it_says_how_long(self, users: int, requests: str, span: str) -> None:
        """Requests are rounded up; the time is what the limit makes of them."""
        said = _estimate_said(Estimate(users, users, users, 50, 250), None)
        assert f"takes {requests}, {span} at 250 a minute" in said

    def test_an_interrupted_reading_is_told(self) -> None:
        """Who goes on is told so, and how far it had come."""
        said = _estimate_said(Estimate(9, 5, 5, 50, 250), Progress(users=4))
        assert "interrupted after 4 users" in said


class TestUsers:
    def test_ids_of_a_file(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """One a line, each once, in order; edges and empty lines do not count."""
        file = tmp_path_factory.mktemp("users") / "ids"
        file.write_text("b\n  a \n\nb\nü\n")
        assert _listed(str(file)) == ["b", "a", "ü"]


def test_a_destination_that_stays_paused_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever paused it before is named, and how it is lifted."""
    show: Callable[..., None] = _show_report
    show(
        {
            "known": 3, "users": 3, "requests": 1, "no_profile": 0, "data_points_saved": 2,
            "to_send": 1, "left": 0, "too_fresh": {"users": 0, "values": 0, "again_at": None},
            "destination": {"state": "paused", "reason": "operator: audit (by bob)"},
        }
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "Data points saved: 2." in said
    assert "operator: audit (by bob)" in said
    assert "persona-sync resume" in said
