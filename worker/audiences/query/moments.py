"""Dates and timestamps as a query writes them, and which of them are ISO timestamps."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date `yyyy-mm-dd` or an ISO 8601 timestamp that stands bare, without quotes.

    The text is kept, since its form decides whether Segment compares it in real time.
    """

    text: str

    @property
    def at(self) -> datetime:
        """The instant. A date is its midnight; without a zone it is read as UTC."""
        at = datetime.fromisoformat(self.text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


def is_moment(text: str) -> bool:
    """Whether there is such a date and time at all."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_iso_timestamp(text: str) -> bool:
    """Whether Segment compares it in real time: date, `T`, time, and `Z` or an offset."""
    return _ISO.fullmatch(text) is not None and is_moment(text)
