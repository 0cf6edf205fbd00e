"""The terms that scripts are run with: spans and limits, the same for all workers."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Terms:
    """Rules of delivery, from the settings."""

    gap: timedelta = timedelta(seconds=5)
    hold: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=30)
    journal_bytes: int = 16_000_000
    undeclared_limit: int = 1_000
