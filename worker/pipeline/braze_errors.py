"""Who is named in `errors`, however oddly it is written.

Observed: {"type": "<text>", "input_array": "attributes", "index": 1}, the index counting from
0 inside input_array. Documented: only [{<minor error message>}]. So an entry may lack
anything, or be a string (Braze docs: post_user_track, errors).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Found:
    """What `errors` says: dead items with their text, and the text of an error that names none.

    `nameless` None: there was no such error.
    """

    named: dict[int, str] = field(default_factory=dict)
    nameless: str | None = None
    notes: tuple[str, ...] = ()


_OUR_ARRAYS = ("attributes", "external_ids")  # of /users/track and of /users/delete
_TEXT_MAX = 200
_UNTOLD = "refused_without_a_text"

# A REST key is a UUID, and Braze echoes keys in texts.
_KEY_LIKE = re.compile(
    r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b"
    r"|\bbearer\s+\S+|\bapi[ _-]?key\W{1,3}\S+",
    re.IGNORECASE,
)


def find_errors(errors: Any, count: int) -> Found:
    """Read `errors` for `count` items sent. Absent, null and empty mean there is none."""
    found = Found()
    if not errors:
        return found
    foreign = 0
    for entry in errors if isinstance(errors, list) else [errors]:
        if _is_foreign(entry):
            foreign += 1
        elif (index := _index(entry, count)) is not None:
            found.named.setdefault(index, _text(entry))
        elif found.nameless is None:
            found.nameless = _text(entry)
    if foreign:
        found.notes = (f"{foreign} errors of arrays that were not sent",)
    return found


def _is_foreign(entry: Any) -> bool:
    """Does it speak of an array that we did not send?"""
    if not isinstance(entry, dict):
        return False
    array = entry.get("input_array")
    return isinstance(array, str) and array not in ("", *_OUR_ARRAYS)


def _index(entry: Any, count: int) -> int | None:
    """The item an entry names; None if it has no array, no index, or one that cannot be."""
    if not isinstance(entry, dict) or entry.get("input_array") not in _OUR_ARRAYS:
        return None
    index = entry.get("index")
    return index if type(index) is int and 0 <= index < count else None


def _text(entry: Any) -> str:
    if isinstance(entry, dict):
        said = (safe_text(entry.get(name)) for name in ("type", "message", "error"))
        return next((text for text in said if text), _UNTOLD)
    return safe_text(entry) or _UNTOLD


def safe_text(said: Any) -> str:
    """Braze's words on one line, without what looks like a key, at most 200 characters."""
    if not isinstance(said, str):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in said[: _TEXT_MAX * 4])
    return _KEY_LIKE.sub("[redacted]", " ".join(printable.split()))[:_TEXT_MAX]


def has_words(body: Mapping[str, Any], words: tuple[str, ...]) -> bool:
    """Does the message, or any text of `errors`, contain one of these (lower case) words?"""
    errors = body.get("errors")
    texts = [body.get("message")]
    for entry in errors if isinstance(errors, list) else [errors]:
        texts.extend(entry.values() if isinstance(entry, dict) else [entry])
    lowered = [text.lower() for text in texts if isinstance(text, str)]
    return any(word in text for word in words for text in lowered)
