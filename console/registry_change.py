"""What taking up a file would do to a running deployment: said before anybody puts it there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from console.costs import Cost, cost_of
from console.deployment import Deployment
from console.instants import span_said
from console.paper import many
from worker.audiences.registry import Registry
from worker.durations import parse_duration
from worker.pipeline.rules import Rules, Work, declared, effects, in_force
from worker.stores.audience_books import AudienceBook
from worker.stores.publication import Published, said_of_retired

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Consequence:
    """Work that follows for one key, and what it costs: nothing if users only change lists."""

    work: Work
    key: str
    users: int
    cost: Cost | None
    left_behind: str = ""

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "work": self.work.value,
            "audience": self.key,
            "users": self.users,
            "cost": self.cost.as_json() if self.cost else None,
            "left_behind": self.left_behind or None,
        }

    def __str__(self) -> str:
        """As `audiences validate` says it."""
        if self.cost is None:
            return f"{self.key}: {many(self.users, 'user')} who wait are scheduled anew"
        why = "written otherwise on exit" if self.work is Work.EXIT_CHANGED else "sent again"
        seconds = self.cost.seconds
        takes = span_said(seconds) if seconds >= 1 else "less than a second"
        points, requests = many(self.cost.points, "data point"), self.cost.requests
        said = (
            f"{self.key}: {many(self.users, 'user')} {why}: {points}, "
            f"{many(requests, 'request')}, {takes}"
        )
        if self.left_behind:
            said += f"; {self.left_behind} keeps its last values in Braze"
        return said


@dataclass(frozen=True, slots=True)
class Change:
    """`closed`: sentences about retired keys that the file names; it is refused because of them."""

    published: Published
    is_same: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    consequences: tuple[Consequence, ...]
    closed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "same": self.is_same,
            "added": list(self.added),
            "removed": list(self.removed),
            "moved": [{"audience": key, "to": lane} for key, lane in self.moved],
            "work": [one.as_json() for one in self.consequences],
            "refused": list(self.closed),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.is_same:
            yield f"The workers go by it: version {self.published.version}."
            return
        yield f"Taken up in the place of version {self.published.version}, it would change:"
        for word, names in (("new", self.added), ("gone", self.removed)):
            if names:
                yield f"  {word}: {_listed(names)}"
        if self.moved:
            yield f"  another lane: {_listed([f'{key} ({lane})' for key, lane in self.moved])}"
        for one in self.consequences[:_NAMED]:
            yield f"  {one}"
        if more := self.consequences[_NAMED:]:
            yield f"  and {len(more):,} more"
        if not (self.added or self.removed or self.moved or self.consequences):
            yield "  nothing that concerns a user"


def change_of(deployment: Deployment, registry: Registry) -> Change | None:
    """What would follow; None if no worker has published a registry yet."""
    stores = deployment.stores
    published, orders = stores.publication.read(), stores.publication.orders()
    if not published.generation:
        return None
    registry = replace(registry, offset=_offset(deployment))
    wanted = declared(registry)
    old = stores.rulebook.read(0).rules
    new = in_force(wanted.lanes, wanted.of, orders)
    books = deployment.books()
    return Change(
        published=published,
        is_same=registry.version == published.digest,
        added=tuple(sorted(wanted.of.keys() - published.declared.of.keys())),
        removed=tuple(sorted(published.declared.of.keys() - wanted.of.keys())),
        moved=tuple(_moved(old, new)),
        consequences=tuple(_consequences(deployment, old, new, books)),
        closed=tuple(
            said_of_retired(key, order)
            for key, order in sorted(orders.items())
            if order.retired and key in wanted.of and registry.version != published.digest
        ),
    )


def _consequences(
    deployment: Deployment, old: Rules, new: Rules, books: dict[str, AudienceBook]
) -> Iterator[Consequence]:
    for work, key, _ in effects(old, new):
        book = books.get(key)
        if book is None or not book.known:
            continue  # of a key that nobody has a value of, nothing follows
        if work is Work.RESCHEDULE:
            if book.pending:
                yield Consequence(work, key, book.pending, None)
            continue
        users = book.known - book.members if work is Work.EXIT_CHANGED else book.known
        was = old.rule(key).attribute or key
        renamed = was != (new.rule(key).attribute or key)
        cost = cost_of(deployment, users, users, book)
        yield Consequence(work, key, users, cost, was if renamed else "")


def _moved(old: Rules, new: Rules) -> Iterator[tuple[str, str]]:
    for key in sorted({*old.of, *new.of}):
        if old.rule(key).lane != new.rule(key).lane:
            yield key, "batched" if new.rule(key).lane == "b" else "realtime"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _offset(deployment: Deployment) -> timedelta:
    """The one that the workers run with: it is part of what a version means."""
    rules = deployment.stores.in_force.latest()
    found = rules.settings.get("batched_offset") if rules else None
    return parse_duration(found) if isinstance(found, str) else deployment.settings.batched_offset
