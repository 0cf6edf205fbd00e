"""Instants as they are shown: UTC, with `Z`."""

from datetime import UTC, datetime


def iso(at_ms: int) -> str:
    """An instant in UTC with `Z`, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
