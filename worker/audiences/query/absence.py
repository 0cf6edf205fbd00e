"""What a comparison says of someone who has no events in its window: "has not done".

"Not done" has many spellings: `NOT (... >= 1)`, `= 0`, `< 1`, `at_most(0)`, `last(p).absent()`.
They have in common that the comparison holds on an empty window and does not always hold: so
somebody comes to fulfil it by time passing alone.
"""

import operator
import re
from collections.abc import Callable

from worker.audiences.query.tree import (
    Compare,
    CompareOp,
    Comparison,
    Literal,
    Match,
    MatchOp,
    Presence,
    PresenceOp,
    Reduce,
    Reducer,
    UniqueCount,
)

_NUMBER = re.compile(r"\s*-?[0-9]{1,30}([.][0-9]{1,30})?\s*")
_BEYOND = 10**40

_COMPARE: dict[CompareOp, Callable[[float, float], bool]] = {
    CompareOp.EQUALS: operator.eq,
    CompareOp.DIFFERS: operator.ne,
    CompareOp.GREATER_THAN: operator.gt,
    CompareOp.AT_LEAST: operator.ge,
    CompareOp.LESS_THAN: operator.lt,
    CompareOp.AT_MOST: operator.le,
}
_MIRRORED = {
    CompareOp.GREATER_THAN: CompareOp.LESS_THAN,
    CompareOp.AT_LEAST: CompareOp.AT_MOST,
    CompareOp.LESS_THAN: CompareOp.GREATER_THAN,
    CompareOp.AT_MOST: CompareOp.AT_LEAST,
}


def mirrored(node: Compare) -> Compare:
    """The same comparison with its sides exchanged: `a > b` as `b < a`."""
    mirror = _MIRRORED.get(node.operator, node.operator)
    return Compare(node.value, mirror, node.subject, span=node.span)


def holds_without_events(node: Comparison, is_asserted: bool) -> bool:
    """Whether it holds, or under NOT fails to, once its subject's stream is empty.

    False for a comparison that always says the same. Where the other side is known per person
    only, the answer is True if it may hold.
    """
    if isinstance(node, Compare) and not isinstance(node.value, Literal):
        return _may_hold(node.operator, is_asserted)
    is_count = isinstance(node.subject, UniqueCount) or (
        isinstance(node.subject, Reduce) and node.subject.reducer is Reducer.COUNT
    )
    if not is_count:
        return _holds_on_null(node) is is_asserted
    if isinstance(node, Compare) and isinstance(node.value, Literal):
        return _count_holds(node.operator, _number(node.value), is_asserted)
    if isinstance(node, Match):
        return _match_holds_on_zero(node) is is_asserted
    # A count always exists and is no date: such a comparison never changes.
    return False


def _may_hold(compare: CompareOp, is_asserted: bool) -> bool:
    if compare in (CompareOp.GREATER_THAN, CompareOp.AT_LEAST):
        return not is_asserted
    return is_asserted or compare in (CompareOp.EQUALS, CompareOp.DIFFERS)


def _holds_on_null(node: Comparison) -> bool:
    """Comparisons with null are false, but for three."""
    if isinstance(node, Presence):
        return node.operator is PresenceOp.ABSENT
    return isinstance(node, Match) and node.operator in (MatchOp.OMITS, MatchOp.NONE_OF)


def _count_holds(compare: CompareOp, limit: float | None, is_asserted: bool) -> bool:
    if limit is None:
        return False
    holds = _COMPARE[compare]
    counts = (0, 1, max(0, int(limit)), max(0, int(limit) + 1), _BEYOND)
    varies = len({holds(count, limit) for count in counts}) > 1
    return varies and holds(0, limit) is is_asserted


def _match_holds_on_zero(node: Match) -> bool:
    numbers = [_number(value) for value in node.values]
    texts = [str(value.value) for value in node.values]
    match node.operator:
        case MatchOp.ONE_OF:
            return 0 in numbers
        case MatchOp.NONE_OF:
            return 0 not in numbers
        case MatchOp.OMITS:
            return not any(text in "0" for text in texts)
        case MatchOp.CONTAINS | MatchOp.STARTS_WITH | MatchOp.ENDS_WITH:
            return any(text in "0" for text in texts)


def _number(literal: Literal) -> float | None:
    """A constant as a number; strings and numbers are interchangeable."""
    value = literal.value
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int | float) else None
