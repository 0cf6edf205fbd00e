"""What Segment itself refuses at its door: the shape of a tracking call. Pure."""

from typing import Any

import orjson

from producer.json_text import MESSAGE_MAX_BYTES
from worker.contract import Refusal, Skip

KINDS = ("identify", "track", "page", "screen", "group", "alias")
_PLAIN = {
    "identify": Skip.PLAIN_IDENTIFY,
    "track": Skip.PLAIN_TRACK,
    "page": Skip.PAGE,
    "screen": Skip.SCREEN,
    "group": Skip.GROUP,
    "alias": Skip.ALIAS,
}
_NEEDS_ID = {"group": "groupId", "alias": "previousId"}


def kind_of(message: dict[str, Any]) -> str:
    """Its type in lower case; `other` if it is none that Segment has."""
    found = message.get("type")
    word = found.lower() if isinstance(found, str) else ""
    return word if word in _PLAIN else "other"


def plain(kind: str) -> Skip:
    """Why a message that is about no audience is passed over."""
    return _PLAIN.get(kind, Skip.NOT_AN_AUDIENCE_MESSAGE)


def is_long(message: object) -> bool:
    """True beyond 32 KB, counted as it would be written without spaces: what a sender indents
    costs it nothing."""
    try:
        return len(orjson.dumps(message)) > MESSAGE_MAX_BYTES
    except TypeError:  # an integer beyond 64 bits, half a character: the slow way, rarely
        return len(repr(message)) > MESSAGE_MAX_BYTES


def is_of(message: dict[str, Any], kind: str) -> bool:
    """False if the message itself says another type than the path it came by."""
    return message.get("type") is None or kind_of(message) == kind


def wrong_shape(message: dict[str, Any], kind: str) -> Refusal | None:
    """The first thing that is wrong with a call, in Segment's words; None if nothing is."""
    if kind == "other":
        return Refusal.BAD_REQUEST
    user_id, anonymous_id = message.get("userId"), message.get("anonymousId")
    if _is_absent(user_id) and _is_absent(anonymous_id):
        return Refusal.NO_USER_ANON_ID
    needed = _NEEDS_ID.get(kind)
    if needed and _is_absent(message.get(needed)):
        return Refusal.ID_REQUIRED
    if not all(_is_id(message.get(name)) for name in ("userId", "anonymousId", needed or "userId")):
        return Refusal.ID_NOT_STRING
    if kind == "track":
        event = message.get("event")
        if _is_absent(event):
            return Refusal.EVENT_NOT_DEFINED
        if not isinstance(event, str):
            return Refusal.EVENT_NOT_STRING
    if not _is_object(message.get("traits")):
        return Refusal.TRAITS_NOT_OBJECT
    if not _is_object(message.get("properties")):
        return Refusal.PROPERTIES_NOT_OBJECT
    return None


def _is_absent(found: object) -> bool:
    return found is None or found == ""


def _is_id(found: object) -> bool:
    """Nothing, a string, or a number, which people send for one."""
    return found is None or (isinstance(found, str | int | float) and not isinstance(found, bool))


def _is_object(found: object) -> bool:
    return found is None or isinstance(found, dict)
