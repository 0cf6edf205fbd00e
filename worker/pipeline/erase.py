"""What remains of a dead envelope's text without some users. Pure.

The text may be anything: it is in the dead letters because it could not be applied. What has the
shape of an envelope loses the changes and samples of these users; of anything else that names one
of them nothing remains.
"""

import json
from collections.abc import Iterable
from typing import Any

_LISTS = ("changes", "samples")


def written(user_id: str) -> set[bytes]:
    """How an id stands in a JSON text, without the quotes: as UTF-8, or in ASCII with escapes."""
    return {
        json.dumps(user_id, ensure_ascii=ascii_only)[1:-1].encode() for ascii_only in (True, False)
    } | {user_id.encode()}


def envelope_without(text: bytes, users: frozenset[str]) -> tuple[bytes, int]:
    """The text without these users, and how many changes it holds; empty if nothing remains.

    A text that names none of them comes back as it was.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return (b"" if _quotes_one(text, users) else text), 0
    if not isinstance(document, dict) or not any(_is_list(document, name) for name in _LISTS):
        return (b"" if _holds_one(document, users) else text), 0
    lists = {name: _kept(document[name], users) for name in _LISTS if _is_list(document, name)}
    count = len(lists.get("changes", ()))
    if all(len(kept) == len(document[name]) for name, kept in lists.items()):
        return text, count
    if "changes" in lists and not count:
        return b"", 0
    return json.dumps({**document, **lists}).encode(), count


def _is_list(document: dict[str, Any], name: str) -> bool:
    return isinstance(document.get(name), list)


def _kept(items: Iterable[Any], users: frozenset[str]) -> list[Any]:
    return [item for item in items if not (isinstance(item, dict) and item.get("user_id") in users)]


def _holds_one(value: Any, users: frozenset[str]) -> bool:
    """Whether a user's id is anywhere in it, as a whole text."""
    if isinstance(value, dict):
        return any(_holds_one(item, users) for item in value.values())
    if isinstance(value, list):
        return any(_holds_one(item, users) for item in value)
    return isinstance(value, str) and value in users


def _quotes_one(text: bytes, users: frozenset[str]) -> bool:
    return any(b'"' + form + b'"' in text for user in users for form in written(user))
