"""Braze's reserved names and the checks of single values: pure, a problem text or None."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

import orjson

EXTERNAL_ID_BYTES: Final = 987
NAME_CHARS: Final = 255
STRING_CHARS: Final = 255
ARRAY_ITEMS: Final = 500
STRUCTURE_BYTES: Final = 100_000

CONTROL: Final = frozenset(
    {
        "external_id",
        "user_alias",
        "braze_id",
        "_update_existing_only",
        "_merge_objects",
        "push_token_import",
    }
)
"""Keys of an attributes object that say whom and how, and are never stored."""

Check: TypeAlias = Callable[[object], str | None]

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_PHONE = re.compile(r"\+?[0-9 ().-]{5,25}")
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.:]\d+)?\s?(Z|[+-]\d\d:?\d\d)?")
_LABEL_BYTES = 236


def is_time(value: object) -> bool:
    """Whether Braze would read this as a moment (ISO 8601 or its colon-millisecond form)."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def _boolean(name: str) -> Check:
    return lambda value: None if isinstance(value, bool) else f"'{name}' must be a boolean"


def _text(name: str) -> Check:
    def check(value: object) -> str | None:
        if value is None or (isinstance(value, str) and len(value) <= STRING_CHARS):
            return None
        return f"'{name}' must be a string of at most {STRING_CHARS} characters"

    return check


def _shape(name: str, pattern: re.Pattern[str], complaint: str) -> Check:
    def check(value: object) -> str | None:
        if value is None or (isinstance(value, str) and pattern.fullmatch(value)):
            return None
        return complaint

    return check


def _subscription(name: str) -> Check:
    states = ("subscribed", "unsubscribed", "opted_in")
    complaint = f"'{name}' must be 'subscribed', 'unsubscribed', or 'opted_in'"
    return lambda value: None if value in states else complaint


def _moment(name: str) -> Check:
    def check(value: object) -> str | None:
        if value is None or is_time(value) or (isinstance(value, str) and _DAY.fullmatch(value)):
            return None
        return f"'{name}' is not a valid time"

    return check


def _external_id(value: object) -> str | None:
    if type(value) is str and 0 < len(value) <= EXTERNAL_ID_BYTES // 4:
        return None
    if not isinstance(value, str):
        return "'external_id' must be a string"
    if not value:
        return "'external_id' or 'braze_id' or 'user_alias' is required"
    if len(value) > EXTERNAL_ID_BYTES or (
        not value.isascii() and len(value.encode()) > EXTERNAL_ID_BYTES
    ):
        return "'external_id' must be fewer than 988 bytes"
    return None


def _user_alias(value: object) -> str | None:
    if isinstance(value, dict):
        parts = (value.get("alias_name"), value.get("alias_label"))
        if all(isinstance(p, str) and 0 < len(p.encode()) <= _LABEL_BYTES for p in parts):
            return None
    return "'user_alias' must have an 'alias_name' and an 'alias_label' of at most 236 bytes"


def _location(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        place = (value.get("longitude"), value.get("latitude"))
        if all(isinstance(p, int | float) and not isinstance(p, bool) for p in place):
            return None
    return "'current_location' is not a valid location"


def _objects(name: str, *required: str) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, list) and all(
            isinstance(entry, dict) and all(isinstance(entry.get(k), str) for k in required)
            for entry in value
        ):
            return None
        return f"'{name}' is not valid"

    return check


FIELD_CHECKS: Final[dict[str, Check]] = {
    "external_id": _external_id,
    "user_alias": _user_alias,
    "braze_id": lambda v: None if isinstance(v, str) and v else "'braze_id' must be a string",
    "_update_existing_only": _boolean("_update_existing_only"),
    "_merge_objects": _boolean("_merge_objects"),
    "push_token_import": _boolean("push_token_import"),
    "country": _shape("country", re.compile("[A-Za-z]{2}"), "'country' is not a valid country"),
    "current_location": _location,
    "date_of_first_session": _moment("date_of_first_session"),
    "date_of_last_session": _moment("date_of_last_session"),
    "dob": _shape("dob", _DAY, "'dob' must be in the form YYYY-MM-DD"),
    "email": _shape(
        "email", _EMAIL, "The value provided for the 'email' field is not a valid email."
    ),
    "email_subscribe": _subscription("email_subscribe"),
    "email_open_tracking_disabled": _boolean("email_open_tracking_disabled"),
    "email_click_tracking_disabled": _boolean("email_click_tracking_disabled"),
    "facebook": lambda v: None if v is None or isinstance(v, dict) else "'facebook' is not valid",
    "first_name": _text("first_name"),
    "gender": lambda v: (
        None if v in ("M", "F", "O", "N", "P", None) else "'gender' must be M, F, O, N, P or null"
    ),
    "home_city": _text("home_city"),
    "image_url": _text("image_url"),
    "language": _shape("language", re.compile("[A-Za-z]{2}"), "'language' is not valid"),
    "last_name": _text("last_name"),
    "marked_email_as_spam_at": _moment("marked_email_as_spam_at"),
    "phone": _shape("phone", _PHONE, "'phone' is not a valid phone number"),
    "push_subscribe": _subscription("push_subscribe"),
    "push_tokens": _objects("push_tokens", "app_id", "token"),
    "subscription_groups": _objects(
        "subscription_groups", "subscription_group_id", "subscription_state"
    ),
    "time_zone": _text("time_zone"),
    "twitter": lambda v: None if v is None or isinstance(v, dict) else "'twitter' is not valid",
}

PROFILE_FIELDS: Final = frozenset(FIELD_CHECKS) - CONTROL


@lru_cache(maxsize=65_536)
def name_problem(name: str) -> str | None:
    """What is wrong with a custom attribute's name. Edge spaces are not wrong: Braze trims them."""
    if not name.strip():
        return "attribute name must not be empty"
    if len(name.strip()) > NAME_CHARS:
        return f"attribute name must be {NAME_CHARS} characters or fewer"
    if name.lstrip().startswith("$"):
        return "attribute name must not start with '$'"
    return None


def structure_problem(name: str, value: object) -> str | None:
    """What is wrong with a custom attribute's value that is not a plain scalar."""
    if isinstance(value, str):
        if len(value) > STRING_CHARS:
            return f"value of '{name}' must be {STRING_CHARS} characters or fewer"
        return None
    if not isinstance(value, dict | list):
        return None
    if isinstance(value, list) and len(value) > ARRAY_ITEMS:
        return f"array '{name}' must have {ARRAY_ITEMS} items or fewer"
    if isinstance(value, dict) and (problem := _operation_problem(name, value)):
        return problem
    if len(orjson.dumps(value)) > STRUCTURE_BYTES:
        return f"value of '{name}' must be {STRUCTURE_BYTES // 1000} KB or smaller"
    return _deep_strings(name, value)


def _operation_problem(name: str, value: dict[str, object]) -> str | None:
    if value.keys() == {"inc"}:
        step = value["inc"]
        if isinstance(step, bool) or not isinstance(step, int | float):
            return f"'inc' of '{name}' must be a number"
    if value.keys() <= {"add", "remove"} and not all(isinstance(v, list) for v in value.values()):
        return f"'add' and 'remove' of '{name}' must be arrays"
    return None


def _deep_strings(name: str, value: object) -> str | None:
    if isinstance(value, str) and len(value) > STRING_CHARS:
        return f"value of '{name}' must be {STRING_CHARS} characters or fewer"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        if isinstance(part, str | dict | list) and (problem := _deep_strings(name, part)):
            return problem
    return None
