"""What is wrong with a registry: where, and what to do. Gathered, so that all is said at once."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from worker.audiences.query.errors import QueryError

MAX_SHOWN = 100


class Place(NamedTuple):
    """Where something stands in the file: line and column from 1, and characters from 0."""

    line: int
    column: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `query`: the query there, refused at a position of its own."""

    place: Place | None
    message: str
    query: QueryError | None = None

    def said(self, where: str) -> str:
        """In one line, as compilers say it: `audiences.yaml:12: vip: ...`."""
        at = f"{where}:{self.place.line}" if self.place else where
        return f"{at}: {self.message}"

    def shown(self, where: str) -> str:
        """For a person: a refused query with its line and a caret."""
        if self.query is None:
            return self.said(where)
        rendered = self.query.render().splitlines()
        return "\n".join([self.said(where), *(f"    {line}" for line in rendered[1:])])


class Faults(list[Fault]):
    """All that was found so far."""

    def add(self, place: Place | None, message: str, query: QueryError | None = None) -> None:
        """Note one more."""
        self.append(Fault(place, message, query))

    def in_order(self) -> tuple[Fault, ...]:
        """By their place in the file; each once, however often an alias repeats it."""
        ordered = sorted(self, key=lambda one: one.place.start if one.place else -1)
        return tuple({(one.place, one.message): one for one in ordered}.values())


class WrongRegistry(Exception):
    """audiences.yaml cannot be used. The message lists everything that is wrong with it."""

    def __init__(self, message: str, faults: tuple[Fault, ...] = (), where: str = "") -> None:
        super().__init__(message)
        self.faults = faults
        self.where = where

    @classmethod
    def of(cls, faults: tuple[Fault, ...], where: str) -> "WrongRegistry":
        """All faults of one file."""
        lines = [fault.shown(where) for fault in faults[:MAX_SHOWN]]
        if len(faults) > MAX_SHOWN:
            lines.append(f"{where}: and {len(faults) - MAX_SHOWN:,} more")
        return cls("\n".join(lines), faults, where)

    @property
    def lines(self) -> list[str]:
        """One line for each fault, without the pictures of queries."""
        if not self.faults:
            return str(self).splitlines()
        return [fault.said(self.where) for fault in self.faults[:MAX_SHOWN]]


def quoted(text: str) -> str:
    """What somebody wrote, in quotes, short and on one line."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def meant(text: str, known: tuple[str, ...], others: dict[str, str] | None = None) -> str:
    """` Did you mean ...?`, or nothing; `others` are words that have another name here."""
    word = text[:64].lower()
    named = {name.lower(): name for name in known}
    near = get_close_matches(word, named, 1, 0.6)
    close = (others or {}).get(word) or (named[near[0]] if near else None)
    return f" Did you mean `{close}`?" if close else ""
