"""Which lane a definition belongs to, and why: realtime by default, batched for a reason.

Pure. A definition is batched exactly if something in it is: junctions add reasons and never take
one away. `NOT` changes what a comparison asks ("has not done"), so it is followed through
junctions (De Morgan). What the policies say, one row each:

| in the query                                        | personas | engage   | code                 |
|-----------------------------------------------------|----------|----------|----------------------|
| events, properties, traits; nothing below           | realtime | realtime | realtime_by_default  |
| event `within(N)`                                   | batched  | realtime | event_within         |
| event `between(a, b)`                               | batched  | batched  | event_between        |
| not done within a window: NOT, a count of zero      | batched  | batched  | not_done_within      |
| date against today: within_last, within_next, ...   | batched  | realtime | relative_date        |
| a date operator on a trait without ISO timestamps   | batched  | batched  | trait_values_not_iso |
| before_date, after_date with a date that is not ISO | batched  | batched  | date_not_iso         |
| an event inside the `where` of another: a funnel    | batched  | batched  | funnel               |
| a property against anything that is not a constant  | batched  | batched  | dynamic_property     |
| an audience of accounts                             | batched  | batched  | account_level        |
| `entity(...)`: Linked Audiences                     | batched  | batched  | linked_entity        |
| reference to an audience that is batched            | batched  | batched  | batched_audience     |
| reference to a computed trait that is batched       | batched  | batched  | batched_trait        |
| reference to an SQL trait                           | batched  | batched  | sql_trait            |
| a computed trait over `within` or `between`         | batched  | batched  | sliding_window       |
| a computed trait over `expires_after`               | realtime | realtime | realtime_by_default  |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Protocol, TypeGuard

from worker.audiences.query.absence import holds_without_events, mirrored
from worker.audiences.query.moments import Moment, is_iso_timestamp
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.printer import print_query
from worker.audiences.query.source import Span, position
from worker.audiences.query.tree import (
    AllUsers,
    And,
    AnyUser,
    AudienceQuery,
    Between,
    Compare,
    Comparison,
    Condition,
    Context,
    DateCompare,
    Entity,
    Event,
    Filter,
    Kind,
    Literal,
    Not,
    Or,
    Property,
    Query,
    Reduce,
    RelativeDate,
    RelativeOp,
    Scalar,
    Stream,
    Trait,
    UniqueCount,
    UniqueList,
    Value,
    Where,
    Within,
    references,
    walk,
)

_SQL = "It is an SQL trait, and Segment computes those on a schedule."


class Lane(StrEnum):
    """When changes are sent: as they happen, or at the boundaries of an interval."""

    REALTIME = "realtime"
    BATCHED = "batched"


class Policy(StrEnum):
    """Whose rules: those of the Personas era, or what Engage says since 2025."""

    PERSONAS = "personas"
    ENGAGE = "engage"


class Code(StrEnum):
    """Why a definition is in its lane. Stable: they appear in JSON and in the docs."""

    REALTIME_BY_DEFAULT = "realtime_by_default"
    DECLARED = "declared"
    EVENT_WITHIN = "event_within"
    EVENT_BETWEEN = "event_between"
    NOT_DONE_WITHIN = "not_done_within"
    RELATIVE_DATE = "relative_date"
    TRAIT_VALUES_NOT_ISO = "trait_values_not_iso"
    DATE_NOT_ISO = "date_not_iso"
    FUNNEL = "funnel"
    DYNAMIC_PROPERTY = "dynamic_property"
    ACCOUNT_LEVEL = "account_level"
    LINKED_ENTITY = "linked_entity"
    BATCHED_AUDIENCE = "batched_audience"
    BATCHED_TRAIT = "batched_trait"
    SQL_TRAIT = "sql_trait"
    SLIDING_WINDOW = "sliding_window"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: the piece of the query that gives it, where that begins, and a sentence.

    `via` lists the keys through which it was inherited, the nearest first. A reason that comes
    from no query (a declared cadence) has an empty fragment and no position.
    """

    code: Code
    fragment: str
    line: int | None
    column: int | None
    text: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The lane that a definition has by itself. Batched: every reason; realtime: the one."""

    lane: Lane
    reasons: tuple[Reason, ...]


class KnownKind(StrEnum):
    """What a key of the registry names."""

    AUDIENCE = "audience"
    COMPUTED_TRAIT = "computed_trait"
    SQL_TRAIT = "sql_trait"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry knows of a key. `iso_values`: are its values ISO timestamps, if known."""

    kind: KnownKind
    lane: Lane = Lane.REALTIME
    reasons: tuple[Reason, ...] = ()
    iso_values: bool | None = None


class Registry(Protocol):
    """The registry as a reading sees it. A key that it does not know is a custom trait."""

    def lookup(self, key: str) -> Known | None:
        """What is known of the key."""
        ...


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """A registry made of a mapping."""

    keys: Mapping[str, Known] = field(default_factory=dict)

    def lookup(self, key: str) -> Known | None:
        """What is known of the key."""
        return self.keys.get(key)


@dataclass(frozen=True, slots=True)
class Decision:
    """The lane that counts. A declared one wins; a reading that disagrees is kept beside it."""

    lane: Lane
    reading: Reading | None
    declared: Lane | None

    @property
    def disagrees(self) -> bool:
        """Whether the query reads as another lane than the declared one."""
        return self.reading is not None and self.reading.lane is not self.lane

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it is in that lane."""
        if self.reading is not None and not self.disagrees:
            return self.reading.reasons
        if self.declared is not None:
            text = f"The registry declares it {self.declared.value}, and that wins."
            return (Reason(Code.DECLARED, "", None, None, text),)
        text = "Sync is realtime by default, and there is no query that says otherwise."
        return (Reason(Code.REALTIME_BY_DEFAULT, "", None, None, text),)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a registry says of one key: a query, a declared cadence, both or neither."""

    kind: KnownKind
    query: Query | None = None
    declared: Lane | None = None
    iso_values: bool | None = None


@dataclass(frozen=True, slots=True)
class Cycle:
    """Definitions that refer to each other in a ring: `a` to `b`, `b` to `a`."""

    keys: tuple[str, ...]

    def __str__(self) -> str:
        return " -> ".join((*self.keys, self.keys[0]))


def read_cadence(query: Query, policy: Policy, registry: Registry) -> Reading:
    """The lane of a query, and every reason for it in the order of the text.

    A tree that was built by code is printed first, so that its reasons can quote something.
    """
    if not query.text:
        query = _with_text(query)
    reader = _Reader(query, policy, registry)
    return reader.read()


def decide(reading: Reading | None, declared: Lane | None) -> Decision:
    """The declared lane if there is one, else the reading's, else realtime."""
    read = reading.lane if reading is not None else Lane.REALTIME
    return Decision(declared or read, reading, declared)


def order_references(definitions: Mapping[str, Query]) -> tuple[str, ...] | Cycle:
    """The keys so that each comes after all that it refers to; or a ring, spelled out."""
    graph = {
        key: [name for name in references(query) if name in definitions]
        for key, query in definitions.items()
    }
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        # graphlib goes from the one referred to, to the one that refers; begin at a stable place.
        ring = list(reversed(error.args[1]))[:-1]
        first = ring.index(min(ring))
        return Cycle((*ring[first:], *ring[:first]))


def decide_all(
    definitions: Mapping[str, Definition], policy: Policy
) -> dict[str, Decision] | Cycle:
    """Every definition's decision, each inheriting from those it refers to; or a ring."""
    order = order_references({key: one.query for key, one in definitions.items() if one.query})
    if isinstance(order, Cycle):
        return order
    unread = (key for key, one in definitions.items() if one.query is None)
    known: dict[str, Known] = {}
    decisions: dict[str, Decision] = {}
    for key in (*unread, *order):
        one = definitions[key]
        reading = None
        if one.query is not None:
            reading = read_cadence(one.query, policy, KnownKeys(known))
        elif one.kind is KnownKind.SQL_TRAIT:
            reading = Reading(Lane.BATCHED, (Reason(Code.SQL_TRAIT, "", None, None, _SQL),))
        decision = decisions[key] = decide(reading, one.declared)
        known[key] = Known(one.kind, decision.lane, decision.reasons, one.iso_values)
    return {key: decisions[key] for key in definitions}


def _with_text(query: Query) -> Query:
    text = print_query(query)
    if isinstance(query, AudienceQuery):
        return parse_audience(text, query.kind)
    return parse_trait(text, query.kind)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the query the reader is.

    `is_asserted`: an even number of NOT around, so that the comparison must hold. `negation`: the
    NOT that stands right before it, quoted with it. `stream`: the event whose `where` is around.
    """

    is_asserted: bool = True
    negation: Span | None = None
    stream: Stream | None = None


class _Reader:
    """One walk over one tree, collecting reasons."""

    def __init__(self, query: Query, policy: Policy, registry: Registry) -> None:
        self._query = query
        self._is_strict = policy is Policy.PERSONAS
        self._registry = registry
        self._reasons: list[tuple[Span, Reason]] = []

    def read(self) -> Reading:
        query = self._query
        if query.kind is Kind.ACCOUNTS:
            self._account_level()
        if isinstance(query, AudienceQuery):
            self._condition(query.root, _Place())
        else:
            self._value(query.root, _Place())
        if self._reasons:
            self._reasons.sort(key=lambda found: found[0])
            return Reading(Lane.BATCHED, tuple(reason for _, reason in self._reasons))
        self._add(
            Code.REALTIME_BY_DEFAULT,
            query.root.span,
            "Sync is realtime by default, and nothing in this query says otherwise.",
        )
        return Reading(Lane.REALTIME, (self._reasons[0][1],))

    def _add(self, code: Code, span: Span, text: str, via: tuple[str, ...] = ()) -> None:
        at = position(self._query.text, span.start)
        fragment = self._query.text[span.start : span.end]
        self._reasons.append((span, Reason(code, fragment, at.line, at.column, text, via)))

    def _account_level(self) -> None:
        root = self._query.root
        quantifiers = [one.span for one in walk(root) if isinstance(one, AnyUser | AllUsers)]
        for span in quantifiers or [root.span]:
            self._add(
                Code.ACCOUNT_LEVEL,
                span,
                "It is about accounts, and Segment computes those on a schedule.",
            )

    # Conditions.

    def _condition(self, node: Condition, place: _Place) -> None:
        match node:
            case And(operands) | Or(operands):
                inside = replace(place, negation=None)
                for one in operands:
                    self._condition(one, inside)
            case Not(operand):
                opposite = not place.is_asserted
                self._condition(operand, replace(place, is_asserted=opposite, negation=node.span))
            case AnyUser(operand) | AllUsers(operand):
                self._condition(operand, replace(place, negation=None))
            case _:
                self._comparison(node, place)

    def _comparison(self, node: Comparison, place: _Place) -> None:
        is_denied = not place.is_asserted and place.negation is not None
        span = place.negation if is_denied and place.negation else node.span
        for value, seen_from in _sides(node):
            is_not_done = place.stream is None and holds_without_events(
                seen_from, place.is_asserted
            )
            if is_not_done and _is_windowed(value):
                self._not_done(value, span, place)
            else:
                self._value(value, place)
        if place.stream is not None and _is_dynamic(node):
            self._add(
                Code.DYNAMIC_PROPERTY,
                node.span,
                "It compares an event's property with something that differs from person to "
                "person or event to event, not with a constant.",
            )
        if isinstance(node, DateCompare):
            self._fixed_date(node)
        elif isinstance(node, RelativeDate):
            self._relative_date(node)

    def _not_done(self, value: Reduce | UniqueCount, span: Span, place: _Place) -> None:
        window = next(one for one in value.stream.filters if _is_window(one))
        self._add(
            Code.NOT_DONE_WITHIN,
            span,
            f"It can hold for people who have no {_named(value.stream)} {_period(window)}, and "
            "only the clock shows that this time has passed.",
        )
        self._stream(value.stream, place, windows=False)

    def _fixed_date(self, node: DateCompare) -> None:
        self._iso_values(node.subject, node.span)
        text = node.value.value
        shown = text.text if isinstance(text, Moment) else str(text)
        if not is_iso_timestamp(shown):
            self._add(
                Code.DATE_NOT_ISO,
                node.span,
                f"The date {shown!r} is not a full ISO timestamp such as 2023-12-07T18:50:00Z, and "
                "Segment compares only those in real time.",
            )

    def _relative_date(self, node: RelativeDate) -> None:
        has_reason = self._iso_values(node.subject, node.span)
        if self._is_strict and not has_reason:
            self._add(
                Code.RELATIVE_DATE,
                node.span,
                f"It asks whether {_named(node.subject)} is {_relative(node)}, so the answer "
                "changes with the date and without an event.",
            )

    def _iso_values(self, subject: Scalar, span: Span) -> bool:
        known = self._known(subject) if isinstance(subject, Trait) else None
        if known is None or known.iso_values is not False:
            return False
        self._add(
            Code.TRAIT_VALUES_NOT_ISO,
            span,
            f"The values of {_named(subject)} are not ISO timestamps, and Segment compares only "
            "those in real time.",
        )
        return True

    # Values and streams.

    def _value(self, node: Value, place: _Place) -> None:
        match node:
            case Trait():
                self._reference(node)
            case Reduce() | UniqueList() | UniqueCount():
                self._stream(node.stream, place, windows=True)
            case Property() | Context() | Literal():
                pass

    def _reference(self, node: Trait) -> None:
        known = self._known(node)
        if known is None or known.kind is KnownKind.CUSTOM:
            return
        key = node.name if node.key is None else node.key
        if known.kind is KnownKind.SQL_TRAIT:
            text = f"The trait {key!r} is an SQL trait, and Segment computes those on a schedule."
            self._add(Code.SQL_TRAIT, node.span, text, (key,))
        elif known.lane is Lane.BATCHED:
            is_audience = known.kind is KnownKind.AUDIENCE
            what = "audience" if is_audience else "computed trait"
            code = Code.BATCHED_AUDIENCE if is_audience else Code.BATCHED_TRAIT
            origin = known.reasons[0] if known.reasons else None
            text = f"It depends on the {what} {key!r}, which is batched{_because(origin)}"
            self._add(code, node.span, text, (key, *(origin.via if origin else ())))

    def _known(self, node: Trait) -> Known | None:
        return self._registry.lookup(node.key) if node.key is not None else None

    def _stream(self, node: Stream, place: _Place, windows: bool) -> None:
        if isinstance(node.source, Entity):
            self._add(
                Code.LINKED_ENTITY,
                node.source.span,
                f"It asks the warehouse about {node.source.slug!r}, which runs on a schedule.",
            )
        elif place.stream is not None:
            self._add(
                Code.FUNNEL,
                node.span,
                f"It follows a sequence of events, {_named(place.stream)} and then "
                f"{_named(node)}: a funnel, which Segment computes on a schedule.",
            )
        for one in node.filters:
            if isinstance(one, Where):
                self._condition(one.condition, _Place(stream=node))
            elif windows and _is_window(one):
                self._window(one)

    def _window(self, node: Filter) -> None:
        if not isinstance(self._query, AudienceQuery):
            text = f"It is computed over a window that slides with the clock, {_period(node)}."
            self._add(Code.SLIDING_WINDOW, node.span, text)
        elif isinstance(node, Between):
            text = f"It looks at events {_period(node)}, a period that moves with the clock."
            self._add(Code.EVENT_BETWEEN, node.span, text)
        elif self._is_strict:
            text = f"It looks at events {_period(node)}, so people leave it as time passes."
            self._add(Code.EVENT_WITHIN, node.span, text)


def _is_window(node: Filter) -> bool:
    """Whether a filter looks at the clock; a window after a parent event does not."""
    return isinstance(node, Within | Between) and not node.of_parent


def _is_windowed(node: Scalar) -> TypeGuard[Reduce | UniqueCount]:
    return isinstance(node, Reduce | UniqueCount) and any(map(_is_window, node.stream.filters))


def _sides(node: Comparison) -> tuple[tuple[Scalar, Comparison], ...]:
    """What is compared, each with the comparison as it looks from there."""
    if isinstance(node, Compare):
        return (node.subject, node), (node.value, mirrored(node))
    return ((node.subject, node),)


def _is_dynamic(node: Comparison) -> bool:
    """Inside `where`: the parent's property, or a property against what is not a constant."""
    sides = [side for side, _ in _sides(node)]
    if any(isinstance(side, Property) and side.of_parent for side in sides):
        return True
    if not isinstance(node, Compare) or isinstance(node.value, Literal):
        return False
    return any(isinstance(side, Property | Context) for side in sides)


# Words of the sentences.


def _named(node: Stream | Scalar) -> str:
    match node:
        case Stream(Event(name)) | Stream(Entity(name)):
            return repr(name)
        case Trait(name) | Property(name) | Context(name):
            return repr(name)
        case Literal():
            return "a constant"
        case Reduce(stream) | UniqueCount(stream):
            return f"a value of {_named(stream)}"
    raise TypeError(node)


def _period(window: Filter) -> str:
    match window:
        case Within(duration):
            length = str(duration).removeprefix("1 ")
            return f"in the last {length}"
        case Between(start, end):
            near, far = (start, end) if start.span <= end.span else (end, start)
            return f"between {near} and {far} ago"
    raise TypeError(window)


def _relative(node: RelativeDate) -> str:
    match node.operator:
        case RelativeOp.WITHIN_LAST:
            return f"within the last {node.duration}"
        case RelativeOp.WITHIN_NEXT:
            return f"within the next {node.duration}"
        case RelativeOp.BEFORE_LAST:
            return f"{node.duration} ago or earlier"
        case RelativeOp.AFTER_NEXT:
            return f"{node.duration} ahead or later"


def _because(origin: Reason | None) -> str:
    """Why the thing referred to is batched, as the end of a sentence."""
    if origin is None:
        return "."
    if origin.via:
        return f" because it depends on {origin.via[0]!r}."
    return f": {origin.text[:1].lower()}{origin.text[1:]}"
