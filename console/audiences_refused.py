"""Why `audiences explain` has no answer: for people a text, for programs a document."""

from difflib import get_close_matches
from pathlib import Path

from console.refused import Refused
from worker.audiences.query.errors import QueryError
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import Kind
from worker.audiences.registry import Registry, WrongRegistry


def query_refused(error: QueryError, kind: Kind, is_trait: bool) -> Refused:
    """A query that cannot be read: where, what might stand there, and with which option it can."""
    option = _option(error.text, kind, is_trait)
    return Refused(
        2,
        "query_refused",
        "\n".join([error.render(), *([option] if option else [])]),
        error.message,
        line=error.line,
        column=error.column,
        offset=error.offset,
        length=error.length,
        found=error.found,
        expected=list(error.expected),
        suggestion=error.suggestion,
        option=option,
    )


def _option(text: str, kind: Kind, is_trait: bool) -> str | None:
    """With which other option of the command the query can be read."""
    other = Kind.ACCOUNTS if kind is Kind.USERS else Kind.USERS
    readings = (
        (other, is_trait, f"It can be read with --type {other.value}."),
        (kind, not is_trait, f"It can be read {'without' if is_trait else 'with'} --trait."),
    )
    for as_kind, as_trait, said in readings:
        try:
            parse_trait(text, as_kind) if as_trait else parse_audience(text, as_kind)
        except QueryError:
            continue
        return said
    return None


def registry_refused(error: WrongRegistry) -> Refused:
    """The file, or the entry asked for, has mistakes."""
    return Refused(1, "wrong_registry", str(error), "\n".join(error.lines))


def not_declared(key: str, registry: Registry, path: Path) -> Refused:
    """No such key; with those that were perhaps meant."""
    keys = [entry.key for entry in registry.entries if entry.is_synced]
    near = get_close_matches(key[:255], keys, 3, 0.5)
    said = f"{path} declares no {key!r}."
    if near:
        said += f" Did you mean {' or '.join(near)}?"
    else:
        said += " What is not declared is realtime. `persona-sync audiences list` shows the keys."
    return Refused(1, "not_declared", said, near=near)
