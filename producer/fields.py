"""The fields of a message that a change is made of, each against its own rules.

Each function returns the field as a change carries it, or the code that says why not.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from producer.instants import UnreadableInstant, read_instant, within_range
from worker.contract import (
    ATTRIBUTE_MAX_BYTES,
    RESERVED_ATTRIBUTES,
    STRING_VALUE_MAX_CHARS,
    USER_ID_MAX_BYTES,
    ChangeClass,
    Refusal,
    Skip,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DIGITS_OF_A_DOUBLE = 2**53  # beyond this a double no longer tells neighbours apart
_LAST_PLAIN_DOUBLE = 1e21  # JavaScript writes larger ones with an exponent
_INTEGERS = range(-(2**63), 2**64)  # what JSON readers agree on


def attribute_of(key: object) -> str | Refusal:
    """The audience key as a Braze attribute name."""
    if not isinstance(key, str) or not key:
        return Refusal.MISSING_ATTRIBUTE_KEY
    return _wrong_name(key) or key


@lru_cache(maxsize=4096)  # a deployment has few keys, each in very many messages
def _wrong_name(key: str) -> Refusal | None:
    if key in RESERVED_ATTRIBUTES:
        return Refusal.RESERVED_ATTRIBUTE
    size = _utf8_size(key)
    if size is None:
        return Refusal.INVALID_ATTRIBUTE_NAME
    if size > ATTRIBUTE_MAX_BYTES:
        return Refusal.ATTRIBUTE_NAME_TOO_LONG
    if key[0] == "$" or key != key.strip() or _CONTROL.search(key):
        return Refusal.INVALID_ATTRIBUTE_NAME
    return None


def user_id_of(found: object, exactly: Callable[[], object]) -> str | Refusal | Skip:
    """A string as it is, untrimmed; a number as people write it: 12, 12.0 -> "12".

    Braze takes any text, and `u1 ` is another user than `u1`. Blanks alone and control characters
    are nobody's id: they come from an empty cell, or from a field that was cut wrongly.

    A whole number too large for a double is asked for `exactly`: two users whose ids differ in
    the last digit must not become one.
    """
    if found is None or found == "":
        return Skip.NO_USER_ID
    if isinstance(found, float) and abs(found) >= _DIGITS_OF_A_DOUBLE:
        found = exactly()
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        found = _number_as_id(found)
    if not isinstance(found, str):
        return Refusal.USER_ID_NOT_STRING
    size = _utf8_size(found)
    if size is None:
        return Refusal.BROKEN_JSON
    if size > USER_ID_MAX_BYTES:
        return Refusal.USER_ID_TOO_LONG
    if found.isspace() or "\0" in found:
        return Refusal.INVALID_USER_ID
    return found


def known_user(found: object, exactly: Callable[[], object]) -> str | None:
    """The user id if it can be read, for the people who look for a message that was not taken."""
    user_id = user_id_of(found, exactly)
    return None if isinstance(user_id, (Refusal, Skip)) else user_id


def value_of(
    fields: object, key: str, change_class: ChangeClass
) -> bool | int | float | str | Refusal:
    """A membership must be a JSON boolean; a trait a string, number or boolean. Never coerced."""
    found = fields.get(key) if isinstance(fields, dict) else None
    if isinstance(found, bool):
        return found
    if change_class.is_membership:
        return Refusal.MEMBERSHIP_NOT_BOOLEAN
    if isinstance(found, str):
        if len(found) > STRING_VALUE_MAX_CHARS:
            return Refusal.VALUE_TOO_LONG
        return found if _utf8_size(found) is not None else Refusal.BROKEN_JSON
    if isinstance(found, int) and found not in _INTEGERS:
        found = _as_double(found)
    if isinstance(found, float) and not math.isfinite(found):
        return Refusal.VALUE_NOT_SCALAR
    return found if isinstance(found, int | float) else Refusal.VALUE_NOT_SCALAR


def times_of(
    message: Mapping[str, Any], received_ms: int | None = None
) -> tuple[int | None, int | None] | Refusal:
    """Event time, free of the sender's clock error, and Segment's `receivedAt`; None: arrival.

    `received_ms`: when we received it, which corrects the clock of who sends to us directly and
    so gives no `receivedAt`. With `originalTimestamp` Segment has corrected `timestamp` already.
    Only fields that are used need be readable.
    """
    stamp = message.get("timestamp")
    received = message.get("receivedAt")
    sent = None if message.get("originalTimestamp") is not None else message.get("sentAt")
    try:
        arrived_at = None if received is None else read_instant(received)
        if stamp is None:
            return None, arrived_at
        event_at = read_instant(stamp)
        received_at = received_ms if arrived_at is None else arrived_at
        if sent is not None and received_at is not None:
            event_at = within_range(received_at - (read_instant(sent) - event_at))
    except UnreadableInstant:
        return Refusal.UNREADABLE_TIMESTAMP
    return event_at, arrived_at


def message_id_of(found: object) -> str:
    """For people who trace a message; it decides nothing, so a bad one is no reason to refuse."""
    if not isinstance(found, str) or _utf8_size(found) is None:
        return ""
    return found[:255]


def _utf8_size(text: str) -> int | None:
    """Its bytes; None if it holds an unpaired surrogate and so has no UTF-8 form."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _number_as_id(number: int | float) -> str | None:
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        return None
    is_plain = number.is_integer() and abs(number) < _LAST_PLAIN_DOUBLE
    return str(int(number)) if is_plain else repr(number)


def _as_double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf
