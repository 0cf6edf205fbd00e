"""A query that cannot be read: where, what stands there, what might, and what to do."""

import unicodedata

from worker.audiences.query.source import position

_SHOWN_BEFORE = 60
_SHOWN_AFTER = 40
_LISTED = 40


class QueryError(ValueError):
    """The query is refused.

    `offset` counts characters from 0 and is at most the length of the text; `line` and `column`
    begin at 1. `expected` lists what would be legal there; it may be empty where nothing would.
    """

    def __init__(
        self,
        text: str,
        offset: int,
        length: int,
        found: str,
        expected: tuple[str, ...],
        message: str,
        suggestion: str | None = None,
    ) -> None:
        # All of it goes to `args`, so that the error survives pickling.
        super().__init__(text, offset, length, found, expected, message, suggestion)
        self.text = text
        self.offset = offset
        self.length = length
        self.found = found
        self.expected = expected
        self.message = message
        self.suggestion = suggestion
        self.line, self.column = position(text, offset)

    def __str__(self) -> str:
        said = f"line {self.line}, column {self.column}: {self.message}"
        return f"{said} {self.suggestion}" if self.suggestion else said

    def expecting(self, expected: tuple[str, ...]) -> "QueryError":
        """The same, with what would be legal there."""
        text, offset, length, found, own, message, suggestion = self.args
        return QueryError(text, offset, length, found, expected or own, message, suggestion)

    def render(self) -> str:
        """Several lines for a person: the sentence, the line with a caret, what to write."""
        shown, caret = self._line_and_caret()
        lines = [f"line {self.line}, column {self.column}: {self.message}"]
        lines += [f"  {shown}".rstrip(), f"  {caret}"]
        if self.expected:
            more = len(self.expected) - _LISTED
            listed = ", ".join(self.expected[:_LISTED]) + (f" and {more} more" if more > 0 else "")
            lines.append(f"expected: {listed}")
        if self.suggestion:
            lines.append(self.suggestion)
        return "\n".join(lines)

    def _line_and_caret(self) -> tuple[str, str]:
        start = self.offset - (self.column - 1)
        end = self.text.find("\n", self.offset)
        end = len(self.text) if end < 0 else end
        left = max(start, self.offset - _SHOWN_BEFORE)
        right = min(end, self.offset + _SHOWN_AFTER)
        before = ("…" if left > start else "") + _visible(self.text[left : self.offset])
        after = _visible(self.text[self.offset : right]) + ("…" if right < end else "")
        marked = min(self.length, right - self.offset)
        under = _width(_visible(self.text[self.offset : self.offset + marked]))
        return before + after, " " * _width(before) + "^" * max(1, under)


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
