"""A server of raw sockets that does exactly what a test tells it, and a client beside it."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from worker.braze.client import BrazeClient


@dataclass
class Request:
    """One request as it came over the wire; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One accepted connection, seen by a script."""

    server: "RawServer"
    sock: socket.socket
    number: int  # which connection of the server, from 1
    _rest: bytes = b""

    def read(self) -> Request | None:
        """The next whole request; None when the client has gone."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = (text.split(": ", 1) for text in fields)
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            if not self._more():
                return None
        body, self._rest = self._rest[:length], self._rest[length:]
        request = Request(line, headers, body)
        self.server.requests.append(request)
        return request

    def answer(
        self, status: int = 201, body: bytes = b'{"message":"success"}', headers: str = ""
    ) -> None:
        """A whole reply; `headers` are lines that end with CRLF."""
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.sock.sendall(head.encode("latin-1") + body)

    def drip(self, data: bytes) -> None:
        """Send the head at once, then a byte every 20 ms until the client or the test ends."""
        self.sock.sendall(data)
        while not self.server.stopping.wait(0.02):
            self.sock.sendall(b"1")

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def hang(self) -> None:
        """Do nothing until the test ends."""
        self.server.stopping.wait(20)

    def _more(self) -> bool:
        received = self.sock.recv(65536)
        self._rest += received
        return bool(received)


Script = Callable[[Peer], None]


def always(**reply: Any) -> Script:
    """Answer every request of a connection the same way and keep it open."""

    def script(peer: Peer) -> None:
        while peer.read() is not None:
            peer.answer(**reply)

    return script


@dataclass
class RawServer:
    """Runs `script` once per connection, each in a thread."""

    script: Script
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """The base URL of this server."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End all scripts and close everything."""
        self.stopping.set()
        for sock in [self._listener, *self._peers]:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self.stopping.is_set():
                sock, _ = self._listener.accept()
                self.connections += 1
                self.open += 1
                self._peers.append(sock)
                peer = Peer(self, sock, self.connections)
                thread = threading.Thread(target=self._serve, args=(peer,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer: Peer) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self.tls is not None:
                peer.sock = self.tls.wrap_socket(peer.sock, server_side=True)
                self._peers.append(peer.sock)
            self.script(peer)
        peer.sock.close()
        self.open -= 1


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start a server with a script; all are stopped when the test ends."""
    servers: list[RawServer] = []

    def start(script: Script, tls: ssl.SSLContext | None = None) -> RawServer:
        servers.append(RawServer(script, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect_to() -> Iterator[Callable[..., BrazeClient]]:
    """Make a client for a URL; all are closed when the test ends."""
    clients: list[BrazeClient] = []

    def make(url: str, **options: Any) -> BrazeClient:
        spans = {"connect": 2.0, "total": 5.0, "idle": 60.0}
        for name in spans:
            spans[name] = options.pop(name, spans[name])
        limits: dict[str, Any] = {k: timedelta(seconds=v) for k, v in spans.items()}
        key = options.pop("api_key", lambda: "key-1")
        clients.append(BrazeClient(url, key, **limits, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@dataclass
class Certificate:
    """A self-signed certificate for 127.0.0.1: its own authority."""

    file: Path
    server_side: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Made anew for each run, so that no private key lies in the repository."""
    openssl = shutil.which("openssl")
    if openssl is None:
        if os.environ.get("CI") == "true":
            pytest.fail("openssl is not installed, and CI must not skip the TLS tests")
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    wanted = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [openssl, *wanted.split(), "-out", str(cert), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return Certificate(cert, context)


class ShiftedClock:
    """The monotonic clock, which a test may put forward."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.shift


@pytest.fixture
def clock() -> ShiftedClock:
    """A clock to put forward."""
    return ShiftedClock()


def _until(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture
def until() -> Callable[..., bool]:
    """Poll a condition until it holds or a deadline passes; says which."""
    return _until


@pytest.fixture
def keep_answering() -> Callable[..., Script]:
    """Scripts that answer every request alike."""
    return always
