"""The client of shadow mode: it answers as Braze does when all is well, and sends nothing.

No socket is opened, and no key is read. Everything before and after the request happens as it
does when live, so that lanes, requests and data points can be seen before anything is billed.
"""

from collections.abc import Callable
from datetime import timedelta

import orjson

from worker.pipeline.reply import Reply, Trouble


class ShadowBraze:
    """`is_shadow` is asked before every answer: a worker that was frozen, and wakes when the
    others have gone live, must not say that anything was delivered. It calls `over` instead."""

    def __init__(self, is_shadow: Callable[[], bool], over: Callable[[], None]) -> None:
        self._is_shadow = is_shadow
        self._over = over

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """201, with every object of `body` processed; surely not sent, if shadow mode is over."""
        if not self._is_shadow():
            self._over()
            return Reply(trouble=Trouble.NOT_CONNECTED)
        processed = len(orjson.loads(body)["attributes"])
        answer = {"message": "success", "attributes_processed": processed}
        return Reply(status=201, body=orjson.dumps(answer))

    def probe(self) -> Reply:
        """Nobody is asked, so nobody refuses."""
        return Reply(status=201, body=b'{"message":"success"}')

    def close(self) -> None:
        """There is nothing to close."""
