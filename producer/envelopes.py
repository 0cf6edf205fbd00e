"""Readings of messages, packed into envelopes: one partition each, at most 500 changes.

The same readings under the same name make the same envelopes with the same ids, so whoever
repeats after a lost answer repeats harmlessly.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
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
SKIPPED_SAMPLES = 5  # what is not our business must not fill the journal
COUNTS_PARTITION = 0


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


class Samples:
    """The few messages that `trace` will show of all that were not taken: those whose user is
    known, refused ones before skipped ones, 20 at most."""

    def __init__(self) -> None:
        self._refused: list[RefusedSample] = []
        self._skipped: list[RefusedSample] = []

    def add(self, reading: Refused | Skipped, where: str) -> None:
        """Take one, if there is room and it names a user."""
        is_refused = isinstance(reading, Refused)
        kept, most = (self._refused, SAMPLES) if is_refused else (self._skipped, SKIPPED_SAMPLES)
        if reading.user_id is not None and len(kept) < most:
            code = str(reading.code)
            kept.append(RefusedSample(code=code, user_id=reading.user_id, where=where))

    def join(self, other: "Samples") -> None:
        """Take the other's too, while there is room."""
        self._refused = (self._refused + other._refused)[:SAMPLES]
        self._skipped = (self._skipped + other._skipped)[:SKIPPED_SAMPLES]

    def chosen(self) -> list[RefusedSample]:
        """Those that travel."""
        return (self._refused + self._skipped)[:SAMPLES]


def refusals(
    new_id: Callable[[int], str],
    source: str,
    refused: Mapping[str, int],
    skipped: Mapping[str, int],
    samples: Samples,
    partitions: int,
) -> list[Addressed]:
    """Counts in one envelope, each sample in one of its user's partition: there `trace` looks, and
    there is known who was deleted. `new_id(partition)`. Nothing counted: nothing to send."""
    if not refused and not skipped:
        return []
    of_partition: dict[int, list[RefusedSample]] = defaultdict(list)
    of_partition[COUNTS_PARTITION] = []
    for sample in samples.chosen():
        of_partition[partition_of(sample.user_id or "", partitions)].append(sample)
    return [
        Addressed.of(
            Refusals(
                id=new_id(partition),
                source=source,
                refused=dict(refused) if partition == COUNTS_PARTITION else {},
                skipped=dict(skipped) if partition == COUNTS_PARTITION else {},
                samples=found,
            ),
            partition,
        )
        for partition, found in sorted(of_partition.items())
    ]


class Parcel:
    """Collects readings until they are packed; `acknowledged`: Braze holds their values already."""

    def __init__(self, *, partitions: int, source: str, acknowledged: bool = False) -> None:
        self.counts = Counts()
        self._partitions = partitions
        self._source = source
        self._acknowledged = acknowledged
        self._changes: dict[int, list[Change]] = defaultdict(list)
        self._samples = Samples()

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
        self._samples.add(reading, str(where))

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
        return packed + refusals(
            lambda partition: f"{name}:refusals{f':{partition}' if partition else ''}",
            self._source,
            self.counts.refused,
            self.counts.skipped,
            self._samples,
            self._partitions,
        )


def clean_name(text: str, limit: int) -> str:
    """A name from outside (a source, a batch id) as the contract takes it: UTF-8, bounded."""
    return text.encode("utf-8", "replace").decode()[:limit]


def _slices(changes: list[Change]) -> list[list[Change]]:
    size = MAX_CHANGES_PER_ENVELOPE
    return [changes[start : start + size] for start in range(0, len(changes), size)]
