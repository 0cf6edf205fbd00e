"""What uvicorn does not guard: headers that are too many, too long or too slow, bodies that go
on after the answer, and more connections than one process should have.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from producer.http.door import TOO_MANY_HEADERS
from producer.http.limits import DISCARDED_BYTES, HEADERS_MAX_BYTES, HEADERS_MAX_COUNT
from producer.http.replies import busy


def _busy() -> bytes:
    """The whole answer to a connection too many; nobody reads what it asks."""
    reply = busy().reply()
    headers = (*reply.headers, (b"content-length", str(len(reply.body)).encode()))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n" + lines + b"\r\n" + reply.body


def guarded(connections: int, seconds: float) -> type[HttpToolsProtocol]:
    """The protocol for at most so many connections; a request's headers must be here in so many
    seconds, and all of it in twice that."""

    class Guarded(_Guarded):
        most = connections
        patience = seconds

    return Guarded


class _Guarded(HttpToolsProtocol):
    most: int
    patience: float
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _thrown_away = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_at_most(self.patience)
        if len(self.connections) > self.most:
            transport.write(_busy())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A header that never ends is not told to anybody until it does.
        if self._header_bytes >= 0:
            self._header_bytes += len(data)
            if self._header_bytes > 2 * HEADERS_MAX_BYTES and not self.transport.is_closing():
                self.transport.close()

        # Data that begins no request must not keep a connection open for ever.
        if self._deadline is None and self.timeout_keep_alive_task is None and self._is_between():
            self._wait_at_most(self.patience)

    def _is_between(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._thrown_away = 0
        self._wait_at_most(self.patience)

    def on_headers_complete(self) -> None:
        self._header_bytes = -1
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEADERS_MAX_BYTES or len(self.headers) > HEADERS_MAX_COUNT:
            cast(dict[str, Any], self.scope)[TOO_MANY_HEADERS] = True
        self._wait_at_most(2 * self.patience)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._thrown_away += len(body)
            if self._thrown_away > DISCARDED_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        self._wait_no_more()
        super().on_message_complete()

    def _wait_at_most(self, seconds: float) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
