"""How spans are written."""

from datetime import timedelta

import pytest

from worker.durations import format_duration, parse_duration, to_ms

WRITTEN = {
    "0ms": timedelta(0),
    "200ms": timedelta(milliseconds=200),
    "2s": timedelta(seconds=2),
    "1500ms": timedelta(seconds=1.5),
    "15m": timedelta(minutes=15),
    "8h": timedelta(hours=8),
    "1d": timedelta(days=1),
}


class TestReading:
    @pytest.mark.parametrize("text", WRITTEN)
    def test_a_number_and_a_unit(self, text: str) -> None:
        """What is written is what is meant."""
        assert parse_duration(text) == WRITTEN[text]

    @pytest.mark.parametrize(
        ("text", "ms"), [("1.5s", 1_500), (" 2 s ", 2_000), ("0.5d", 43_200_000)]
    )
    def test_fractions_and_spaces(self, text: str, ms: int) -> None:
        """A decimal fraction is allowed, and a space."""
        assert to_ms(parse_duration(text)) == ms

    @pytest.mark.parametrize("text", ["", "2", "s", "-2s", "2 sec", "1h30m", "2S", "1e3s", "nan s"])
    def test_anything_else_is_refused(self, text: str) -> None:
        """With what would have been right."""
        with pytest.raises(ValueError, match="200ms, 2s, 15m, 8h or 1d"):
            parse_duration(text)

    def test_too_long_is_refused(self) -> None:
        """More than a duration can hold is an answer, not a crash."""
        with pytest.raises(ValueError, match="longer than a duration can be"):
            parse_duration("9" * 400 + "d")


class TestWriting:
    @pytest.mark.parametrize("text", WRITTEN)
    def test_it_is_the_inverse_of_reading(self, text: str) -> None:
        """A span is written in the largest unit that divides it."""
        assert format_duration(WRITTEN[text]) == text
