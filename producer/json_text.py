"""JSON in and out, for text that anybody may have written: nothing here raises but BrokenJson.

orjson reads nearly everything. What it refuses but JSON allows (an unpaired surrogate, which
a browser writes for an emoji cut in half; `1e400`; nesting over 1,024) gets a second try with
the standard library, so that an odd value in a field nobody uses does not cost a membership.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

MESSAGE_MAX_BYTES = 32_768  # Segment docs, http-api: 32 KB per message
_FIRST = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")


class BrokenJson(ValueError):
    """The text is not JSON, or nested deeper than can be read."""


def read_json(text: bytes | str) -> Any:
    """The parsed value; of a doubled name the last one counts.

    Whole numbers beyond 64 bits come back as floats or as integers. Strings may hold
    unpaired surrogates and numbers may be infinite: who uses a value looks.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return read_exactly(text)


def read_exactly(text: bytes | str) -> Any:
    """The same with the standard library: slower, and whole numbers keep every digit."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, parse_int=_whole, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BrokenJson from None


def first_element(array: bytes) -> bytes:
    """The bytes of an array's first element, as they came. Raises BrokenJson."""
    try:
        text = array.decode()
        if not (opening := _FIRST.match(text)):
            raise BrokenJson
        _, end = json.JSONDecoder(parse_int=_whole).raw_decode(text, opening.end())
    except (ValueError, RecursionError):
        raise BrokenJson from None
    return text[opening.end() : end].encode()


def write_json(message: object) -> bytes:
    """A message that came as a Python value, as the JSON it would have been sent as.

    datetimes become ISO 8601 and NaN becomes null. Raises BrokenJson for what has no JSON form.
    """
    try:
        return orjson.dumps(message, default=_plain)
    except TypeError:
        pass
    try:
        return json.dumps(message, default=_plain).encode()
    except (TypeError, ValueError, RecursionError):
        raise BrokenJson from None


def is_too_long(text: bytes | str) -> bool:
    """True beyond Segment's limit, counted in bytes of UTF-8."""
    if len(text) > MESSAGE_MAX_BYTES:
        return True
    if isinstance(text, bytes) or text.isascii() or len(text) * 4 <= MESSAGE_MAX_BYTES:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > MESSAGE_MAX_BYTES


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return float(digits)


def _no_constant(name: str) -> object:
    raise BrokenJson(f"{name} is not JSON")
