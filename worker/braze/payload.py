"""The body of POST /users/track, put together from texts that are JSON already. Pure.

`{"attributes":[{"external_id":"u1","vip":true},{"external_id":"u2","vip":null}]}`

An object is `(user id, [(attribute name, value as JSON text), ...])`. Values are trusted to be
JSON; ids and names may be any text (they are written in ASCII, with escapes). No object has a name
twice, whatever is given: of two pairs with one name the last counts.
"""

from collections.abc import Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii

UserObject = tuple[str, Sequence[tuple[str, str]]]

_HEAD = '{"attributes":['
_TAIL = "]}"
_FRAME_BYTES = len(_HEAD) + len(_TAIL)
_EXISTING_ONLY = ',"_update_existing_only":true'
# The most bytes that one character can take: an escaped surrogate pair, and UTF-8.
_ID_CHAR_BYTES = 12
_VALUE_CHAR_BYTES = 4
_OBJECT_EXTRA_BYTES = len('{"external_id":"",},') + len(_EXISTING_ONLY)
_PAIR_EXTRA_BYTES = len(',"":')


def body(objects: Sequence[UserObject], update_existing_only: bool) -> bytes:
    """One request's body. With `update_existing_only` no profile is ever created by it.

    (Braze docs: user_attributes_object. Absent means false for an external_id.)
    """
    texts = [_text(found, update_existing_only) for found in objects]
    return f"{_HEAD}{','.join(texts)}{_TAIL}".encode()


def size(found: UserObject, update_existing_only: bool) -> int:
    """The bytes that an object adds to a body, its comma included."""
    text = _text(found, update_existing_only)
    return 1 + (len(text) if text.isascii() else len(text.encode()))


def pack(
    objects: Sequence[UserObject],
    max_objects: int,
    max_bytes: int,
    update_existing_only: bool,
) -> list[range]:
    """Indexes of the objects, in order, in groups that fit one request each.

    Every index is in exactly one group. An object that is too large on its own is a group on
    its own: it is for Braze to refuse it. Linear; exact sizes are computed only when a rough
    bound does not already show that everything fits.
    """
    if len(objects) <= max_objects and _bound(objects) <= max_bytes:
        return [range(len(objects))] if objects else []
    groups: list[range] = []
    start = 0
    used = _FRAME_BYTES - 1
    for index, found in enumerate(objects):
        adds = size(found, update_existing_only)
        if index > start and (index - start >= max_objects or used + adds > max_bytes):
            groups.append(range(start, index))
            start = index
            used = _FRAME_BYTES - 1
        used += adds
    if start < len(objects):
        groups.append(range(start, len(objects)))
    return groups


def _text(found: UserObject, update_existing_only: bool) -> str:
    user_id, pairs = found
    once = dict(pairs).items() if len(pairs) > 1 else pairs
    attributes = "".join([_name(name) + value for name, value in once])
    control = _EXISTING_ONLY if update_existing_only else ""
    return f'{{"external_id":{encode_basestring_ascii(user_id)}{control}{attributes}}}'


@lru_cache(maxsize=10_000)
def _name(attribute: str) -> str:
    """`,"vip":` - the same few names in every object."""
    return f",{encode_basestring_ascii(attribute)}:"


def _bound(objects: Sequence[UserObject]) -> int:
    """At least the bytes of a body with these objects."""
    total = _FRAME_BYTES
    for user_id, pairs in objects:
        total += _OBJECT_EXTRA_BYTES + _ID_CHAR_BYTES * len(user_id)
        for name, value in pairs:
            total += _PAIR_EXTRA_BYTES + _ID_CHAR_BYTES * len(name)
            total += _VALUE_CHAR_BYTES * len(value)
    return total
