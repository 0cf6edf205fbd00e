"""What taking up a file would do to a running deployment: said before anybody puts it there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from console.costs import Cost, cost_of
from console.deployment import Deployment
from console.instants import at_said, iso, span_said
from console.paper import many
from worker.audiences.registry import Registry
from worker.durations import format_duration
from worker.pipeline.rules import Rule, Rules, Work, declared, effects, in_force
from worker.pipeline.schedule import boundary_after
from worker.stores.audience_books import AudienceBook
from worker.stores.publication import Published

_NAMED = 10
_WHY = {
    Work.RESCHEDULE: "who wait are sent",
    Work.RESYNC: "sent again",
    Work.EXIT_CHANGED: "written otherwise on exit",
    Work.RETIRE: "sent a last value",
}


@dataclass(frozen=True, slots=True)
class Consequence:
    """Work that follows for one key, and what it costs: nothing if users only change lists.

    `begins_ms`: the boundary, by the new rules, at which it is sent; None: at once."""

    work: Work
    key: str
    users: int
    cost: Cost | None
    left_behind: str = ""
    begins_ms: int | None = None
    now_ms: int = 0

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "work": self.work.value,
            "audience": self.key,
            "users": self.users,
            "cost": self.cost.as_json() if self.cost else None,
            "begins_at": iso(self.begins_ms) if self.begins_ms is not None else None,
            "left_behind": self.left_behind or None,
        }

    def __str__(self) -> str:
        """As `audiences validate` says it."""
        users, when = many(self.users, "user"), self._when()
        if self.cost is None:
            return f"{self.key}: {users} who wait are scheduled anew, to be sent {when}"
        said = f"{self.key}: {users} {_WHY[self.work]}: {self._costs(self.cost)}, {when}"
        if self.left_behind:
            said += f"; {self.left_behind} keeps its last values in Braze"
        return said

    def _when(self) -> str:
        return (
            "at once" if self.begins_ms is None else f"from {at_said(self.begins_ms, self.now_ms)}"
        )

    def _costs(self, cost: Cost) -> str:
        if not cost.points:
            return "no data points but those of who wait already"
        most = "at most " if self.work is Work.EXIT_CHANGED else ""
        takes = span_said(cost.seconds) if cost.seconds >= 1 else "less than a second"
        points, requests = many(cost.points, "data point"), many(cost.requests, "request")
        return f"{most}{points}, {requests}, {takes}"


@dataclass(frozen=True, slots=True)
class Change:
    """`closed`: sentences about retired keys that the file names, or whose attribute it needs too
    early; it is refused because of them. `shadowed`: keys that are not sent any more, and the key
    that has their attribute."""

    published: Published
    is_same: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    retimed: tuple[tuple[str, str], ...]
    consequences: tuple[Consequence, ...]
    closed: tuple[str, ...]
    shadowed: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "same": self.is_same,
            "added": list(self.added),
            "removed": list(self.removed),
            "moved": [{"audience": key, "to": lane} for key, lane in self.moved],
            "retimed": [{"audience": key, "every": every} for key, every in self.retimed],
            "work": [one.as_json() for one in self.consequences],
            "refused": list(self.closed),
            "shadowed": [{"audience": key, "by": by} for key, by in self.shadowed],
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
        if self.retimed:
            said = [f"{key} (every {every})" for key, every in self.retimed]
            yield f"  another interval: {_listed(said)}"
        for key, by in self.shadowed:
            yield f"  {key} is not sent any more: its attribute is that of {by}"
        for one in self.consequences[:_NAMED]:
            yield f"  {one}"
        if more := self.consequences[_NAMED:]:
            yield f"  and {len(more):,} more"
        if not (self.added or self.removed or self.moved or self.retimed or self.consequences):
            yield "  nothing that concerns a user"


def change_of(deployment: Deployment, registry: Registry) -> Change | None:
    """What would follow; None if no worker has published a registry yet."""
    stores = deployment.stores
    published, orders = stores.publication.read(), stores.publication.orders()
    if not published.generation:
        return None
    # The offset is part of what a version means.
    registry = replace(registry, offset=deployment.span("batched_offset"))
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
        retimed=tuple(_retimed(old, new)),
        consequences=tuple(_consequences(deployment, old, new, books)),
        closed=tuple(stores.publication.refused(registry)),
        shadowed=tuple(
            (key, new.rule(key).shadowed)
            for key in books
            if new.rule(key).shadowed and not old.rule(key).shadowed
        ),
    )


def _consequences(
    deployment: Deployment, old: Rules, new: Rules, books: dict[str, AudienceBook]
) -> Iterator[Consequence]:
    for work, key, _ in effects(old, new):
        book = books.get(key)
        if book is None or not book.known:
            continue  # of a key that nobody has a value of, nothing follows
        if work is not Work.RESCHEDULE or book.pending:
            yield _consequence(deployment, work, book, old, new)


def _consequence(
    deployment: Deployment, work: Work, book: AudienceBook, old: Rules, new: Rules
) -> Consequence:
    was, rule, now = old.rule(book.key), new.rule(book.key), deployment.now_ms()
    # Who waits since before the latest boundary of the new interval has been due since.
    since = book.oldest_ms if work is Work.RESCHEDULE and book.oldest_ms is not None else now
    begins = _boundary(new, rule, since)
    if begins is not None and begins <= now:
        begins = None
    users = points = book.known
    if work is Work.RESCHEDULE:
        users = points = book.pending
    elif work is Work.EXIT_CHANGED:
        # Of those who left, whoever waits already is sent anyway, written either way.
        users = book.known - book.members
        points = min(users, book.known - book.pending)
    cost = None
    if work is not Work.RESCHEDULE or not was.enabled:
        moved = replace(book, rule=rule._replace(lane="r" if begins is None else "b"))
        cost = cost_of(deployment, min(users, points), points, moved, begins_ms=begins)
    before = was.attribute or book.key
    is_renamed = before != (rule.attribute or book.key)
    left_behind = before if is_renamed and _has_reached_braze(book) else ""
    return Consequence(work, book.key, users, cost, left_behind, begins, now)


def _has_reached_braze(book: AudienceBook) -> bool:
    return book.sent > 0 or book.pending < book.known


def _boundary(rules: Rules, rule: Rule, since_ms: int) -> int | None:
    if rule.lane != "b":
        return None
    return boundary_after(since_ms, rule.every or rules.lanes.every, rules.lanes.offset)


def _retimed(old: Rules, new: Rules) -> Iterator[tuple[str, str]]:
    """Those that are batched before and after, at another interval."""
    for key in sorted({*old.of} & {*new.of}):
        was, rule = old.rule(key), new.rule(key)
        before, after = was.every or old.lanes.every, rule.every or new.lanes.every
        if was.lane == rule.lane == "b" and before != after:
            yield key, format_duration(timedelta(milliseconds=after))


def _moved(old: Rules, new: Rules) -> Iterator[tuple[str, str]]:
    for key in sorted({*old.of, *new.of}):
        if old.rule(key).lane != new.rule(key).lane:
            yield key, "batched" if new.rule(key).lane == "b" else "realtime"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
