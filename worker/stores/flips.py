"""Memberships that changed, by hour of the server's clock and audience: counted beside the fold
(`lua/accept.lua`), kept for two days, read to see what is unusual."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from worker.stores.keys import FLIPS_SINCE, key
from worker.stores.server import Server

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Hours:
    """What changed in one hour, and in those before it since the audience is known."""

    audience: str
    current: int
    previous: tuple[int, ...]


class Flips:
    """Reads the counts of all partitions together."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def of_hour(self, partitions: int, hour: int) -> dict[str, int]:
        """Changes in one hour (hours since 1970), by audience."""
        found: Counter[str] = Counter()
        for partition in range(partitions):
            counted = self._client.hgetall(key(partition, f"flips:{hour}"))
            if counted:
                ids = list(counted)
                names = self._client.hmget(key(partition, "names"), ids)
                for id_, name in zip(ids, names, strict=True):
                    found[(name or id_).decode()] += int(counted[id_])
        return dict(found)

    def many(self, partitions: int, hour: int, least: int, hours: int) -> list[Hours]:
        """Audiences with at least so many changes in an hour, with the hours before it.

        An audience is known from the first hour in which this sees it.
        """
        current = self.of_hour(partitions, hour)
        self._know(list(current), hour)
        loud = sorted(name for name, count in current.items() if count >= least)
        if not loud:
            return []
        since = self._since(loud)
        before = [self.of_hour(partitions, hour - back) for back in range(hours, 0, -1)]
        return [
            Hours(
                name,
                current[name],
                tuple(
                    counts.get(name, 0)
                    for back, counts in zip(range(hours, 0, -1), before, strict=True)
                    if hour - back >= first
                ),
            )
            for name, first in zip(loud, since, strict=True)
        ]

    def _know(self, names: Sequence[str], hour: int) -> None:
        with self._client.pipeline(transaction=False) as together:
            for name in names:
                together.hsetnx(FLIPS_SINCE, name, hour)
            together.execute()

    def _since(self, names: Sequence[str]) -> list[int]:
        return [int(found) for found in self._client.hmget(FLIPS_SINCE, names)]
