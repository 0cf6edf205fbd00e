"""HTTP/1.1 on asyncio: keep-alive, pipelining, bodies by length or in chunks.

One request of a connection is answered at a time, in order. What is not HTTP gets a 400 and the
connection closes; it never harms another connection.
"""

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress

import httptools

from sandbox.app import Sandbox
from sandbox.delivery import Courier
from sandbox.wire import DateHeader, Request, encode_head, message

_HEADER_BYTES = 65_536
_BACKLOG = 1024


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(
        self,
        sandbox: Sandbox,
        loop: asyncio.AbstractEventLoop,
        date: DateHeader,
        everyone: set["Connection"],
    ) -> None:
        self._sandbox = sandbox
        self._loop = loop
        self._date = date
        self._everyone = everyone
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._courier: Courier | None = None
        self._closed = False

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._everyone.add(self)
        self._incoming: Request | None = None
        self._clear()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, "Bad Request")

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._everyone.discard(self)
        if self._courier is not None:
            self._courier.cancel()
        begun = [self._current, *self._waiting, self._incoming]
        self._current = self._incoming = None
        self._waiting.clear()
        for request in begun:
            if request is not None:
                self._sandbox.finish(request, replied=False)

    def abort(self) -> None:
        self._transport.abort()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._clear()
        self._started_at = self._sandbox.clock.monotonic()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._measure(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._closed:
            return
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._headers,
            started_at=self._started_at,
        )
        request.keep_alive = self._parser.should_keep_alive()
        request.peer_closed = self._peer_closed
        self._room = self._sandbox.body_limit(request.path)
        self._incoming = request
        self._sandbox.begin(request)
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._room -= len(body)
        if self._room < 0:
            self._chunks.clear()
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        request = self._incoming
        if request is None or self._closed:
            return
        self._incoming = None
        request.oversize = self._room < 0
        request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._waiting.append(request)
        if self._current is None:
            self._answer_next()

    # Answering.

    def _answer_next(self) -> None:
        while self._waiting and self._current is None and not self._closed:
            request = self._current = self._waiting.popleft()
            delivery = self._sandbox.handle(request)
            date = self._date.at(self._sandbox.date())
            self._courier = Courier(
                delivery, self._transport, self._loop, date, request.keep_alive, self._done
            )
            self._courier.start()

    def _done(self) -> None:
        request, self._current = self._current, None
        self._courier = None
        if request is not None:
            self._sandbox.finish(request, replied=True)
        if self._waiting:
            self._loop.call_soon(self._answer_next)

    def _refuse(self, status: int, text: str) -> None:
        reply = message(status, text)
        date = self._date.at(self._sandbox.date())
        self._transport.write(encode_head(reply, date, keep_alive=False) + reply.body)
        self._transport.close()
        self._closed = True

    def _measure(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _HEADER_BYTES and not self._closed:
            self._refuse(431, "Request Header Fields Too Large")

    def _clear(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._chunks: list[bytes] = []
        self._room = 0
        self._started_at = 0.0

    def _peer_closed(self) -> bool:
        """Whether the client has closed, even if the event loop has not come round to it yet."""
        if self._transport.is_closing():
            return True
        with (
            suppress(OSError),
            socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as twin,
        ):
            try:
                return twin.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
        return True


class Server:
    """A listening sandbox. `stop` drops every connection at once."""

    def __init__(self, url: str, server: asyncio.Server, connections: set[Connection]) -> None:
        self.url = url
        self._server = server
        self._connections = connections

    def stop(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.abort()


async def listen(sandbox: Sandbox, host: str, port: int) -> Server:
    """Start to serve on the running loop; port 0 picks a free one, to be read from `url`."""
    loop = asyncio.get_running_loop()
    date = DateHeader()
    connections: set[Connection] = set()

    def connect() -> Connection:
        return Connection(sandbox, loop, date, connections)

    server = await loop.create_server(connect, host, port, backlog=_BACKLOG)
    bound_host, bound_port = server.sockets[0].getsockname()[:2]
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    return Server(f"http://{shown}:{bound_port}", server, connections)
