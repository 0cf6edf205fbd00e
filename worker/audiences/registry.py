"""The registry: audiences.yaml, validated as a whole, as a value.

An audience that is not declared is realtime, and so is one with neither a query nor a cadence.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from worker.audiences.cadence import (
    Cycle,
    Decision,
    Known,
    KnownKeys,
    Lane,
    Policy,
    decide_all,
)
from worker.audiences.query.printer import print_query
from worker.audiences.registry_entries import BatchedLane, Entry, Lanes, RealtimeLane
from worker.audiences.registry_faults import Fault, Faults, WrongRegistry
from worker.audiences.registry_reader import Reader
from worker.audiences.registry_yaml import MAX_BYTES, NoYaml, read_yaml
from worker.durations import to_ms

__all__ = [
    "BatchedLane",
    "Entry",
    "Fault",
    "Lanes",
    "RealtimeLane",
    "Registry",
    "WrongRegistry",
    "load_registry",
    "read_in_part",
    "read_registry",
    "registry_text",
]


@dataclass(frozen=True)
class Registry:
    """What audiences.yaml says. Two keys never name the same thing, and no queries form a ring."""

    policy: Policy = Policy.PERSONAS
    lanes: Lanes = field(default_factory=Lanes)
    audiences: tuple[Entry, ...] = ()
    traits: tuple[Entry, ...] = ()
    # Of all boundaries; a setting, not in the file.
    offset: timedelta = field(default=timedelta(), kw_only=True)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Audiences and traits, in the order of the file."""
        return (*self.audiences, *self.traits)

    @cached_property
    def decisions(self) -> Mapping[str, Decision]:
        """The lane of each key, and why."""
        found = decide_all({one.key: one.definition for one in self.entries}, self.policy)
        if isinstance(found, Cycle):
            raise ValueError(f"these refer to each other in a ring: {found}")
        return found

    @property
    def known(self) -> KnownKeys:
        """The registry as the reading of another query sees it."""
        return KnownKeys(
            {
                one.key: Known(one.kind, decided.lane, decided.reasons, one.iso_values)
                for one in self.entries
                for decided in (self.decisions[one.key],)
            }
        )

    def under(self, policy: Policy) -> "Registry":
        """The same registry, read under a policy."""
        return replace(self, policy=policy)

    def entry(self, key: str) -> Entry | None:
        """What is declared of the key."""
        return next((one for one in self.entries if one.key == key), None)

    def every(self, entry: Entry | None) -> timedelta:
        """The interval of a batched audience: its own, or the lane's."""
        return (entry.every if entry else None) or self.lanes.batched.every

    def attributes(self) -> dict[str, str]:
        """The Braze attribute of each declared key that is synced."""
        return {one.key: one.attribute for one in self.entries if one.is_synced}

    @property
    def version(self) -> str:
        """A digest of the meaning: equal for files that say the same."""
        meaning = (self.lane_terms(), self.policy, sorted(map(self._meaning, self.entries)))
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    def _meaning(self, one: Entry) -> list[object]:
        query = [one.query.kind, print_query(one.query)] if one.query else []
        decided = self.decisions[one.key]
        return [
            one.key, one.kind, one.attribute, decided.lane, str(one.declared), query,
            to_ms(self.every(one)), one.removes_on_exit, one.is_enabled, str(one.iso_values),
        ]  # fmt: skip

    def lane_terms(self) -> tuple[int, int, int, int]:
        """Linger, max_wait, interval and offset of the boundaries, in ms."""
        realtime = self.lanes.realtime
        every = to_ms(self.lanes.batched.every)
        return to_ms(realtime.linger), to_ms(realtime.max_wait), every, to_ms(self.offset)

    def rules(self) -> list[tuple[str, tuple[str, int, str, int]]]:
        """For each key: lane `r`|`b`, interval in ms (0: the lane's), exit `f`|`n`, enabled."""
        return [
            (
                one.key,
                (
                    "b" if self.decisions[one.key].lane is Lane.BATCHED else "r",
                    to_ms(one.every) if one.every else 0,
                    "n" if one.removes_on_exit else "f",
                    int(one.is_enabled),
                ),
            )
            for one in self.entries
            if one.is_synced
        ]


def read_registry(
    text: str, where: str = "audiences.yaml", *, may_be_empty: bool = False
) -> Registry:
    """Read a registry. Raises WrongRegistry with all that is wrong, each with its line.

    A text that says nothing is wrong, unless it `may_be_empty`: somebody is about to fill it.
    """
    faults = Faults()
    reader = Reader(faults)
    with suppress(NoYaml):
        reader.read(read_yaml(text, faults), may_be_empty)
    if faults:
        raise WrongRegistry.of(faults.in_order(), where)
    return Registry(reader.policy, reader.lanes, reader.audiences, reader.traits)


def read_in_part(text: str, where: str = "audiences.yaml") -> tuple[Registry, frozenset[str]]:
    """A registry without the entries in which something is wrong, and the keys of those.

    For who looks, never for who sends: what is left out would be realtime. Raises WrongRegistry
    if the text is no YAML.
    """
    faults = Faults()
    reader = Reader(faults)
    with suppress(NoYaml):
        root = read_yaml(text, faults)
        if not faults:
            reader.read(root)
            right = (
                tuple(one for one in entries if one.key not in reader.doubtful)
                for entries in (reader.audiences, reader.traits)
            )
            return Registry(reader.policy, reader.lanes, *right), frozenset(reader.doubtful)
    raise WrongRegistry.of(faults.in_order(), where)


def load_registry(path: Path) -> Registry:
    """Read the file; one that does not exist declares nothing. Raises WrongRegistry."""
    try:
        text = registry_text(path)
    except FileNotFoundError:
        return Registry()
    return read_registry(text, str(path))


def registry_text(path: Path) -> str:
    """The text of the file, as it is. Raises FileNotFoundError or WrongRegistry."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise WrongRegistry(f"{path} is larger than {MAX_BYTES // 1_000_000} MB.")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRegistry(f"{path} cannot be read: {error}") from None
