"""Exact counters: what was accepted, how it ended, what was refused at the door, how fresh."""

from dataclasses import dataclass

from worker.pipeline.fold import End
from worker.pipeline.schedule import Lane
from worker.stores.keys import key
from worker.stores.server import Server

# The base of the freshness buckets in settle.lua: a bucket is 5 % wide.
_BASE = 1.05


@dataclass(frozen=True, slots=True)
class Balance:
    """accepted = the sum of the ends + pending. `values` are data points that Braze took."""

    accepted: int
    ends: dict[str, int]
    values: int
    objects: int
    resent: int
    replayed: int = 0
    dropped: int = 0
    envelopes_dead: int = 0

    @property
    def pending(self) -> int:
        """Changes accepted that have had no end yet, those in the inbox included."""
        return self.accepted - sum(self.ends.values())


class Ledger:
    """Reads the counters; the scripts that cause an end count it."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def balance(self, partitions: int) -> Balance:
        """The books of all partitions together."""
        total = self._sum("ledger", partitions)
        return Balance(
            accepted=total.get("accepted", 0),
            ends={end.value: total.get(end.value, 0) for end in End},
            values=total.get("values", 0),
            objects=total.get("objects", 0),
            resent=total.get("resent", 0),
            replayed=total.get("replayed", 0),
            dropped=total.get("dropped", 0),
            envelopes_dead=total.get("envelopes_dead", 0),
        )

    def door(self, partitions: int) -> tuple[dict[str, int], dict[str, int]]:
        """Messages refused and skipped at the door, by code."""
        counted = self._sum("door", partitions)
        refused, skipped = (
            {name.partition(":")[2]: n for name, n in sorted(counted.items()) if name.startswith(k)}
            for k in ("refused:", "skipped:")
        )
        return refused, skipped

    def freshness(self, partitions: int, lane: Lane, shares: tuple[float, ...]) -> list[float]:
        """Seconds from the inbox to Braze's acknowledgement, at these shares of all changes.

        Within 5 % of the true percentile; empty if nothing was delivered.
        """
        ages = self.ages(partitions, lane)
        total = sum(count for _, count in ages)
        found = []
        for share in shares if total else ():
            seen = 0
            for seconds, count in ages:
                seen += count
                if seen >= share * total:
                    found.append(seconds)
                    break
        return found

    def ages(self, partitions: int, lane: Lane) -> list[tuple[float, int]]:
        """(seconds from the inbox to the acknowledgement, changes delivered), the freshest first.

        An age stands for a span that is 5 % wide, and is its middle.
        """
        counted = sorted(
            (int(name[1:]), count)
            for name, count in self._sum("fresh", partitions).items()
            if name[0] == lane.code
        )
        return [(_BASE ** (bucket + 0.5) / 1000, count) for bucket, count in counted]

    def _sum(self, name: str, partitions: int) -> dict[str, int]:
        total: dict[str, int] = {}
        for partition in range(partitions):
            for field, value in self._client.hgetall(key(partition, name)).items():
                total[field.decode()] = total.get(field.decode(), 0) + int(value)
        return total
