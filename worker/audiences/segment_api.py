"""Audiences as Segment's Public API returns them: v1 and the older alpha, one or a list.

Only what is needed here is looked at; other fields may come and go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.audiences.cadence import Lane

MAX_CHARS = 80
_CADENCES = {"REALTIME": Lane.REALTIME, "BATCH": Lane.BATCHED}


class NotAudiences(ValueError):
    """The document holds no audiences. The message says what was found."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What Segment says of one audience; None for what it does not say."""

    key: str | None
    name: str = ""
    type: str | None = None
    query: str | None = None
    cadence: Lane | None = None
    is_enabled: bool | None = None
    odd_cadence: str | None = None

    @property
    def shown(self) -> str:
        """The key, or else the name, for people."""
        return self.key or self.name or "(no key)"


@dataclass(frozen=True, slots=True)
class Page:
    """The audiences of one document; `has_more`: it is not the last page of a list."""

    audiences: tuple[Stated, ...]
    has_more: bool = False


def read_page(document: object) -> Page:
    """The audiences of a response, with or without what is around them. Raises NotAudiences."""
    has_more = False
    if isinstance(document, Mapping) and "errors" in document and "data" not in document:
        raise NotAudiences("This is an error that Segment answered, not a list of audiences.")
    if isinstance(document, Mapping) and "data" in document:
        document = document["data"]
    if isinstance(document, Mapping):
        paging = document.get("pagination")
        has_more = isinstance(paging, Mapping) and bool(paging.get("next"))
        for name in ("audiences", "audience"):
            if name in document:
                document = document[name]
                break
    found = document if isinstance(document, list) else [document]
    return Page(tuple(_stated(one, number) for number, one in enumerate(found, 1)), has_more)


def _stated(raw: object, number: int) -> Stated:
    if not isinstance(raw, Mapping):
        raise NotAudiences(f"Item {number} is {_what(raw)}, not an audience.")
    if not {"key", "definition", "computeCadence"} & raw.keys():
        raise NotAudiences(
            f"Item {number} has neither `key` nor `definition` nor `computeCadence`: it is no "
            "audience as Segment's Public API returns them."
        )
    definition = _mapping(raw.get("definition"))
    cadence = _text(_mapping(raw.get("computeCadence")).get("type"))
    lane = _CADENCES.get((cadence or "").upper())
    enabled = raw.get("enabled")
    kind = _text(raw.get("audienceType")) or _text(definition.get("type"))
    return Stated(
        key=_text(raw.get("key")),
        name=_one_line(_text(raw.get("name")) or ""),
        type=kind.upper() if kind else None,
        query=_text(definition.get("query")),
        cadence=lane,
        is_enabled=enabled if isinstance(enabled, bool) else None,
        odd_cadence=_one_line(cadence) if cadence and lane is None else None,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _one_line(text: str) -> str:
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(words)[:MAX_CHARS]


def _what(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "a flag"}
    return names.get(type(value), "a number")
