"""Readings of messages, packed into envelopes: one partition each, at most 500 changes.

The same readings under the same name make the same envelopes with the same ids, so whoever
repeats after a lost answer repeats harmlessly.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Self

from producer.messages import Refused, Skipped
from worker.contract import (
    MAX_CHANGES_PER_ENVELOPE,
    Change,
    Changes,
    Deletion,
    Refusals,
    RefusedSample,
    partition_of,
)

SAMPLES = 20
REFUSALS_PARTITION = 0


@dataclass(frozen=True, slots=True)
class Addressed:
    """An envelope as it goes to its partition's inbox; `count` is its number of changes."""

    partition: int
    envelope_id: str
    body: bytes
    count: int

    @classmethod
    def of(cls, envelope: Changes | Refusals | Deletion, partition: int) -> Self:
        """Write the envelope as JSON."""
        count = len(envelope.changes) if isinstance(envelope, Changes) else 0
        body = envelope.model_dump_json(by_alias=True).encode()
        return cls(partition, envelope.id, body, count)


@dataclass(slots=True)
class Counts:
    """How many messages had which outcome; a message has exactly one."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Count the other's messages here too."""
        self.accepted += other.accepted
        self.refused.update(other.refused)
        self.skipped.update(other.skipped)


class Parcel:
    """Collects readings until they are packed; `acknowledged`: Braze holds their values already."""

    def __init__(self, *, partitions: int, source: str, acknowledged: bool = False) -> None:
        self.counts = Counts()
        self._partitions = partitions
        self._source = source
        self._acknowledged = acknowledged
        self._changes: dict[int, list[Change]] = defaultdict(list)
        self._samples: list[RefusedSample] = []

    def add(self, reading: Change | Refused | Skipped, where: int) -> None:
        """Take one reading; `where` is its line or index, for the people who look."""
        if isinstance(reading, Change):
            self.counts.accepted += 1
            self._changes[partition_of(reading.user_id, self._partitions)].append(reading)
            return
        if isinstance(reading, Refused):
            self.counts.refused[str(reading.code)] += 1
        else:
            self.counts.skipped[str(reading.code)] += 1
        self._sample(reading, where)

    def packed(self, name: str) -> list[Addressed]:
        """The envelopes, with ids that begin with `name`; refusals travel in one of their own."""
        packed = [
            Addressed.of(
                Changes(
                    id=f"{name}:{partition}:{number}",
                    acknowledged=self._acknowledged,
                    changes=changes,
                ),
                partition,
            )
            for partition, all_changes in sorted(self._changes.items())
            for number, changes in enumerate(_slices(all_changes))
        ]
        if self._samples:
            packed.append(Addressed.of(self._refusals(f"{name}:refusals"), REFUSALS_PARTITION))
        return packed

    def _sample(self, reading: Refused | Skipped, where: int) -> None:
        if len(self._samples) < SAMPLES:
            user_id = reading.user_id if isinstance(reading, Refused) else None
            self._samples.append(
                RefusedSample(code=str(reading.code), user_id=user_id, where=str(where))
            )

    def _refusals(self, envelope_id: str) -> Refusals:
        return Refusals(
            id=envelope_id,
            source=self._source,
            refused=dict(self.counts.refused),
            skipped=dict(self.counts.skipped),
            samples=self._samples,
        )


def clean_name(text: str, limit: int) -> str:
    """A name from outside (a source, a batch id) as the contract takes it: UTF-8, bounded."""
    return text.encode("utf-8", "replace").decode()[:limit]


def _slices(changes: list[Change]) -> list[list[Change]]:
    size = MAX_CHANGES_PER_ENVELOPE
    return [changes[start : start + size] for start in range(0, len(changes), size)]
