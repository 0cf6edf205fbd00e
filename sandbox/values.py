"""What a written value does to the stored one: set, inc, add/remove, merge, coercion. Pure."""

from typing import Any, Final, Literal, TypeAlias

ForcedType: TypeAlias = Literal["boolean", "number", "string", "array", "object", "time"]

FORCED_TYPES: Final[tuple[ForcedType, ...]] = (
    "boolean",
    "number",
    "string",
    "array",
    "object",
    "time",
)

DROPPED: Final = object()
"""What a write becomes that Braze ignores without a word."""

_ARRAY_MOST: Final = 500
_OBJECT_STEPS: Final = frozenset({"$add", "$update", "$remove"})
_TRUE: Final = (1, "1", "true", "t")
_FALSE: Final = (0, "0", "false", "f")


def fold(before: Any, written: Any, merge: bool) -> Any:
    """The value stored after `written` meets `before` (None: absent), or DROPPED."""
    if isinstance(written, list):
        return _unique(written) if _nested_ok(written) else DROPPED
    if not isinstance(written, dict):
        return written
    keys = written.keys()
    if keys == {"inc"}:
        return _increment(before, written["inc"])
    if keys and keys <= {"add", "remove"}:
        return _edit_array(before, written)
    if keys and keys <= _OBJECT_STEPS:
        return _edit_objects(before, written)
    if not _nested_ok(written):
        return DROPPED
    return _merged(before, written) if merge and isinstance(before, dict) else written


def coerce(value: Any, forced: ForcedType) -> Any:
    """The value as the forced type, or DROPPED where it cannot be one."""
    if value is None:
        return None
    if forced == "boolean":
        return _as_boolean(value)
    if forced == "number":
        return _as_number(value)
    if forced == "string":
        return _as_string(value)
    if forced == "time":
        return value if isinstance(value, str) and value[:4].isdigit() else DROPPED
    wanted = list if forced == "array" else dict
    if forced == "array" and isinstance(value, dict) and value.keys() <= {"add", "remove"}:
        return value
    return value if isinstance(value, wanted) else DROPPED


def data_type(value: Any) -> str:
    """Braze's word for the type of a stored value."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int | float):
        return "Number"
    if isinstance(value, list):
        return "Object Array" if value and isinstance(value[0], dict) else "Array"
    return "Object" if isinstance(value, dict) else "String"


def _as_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else value
    if isinstance(word, list | dict):
        return DROPPED
    return True if word in _TRUE else False if word in _FALSE else DROPPED


def _as_number(value: Any) -> Any:
    if isinstance(value, bool):
        return DROPPED
    if isinstance(value, int | float):
        return value
    if isinstance(value, dict) and value.keys() == {"inc"}:
        return value
    if not isinstance(value, str):
        return DROPPED
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return DROPPED


def _as_string(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int | float)
        else DROPPED
    )


def _increment(before: Any, step: Any) -> Any:
    if before is None:
        return step
    if isinstance(before, bool) or not isinstance(before, int | float):
        return DROPPED
    return before + step


def _edit_array(before: Any, written: dict[str, Any]) -> Any:
    if before is not None and not isinstance(before, list):
        return DROPPED
    kept = list(before or ())
    for item in written.get("remove", ()):
        if item in kept:
            kept.remove(item)
    for item in written.get("add", ()):
        if item in kept:
            kept.remove(item)
        kept.append(item)
    return kept[-_ARRAY_MOST:]


def _edit_objects(before: Any, written: dict[str, Any]) -> Any:
    entries = list(before) if isinstance(before, list) else []
    for step in _steps(written, "$remove"):
        entries = [entry for entry in entries if not _is_target(entry, step)]
    for step in _steps(written, "$update"):
        new = step.get("$new_object")
        if isinstance(new, dict):
            entries = [_merged(e, new) if _is_target(e, step) else e for e in entries]
    added = written.get("$add")
    return (entries + (added if isinstance(added, list) else []))[-_ARRAY_MOST:]


def _steps(written: dict[str, Any], name: str) -> list[dict[str, Any]]:
    steps = written.get(name)
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def _is_target(entry: Any, step: dict[str, Any]) -> bool:
    key = step.get("$identifier_key")
    return isinstance(entry, dict) and key in entry and entry[key] == step.get("$identifier_value")


def _merged(before: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in written.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
    return merged


def _unique(items: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if not any(item == other and type(item) is type(other) for other in kept):
            kept.append(item)
    return kept


def _nested_ok(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_key_ok(key) and _nested_ok(part) for key, part in value.items())
    return not isinstance(value, list) or all(map(_nested_ok, value))


def _key_ok(key: str) -> bool:
    return 0 < len(key) <= 255 and not any(character in key for character in " .$")
