"""The sentences of type errors: what is wrong, and what to write instead."""

from worker.audiences.query.functions import FUNCTIONS, Function, Role, Shape
from worker.audiences.query.tokens import Token, TokenKind, shortened

Said = tuple[str, str | None]
"""A message and a suggestion."""

NO_COMPARISON = "A computed trait is a value, and a comparison makes it yes or no."
LEAVE_OUT = "Leave the comparison out, or declare it as an audience."
SOME_VALUE = "Write a chain that ends in one value: event('Order Completed').count()"
NO_PARENTHESES = (
    "Parentheses hold whole conditions: remove them around a value, and compare inside them."
)
SPLIT = "Make part of it an audience of its own and refer to that one: trait('its_key') = 'true'"


def not_a_start(token: Token, found: str, in_where: bool) -> Said:
    """A condition begins with something that is no name."""
    source = "property" if in_where else "trait"
    suggestion = None
    if token.kind is TokenKind.STRING:
        suggestion = f"Did you mean {source}({shortened(token.raw)})?"
    elif token.kind in (TokenKind.NUMBER, TokenKind.MOMENT):
        suggestion = "The constant stands on the right: trait('age') >= 18"
    if token.kind is TokenKind.END and token.start == 0:
        return "The query is empty.", "For example: event('Order Completed').count() >= 1"
    return f"Here should begin a condition, not {found}.", suggestion


def wrong_start(function: Function) -> Said:
    """A condition begins with a function that cannot begin one."""
    if function.role is Role.EXTRACTOR:
        return (
            f"`{function.name}` is known only inside .where(...) and reducers: it belongs to an "
            "event.",
            f"For example: event('Order Completed').where({function.usage} = 'x').count() >= 1",
        )
    return (
        f"`{function.name}` cannot begin a condition; it follows something after a `.`.",
        f"For example: event('Order Completed').{function.usage}"
        if function.role is not Role.COMPARATOR
        else f"For example: trait('plan').{function.usage}",
    )


def unknown_start(name: str, meant: str | None, is_called: bool, in_where: bool) -> Said:
    """A condition begins with a word that is no function."""
    source = "property" if in_where else "trait"
    if meant is None and not is_called:
        return f"There is no function `{name}`.", f"Did you mean {source}('{name}')?"
    return f"There is no function `{name}`.", f"Did you mean `{meant}`?" if meant else None


def not_reduced(link: str, why: str) -> Said:
    """Many events stand where one value is needed."""
    return (
        f"`{link}` is many events, and {why}.",
        "Count or reduce them first: .count() >= 1"
        if "condition" in why
        else "Count or reduce them first, for example with .count()",
    )


def not_a_condition(link: str, shape: Shape, is_wrapped: bool) -> Said:
    """A value stands where yes or no is needed; `is_wrapped`: in parentheses, then compared."""
    if shape is Shape.LIST:
        return f"`{link}` is a list of values, not yes or no.", "Count them: .count() >= 1"
    if shape is Shape.CONSTANT:
        return f"`{link}` is a constant, not yes or no.", "Constants stand on the right: = 100"
    return (
        f"`{link}` is a value, and an audience needs yes or no.",
        NO_PARENTHESES if is_wrapped else "Compare it, for example: >= 1, = 'gold' or .exists()",
    )


def broken_chain(found: str, word: str, meant: str | None) -> Said:
    """After a value stands something that is neither a `.` nor a comparison."""
    if word in FUNCTIONS:
        return f"Before {found} a `.` is missing.", f"Write .{FUNCTIONS[word].usage}"
    suggestion = f"Did you mean .{FUNCTIONS[meant].usage}?" if meant else None
    return f"Here should stand a comparison or a `.`, not {found}.", suggestion


def misplaced(shape: Shape, function: Function, written: str, reduced: bool, trait: bool) -> Said:
    """A known function (or the symbol for one) follows what it cannot follow."""
    if function.name == "expires_after" and not trait:
        return (
            "`expires_after` is a session window, and only computed traits have those.",
            "For an audience use .within(7 days).",
        )
    if function.role is Role.EXTRACTOR:
        return (
            f"`{written}` begins a chain and cannot follow a `.`.",
            "Join conditions with AND or OR.",
        )
    match shape:
        case Shape.CONDITION:
            return f"The comparison is complete; `{written}` cannot follow it.", None
        case Shape.CONSTANT:
            return f"`literal` stands alone; `{written}` cannot follow it.", (
                "Constants stand on the right of a comparison."
            )
        case Shape.LIST:
            return f"After `unique` only `count` can follow, not `{written}`.", (
                "Count the different values: .count() >= 2"
            )
        case Shape.VECTOR:
            return f"`{written}` compares one value, and here are many events.", (
                "Count or reduce them first: "
                + (
                    f".count().{function.usage}"
                    if written.isidentifier()
                    else f".count() {written} 1"
                )
            )
        case Shape.SCALAR:
            suggestion = "Use event('...') to filter and count events."
            if reduced and function.role is Role.FILTER:
                suggestion = f"Put .{function.usage} before the reducer."
            elif reduced:
                suggestion = "A chain has one reducer; compare its value, for example: >= 1"
            return f"`{written}` works on events, and here is {shape.value}.", suggestion
