"""Where things stand in the text of a query."""

from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of the text, in characters: from `start` up to, not including, `end`."""

    start: int
    end: int


NOWHERE = Span(0, 0)
"""The span of a node that was built by code and not read from a text."""


class Position(NamedTuple):
    """Line and column as an editor counts them: both begin at 1."""

    line: int
    column: int


def position(text: str, offset: int) -> Position:
    """The place of a character. Lines end with a line feed."""
    before = text.rfind("\n", 0, offset)
    return Position(text.count("\n", 0, offset) + 1, offset - before)
