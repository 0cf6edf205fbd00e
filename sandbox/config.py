"""What can be set from outside, checked as a whole before any of it takes effect."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.limits import HEADER_FORMS, HeaderForm, Limit
from sandbox.profiles import BLOCKED, Rules
from sandbox.track import LimitForm
from sandbox.values import FORCED_TYPES, ForcedType

DEFAULT_KEY: Final = "sandbox-key"
PERMISSIONS: Final = ("users.track", "users.export.ids", "users.delete", "custom_attributes.get")

_TRACK_LIMIT: Final = Limit(3000, 3.0)
_EXPORT_LIMIT: Final = Limit(40, 1.0)

# Long enough that blanking a key out of a page cannot blank out half the page.
_KEY = re.compile(r"[!#-\[\]-~]{8,200}")


class Refused(ValueError):
    """The setting is wrong; the text says which one and what it should be."""


@dataclass(slots=True)
class Config:
    """The settings in force. `known_keys` remembers rotated keys too, so that none is shown."""

    keys: tuple[str, ...] = (DEFAULT_KEY,)
    permissions: frozenset[str] = frozenset(PERMISSIONS)
    rate_limit: Limit = _TRACK_LIMIT
    header_form: HeaderForm = "epoch"
    export_rate_limit: Limit = _EXPORT_LIMIT
    max_objects: int = 75
    max_objects_form: LimitForm = "combined"
    max_bytes: int = 4_000_000
    blocked_attributes: frozenset[str] = frozenset()
    forced_types: dict[str, ForcedType] = field(default_factory=dict)
    export_delay_s: float = 0.0
    clock_skew_s: float = 0.0
    latency: tuple[float, float] | None = None
    gap_s: float = 0.0
    known_keys: set[str] = field(default_factory=set)
    rules: Rules = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._derive()

    def update(self, changes: object) -> None:
        """Apply a partial update. Either all of it holds afterwards or, with Refused, none."""
        if not isinstance(changes, dict):
            raise Refused("the settings must be a JSON object")
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            read = _READERS.get(name)
            if read is None:
                raise Refused(f"unknown setting {name!r}; known: {', '.join(_READERS)}")
            checked |= read(self, name, value)
        for name, value in checked.items():
            setattr(self, name, value)
        self._derive()

    def shown(self) -> dict[str, object]:
        """The settings as JSON, each key as a fingerprint that tells keys apart and no more."""
        return {
            "keys": [fingerprint(key) for key in self.keys],
            "permissions": sorted(self.permissions),
            "rate_limit": {
                "limit": self.rate_limit.limit,
                "window_s": self.rate_limit.window_s,
                "header_form": self.header_form,
            },
            "export_rate_limit": {
                "limit": self.export_rate_limit.limit,
                "window_s": self.export_rate_limit.window_s,
            },
            "max_objects": self.max_objects,
            "max_objects_form": self.max_objects_form,
            "max_bytes": self.max_bytes,
            "blocked_attributes": sorted(self.blocked_attributes),
            "forced_types": self.forced_types,
            "export_delay_s": self.export_delay_s,
            "clock_skew_s": self.clock_skew_s,
            "latency": self.latency,
            "gap_s": self.gap_s,
        }

    def _derive(self) -> None:
        self.known_keys |= set(self.keys)
        self.rules = {**self.forced_types, **dict.fromkeys(self.blocked_attributes, BLOCKED)}


def fingerprint(key: str) -> str:
    return "***" + hashlib.sha256(key.encode()).hexdigest()[:8]


def check_key(key: object) -> str:
    """The key, if it may serve as one."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Refused("an API key needs 8 to 200 printable characters, no space, quote, backslash")
    return key


def number(name: str, value: object, least: float = 0.0, most: float = 1e9) -> float:
    """The value as seconds or another plain number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Refused(f"{name!r} must be a number from {least:g} to {most:g}")
    return float(value)


def whole(name: str, value: object, least: int = 0, most: int = 10**9) -> int:
    """The value as a whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise Refused(f"{name!r} must be a whole number from {least} to {most}")
    return value


def span(name: str, value: object) -> tuple[float, float]:
    """A duration, or two between which one is drawn: `0.2` or `[0.1, 0.5]`."""
    parts = value if isinstance(value, list) and len(value) == 2 else [value, value]
    low, high = (number(name, part, 0.0, 86_400.0) for part in parts)
    if low > high:
        raise Refused(f"{name!r} must be [min, max]")
    return low, high


def _names(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise Refused(f"{name!r} must be a list of strings")
    return value


def _one_of(name: str, value: object, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise Refused(f"{name!r} must be one of {', '.join(known)}")
    return value


def _keys(_: Config, name: str, value: object) -> dict[str, Any]:
    return {name: tuple(check_key(key) for key in _names(name, value))}


def _permissions(_: Config, name: str, value: object) -> dict[str, Any]:
    return {name: frozenset(_one_of(name, entry, PERMISSIONS) for entry in _names(name, value))}


def _limit(config: Config, name: str, value: object) -> dict[str, Any]:
    allowed = {"limit", "window_s"} | ({"header_form"} if name == "rate_limit" else set())
    if not isinstance(value, dict) or not value.keys() <= allowed:
        raise Refused(f"{name!r} must be an object with {', '.join(sorted(allowed))}")
    before: Limit = getattr(config, name)
    most = value.get("limit", before.limit)
    limit = Limit(
        None if most is None else whole("limit", most),
        number("window_s", value.get("window_s", before.window_s), 0.001),
    )
    checked: dict[str, Any] = {name: limit}
    if "header_form" in value:
        checked["header_form"] = _one_of("header_form", value["header_form"], HEADER_FORMS)
    return checked


def _forced_types(_: Config, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{name!r} must be an object of attribute name to type")
    return {name: {key: _one_of(name, forced, FORCED_TYPES) for key, forced in value.items()}}


def _latency(_: Config, name: str, value: object) -> dict[str, Any]:
    return {name: None if value is None or value == 0 else span(name, value)}


def _seconds(least: float) -> Callable[[Config, str, object], dict[str, Any]]:
    return lambda _, name, value: {name: number(name, value, least)}


_READERS: Final[dict[str, Callable[[Config, str, object], dict[str, Any]]]] = {
    "keys": _keys,
    "permissions": _permissions,
    "rate_limit": _limit,
    "export_rate_limit": _limit,
    "max_objects": lambda _, name, value: {name: whole(name, value, 1)},
    "max_objects_form": lambda _, name, value: {
        name: _one_of(name, value, ("combined", "per_array"))
    },
    "max_bytes": lambda _, name, value: {name: whole(name, value, 1, 64_000_000)},
    "blocked_attributes": lambda _, name, value: {name: frozenset(_names(name, value))},
    "forced_types": _forced_types,
    "export_delay_s": _seconds(0.0),
    "clock_skew_s": _seconds(-1e9),
    "latency": _latency,
    "gap_s": _seconds(0.0),
}
