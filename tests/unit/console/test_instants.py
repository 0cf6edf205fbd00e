"""Instants and spans in a few words, and read from what people type."""

import pytest

from console.instants import at_said, instant_of, iso, span_said

NOON = 1_795_348_800_000  # 2026-11-22T12:00Z


def test_an_instant_of_today_is_a_time() -> None:
    """Seconds only where there are any; another day has its date."""
    assert iso(NOON) == "2026-11-22T12:00:00.000Z"
    assert at_said(NOON, NOON) == "12:00 UTC"
    assert at_said(NOON + 90_000, NOON) == "12:01:30 UTC"
    assert at_said(NOON + 43_200_000, NOON) == "2026-11-23 00:00 UTC"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (8.4, "8 s"), (59.9, "1 min"), (720, "12 min"), (3_599, "1 h"), (10_800, "3 h"),
     (172_799, "2 days"), (432_000, "5 days"), (40_000_000, "463 days")],
)  # fmt: skip
def test_a_span_is_in_its_largest_sensible_unit(seconds: float, said: str) -> None:
    """Nobody counts in hundreds of minutes, and nothing is said to take 60 s."""
    assert span_said(seconds) == said


@pytest.mark.parametrize(
    ("text", "at"),
    [("2h", NOON - 7_200_000), ("2026-11-22T10:00Z", NOON - 7_200_000),
     ("2026-11-22T10:00", NOON - 7_200_000), ("2026-11-22T12:00:00.250+02:00", NOON - 7_199_750),
     ("2026-11-22", NOON - 43_200_000)],
)  # fmt: skip
def test_a_moment_is_read(text: str, at: int) -> None:
    """A span before now, or an instant; without a zone it is UTC."""
    assert instant_of(text, NOON) == at


@pytest.mark.parametrize("text", ["yesterday", "", "10:00", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """With what would have been right."""
    with pytest.raises(ValueError, match="2026-11-22T10:00Z"):
        instant_of(text, NOON)
