"""What audiences.yaml can say, as values."""

from dataclasses import dataclass
from datetime import timedelta

from worker.audiences.cadence import Definition, KnownKind, Lane
from worker.audiences.query.tree import Query


@dataclass(frozen=True, slots=True)
class RealtimeLane:
    """How long a user's realtime changes are gathered."""

    linger: timedelta = timedelta(milliseconds=200)
    max_wait: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class BatchedLane:
    """When batched changes go out: at multiples of `every` on the UTC clock."""

    every: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The timing of both lanes."""

    realtime: RealtimeLane = RealtimeLane()
    batched: BatchedLane = BatchedLane()


@dataclass(frozen=True, slots=True)
class Entry:
    """One audience or trait.

    `declared`: the lane that the file orders, whatever the query reads as. `every`: an interval of
    its own. `iso_values`: whether a trait's values are ISO timestamps, if that was said. A custom
    trait is here only for that: it is not synced.
    """

    key: str
    attribute: str
    kind: KnownKind = KnownKind.AUDIENCE
    query: Query | None = None
    declared: Lane | None = None
    every: timedelta | None = None
    removes_on_exit: bool = False
    is_enabled: bool = True
    iso_values: bool | None = None

    @property
    def is_synced(self) -> bool:
        """Whether it is an attribute in Braze."""
        return self.kind is not KnownKind.CUSTOM

    @property
    def definition(self) -> Definition:
        """What its cadence is decided from."""
        return Definition(self.kind, self.query, self.declared, self.iso_values)
