"""Counts what is refused and skipped until it is worth an envelope: a flood of plain events
becomes one envelope a second and source, not one each.

Exact over a graceful stop. A process that is killed loses what it counted since its last
envelope, a second's worth; never a change.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from producer.envelopes import REFUSALS_PARTITION, SAMPLES, Addressed
from worker.contract import Refusals, RefusedSample


@dataclass(slots=True)
class _Tally:
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    samples: list[RefusedSample] = field(default_factory=list)


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
        samples: Iterable[RefusedSample],
    ) -> None:
        """Count one request's; of the samples the first few of each second are kept."""
        if not refused and not skipped:
            return
        with self._lock:
            tally = self._sources.setdefault(source, _Tally())
            tally.refused.update(refused)
            tally.skipped.update(skipped)
            for sample in samples:
                if len(tally.samples) >= SAMPLES:
                    break
                tally.samples.append(sample)

    def take(self, new_id: Callable[[], str]) -> list[Addressed]:
        """Envelopes of all that was counted, one for each source; counting begins anew."""
        with self._lock:
            taken, self._sources = self._sources, {}
        return [
            Addressed.of(
                Refusals(
                    id=new_id(),
                    source=source,
                    refused=dict(tally.refused),
                    skipped=dict(tally.skipped),
                    samples=tally.samples,
                ),
                REFUSALS_PARTITION,
            )
            for source, tally in taken.items()
        ]
