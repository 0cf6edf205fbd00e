"""From text to tokens, one at a time, each only when it is needed.

A text that is no token becomes one that carries its problem, so that whoever wanted something
else there can say what.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from worker.audiences.query.errors import QueryError
from worker.audiences.query.limits import MAX_DIGITS
from worker.audiences.query.moments import Moment, is_moment

END_OF_QUERY = "the end of the query"

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STRING = re.compile(r"'(?:[^'\\]|\\.)*+'", re.DOTALL)
_ESCAPE = re.compile(r"\\(['\\])")
_DATE_LIKE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[A-Za-z0-9:.+-]*")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]+(?:Z|[+-][0-9:]+)?)?")
_NUMBER = re.compile(r"-?[0-9]+(?:[.][0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SYMBOL = re.compile(r"==(?!=)|!=|>=|<=(?!>)|=(?![=><])|>|<(?!>)|[(){}\[\],.:]")

_WRONG = {
    "===": "Equality is written `=`.",
    "=>": "At least is written `>=`.",
    "=<": "At most is written `<=`.",
    "<>": "Not equal is written `!=`.",
    "&&": "Write AND.",
    "||": "Write OR.",
    "&": "Write AND.",
    "|": "Write OR.",
    "!": "Write NOT in front, or `!=` between two values.",
    "--": "The language has no comments; leave it out.",
    "//": "The language has no comments; leave it out.",
    "/*": "The language has no comments; leave it out.",
    "#": "The language has no comments; leave it out.",
    "/": "A date is written 2023-12-07; values are not calculated here.",
    ";": "A query is one expression and ends without a semicolon; leave it out.",
}
_QUOTES = {'"': '"', "“": "”", "”": "”", "„": "“", "‘": "’", "’": "’", "`": "`", "´": "´", "«": "»"}
_SHOWN = 40


class TokenKind(Enum):
    """What a token is."""

    NAME = auto()
    STRING = auto()
    NUMBER = auto()
    MOMENT = auto()
    SYMBOL = auto()
    END = auto()
    WRONG = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text. `value`: what a string, number or moment means; `problem`: of WRONG."""

    kind: TokenKind
    raw: str
    start: int
    end: int
    value: str | int | float | Moment | None = None
    problem: QueryError | None = None

    def is_symbol(self, *symbols: str) -> bool:
        """Whether it is one of these symbols."""
        return self.kind is TokenKind.SYMBOL and self.raw in symbols

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, in upper or lower case."""
        return self.kind is TokenKind.NAME and self.raw.upper() in words


def shortened(text: str) -> str:
    """Text as an error quotes it: on one line, and not endless."""
    text = " ".join(text[: _SHOWN * 4].split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def token_at(text: str, offset: int) -> Token:
    """The token that begins at or after `offset`."""
    space = _SPACE.match(text, offset)
    start = space.end() if space else offset
    if start >= len(text):
        return Token(TokenKind.END, END_OF_QUERY, len(text), len(text))
    if name := _NAME.match(text, start):
        return Token(TokenKind.NAME, name[0], start, name.end())
    if text[start] == "'":
        return _string(text, start)
    if moment := _DATE_LIKE.match(text, start):
        return _moment(text, start, moment)
    if number := _NUMBER.match(text, start):
        return _number(text, start, number)
    if symbol := _SYMBOL.match(text, start):
        return Token(TokenKind.SYMBOL, symbol[0], start, symbol.end())
    return _wrong(_unreadable(text, start))


def _wrong(problem: QueryError) -> Token:
    start = problem.offset
    return Token(TokenKind.WRONG, problem.found, start, start + problem.length, None, problem)


def quoted(value: str) -> str:
    """A string as the language writes it: the inverse of reading one."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _string(text: str, start: int) -> Token:
    match = _STRING.match(text, start)
    if match is None:
        return _wrong(_unterminated(text, start))
    return Token(TokenKind.STRING, match[0], start, match.end(), _ESCAPE.sub(r"\1", match[0][1:-1]))


def _moment(text: str, start: int, match: re.Match[str]) -> Token:
    if not (_MOMENT.fullmatch(match[0]) and is_moment(match[0])):
        problem = QueryError(
            text,
            start,
            len(match[0]),
            shortened(match[0]),
            ("a date yyyy-mm-dd", "an ISO 8601 timestamp"),
            f"There is no such date or time: {shortened(match[0])}.",
            "Dates are written 2023-12-07, timestamps 2023-12-07T18:50:00Z.",
        )
        return _wrong(problem)
    return Token(TokenKind.MOMENT, match[0], start, match.end(), Moment(match[0]))


def _number(text: str, start: int, match: re.Match[str]) -> Token:
    raw = match[0]
    is_whole = raw.lstrip("-").isdigit()
    if len(raw) <= MAX_DIGITS:
        value = int(raw) if is_whole else float(raw)
        if is_whole or abs(value) != float("inf"):
            return Token(TokenKind.NUMBER, raw, start, match.end(), value)
    problem = QueryError(
        text,
        start,
        len(raw),
        shortened(raw),
        ("a number",),
        f"The number {shortened(raw)} is too large.",
    )
    return _wrong(problem)


def _unterminated(text: str, start: int) -> QueryError:
    # The quote that has no partner is the last one; the one forgotten is more likely on the
    # first line that a string runs out of.
    for match in _STRING.finditer(text, 0, start):
        if "\n" in match[0]:
            start = match.start()
            break
    line = text[start:].partition("\n")[0]
    return QueryError(
        text,
        start,
        1,
        shortened(line),
        ("a closing '",),
        "This quote is never closed.",
        "Close it with a single quote: '; a quote inside a string is written \\'.",
    )


def _unreadable(text: str, start: int) -> QueryError:
    character = text[start]
    if character in _QUOTES:
        return _wrong_quotes(text, start)
    for length in (3, 2, 1):
        wrong = text[start : start + length]
        if wrong in _WRONG:
            message = f"`{wrong}` is not part of the language."
            return QueryError(text, start, len(wrong), wrong, (), message, _WRONG[wrong])
    if character == "-":
        message = "A minus stands only in front of a number; values are not calculated here."
        return QueryError(text, start, 1, "-", ("a number",), message)
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    said = (
        "This character has no meaning outside quotes"
        if character.isprintable()
        else "There is a character here that cannot be seen and has no meaning"
    )
    suggestion = (
        "Names of events and traits stand in single quotes: 'Order Completed'."
        if character.isalnum()
        else None
    )
    return QueryError(text, start, 1, shown, (), f"{said}: {shown}.", suggestion)


def _wrong_quotes(text: str, start: int) -> QueryError:
    close = text.find(_QUOTES[text[start]], start + 1)
    inside = text[start + 1 : close] if close > 0 else ""
    # A long or empty guess helps nobody.
    fits = 0 < len(inside) <= _SHOWN and "\n" not in inside
    example = quoted(inside) if fits else "'Order Completed'"
    return QueryError(
        text,
        start,
        len(inside) + 2 if fits else 1,
        text[start : close + 1] if fits else text[start],
        ("a string in single quotes",),
        f"Strings stand in single quotes ('), not in {text[start]}.",
        f"Write {example}.",
    )
