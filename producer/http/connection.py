"""What uvicorn does not guard: headers that are too many, too long or too slow, bodies that go
on after the answer, more connections than one process should have, and a body behind an `Upgrade`
that nobody here speaks.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from producer.http.door import TOO_MANY_CONNECTIONS, TOO_MANY_HEADERS
from producer.http.early import whole_answer
from producer.http.limits import (
    DISCARDED_BYTES,
    HEADERS_MAX_BYTES,
    HEADERS_MAX_COUNT,
    HEALTH_CONNECTIONS,
    HEALTH_SECONDS,
)
from producer.http.metrics import Row
from producer.http.replies import busy, malformed

_FRAMING = (b"content-length", b"transfer-encoding")


def guarded(connections: int, seconds: float, counts: Row) -> type[HttpToolsProtocol]:
    """The protocol for at most so many connections; a request's headers must be here in so many
    seconds, and all of it in twice that. A few more are heard: asking for health they are
    answered, and asking for anything else told that this process is busy."""

    class Guarded(_Guarded):
        most = connections
        patience = seconds
        row = counts

    return Guarded


class _Guarded(HttpToolsProtocol):
    most: int
    patience: float
    row: Row
    _is_spare = False
    _repeats_head = False
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _thrown_away = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_spare = len(self.connections) > self.most
        if self._is_spare:
            self.patience = min(self.patience, HEALTH_SECONDS)
        self._wait_at_most(self.patience)
        if len(self.connections) > self.most + HEALTH_CONNECTIONS:
            transport.write(whole_answer(busy(), self.row))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._parse(data)
        # A header that never ends is not told to anybody until it does.
        if self._header_bytes >= 0:
            self._header_bytes += len(data)
            if self._header_bytes > 2 * HEADERS_MAX_BYTES and not self.transport.is_closing():
                self.transport.close()

        # Data that begins no request must not keep a connection open for ever.
        if self._deadline is None and self.timeout_keep_alive_task is None and self._is_between():
            self._wait_at_most(self.patience)

    def _parse(self, data: bytes) -> None:
        """What uvicorn's own does, without losing the body behind a request to upgrade."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            except httptools.HttpParserError:
                self.send_400_response("")
                return
            else:
                return

    def _ignore_upgrade(self) -> None:
        """A server may (RFC 9110, 7.8). The parser leaves the body to the other protocol, so that
        a new one is told the request's framing, and reads on."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        self._repeats_head = True
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))

    def send_400_response(self, msg: str) -> None:
        """In the form of all our answers."""
        self.transport.write(whole_answer(malformed(), self.row))
        self.transport.close()

    def _is_between(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        if self._repeats_head:
            return
        super().on_message_begin()
        self._header_bytes = self._thrown_away = 0
        self._wait_at_most(self.patience)

    def on_url(self, url: bytes) -> None:
        if not self._repeats_head:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._repeats_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._repeats_head:
            self._repeats_head = False
            return
        self._header_bytes = -1
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEADERS_MAX_BYTES or len(self.headers) > HEADERS_MAX_COUNT:
            cast(dict[str, Any], self.scope)[TOO_MANY_HEADERS] = True
        if self._is_spare:
            cast(dict[str, Any], self.scope)[TOO_MANY_CONNECTIONS] = True
        self._wait_at_most(2 * self.patience)
        super().on_headers_complete()
        if self._is_spare:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._thrown_away += len(body)
            if self._thrown_away > DISCARDED_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # its body is still to come: _ignore_upgrade
        self._wait_no_more()
        super().on_message_complete()

    def _wait_at_most(self, seconds: float) -> None:
        self._wait_no_more()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
