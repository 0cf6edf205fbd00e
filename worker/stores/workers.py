"""Which worker processes are alive, and when the beat's last tick was worked off."""

import os
import socket

from worker.stores.keys import TICKS, WORKERS
from worker.stores.server import Clock, Server, now_ms

ALIVE_MS = 10_000


def this_process() -> str:
    """The name under which this process is known: its machine and its number there."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Workers:
    """Heartbeats by the server's clock, or by `clock`."""

    def __init__(self, client: Server, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock

    def beat(self, name: str) -> None:
        """This worker is alive; those silent for long are forgotten."""
        now = self._now_ms()
        self._client.zadd(WORKERS, {name: now})
        self._client.zremrangebyscore(WORKERS, "-inf", now - 10 * ALIVE_MS)

    def leave(self, name: str) -> None:
        """This worker stops."""
        self._client.zrem(WORKERS, name)

    def alive(self) -> int:
        """How many have been heard of lately."""
        return int(self._client.zcount(WORKERS, self._now_ms() - ALIVE_MS, "+inf"))

    def ticked(self) -> None:
        """A tick was worked off: beat and workers are at work, together."""
        self._client.set(TICKS, self._now_ms())

    def tick_age_ms(self) -> int | None:
        """How long ago that last was; None if it never was."""
        found = self._client.get(TICKS)
        return None if found is None else max(0, self._now_ms() - int(found))

    def _now_ms(self) -> int:
        return now_ms(self._client, self._clock)
