"""The registry: audiences.yaml, validated as a whole, as a value.

An audience that is not declared is realtime. Here the lane comes from `cadence`.
"""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from worker.contract import ATTRIBUTE_MAX_BYTES, RESERVED_ATTRIBUTES
from worker.durations import Duration, to_ms

_DAY = timedelta(days=1)


class WrongRegistry(Exception):
    """audiences.yaml cannot be used. The message lists everything that is wrong with it."""


def _divides_a_day(every: timedelta) -> timedelta:
    if every < timedelta(seconds=1) or _DAY % every:
        raise ValueError("must be at least 1s and divide a day evenly: 10s, 15m, 1h, 8h, 1d")
    return every


def _attribute_name(name: str) -> str:
    if name in RESERVED_ATTRIBUTES:
        raise ValueError(f"{name!r} is a Braze profile field; choose another attribute")
    if len(name.encode()) > ATTRIBUTE_MAX_BYTES:
        raise ValueError("is longer than 255 bytes")
    if name.startswith("$") or name != name.strip() or not name.isprintable():
        raise ValueError("may not begin with $, have spaces at its edges, or control characters")
    return name


def _exit_value(value: Any) -> Any:
    return "null" if value is None else value


Every = Annotated[Duration, AfterValidator(_divides_a_day)]
AttributeName = Annotated[str, Field(min_length=1), AfterValidator(_attribute_name)]
Cadence = Literal["realtime", "batched"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class RealtimeLane(_Model):
    """How long a user's realtime changes are gathered."""

    linger: Duration = timedelta(milliseconds=200)
    max_wait: Duration = timedelta(seconds=2)


class BatchedLane(_Model):
    """When batched changes go out: at multiples of `every` on the UTC clock."""

    every: Every = timedelta(hours=1)


class Lanes(_Model):
    """The timing of both lanes."""

    realtime: RealtimeLane = RealtimeLane()
    batched: BatchedLane = BatchedLane()


class Trait(_Model):
    """A computed trait: its key names a Braze attribute with a scalar value."""

    key: Annotated[str, Field(min_length=1)]
    attribute: AttributeName | None = None
    cadence: Cadence = "realtime"
    batched: BatchedLane | None = None
    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _attribute_defaults_to_the_key(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("attribute") is None:
            return {**raw, "attribute": raw.get("key")}
        return raw


class Audience(Trait):
    """An audience. `on_exit`: what its attribute becomes when a user leaves."""

    on_exit: Annotated[Literal[False, "null"], BeforeValidator(_exit_value)] = False


class Registry(_Model):
    """What audiences.yaml says. Two keys never name the same thing."""

    policy: Literal["personas", "engage"] = "personas"
    lanes: Lanes = Lanes()
    audiences: tuple[Audience, ...] = ()
    traits: tuple[Trait, ...] = ()

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Self:
        keys: set[str] = set()
        attributes: set[str | None] = set()
        for item in (*self.audiences, *self.traits):
            if item.key in keys:
                raise ValueError(f"the key {item.key!r} is declared twice")
            if item.attribute in attributes:
                raise ValueError(f"the attribute {item.attribute!r} is named by two keys")
            keys.add(item.key)
            attributes.add(item.attribute)
        return self

    def attributes(self) -> dict[str, str]:
        """The Braze attribute of each declared key."""
        return {item.key: item.attribute or item.key for item in (*self.audiences, *self.traits)}

    @property
    def version(self) -> str:
        """A digest of the meaning: equal for files that say the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def lane_terms(self) -> tuple[int, int, int, int]:
        """Linger, max_wait, interval and offset of the boundaries, in ms."""
        realtime = self.lanes.realtime
        every = to_ms(self.lanes.batched.every)
        return to_ms(realtime.linger), to_ms(realtime.max_wait), every, 0

    def rules(self) -> list[tuple[str, tuple[str, int, str, int]]]:
        """For each key: lane `r`|`b`, interval in ms (0: the lane's), exit `f`|`n`, enabled."""
        return [
            (
                item.key,
                (
                    item.cadence[0],
                    to_ms(item.batched.every) if item.batched else 0,
                    "n" if isinstance(item, Audience) and item.on_exit == "null" else "f",
                    int(item.enabled),
                ),
            )
            for item in (*self.audiences, *self.traits)
        ]


def read_registry(text: str, where: str = "audiences.yaml") -> Registry:
    """Read a registry. Raises WrongRegistry with all that is wrong, one line each."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongRegistry(f"{where} is not YAML: {error}") from None
    try:
        return Registry.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        lines = [f"{where}: {_said(item)}" for item in error.errors()]
        raise WrongRegistry("\n".join(lines)) from None


def load_registry(path: Path) -> Registry:
    """Read the file; one that does not exist declares nothing. Raises WrongRegistry."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Registry()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRegistry(f"{path} cannot be read: {error}") from None
    return read_registry(text, str(path))


def _said(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    reason = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        reason = "is not a known key here"
        if item["loc"][-1] == "query":
            reason = "is not read yet; say `cadence: realtime` or `cadence: batched` instead"
    return f"{place}: {reason}" if place else reason
