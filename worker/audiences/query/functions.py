r"""The functions of the language: what each is, what it may follow, how it is written.

```
extractor --> vector --filter--> vector --reducer--> scalar --comparator--> condition
          \-> scalar                    \--unique--> list --count--> scalar
          \-> constant (literal)
```
"""

from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, StrEnum, auto


class Role(Enum):
    """What a function does in a chain."""

    EXTRACTOR = auto()
    FILTER = auto()
    REDUCER = auto()
    COMPARATOR = auto()


class Shape(StrEnum):
    """What a chain has become so far, in the words of an error."""

    VECTOR = "a set of events"
    SCALAR = "one value"
    LIST = "a list of values"
    CONSTANT = "a constant"
    CONDITION = "a complete comparison"


@dataclass(frozen=True, slots=True)
class Function:
    """One function. `usage` shows it written correctly."""

    name: str
    role: Role
    usage: str


def _table(role: Role, *usages: str) -> dict[str, Function]:
    names = [usage.partition("(")[0] for usage in usages]
    return {name: Function(name, role, usage) for name, usage in zip(names, usages, strict=True)}


EXTRACTORS = _table(
    Role.EXTRACTOR,
    "event('Order Completed')",
    "trait('plan')",
    "entity('orders')",
    "property('price')",
    "context('page.url')",
    "literal(100)",
)
FILTERS = _table(
    Role.FILTER,
    "where(property('price') >= 100)",
    "sources({exclude: 'source_a', 'source_b'})",
    "within(7 days)",
    "between(7 days, 10 days)",
    "expires_after(30 days)",
)
REDUCERS = _table(
    Role.REDUCER,
    "count()",
    "sum(property('price'))",
    "avg(property('price'))",
    "max(property('price'))",
    "min(property('price'))",
    "mode(property('brand'), 2)",
    "first(property('brand'))",
    "last(property('brand'))",
    "unique(property('brand'))",
)
COMPARATORS = _table(
    Role.COMPARATOR,
    "equals(1)",
    "differs(1)",
    "exists()",
    "absent()",
    "greater_than(1)",
    "at_least(1)",
    "less_than(1)",
    "at_most(1)",
    "contains('shoes', 'shirts')",
    "omits('shoes')",
    "starts_with('total')",
    "ends_with('total')",
    "one_of('gold', 'silver')",
    "none_of('gold', 'silver')",
    "before_date('2023-12-07T18:50:00Z')",
    "after_date('2023-12-07T18:50:00Z')",
    "within_last(7 days)",
    "within_next(7 days)",
    "before_last(7 days)",
    "after_next(7 days)",
)
FUNCTIONS = EXTRACTORS | FILTERS | REDUCERS | COMPARATORS

SYMBOLS = {
    "=": "equals",
    "==": "equals",
    "!=": "differs",
    ">": "greater_than",
    ">=": "at_least",
    "<": "less_than",
    "<=": "at_most",
}

# Words of other languages and of the audience builder, and what they are called here.
_OTHER_WORDS = {
    "average": "avg",
    "mean": "avg",
    "total": "sum",
    "size": "count",
    "length": "count",
    "len": "count",
    "minimum": "min",
    "maximum": "max",
    "distinct": "unique",
    "most_frequent": "mode",
    "filter": "where",
    "last_days": "within",
    "in_between": "between",
    "not_equals": "differs",
    "eq": "equals",
    "is": "equals",
    "ne": "differs",
    "gt": "greater_than",
    "gte": "at_least",
    "lt": "less_than",
    "lte": "at_most",
    "is_set": "exists",
    "is_null": "absent",
    "not_exists": "absent",
    "not_contains": "omits",
    "like": "contains",
    "in": "one_of",
    "equals_any": "one_of",
    "not_in": "none_of",
    "before": "before_date",
    "after": "after_date",
    "attribute": "trait",
    "audience": "trait",
    "track": "event",
}


def legal_after(shape: Shape) -> dict[str, Function]:
    """The functions that may follow, after a `.`."""
    match shape:
        case Shape.VECTOR:
            return FILTERS | REDUCERS
        case Shape.SCALAR:
            return COMPARATORS
        case Shape.LIST:
            return {"count": REDUCERS["count"]}
        case Shape.CONSTANT | Shape.CONDITION:
            return {}


def likely(name: str, legal: dict[str, Function]) -> str | None:
    """What a mistyped name probably means: first among those legal here, then among all."""
    word = name[:64].lower()
    for names in (legal, FUNCTIONS):
        if word in names:
            return word
        if _OTHER_WORDS.get(word) in names:
            return _OTHER_WORDS[word]
        if close := get_close_matches(word, names, 1, 0.6):
            return close[0]
    return None
