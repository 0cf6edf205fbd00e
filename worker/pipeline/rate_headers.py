"""The rate-limit headers, as plain seconds.

X-RateLimit-Reset is epoch seconds on one page and seconds to go on another; on a 429 of some
plans all three are absent and X-Ratelimit-Retry-After stands instead (Braze docs: api_limits,
post_user_track). Instants are read against the reply's own Date, so our clock may be wrong.
Garbage counts as absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Hints:
    """The window as one reply shows it; each None if it did not say. `reset_in` is seconds."""

    limit: int | None
    remaining: int | None
    reset_in: float | None


_WAIT_MAX = 3_700.0  # seconds: the longest window is an hour
_EPOCH_FROM = 1e9  # a smaller reset is seconds to go
_EPOCH_MS_FROM = 1e12

_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{0,9})?)\s*(?:,.*)?", re.ASCII | re.DOTALL)
_HTTP_DATE = re.compile(
    r"\s*[A-Za-z]{3}, ([0-9]{2}) ([A-Za-z]{3}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT\s*"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def read_hints(headers: Mapping[str, str], now: float) -> Hints | None:
    """What the headers (lower-case names) say of the window; None: nothing at all."""
    limit = _count(headers.get("x-ratelimit-limit"))
    remaining = _count(headers.get("x-ratelimit-remaining"))
    reset_in = _reset_in(headers, now)
    if limit is None and remaining is None and reset_in is None:
        return None
    return Hints(limit, remaining, reset_in)


def read_wait(headers: Mapping[str, str], now: float, *, with_reset: bool) -> float | None:
    """The seconds the server asks us to wait, 0 to 3700; None: it does not say.

    Braze's own header first, then the standard one, then (`with_reset`) the end of the window.
    """
    asked = _number(headers.get("x-ratelimit-retry-after"))
    if asked is not None:
        return _clamped(asked)
    standard = headers.get("retry-after")
    asked = _number(standard)
    if asked is not None:
        return _clamped(asked)
    until = _http_date(standard)
    if until is not None:
        return _clamped(until - _server_time(headers, now))
    return _reset_in(headers, now) if with_reset else None


def _reset_in(headers: Mapping[str, str], now: float) -> float | None:
    reset = _number(headers.get("x-ratelimit-reset"))
    if reset is None:
        return None
    if reset < _EPOCH_FROM:
        return _clamped(reset)
    instant = reset / 1_000 if reset >= _EPOCH_MS_FROM else reset
    return _clamped(instant - _server_time(headers, now))


def _server_time(headers: Mapping[str, str], now: float) -> float:
    date = _http_date(headers.get("date"))
    return now if date is None else date


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), _WAIT_MAX)


def _count(value: str | None) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: str | None) -> float | None:
    """A number that is not negative; of a header that was sent twice, the first."""
    match = _NUMBER.fullmatch(value) if value is not None else None
    return float(match[1]) if match else None


def _http_date(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date in the form that servers must send (RFC 9110, 5.6.7)."""
    match = _HTTP_DATE.fullmatch(value) if value is not None else None
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        month_number = _MONTHS.index(month.lower()) + 1
        instant = datetime(
            int(year),
            month_number,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return instant.timestamp()
