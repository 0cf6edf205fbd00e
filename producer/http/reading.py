"""The messages of one request, read one after the other: what to append, and what was not taken.

A refused message does not keep its neighbours from being taken.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from producer.envelopes import Samples
from producer.http.packing import Item
from producer.messages import Refused, Skipped


@dataclass(slots=True)
class Reading:
    """What was read so far. `messages` counts by kind and what became of them."""

    request: str
    items: list[Item] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, index: int, kind: str, read: Item | Refused | Skipped) -> None:
        """Take what was read of the message at that place."""
        if isinstance(read, Refused):
            code = str(read.code)
            self.messages[kind, "refused"] += 1
            self.refused[code] += 1
            self.refusals.append({"index": index, "code": code, "reason": read.reason})
            self.samples.add(read, f"{self.request}:{index}")
        elif isinstance(read, Skipped):
            self.messages[kind, "skipped"] += 1
            self.skipped[str(read.code)] += 1
            self.samples.add(read, f"{self.request}:{index}")
        else:
            self.messages[kind, "accepted"] += 1
            self.items.append(read)

    def counts(self) -> dict[str, int]:
        """For the access log."""
        return {
            "accepted": len(self.items),
            "refused": self.refused.total(),
            "skipped": self.skipped.total(),
        }
