"""The door: a text becomes a query, or is refused with its position."""

from worker.audiences.query.errors import QueryError
from worker.audiences.query.grammar import Grammar
from worker.audiences.query.limits import MAX_CHARS
from worker.audiences.query.tree import AudienceQuery, Kind, TraitQuery


def parse_audience(text: str, kind: Kind = Kind.USERS) -> AudienceQuery:
    """Read the definition of an audience: a condition. Raises QueryError, and nothing else."""
    return AudienceQuery(_grammar(text, kind, is_trait=False).audience(), kind, text)


def parse_trait(text: str, kind: Kind = Kind.USERS) -> TraitQuery:
    """Read the definition of a computed trait: a value. Raises QueryError, and nothing else."""
    return TraitQuery(_grammar(text, kind, is_trait=True).trait(), kind, text)


def _grammar(text: str, kind: Kind, is_trait: bool) -> Grammar:
    if len(text) > MAX_CHARS:
        raise QueryError(
            text[: MAX_CHARS + 1],
            MAX_CHARS,
            1,
            f"{len(text)} characters",
            ("the end of the query",),
            f"The query has {len(text):,} characters; {MAX_CHARS:,} is the most.",
        )
    return Grammar(text, kind, is_trait)
