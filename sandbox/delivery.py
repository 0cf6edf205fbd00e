"""How a reply leaves: properly, late, in drips, cut in half, or not at all.

Everything here is plain timers on the event loop, no task per request, so that a thousand delayed
replies cost no more than the entries of a heap.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sandbox.wire import Reply, encode_head


class Manner(Enum):
    ANSWER = "answer"
    SILENCE = "silence"
    RESET = "reset"
    DRIP = "drip"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What to do with one request's reply.

    `delay` seconds pass first; under SILENCE they are the silence, after which the connection
    closes. `late` runs after `late_after` seconds whether or not the client is still there.
    """

    reply: Reply
    manner: Manner = Manner.ANSWER
    delay: float = 0.0
    interval: float = 0.0
    late: Callable[[], object] | None = None
    late_after: float = 0.0

    @property
    def status(self) -> int | None:
        """The status the client gets to see, if it waits; None where it gets none."""
        return None if self.manner in (Manner.SILENCE, Manner.RESET) else self.reply.status


class Courier:
    """Carries out one delivery; calls `done` with the reply unless the client went first."""

    __slots__ = ("_date", "_delivery", "_done", "_keep_alive", "_loop", "_timer", "_transport")

    def __init__(
        self,
        delivery: Delivery,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        date: bytes,
        keep_alive: bool,
        done: Callable[[], None],
    ) -> None:
        self._delivery = delivery
        self._transport = transport
        self._loop = loop
        self._date = date
        self._keep_alive = keep_alive and delivery.manner is Manner.ANSWER
        self._done = done
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        delivery = self._delivery
        if delivery.late is not None:
            self._loop.call_later(delivery.late_after, delivery.late)
        if delivery.delay > 0:
            self._timer = self._loop.call_later(delivery.delay, self._act)
        else:
            self._act()

    def cancel(self) -> None:
        """The client has gone: forget the reply. A late write still lands."""
        if self._timer is not None:
            self._timer.cancel()

    def _act(self) -> None:
        manner, reply = self._delivery.manner, self._delivery.reply
        if manner is Manner.ANSWER:
            self._finish(self._head() + reply.body)
        elif manner is Manner.CUT:
            self._finish(self._head() + reply.body[: len(reply.body) // 2])
        elif manner is Manner.DRIP:
            self._transport.write(self._head())
            self._drip(0)
        elif manner is Manner.RESET:
            reset(self._transport)
        else:
            self._transport.close()

    def _drip(self, place: int) -> None:
        body = self._delivery.reply.body
        if place + 1 >= len(body):
            self._finish(body[place:])
            return
        self._transport.write(body[place : place + 1])
        self._timer = self._loop.call_later(self._delivery.interval, self._drip, place + 1)

    def _finish(self, data: bytes) -> None:
        # Before the write: whoever reads the reply must find the request accounted for.
        self._done()
        self._transport.write(data)
        if not self._keep_alive:
            self._transport.close()

    def _head(self) -> bytes:
        return encode_head(self._delivery.reply, self._date, self._keep_alive)


def reset(transport: asyncio.Transport) -> None:
    """Drop the connection with a TCP reset instead of an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
