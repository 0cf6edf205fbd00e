"""One Segment message in, one change out, or the code that says why there is none.

Pure, and it never raises, whatever the bytes. The checks come in a fixed order and the first
that fails names the message, so the same message always gets the same code:
length, JSON, object, about an audience or trait, key, user id, value, timestamps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from producer.fields import (
    attribute_of,
    known_user,
    message_id_of,
    times_of,
    user_id_of,
    value_of,
)
from producer.json_text import BrokenJson, is_too_long, read_exactly, read_json, write_json
from worker.contract import REASONS, Change, ChangeClass, Refusal, Skip

_T = TypeVar("_T")
Message = bytes | str | Mapping[str, Any]

_CLASSES = {str(name): name for name in ChangeClass}
_CHANGE = TypeAdapter(Change)
_FIELDS_OF_TYPE = {"identify": "traits", "track": "properties"}


@dataclass(frozen=True, slots=True)
class Refused:
    """The message says something, but not what it must; `user_id` if it could be read."""

    code: Refusal
    user_id: str | None = None

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return REASONS[self.code]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing is wrong with the message, and nothing is to be done; `user_id` as for Refused."""

    code: Skip
    user_id: str | None = None

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return REASONS[self.code]


def read(raw: Message, *, source: str, place: int) -> Change | Refused | Skipped:
    """Read one message. `source` and `place` go into the change as they are.

    Text beyond 32 KB is refused without being parsed. A message that came as a mapping is
    judged by the JSON it would have been.
    """
    try:
        text = raw if isinstance(raw, (bytes, str)) else write_json(raw)
        if is_too_long(text):
            return Refused(Refusal.LINE_TOO_LONG)
        message = read_json(text)
    except BrokenJson:
        return Refused(Refusal.BROKEN_JSON)
    return read_parsed(message, lambda: exact_user_id(text), source=source, place=place)


def read_parsed(
    message: object,
    exactly: Callable[[], object],
    *,
    source: str,
    place: int,
    received_ms: int | None = None,
) -> Change | Refused | Skipped:
    """Read a message that was parsed as part of something larger.

    `exactly` gives its user id with every digit; asked only for very large numbers.
    `received_ms`: see `times_of`.
    """
    if not isinstance(message, dict):
        return Refused(Refusal.NOT_AN_OBJECT)
    about = _about(message)
    if about is None:
        user = known_user(message.get("userId"), exactly)
        return Skipped(Skip.NOT_AN_AUDIENCE_MESSAGE, user)
    fields, change_class, key = about
    attribute = attribute_of(key)
    if isinstance(attribute, Refusal):
        return Refused(attribute, known_user(message.get("userId"), exactly))
    user_id = user_id_of(message.get("userId"), exactly)
    if isinstance(user_id, Refusal):
        return Refused(user_id)
    if isinstance(user_id, Skip):
        return Skipped(user_id)
    value = value_of(message.get(fields), attribute, change_class)
    if isinstance(value, Refusal):
        return Refused(value, user_id)
    times = times_of(message, received_ms)
    if isinstance(times, Refusal):
        return Refused(times, user_id)
    return _CHANGE.validate_python(
        {
            "user_id": user_id,
            "attribute": attribute,
            "value": value,
            "event_at": times[0],
            "arrived_at": times[1],
            "place": place,
            "message_id": message_id_of(message.get("messageId")),
            "source": source,
            "class": change_class,
        }
    )


def exact_user_id(text: bytes | str) -> object:
    """The user id of a message's text, whole numbers with every digit; None if it has none."""
    try:
        return read_exactly(text)["userId"]
    except BrokenJson:
        return None


def _about(message: dict[str, Any]) -> tuple[str, ChangeClass, object] | None:
    """Where the value stands, of which class it is, and its key; None: not our business."""
    fields = _known(_FIELDS_OF_TYPE, message.get("type"))
    context = message.get("context")
    personas = context.get("personas") if isinstance(context, dict) else None
    if fields is None or not isinstance(personas, dict):
        return None
    change_class = _known(_CLASSES, personas.get("computation_class"))
    if change_class is None:
        return None
    return fields, change_class, personas.get("computation_key")


def _known(names: dict[str, _T], word: object) -> _T | None:
    """What the word stands for, upper or lower case."""
    if not isinstance(word, str):
        return None
    return names.get(word) or names.get(word.lower())
