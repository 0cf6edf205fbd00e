"""Instants and spans as they are shown: to programs UTC with `Z`, to people in a few words."""

from datetime import UTC, datetime, timedelta

from worker.durations import parse_duration, to_ms


def iso(at_ms: int) -> str:
    """An instant in UTC with `Z`, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def at_said(at_ms: int, now_ms: int) -> str:
    """`10:00 UTC`; with seconds if there are any, with the date if it is of another day."""
    at, now = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (at_ms, now_ms))
    clock = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    return f"{clock} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d} {clock} UTC"


def span_said(seconds: float) -> str:
    """A span in its largest sensible unit: `8 s`, `12 min`, `3 h`, `5 days`."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if round(seconds / 60) < 60:
        return f"{seconds / 60:.0f} min"
    if round(seconds / 3_600) < 48:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 86_400:,.0f} days"


def instant_of(text: str, now_ms: int) -> int:
    """Read `2026-11-22T10:00Z` (UTC unless it says otherwise) or a span before now, `2h`; in ms.

    Raises ValueError with what would have been right.
    """
    try:
        return now_ms - to_ms(parse_duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.strip())
        since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment; write one such as 2026-11-22T10:00Z, or a span before now: 2h"
        ) from None
    return since // timedelta(milliseconds=1)
