"""A tree as text, in canonical form: reading it again gives the same tree.

Symbols where there are any, no parentheses that change nothing, one space between words.
"""

from worker.audiences.query.functions import SYMBOLS
from worker.audiences.query.moments import Moment
from worker.audiences.query.tokens import quoted
from worker.audiences.query.tree import (
    AllUsers,
    And,
    AnyUser,
    Between,
    Compare,
    Condition,
    Context,
    DateCompare,
    Entity,
    Event,
    ExpiresAfter,
    Filter,
    Literal,
    Match,
    Not,
    Or,
    Presence,
    Property,
    Query,
    Reduce,
    Reducer,
    RelativeDate,
    Scalar,
    Sources,
    Stream,
    Trait,
    UniqueCount,
    UniqueList,
    ValueType,
    Where,
    Within,
)

# `=` is the last to be written for equals, after `==`.
_SYMBOL_OF = {name: symbol for symbol, name in SYMBOLS.items() if symbol != "=="}
_DEFAULT_TYPE = {
    Reducer.MAX: ValueType.NUMBER,
    Reducer.MIN: ValueType.NUMBER,
    Reducer.MODE: ValueType.STRING,
}


def print_query(query: Query) -> str:
    """The query in canonical form."""
    root = query.root
    if isinstance(root, Scalar | UniqueList):
        return _value(root)
    return _condition(root)


def _condition(node: Condition) -> str:
    match node:
        case Or(operands):
            return " OR ".join(_within(one, Or) for one in operands)
        case And(operands):
            return " AND ".join(_within(one, And, Or) for one in operands)
        case Not(operand):
            return f"NOT {_within(operand, And, Or)}"
        case AnyUser(operand):
            return f"ANY {_within(operand, And, Or)}"
        case AllUsers(operand):
            return f"ALL {_within(operand, And, Or)}"
        case Compare(subject, operator, value):
            return f"{_value(subject)} {_SYMBOL_OF[operator]} {_compared(value)}"
        case Presence(subject, operator):
            return f"{_value(subject)}.{operator}()"
        case Match(subject, operator, values):
            return f"{_value(subject)}.{operator}({', '.join(map(_constant, values))})"
        case DateCompare(subject, operator, value):
            return f"{_value(subject)}.{operator}({_constant(value)})"
        case RelativeDate(subject, operator, duration):
            return f"{_value(subject)}.{operator}({duration})"


def _within(node: Condition, *weaker: type[And] | type[Or]) -> str:
    """An operand, in parentheses if it would fall apart without."""
    text = _condition(node)
    return f"({text})" if isinstance(node, weaker) else text


def _value(node: Scalar | UniqueList) -> str:
    match node:
        case Trait(name):
            return f"trait({quoted(name)})"
        case Property(name, of_parent):
            return f"property({_parent(of_parent)}{quoted(name)})"
        case Context(name):
            return f"context({quoted(name)})"
        case Literal():
            return f"literal({_constant(node)})"
        case UniqueList(stream, of):
            return f"{_stream(stream)}.unique({_value(of)})"
        case UniqueCount(stream, of):
            return f"{_stream(stream)}.unique({_value(of)}).count()"
        case Reduce(stream, reducer, of, read_as, minimum):
            arguments = _value(of) if of else ""
            if read_as not in (None, _DEFAULT_TYPE.get(reducer)):
                arguments += f" as {read_as}"
            if minimum is not None:
                arguments += f", {minimum}"
            return f"{_stream(stream)}.{reducer}({arguments})"


def _stream(node: Stream) -> str:
    match node.source:
        case Event(name):
            source = f"event({quoted(name)})"
        case Entity(slug):
            source = f"entity({quoted(slug)})"
    return "".join((source, *(f".{_filter(one)}" for one in node.filters)))


def _filter(node: Filter) -> str:
    match node:
        case Where(condition):
            return f"where({_condition(condition)})"
        case Sources(excluded):
            return f"sources({{exclude: {', '.join(map(quoted, excluded))}}})"
        case Within(duration, of_parent):
            return f"within({_parent(of_parent)}{duration})"
        case Between(start, end, of_parent):
            return f"between({_parent(of_parent)}{start}, {end})"
        case ExpiresAfter(duration):
            return f"expires_after({duration})"


def _parent(of_parent: bool) -> str:
    return "parent: " if of_parent else ""


def _compared(node: Scalar) -> str:
    return _constant(node) if isinstance(node, Literal) else _value(node)


def _constant(node: Literal) -> str:
    match node.value:
        case str() as text:
            return quoted(text)
        case Moment(text):
            return text
        case number:
            return repr(number)
