"""ISO 8601 as Segment's libraries write it, read into milliseconds since 1970 UTC."""

import re
from datetime import UTC, datetime

from worker.contract import INSTANT_MAX_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Narrower than `datetime.fromisoformat`, which also takes week dates and any separator.
_is_written = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
).fullmatch


class UnreadableInstant(ValueError):
    """Not ISO 8601, or outside 1970 to 3000."""


def read_instant(written: object) -> int:
    """Milliseconds since 1970; finer fractions are cut off, a missing zone means UTC.

    A date alone is its midnight. Raises UnreadableInstant, whatever it is given.
    """
    if not isinstance(written, str) or not _is_written(written):
        raise UnreadableInstant
    try:
        moment = datetime.fromisoformat(written if written[-1] != "z" else written[:-1] + "Z")
    except ValueError:
        raise UnreadableInstant from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    instant = (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
    if 0 <= instant <= INSTANT_MAX_MS:
        return instant
    raise UnreadableInstant


def within_range(instant: int) -> int:
    """The instant itself; raises UnreadableInstant outside 1970 to 3000."""
    if 0 <= instant <= INSTANT_MAX_MS:
        return instant
    raise UnreadableInstant
