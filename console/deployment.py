"""The deployment that a command looks at and steers: its stores, and who steers."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import typer

from console.audiences_refused import Refused
from console.standing import partitions_of
from worker.settings import Settings
from worker.stored import Stores, make_fit_stores
from worker.stores.audience_books import AudienceBook
from worker.stores.operators import Operators
from worker.stores.outstanding import Outstanding, OutstandingUsers


@dataclass(frozen=True, slots=True)
class Deployment:
    """One server, and all workers on it. What rules them is theirs to say, see `in_force`."""

    settings: Settings
    stores: Stores
    operators: Operators
    partitions: int

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
        raise Refused(1, "unknown_audience", said, said, near=near)

    def outstanding(self, key: str | None, until_ms: int) -> Outstanding:
        """What of a key (None: of all) differs since before then."""
        return OutstandingUsers(self.stores.client).read(self.partitions, key, until_ms)

    def setting(self, name: str) -> float:
        """A number that the workers run with; before the first has started, this shell's."""
        rules = self.stores.in_force.latest()
        found = rules.settings.get(name) if rules else None
        return float(getattr(self.settings, name) if found is None else found)

    def has_taken_up(self, version: str) -> bool:
        """True if all partitions go by this version of the rules."""
        return all(
            self.stores.rulebook.read(partition).version == version
            for partition in range(self.partitions)
        )


@contextmanager
def opened() -> Iterator[Deployment]:
    """The deployment that the settings name. Raises UnfitServer for a server that is too old."""
    settings = Settings.load()
    stores = make_fit_stores(settings)
    with stores.client:
        yield Deployment(
            settings,
            stores,
            Operators(stores.client, settings.same_attribute_gap, settings.journal_bytes),
            partitions_of(stores, settings),
        )


@contextmanager
def refusals_said(as_json: bool) -> Iterator[None]:
    """What is refused inside is said, as a document or as a sentence, and ends the command."""
    try:
        yield
    except Refused as refused:
        if as_json:
            typer.echo(json.dumps(refused.as_json()))
        else:
            print(refused, file=sys.stderr)
        raise typer.Exit(refused.exit_code) from None
