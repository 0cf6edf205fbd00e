"""How spans of time are written by people: `200ms`, `2s`, `15m`, `8h`, `1d`."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read `200ms`, `2s`, `15m`, `8h` or `1d` (a decimal fraction is allowed).

    Raises ValueError with what would have been right.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; write a number and a unit: 200ms, 2s, 15m, 8h or 1d"
        )
    try:
        return timedelta(milliseconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than a duration can be") from None


def format_duration(span: timedelta) -> str:
    """Write a span in the largest unit that divides it: the inverse of `parse_duration`."""
    milliseconds = to_ms(span)
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms"


def to_ms(span: timedelta) -> int:
    """Whole milliseconds: the unit of every instant and span that goes to Redis."""
    return round(span.total_seconds() * 1_000)


def _read(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_read), PlainSerializer(format_duration)]
