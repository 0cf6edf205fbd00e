"""Counts what is refused and skipped until it is worth an envelope: a flood of plain events
becomes one envelope a second and source, not one each.

Exact over a graceful stop. A process that is killed loses what it counted since its last
envelope, a second's worth; never a change.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from producer.envelopes import Addressed, Samples, refusals


@dataclass(slots=True)
class _Tally:
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    samples: Samples = field(default_factory=Samples)


class DoorCounts:
    """What was not taken since `take`. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, _Tally] = {}

    def add(
        self,
        source: str,
        refused: Counter[str],
        skipped: Counter[str],
        samples: Samples,
    ) -> None:
        """Count one request's; of the samples the first few of each second are kept."""
        if not refused and not skipped:
            return
        with self._lock:
            tally = self._sources.setdefault(source, _Tally())
            tally.refused.update(refused)
            tally.skipped.update(skipped)
            tally.samples.join(samples)

    def take(self, new_id: Callable[[], str], partitions: int = 1) -> list[Addressed]:
        """Envelopes of all that was counted, for each source; counting begins anew."""
        with self._lock:
            taken, self._sources = self._sources, {}
        return [
            envelope
            for source, tally in taken.items()
            for envelope in refusals(
                lambda _: new_id(), source, tally.refused, tally.skipped, tally.samples, partitions
            )
        ]
