"""Requests that are under way together share an append; each is answered when it is on disk.

One thread takes all that waits, appends it in the order in which it was given, and tells each
giver. While the server is away, or full, nobody waits for it: givers are refused at once, and
the thread looks twice a second whether it is over.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import structlog

from producer.envelopes import Addressed
from producer.http.door_counts import DoorCounts
from producer.http.metrics import Row
from producer.http.packing import Item, packed
from producer.refusals import InboxFull, MemoryFull, ProducerRefused, ServerAway

_LOOK_SECONDS = 0.5
_COUNTS_SECONDS = 1.0
ITEMS_PER_APPEND = 8_000  # sixteen full envelopes: the server does nothing else meanwhile
_REASONS = {InboxFull: "inbox_full", MemoryFull: "memory_full", ServerAway: "server_away"}
_UNEXPECTED = "The producer failed in an unexpected way; its log says how."


class Store(Protocol):
    """Where envelopes go: `producer.inbox.Inbox`. Used by one thread."""

    def append(self, envelopes: Sequence[Addressed]) -> object:
        """Durable when it returns. Raises ProducerRefused."""

    def check(self) -> None:
        """Raises the ProducerRefused that an append would meet now."""

    def close(self) -> None:
        """Give the connection back."""


@dataclass(slots=True)
class _Given:
    items: Sequence[Item]
    answer: "asyncio.Future[None]"


class Appender:
    """Between the event loop, which gives, and the store. `ring(partition)` must not block."""

    def __init__(
        self,
        store: Store,
        counts: DoorCounts,
        ring: Callable[[int], None],
        row: Row,
        *,
        partitions: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._counts = counts
        self._ring = ring
        self._row = row
        self._partitions = partitions
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Given] = []
        self._is_closing = False
        self._unsent_counts: list[Addressed] = []
        self._counts_at = clock() - _COUNTS_SECONDS
        self._looked_at = clock()
        self._trouble: ProducerRefused | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._work, name="appender", daemon=True)

    @property
    def trouble(self) -> ProducerRefused | None:
        """Why nothing is taken now; None: appends succeed, as far as is known."""
        return self._trouble

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._row.set("taking", 1)
        self._thread.start()

    def close(self) -> None:
        """Append what was given, and the counts; then end. Blocks."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._row.set("taking", 0)
        self._store.close()

    async def append(self, items: Sequence[Item]) -> None:
        """Returns when they are durable. Raises ProducerRefused; some may be in the inbox then,
        and to say them again does no harm."""
        if self._trouble is not None:
            raise self._trouble
        answer: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            self._waiting.append(_Given(items, answer))
            self._changed.notify()
        await answer

    async def check(self) -> None:
        """Look whether an append would succeed. Raises ProducerRefused."""
        await self.append(())

    # --- the thread

    def _work(self) -> None:
        while True:
            given, is_last = self._next()
            try:
                if given:
                    self._append(given)
                self._look()
                if is_last or self._clock() - self._counts_at >= _COUNTS_SECONDS:
                    self._send_counts()
            except Exception as error:  # noqa: BLE001 - without this thread nobody is answered
                structlog.get_logger().error("appender_failed", reason=type(error).__name__)
            if is_last:
                return

    def _next(self) -> tuple[list[_Given], bool]:
        """What waits, up to a bounded number of items; and whether that is the end."""
        with self._changed:
            if not self._waiting and not self._is_closing:
                self._changed.wait(_LOOK_SECONDS)
            size = count = 0
            while count < len(self._waiting) and size < ITEMS_PER_APPEND:
                size += len(self._waiting[count].items)
                count += 1
            given, self._waiting = self._waiting[:count], self._waiting[count:]
            return given, self._is_closing and not self._waiting

    def _append(self, given: list[_Given]) -> None:
        if self._trouble is not None:
            self._tell(given, self._trouble)
            return
        began = self._clock()
        try:
            envelopes = self._pack_and_append(given)
        except ProducerRefused as refused:
            self._meet(refused)
            self._tell(given, refused)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it is
            structlog.get_logger().error("append_failed", reason=type(error).__name__)
            self._tell(given, ServerAway(_UNEXPECTED))
            return
        self._tell(given, None)
        if envelopes:
            self._row.count("appends_total")
            self._row.count("appended_requests_total", len(given))
            self._row.observe("append_duration_seconds", self._clock() - began)
        for partition in {envelope.partition for envelope in envelopes}:
            self._ring(partition)

    def _pack_and_append(self, given: list[_Given]) -> list[Addressed]:
        items = [item for one in given for item in one.items]
        envelopes = packed(items, partitions=self._partitions, new_id=_new_id)
        if envelopes:
            self._store.append(envelopes)
        else:
            self._store.check()
        return envelopes

    def _tell(self, given: list[_Given], refused: ProducerRefused | None) -> None:
        self._loop.call_soon_threadsafe(_answer, [one.answer for one in given], refused)

    def _meet(self, refused: ProducerRefused) -> None:
        self._row.count("appends_refused_total", reason=_REASONS.get(type(refused), "wrong_server"))
        if self._trouble is None:
            structlog.get_logger().warning("nothing_is_taken", reason=str(refused))
            self._row.set("taking", 0)
        self._trouble = refused
        self._looked_at = self._clock()

    def _look(self) -> None:
        """In trouble: see whether it is over."""
        if self._trouble is None or self._clock() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = self._clock()
        try:
            self._store.check()
        except ProducerRefused as refused:
            self._trouble = refused
            self._looked_at = self._clock()
        else:
            self._trouble = None
            self._row.set("taking", 1)
            structlog.get_logger().info("messages_are_taken_again")

    def _send_counts(self) -> None:
        """An envelope that may have arrived is sent again as it is: nothing is counted twice."""
        self._counts_at = self._clock()
        self._unsent_counts = self._unsent_counts or self._counts.take(_new_id, self._partitions)
        if not self._unsent_counts:
            return
        try:
            self._store.append(self._unsent_counts)
        except ProducerRefused as refused:
            self._meet(refused)
            return
        for partition in {envelope.partition for envelope in self._unsent_counts}:
            self._ring(partition)
        self._unsent_counts = []


def _new_id() -> str:
    return f"http:{uuid4().hex}"


def _answer(answers: list["asyncio.Future[None]"], refused: ProducerRefused | None) -> None:
    """In the event loop. Who has hung up meanwhile is not told."""
    for answer in answers:
        if answer.done():
            continue
        if refused is None:
            answer.set_result(None)
        else:
            answer.set_exception(refused)
