"""What the workers run with: each publishes its settings when it starts, without a secret in them.

Who only looks (`status`, `check`) tells the truth of the workers from here, and not what its own
shell happens to say.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worker.stores.keys import IN_FORCE, PARTITIONS_KEY, WORKERS
from worker.stores.server import Clock, Server, now_ms
from worker.stores.workers import ALIVE_MS

# A worker that has just published is not heard of before it is ready.
_STARTING_MS = 120_000

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Published:
    """One worker's settings by name, and when it started."""

    worker: str
    at_ms: int
    settings: Mapping[str, Value]


class InForce:
    """A field for each worker process. Those long gone are forgotten when another one starts."""

    def __init__(self, client: Server, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock

    def publish(self, worker: str, settings: Mapping[str, Value]) -> None:
        """This worker starts with these."""
        now = self._now_ms()
        mine = Published(worker, now, settings)
        gone = [
            found.worker
            for found in self._all()
            if found.at_ms < now - _STARTING_MS and not self._is_alive(found.worker, now)
        ]
        with self._client.pipeline(transaction=True) as together:
            if gone:
                together.hdel(IN_FORCE, *gone)
            together.hset(IN_FORCE, worker, json.dumps(asdict(mine)))
            together.execute()

    def alive(self) -> list[Published]:
        """Those of the workers that are alive, the latest start first."""
        now = self._now_ms()
        return [found for found in self._all() if self._is_alive(found.worker, now)]

    def latest(self) -> Published | None:
        """What is in force: of the workers alive the latest start; without one, of those before
        them. None before the first start."""
        return next(iter(self.alive()), None) or next(iter(self._all()), None)

    def partitions(self) -> int | None:
        """Their number, fixed at the first start; None before it."""
        found = self._client.get(PARTITIONS_KEY)
        return None if found is None else int(found)

    def _all(self) -> list[Published]:
        published = [_read(json.loads(packed)) for packed in self._client.hvals(IN_FORCE)]
        return sorted(published, key=lambda item: (-item.at_ms, item.worker))

    def _is_alive(self, worker: str, now_ms: int) -> bool:
        heard = self._client.zscore(WORKERS, worker)
        return heard is not None and float(heard) >= now_ms - ALIVE_MS

    def _now_ms(self) -> int:
        return now_ms(self._client, self._clock)


def _read(item: dict[str, Any]) -> Published:
    # By name: another version may have published more.
    return Published(item["worker"], item["at_ms"], item["settings"])
