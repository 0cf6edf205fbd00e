"""The plain arguments of functions: constants, names, durations, lists, dates."""

from collections.abc import Callable
from typing import Never, TypeVar

from worker.audiences.query.cursor import Cursor, written
from worker.audiences.query.functions import FUNCTIONS, Function
from worker.audiences.query.limits import MAX_DURATION_DAYS
from worker.audiences.query.moments import Moment
from worker.audiences.query.source import Span
from worker.audiences.query.tokens import Token, TokenKind, quoted, shortened
from worker.audiences.query.tree import Duration, Literal, Unit, ValueType

CONSTANTS = ("a string in single quotes", "a number", "a date")

_UNITS = {
    "second": Unit.SECONDS, "seconds": Unit.SECONDS,
    "hour": Unit.HOURS, "hours": Unit.HOURS,
    "day": Unit.DAYS, "days": Unit.DAYS,
}  # fmt: skip
# What other units are in seconds, to suggest the same length in a unit that exists.
_SECONDS = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hr": 3_600, "hrs": 3_600,
    "d": 86_400, "w": 604_800, "week": 604_800, "weeks": 604_800,
    "month": 2_592_000, "months": 2_592_000, "year": 31_536_000, "years": 31_536_000,
}  # fmt: skip

_Item = TypeVar("_Item")


class Arguments(Cursor):
    """Readers of what stands between the parentheses of a call."""

    def constant(self) -> Literal | None:
        """A bare string, number or date; `true` and `false` are the strings Segment means."""
        token = self.token
        value = token.value
        if token.is_word("TRUE", "FALSE"):
            value = token.raw.lower()
        if value is None:
            return None
        self.advance()
        return Literal(value, span=Span(token.start, token.end))

    def constant_or_fail(self, function: Function) -> Literal:
        """A bare constant."""
        value = self.constant()
        if value is None:
            self.check_quotes(CONSTANTS)
            self.unexpected(CONSTANTS, function)
        return value

    def wrapped_constant(self, function: Function) -> Literal:
        """A constant, bare or as `literal(...)`: they are the same."""
        if not (self.token.kind is TokenKind.NAME and self.token.raw == "literal"):
            return self.constant_or_fail(function)
        literal = FUNCTIONS["literal"]
        self.advance()
        self.opening("(", literal)
        value = self.constant_or_fail(literal)
        self.closing((), literal)
        return value

    def date(self, function: Function) -> Literal:
        """A date, bare or quoted; a quoted one may have any form."""
        token = self.token
        value = self.wrapped_constant(function)
        if not isinstance(value.value, str | Moment):
            self.fail(
                f"`{function.name}` takes a date, and this is a number.",
                ("an ISO 8601 timestamp", "a date"),
                written(function),
                at=token,
            )
        return value

    def string(self, function: Function, what: str = "a name in single quotes") -> str:
        """A string that names something."""
        token = self.token
        if token.kind is not TokenKind.STRING:
            self.check_quotes((what,))
            if token.kind in (TokenKind.NUMBER, TokenKind.MOMENT):
                self.unexpected((what,), function, f"Write {quoted(token.raw)}.")
            self.unexpected((what,), function)
        name = str(token.value)
        if not name.strip():
            self.fail("There is no name between these quotes.", (what,), written(function))
        self.advance()
        return name

    def listed(self, item: Callable[[], _Item], function: Function) -> tuple[_Item, ...]:
        """One or more items with commas between, in brackets or not."""
        in_brackets = self.token.is_symbol("[")
        if in_brackets:
            self.opening("[")
        items = [item()]
        while self.token.is_symbol(","):
            self.advance()
            items.append(item())
        if not self.token.is_symbol(")", "}", "]") and self.token.kind is not TokenKind.END:
            self.unexpected((",", self.what_ends()), function)
        if in_brackets:
            self.closing((",",), function)
        return tuple(items)

    def parent(self, function: Function, is_legal: bool) -> bool:
        """The prefix `parent:`, if it stands here."""
        if not self.token.is_word("PARENT"):
            return False
        if not is_legal:
            self.fail(
                "`parent:` speaks of the event around a funnel, and there is none here.",
                (),
                "It belongs to an event inside the .where(...) of another event.",
            )
        self.advance()
        self.symbol(":", function)
        return True

    def symbol(self, symbol: str, function: Function) -> None:
        """Use up a colon or a comma."""
        if not self.token.is_symbol(symbol):
            self.unexpected((symbol,), function)
        self.advance()

    def whole(self, function: Function, least: int) -> int:
        """A whole number, at least so great."""
        value = self.token.value
        if not isinstance(value, int) or value < least:
            self.unexpected((f"a whole number from {least}",), function)
        self.advance()
        return value

    def read_as(self, function: Function, allowed: tuple[ValueType, ...]) -> ValueType | None:
        """`as number`, `as string`, `as array`, if it stands here."""
        if not self.token.is_word("AS"):
            return None
        self.advance()
        names = tuple(one.value for one in allowed)
        if self.token.kind is not TokenKind.NAME or self.token.raw not in names:
            self.unexpected(names, function)
        return ValueType(self.advance().raw)

    def duration(self, function: Function) -> Duration:
        """A number and a unit. Seconds are for session windows."""
        units: tuple[str, ...] = ("hours", "days")
        if function.name == "expires_after":
            units = ("seconds", *units)
        token = self.token
        count = token.value
        if token.kind is TokenKind.STRING:
            suggestion = f"Write {shortened(str(count))}, without quotes."
            self.unexpected(("a duration such as 7 days",), function, suggestion)
        if not isinstance(count, int) or count < 0:
            self.unexpected(("a whole number and a unit, such as 7 days",), function)
        self.advance()
        unit = self._unit(count, units, function)
        days = count * _SECONDS[unit.value[0]] / 86_400
        if days > MAX_DURATION_DAYS:
            self.fail(
                "This is longer than a hundred years.",
                (),
                "Leave the window out to look at everything."
                if function.name in ("within", "between")
                else None,
                at=token,
            )
        return Duration(count, unit)

    def _unit(self, count: int, units: tuple[str, ...], function: Function) -> Unit:
        unit = None
        if self.token.kind is TokenKind.NAME:
            unit = _UNITS.get(self.token.raw.lower())
        if unit is None or unit.value not in units:
            self._no_unit(count, units, function)
        self.advance()
        return unit

    def _no_unit(self, count: int, units: tuple[str, ...], function: Function) -> Never:
        allowed = f"{', '.join(units[:-1])} or {units[-1]}"
        if self.token.kind is not TokenKind.NAME:
            message = f"The unit is missing: {allowed}, not {self.found()}."
            self.fail(message, units, f"Write {count} {units[-1]}.")
        seconds = count * _SECONDS.get(self.token.raw.lower(), 0)
        message = f"`{function.name}` counts {allowed}, not `{self.quoted_token()}`."
        self.fail(message, units, _same_length(seconds, units))

    # Words without quotes.

    def check_quotes(self, expected: tuple[str, ...]) -> None:
        """Refuse a plain word where a string should stand, and show it in quotes."""
        token = self.token
        if token.kind is not TokenKind.NAME or token.raw in FUNCTIONS or self.is_called():
            return
        self._unquoted(token, expected)

    def is_called(self) -> bool:
        """Whether a parenthesis follows the word that stands here."""
        return self.text[self.token.end : self.token.end + 80].lstrip().startswith("(")

    def _unquoted(self, token: Token, expected: tuple[str, ...]) -> Never:
        words = self.text[token.start : token.start + 80]
        stops = [at for at in map(words.find, "(),.{}[]=<>!'\n") if at > 0]
        phrase = words[: min(stops, default=len(words))].rstrip()
        keywords = [at for at in map(phrase.find, (" AND ", " OR ")) if at > 0]
        phrase = phrase[: min(keywords, default=len(phrase))]
        self.fail(
            f"`{shortened(phrase)}` stands without quotes.",
            expected,
            f"Write {shortened(quoted(phrase))}.",
            at=Span(token.start, token.start + len(phrase)),
        )


def _same_length(seconds: int, units: tuple[str, ...]) -> str | None:
    for unit in reversed(units):
        size = _SECONDS[unit[0]]
        if seconds and seconds % size == 0:
            return f"Write {Duration(seconds // size, Unit(unit))}."
    if seconds:
        return "Write whole hours: 1 hour is the shortest."
    return None
