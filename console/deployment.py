"""The deployment that a command looks at and steers: its stores, and what rules it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, TypeVar

from console.refused import Refused
from console.standing import partitions_of
from console.trouble import expected_trouble
from worker.durations import parse_duration
from worker.settings import NothingRunning, Settings
from worker.stored import Stores, make_fit_stores
from worker.stores.audience_books import AudienceBook
from worker.stores.operators import Operators
from worker.stores.outstanding import Outstanding, OutstandingUsers

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One server, and all workers on it. What rules them is theirs to say, see `in_force`."""

    settings: Settings
    stores: Stores
    partitions: int

    @property
    def operators(self) -> Operators:
        """What operators do to it; values that they make due wait for the gap of the workers."""
        gap, journal_bytes = self.span("same_attribute_gap"), self.number("journal_bytes")
        return Operators(self.stores.client, gap, int(journal_bytes))

    def now_ms(self) -> int:
        """The server's clock."""
        return self.stores.allowance.now_ms()

    def books(self) -> dict[str, AudienceBook]:
        """Every key that is declared, was ever seen, or has an order."""
        return self.stores.audience_books.read(self.partitions, self.now_ms())

    def named(self, key: str) -> AudienceBook:
        """The audience or trait of that key. Raises Refused with those that were perhaps meant."""
        books = self.books()
        if key in books:
            return books[key]
        near = get_close_matches(key[:255], books, 3, 0.5)
        said = f"Nothing is known of an audience {key!r}."
        said += (
            f" Did you mean {' or '.join(near)}?"
            if near
            else " `persona-sync audiences list` shows the keys."
        )
        raise Refused(1, "unknown_audience", said, near=near)

    def outstanding(self, key: str | None, until_ms: int) -> Outstanding:
        """What of a key (None: of all) differs since before then."""
        return OutstandingUsers(self.stores.client).read(self.partitions, key, until_ms)

    def number(self, name: str) -> float:
        """A number, or a switch, that is in force."""
        return float(self._in_force(name))

    def span(self, name: str) -> timedelta:
        """A span that is in force."""
        found = self._in_force(name)
        return parse_duration(found) if isinstance(found, str) else found

    def _in_force(self, name: str) -> Any:
        """A setting as the workers run with it; before the first has started, this shell's own."""
        rules = self.stores.in_force.latest()
        found = rules.settings.get(name) if rules else None
        return getattr(self.settings, name) if found is None else found

    def has_taken_up(self, version: str) -> bool:
        """True if all partitions go by this version of the rules."""
        return all(
            self.stores.rulebook.read(partition).version == version
            for partition in range(self.partitions)
        )


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Deployment]:
    """The deployment that the settings name. Raises UnfitServer for a server that is too old."""
    settings = settings or Settings.load()
    stores = make_fit_stores(settings)
    with stores.client:
        yield Deployment(settings, stores, partitions_of(stores, settings))


def read_beside(read: Callable[[Deployment], Read]) -> tuple[Read | None, str | None]:
    """What the deployment says to a command that can do without: and why it says nothing.

    (None, None) if nothing runs here. Any other trouble is told on standard error, and is the
    second value.
    """
    try:
        with opened() as deployment:
            return read(deployment), None
    except NothingRunning:
        return None, None
    except Exception as error:
        trouble = expected_trouble(error)
        if trouble is None:
            raise
        _, said = trouble
        print(f"{said} This is the file alone.", file=sys.stderr)
        return None, said
