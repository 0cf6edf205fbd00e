"""How each audience stands: is the size that Segment says in Braze by now, or how stale is it?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from console.destination import SHADOW
from console.instants import at_said, iso, span_said
from console.lane_reasons import why
from console.paper import many
from console.sweeps_shown import WORDS, SweepShown, read_sweeps
from worker.audiences.cadence import KnownKind
from worker.audiences.registry import Registry, WrongRegistry, read_registry
from worker.durations import format_duration
from worker.pipeline.rules import LaneTerms, Order, Work
from worker.pipeline.schedule import Lane
from worker.stored import Stores
from worker.stores.audience_books import AudienceBook
from worker.stores.budget import DAY_MS
from worker.stores.publication import Published


@dataclass(frozen=True, slots=True)
class AudienceStanding:
    """One audience or trait. `every`: of a batched one; `over`: users held for the budget;
    `due_ms`: when those who wait are due, or will be; `sweeps`: under way on its users."""

    book: AudienceBook
    why: str
    now_ms: int
    every: str = ""
    over: int = 0
    due_ms: int | None = None
    sweeps: tuple[SweepShown, ...] = ()
    is_trait: bool = False
    in_shadow: bool = False

    @property
    def members(self) -> int | None:
        """Users who are in it; None of a trait, which has no members."""
        return None if self.is_trait else self.book.members

    @property
    def state(self) -> str:
        """One word: `retired`, `shadowed`, `disabled`, `over_budget`, `behind` or `up_to_date`."""
        order = self.book.order
        if order and order.retired:
            return "retired"
        if self.book.rule.shadowed:
            return "shadowed"
        if not self.is_enabled:
            return "disabled"
        if self.over and self.over >= self.book.pending:
            return "over_budget"
        return "behind" if self.book.pending else "up_to_date"

    @property
    def is_enabled(self) -> bool:
        """False if the file or an operator disables it."""
        return bool(self.book.rule.enabled) and not (
            self.book.order and self.book.order.is_disabled
        )

    @property
    def rank(self) -> int:
        """0 for those that should be sent, or on which work is under way, 2 for those that are up
        to date."""
        if self.sweeps or self.state in ("behind", "over_budget"):
            return 0
        if self.state == "retired":
            return 0 if self.book.pending and not self.book.rule.shadowed else 1
        return 1 if self.state in ("disabled", "shadowed") else 2

    @property
    def age_seconds(self) -> float | None:
        """How long the oldest value waits; None if none does."""
        since = self.book.oldest_ms
        return None if since is None else max(0.0, round((self.now_ms - since) / 1000, 3))

    @property
    def said(self) -> str:
        """The answer for whoever plans a campaign, in a line."""
        working = [f"; {WORDS[one.work]} {_share(one)}".rstrip() for one in self.sweeps]
        return f"{self._stands()}{''.join(working)}"

    def _stands(self) -> str:
        order, left = self.book.order, many(self.book.pending, "user")
        if order and order.retired:
            still = f"; {left} still to be sent{self._when()}" if self.book.pending else ""
            if writer := self.book.rule.shadowed:
                unsent = f": {left} not sent the last value" if self.book.pending else ""
                still = f"; shadowed by {writer}{unsent}"
            return f"retired at {order.retired} by {order.by}{_because(order)}{still}"
        if self.book.rule.shadowed:
            waits = f"; {self._behind()}" if self.book.pending else ""
            return f"shadowed by {self.book.rule.shadowed}: it is sent under that name{waits}"
        if not self.is_enabled:
            by = f"by {order.by}{_because(order)}" if order else "in audiences.yaml"
            waits = f"; {self._behind()}" if self.book.pending else ""
            return f"disabled {by}{waits}"
        if not self.book.pending:
            return "up to date in the shadow" if self.in_shadow else "up to date"
        if self.over:
            return f"{self._behind()}{self._held()}"
        return f"{self._behind()}{self._when()}"

    def _held(self) -> str:
        until = at_said((self.now_ms // DAY_MS + 1) * DAY_MS, self.now_ms)
        return f"; {self.over:,} held until {until}: budget spent"

    def _when(self) -> str:
        """When those who wait go; a realtime audience goes as soon as it can."""
        if self.over:
            return self._held()
        if self.due_ms is None or self.book.lane is Lane.REALTIME:
            return ""
        when = "next flush" if self.due_ms > self.now_ms else "due since"
        return f"; {when} {at_said(self.due_ms, self.now_ms)}"

    def _behind(self) -> str:
        age = span_said(self.age_seconds or 0)
        return f"{many(self.book.pending, 'user')} behind, the oldest for {age}"

    def as_json(self) -> dict[str, Any]:
        """All of it, as a document."""
        book = self.book
        order = book.order
        told = {"by": order.by, "why": order.why or None, "at": iso(order.at_ms)} if order else None
        return {
            "key": book.key,
            "lane": book.lane.value,
            "every": self.every or None,
            "why": self.why,
            "state": self.state,
            "said": self.said,
            "members": self.members,
            "known": book.known,
            "pending": book.pending,
            "oldest_pending_at": _iso(book.oldest_ms),
            "oldest_pending_s": self.age_seconds,
            "last_flush_at": _iso(book.flushed_ms),
            "next_flush_at": _iso(self.due_ms if book.lane is Lane.BATCHED else None),
            "sent": book.sent,
            "saved": book.saved,
            "skipped": book.skipped,
            "over_budget": self.over,
            "undeclared": not book.rule.declared,
            "enabled": self.is_enabled,
            "shadowed_by": book.rule.shadowed or None,
            "disabled": told if order and order.is_disabled else None,
            "retired": {"value": order.retired, **(told or {})}
            if order and order.retired
            else None,
            "sweeps": [one.as_json() for one in self.sweeps],
        }


@dataclass(frozen=True, slots=True)
class AudiencesRead:
    """All of them by key, the registry that the workers go by (None: nothing is published, or it
    cannot be read by this version), the work under way or done lately, and the workers' mode."""

    standings: Mapping[str, AudienceStanding]
    published: Published
    registry: Registry | None
    sweeps: list[SweepShown] = field(default_factory=list)
    mode: str = "live"

    def stalest_first(self) -> list[AudienceStanding]:
        """Those that are behind first, by age; then those that nothing is sent of, and the rest."""
        return sorted(
            self.standings.values(),
            key=lambda one: (one.rank, one.book.oldest_ms or one.now_ms, one.book.key),
        )


def read_audiences(stores: Stores, partitions: int, now_ms: int) -> AudiencesRead:
    """Ask the server, in a few round trips. Raises redis' errors."""
    published = stores.publication.read()
    registry = registry_of(published)
    books = stores.audience_books.read(partitions, now_ms)
    over = {one.audience: one.users for one in stores.budget.held(partitions, now_ms)}
    sweeps = read_sweeps(stores, partitions)
    mode = stores.mode.read().mode or "live"
    page = stores.rulebook.read(0)
    standings = {
        key: AudienceStanding(
            book=book,
            why=_why(registry, key),
            now_ms=now_ms,
            every=_every(book, page.rules.lanes),
            over=over.get(key, 0),
            due_ms=_due(book, page.stamps.get(key, (0, 0))[0]),
            is_trait=registry is not None and is_trait(registry, key),
            in_shadow=mode == SHADOW,
            sweeps=tuple(
                one
                for one in sweeps
                if one.key in (key, "") and one.done_ms is None and one.work is not Work.RESCHEDULE
            ),
        )
        for key, book in books.items()
    }
    return AudiencesRead(standings, published, registry, sweeps, mode)


def shadow_said(mode: str) -> str:
    """What goes with a table of audiences, so that nobody takes a shadow's figures for Braze's."""
    if mode != SHADOW:
        return ""
    return "This is a shadow: what it says is sent was counted, and never reached Braze."


# Narrower than this, figures and reason go below how an audience stands.
WIDE = 150
_ONE_LINE = 110
FIGURES = ("sent", "saved", "last flush")


def short_table_of(found: Iterable[AudienceStanding], width: int) -> Table:
    """For `status`: what a marketer asks. `width`: columns of the terminal."""
    is_wide = width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("audience", overflow="fold")
    table.add_column("lane", no_wrap=True)
    if is_wide:
        table.add_column("why", overflow="fold")
    table.add_column("members", justify="right", no_wrap=True)
    for name in FIGURES if is_wide else ():
        table.add_column(name, justify="left" if name == "last flush" else "right", no_wrap=True)
    table.add_column("how it stands", overflow="fold")
    for one in found:
        figures = figures_of(one)
        row: list[str | Text] = [one.book.key, f"{one.book.lane} {one.every}".rstrip()]
        row += [one.why] if is_wide else []
        row += ["" if one.members is None else f"{one.members:,}"]
        row += figures.values() if is_wide else []
        row += [one.said if is_wide else stacked(one.said, one.why, figures, width)]
        table.add_row(*row)
    return table


def figures_of(standing: AudienceStanding) -> dict[str, str]:
    """What was sent of it, what that saved, and when Braze last took a value; see FIGURES."""
    book, flushed = standing.book, standing.book.flushed_ms
    return {
        "sent": f"{book.sent:,}",
        "saved": f"{book.saved:,}",
        "last flush": at_said(flushed // 1_000 * 1_000, standing.now_ms) if flushed else "never",
    }


def stacked(said: str, why: str, figures: Mapping[str, str], width: int) -> Text:
    """How one stands, and below it, less loud, the reason of its lane and its figures, if any."""
    of, between = figures, "; " if width >= _ONE_LINE else "\n"
    told = f"{of['sent']} sent, {of['saved']} saved, last flush {of['last flush']}" if of else ""
    below = between.join(part for part in (why, told) if part)
    return Text.assemble(said, "\n" if said else "", (below, "dim"))


def registry_of(published: Published) -> Registry | None:
    """The registry that is published; None if there is none, or none that this version reads."""
    if not published.generation or not published.by:
        return None
    try:
        return read_registry(published.text)
    except WrongRegistry:
        return None


def is_trait(registry: Registry, key: str) -> bool:
    """True for what is declared as a trait; nobody knows what an undeclared key is."""
    entry = registry.entry(key)
    return entry is not None and entry.kind is not KnownKind.AUDIENCE


def _because(order: Order) -> str:
    return f" ({order.why})" if order.why else ""


def _why(registry: Registry | None, key: str) -> str:
    if registry is None or key not in registry.decisions:
        return "not declared: realtime by default"
    return why(registry.decisions[key])


def _every(book: AudienceBook, lanes: LaneTerms) -> str:
    if book.lane is Lane.REALTIME:
        return ""
    return format_duration(timedelta(milliseconds=book.rule.every or lanes.every))


def _due(book: AudienceBook, flushed_ms: int) -> int | None:
    """When those who wait longest are due; a flush by hand brings that forward. None if nothing of
    it is sent."""
    if not book.rule.enabled:
        return None
    if book.oldest_ms is not None and book.next_flush_ms and book.oldest_ms <= flushed_ms:
        return min(flushed_ms, book.next_flush_ms)
    return book.next_flush_ms


def _share(sweep: SweepShown) -> str:
    return "under way" if sweep.share is None else f"{sweep.share:.0%}"


def _iso(at_ms: int | None) -> str | None:
    return iso(at_ms) if at_ms is not None else None
