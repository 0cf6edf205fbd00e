"""A client that is late, as that of a frozen worker is."""

from collections.abc import Callable
from datetime import timedelta

from worker.braze.client import BrazeClient
from worker.pipeline.reply import Reply


class Late:
    """A client that is frozen once, after the last look at the clock and before its bytes leave."""

    def __init__(self, client: BrazeClient, meanwhile: Callable[[], None]) -> None:
        self._client = client
        self._meanwhile: Callable[[], None] | None = meanwhile

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """One request, late."""
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        return self._client.track(body, total=total)

    def probe(self) -> Reply:
        """As it is."""
        return self._client.probe()
