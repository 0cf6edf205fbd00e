"""What every route that takes messages does with what it read: append, count, answer."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from producer.envelopes import Samples
from producer.http.appender import Appender
from producer.http.asked import Asked
from producer.http.auth import FreshSecrets, Secrets
from producer.http.bodies import read_body
from producer.http.door_counts import DoorCounts
from producer.http.metrics import Row
from producer.http.reading import Reading
from producer.http.replies import Declined, Reply, not_now, taken
from producer.refusals import ProducerRefused
from worker.contract import Refusal

_OF_A_BODY = frozenset(
    str(code)
    for code in (
        Refusal.BROKEN_JSON,
        Refusal.NOT_AN_OBJECT,
        Refusal.BAD_REQUEST,
        Refusal.EMPTY_BATCH,
        Refusal.TOO_MANY_MESSAGES,
        Refusal.BODY_TOO_LARGE,
        Refusal.BROKEN_GZIP,
        Refusal.UNSUPPORTED_MEDIA_TYPE,
        Refusal.UNSUPPORTED_ENCODING,
    )
)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Intake:
    """The way from a request to the inbox."""

    def __init__(
        self,
        appender: Appender,
        counts: DoorCounts,
        secrets: FreshSecrets,
        row: Row,
        body_timeout: timedelta,
        *,
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        self._appender = appender
        self._counts = counts
        self._secrets = secrets
        self._row = row
        self._body_seconds = body_timeout.total_seconds()
        self.now_ms = now_ms

    def secrets(self) -> Secrets:
        """What is valid now."""
        return self._secrets.now()

    def refuse_early(self) -> None:
        """Raises Declined while nothing is taken: nothing is read or parsed for nothing."""
        if self._appender.trouble is not None:
            raise not_now(self._appender.trouble)

    async def body(self, asked: Asked, limit: int, *, may_be_packed: bool = True) -> bytes:
        """The unpacked body. Raises Declined."""
        found = await read_body(asked, limit, self._body_seconds, may_be_packed=may_be_packed)
        self._row.count("received_bytes_total", len(found))
        return found

    @contextmanager
    def counting(self, source: str | None, asked: Asked) -> Iterator[None]:
        """A body of a known sender that is declined within is counted once, under its code. What a
        stranger sends is in the log only: anybody could make these counts grow."""
        try:
            yield
        except Declined as declined:
            if source is not None and declined.code in _OF_A_BODY:
                asked.notes["source"] = source
                self._counts.add(source, Counter({declined.code: 1}), Counter(), Samples())
            raise

    async def take(self, reading: Reading, source: str, asked: Asked) -> Reply:
        """200 once everything accepted is on disk. Raises Declined if it is not."""
        asked.notes["source"] = source
        if reading.items:
            try:
                await self._appender.append(reading.items)
            except ProducerRefused as refused:
                raise not_now(refused) from None
        self._counts.add(source, reading.refused, reading.skipped, reading.samples)
        for (kind, outcome), by in reading.messages.items():
            self._row.count("messages_total", by, kind=kind, outcome=outcome)
        asked.notes.update(reading.counts())
        return taken(len(reading.items), reading.skipped, reading.refusals)

    def refuse_single(self, reading: Reading, source: str, asked: Asked) -> Declined:
        """400 for a request whose one message was refused; it is counted like the others."""
        asked.notes["source"] = source
        self._counts.add(source, reading.refused, reading.skipped, reading.samples)
        (refusal,) = reading.refusals
        return Declined(400, refusal["code"], refusal["reason"])
