"""The typed tree of a query: a value that can be compared, hashed, printed and walked.

```
Condition = And | Or | Not | AnyUser | AllUsers | Comparison
Comparison = Compare | Presence | Match | DateCompare | RelativeDate     (subject: a Scalar)
Scalar    = Trait | Property | Context | Literal | Reduce | UniqueCount
Value     = Scalar | UniqueList                                          (what a trait computes)
Stream    = Event | Entity, through any number of Where | Sources | Within | Between | ExpiresAfter
```
Sugar is gone: `= 5`, `== 5`, `.equals(5)` and `.equals(literal(5))` are one tree. Parentheses show
only as nesting. Every node knows the span of the text it was read from; equality ignores it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum

from worker.audiences.query.moments import Moment
from worker.audiences.query.source import NOWHERE, Span


class Kind(StrEnum):
    """Whose audience it is: of users, or of accounts."""

    USERS = "USERS"
    ACCOUNTS = "ACCOUNTS"


class Unit(StrEnum):
    """The units of a duration; seconds belong to session windows only."""

    SECONDS = "seconds"
    HOURS = "hours"
    DAYS = "days"


class ValueType(StrEnum):
    """How `max`, `min` and `mode` read the values: the word after `as`."""

    NUMBER = "number"
    STRING = "string"
    ARRAY = "array"


class Reducer(StrEnum):
    """What makes one value of a stream. `count` has no property; `mode` a minimum."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MAX = "max"
    MIN = "min"
    MODE = "mode"
    FIRST = "first"
    LAST = "last"


class CompareOp(StrEnum):
    """Comparisons that have a symbol."""

    EQUALS = "equals"
    DIFFERS = "differs"
    GREATER_THAN = "greater_than"
    AT_LEAST = "at_least"
    LESS_THAN = "less_than"
    AT_MOST = "at_most"


class PresenceOp(StrEnum):
    """Whether there is a value at all."""

    EXISTS = "exists"
    ABSENT = "absent"


class MatchOp(StrEnum):
    """Comparisons with one or more constants: true if any of them fits (omits, none_of: none)."""

    CONTAINS = "contains"
    OMITS = "omits"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    ONE_OF = "one_of"
    NONE_OF = "none_of"


class DateOp(StrEnum):
    """Comparisons with a fixed date."""

    BEFORE_DATE = "before_date"
    AFTER_DATE = "after_date"


class RelativeOp(StrEnum):
    """Comparisons with today, and so with the clock; all inclusive."""

    WITHIN_LAST = "within_last"
    WITHIN_NEXT = "within_next"
    BEFORE_LAST = "before_last"
    AFTER_NEXT = "after_next"


@dataclass(frozen=True, slots=True)
class Duration:
    """`7 days`, as written: seven days and 168 hours are two values."""

    count: int
    unit: Unit

    @property
    def span(self) -> timedelta:
        """The length of time."""
        return timedelta(**{self.unit.value: self.count})

    def __str__(self) -> str:
        unit = self.unit.value
        return f"{self.count} {unit[:-1] if self.count == 1 else unit}"


@dataclass(frozen=True, slots=True)
class Node:
    """Anything that was read from a stretch of the text."""

    span: Span = field(default=NOWHERE, compare=False, kw_only=True, repr=False)


# What a value can be taken from.


@dataclass(frozen=True, slots=True)
class Trait(Node):
    """A trait of the profile; another audience is read as the trait of its key."""

    name: str

    @property
    def path(self) -> tuple[str, ...]:
        r"""Its steps into nested objects. A period that belongs to a name is written `\.`."""
        return tuple(step.replace("\\.", ".") for step in re.split(r"(?<!\\)\.", self.name))

    @property
    def key(self) -> str | None:
        """The key of the audience or computed trait it may name; None inside an object."""
        return self.path[0] if len(self.path) == 1 else None


@dataclass(frozen=True, slots=True)
class Property(Node):
    """A property of the event at hand, or of the funnel's parent event."""

    name: str
    of_parent: bool = False


@dataclass(frozen=True, slots=True)
class Context(Node):
    """A field of the event's context, such as `page.url`."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant."""

    value: str | int | float | Moment


# Streams: many things, filtered.


@dataclass(frozen=True, slots=True)
class Event(Node):
    """The user's events of one name."""

    name: str


@dataclass(frozen=True, slots=True)
class Entity(Node):
    """Rows of a warehouse relationship (Linked Audiences)."""

    slug: str


@dataclass(frozen=True, slots=True)
class Where(Node):
    """Keeps items for which the condition holds; an event inside is a funnel's child."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class Sources(Node):
    """Drops items that came from these sources."""

    excluded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Within(Node):
    """Keeps items of the last `duration`; `of_parent`: of the time after the parent event."""

    duration: Duration
    of_parent: bool = False


@dataclass(frozen=True, slots=True)
class Between(Node):
    """Keeps items between two ages, both inclusive, in whatever order they are written."""

    start: Duration
    end: Duration
    of_parent: bool = False

    @property
    def youngest(self) -> timedelta:
        """The smaller age."""
        return min(self.start.span, self.end.span)

    @property
    def oldest(self) -> timedelta:
        """The greater age."""
        return max(self.start.span, self.end.span)


@dataclass(frozen=True, slots=True)
class ExpiresAfter(Node):
    """A session window: begins with activity, ends after this long without (traits only)."""

    duration: Duration


@dataclass(frozen=True, slots=True)
class Stream(Node):
    """A source seen through its filters, all of which must hold."""

    source: Event | Entity
    filters: tuple["Filter", ...] = ()


@dataclass(frozen=True, slots=True)
class Reduce(Node):
    """One value of a stream. On an empty stream a count is 0 and anything else is null."""

    stream: Stream
    reducer: Reducer
    of: Property | Context | None = None
    read_as: ValueType | None = None
    minimum: int | None = None


@dataclass(frozen=True, slots=True)
class UniqueList(Node):
    """The different values of a property."""

    stream: Stream
    of: Property | Context


@dataclass(frozen=True, slots=True)
class UniqueCount(Node):
    """How many different values a property has."""

    stream: Stream
    of: Property | Context


# Comparisons. On null all are false, except absent, omits and none_of.


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A value against a value. `differs` is true only if the subject exists."""

    subject: "Scalar"
    operator: CompareOp
    value: "Scalar"


@dataclass(frozen=True, slots=True)
class Presence(Node):
    """Whether the subject has a value."""

    subject: "Scalar"
    operator: PresenceOp


@dataclass(frozen=True, slots=True)
class Match(Node):
    """A value against a list of constants."""

    subject: "Scalar"
    operator: MatchOp
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class DateCompare(Node):
    """A date against a fixed one, bare (a Moment) or quoted (any text)."""

    subject: "Scalar"
    operator: DateOp
    value: Literal


@dataclass(frozen=True, slots=True)
class RelativeDate(Node):
    """A date against today."""

    subject: "Scalar"
    operator: RelativeOp
    duration: Duration


# Junctions.


@dataclass(frozen=True, slots=True)
class And(Node):
    """All of two or more conditions."""

    operands: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or(Node):
    """One of two or more conditions."""

    operands: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The opposite: true also where the condition is false for want of a value."""

    operand: "Condition"


@dataclass(frozen=True, slots=True)
class AnyUser(Node):
    """`ANY`: some user of the account."""

    operand: "Condition"


@dataclass(frozen=True, slots=True)
class AllUsers(Node):
    """`ALL`: every user of the account."""

    operand: "Condition"


Filter = Where | Sources | Within | Between | ExpiresAfter
Scalar = Trait | Property | Context | Literal | Reduce | UniqueCount
Value = Scalar | UniqueList
Comparison = Compare | Presence | Match | DateCompare | RelativeDate
Condition = And | Or | Not | AnyUser | AllUsers | Comparison


@dataclass(frozen=True, slots=True)
class AudienceQuery:
    """The definition of an audience. `text` is what it was read from, if it was."""

    root: Condition
    kind: Kind = Kind.USERS
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TraitQuery:
    """The definition of a computed trait. `text` is what it was read from, if it was."""

    root: Value
    kind: Kind = Kind.USERS
    text: str = field(default="", compare=False, repr=False)


Query = AudienceQuery | TraitQuery


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes below it, in the order of the text."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack += reversed(list(_children(current)))


def references(query: Query) -> tuple[str, ...]:
    """The keys that the query may refer to: its traits, each once, in the order of the text."""
    keys = (node.key for node in walk(query.root) if isinstance(node, Trait))
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def _children(node: Node) -> Iterator[Node]:
    for one in fields(node):
        value = getattr(node, one.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Node):
                yield item
