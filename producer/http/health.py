"""`/healthz`: the process lives. `/readyz`: it takes messages. Neither asks who wants to know,
so neither says more than that, and the server is asked at most once a second."""

import asyncio
import time
from collections.abc import Callable

from producer.http.appender import Appender
from producer.http.asked import Asked
from producer.http.replies import Reply, health, not_now
from producer.refusals import ProducerRefused

_FRESH_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0


async def healthz(asked: Asked) -> Reply:
    """200 whenever the process can answer at all."""
    return health(200, "The process lives.")


class Readyz:
    """200 while messages are taken, 503 while they are not."""

    def __init__(self, appender: Appender, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._appender = appender
        self._clock = clock
        self._reply = health(503, "Not looked yet.")
        self._looked_at = clock() - _FRESH_SECONDS
        self._one = asyncio.Lock()

    async def __call__(self, asked: Asked) -> Reply:
        """The answer of this second."""
        async with self._one:
            if self._clock() - self._looked_at >= _FRESH_SECONDS:
                self._reply = await self._look()
                self._looked_at = self._clock()
        return self._reply

    async def _look(self) -> Reply:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._appender.check()
        except ProducerRefused as refused:
            return health(503, not_now(refused).message)
        except TimeoutError:
            return health(503, "The store behind this does not answer in time.")
        return health(200, "Messages are taken.")
