"""The door for Prometheus: `GET /metrics`, served by a daemon thread of the worker process."""

import errno
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.pipeline.facts import Fact, Level

# What our own door calls itself.
_NAME = "persona-sync"
_ASK_SECONDS = 1.0
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

# How soon a worker that found the port taken asks again.
_AGAIN_SECONDS = 15.0

_TAKEN = (
    "Another worker of this machine has the port: counters of the server are the same from any, "
    "and this one takes over when the port is free. To see this process's own metrics too, give "
    "it a PERSONA_SYNC_METRICS_BIND with a port of its own."
)
_TAKEN_BY_OTHER = (
    "Another program has the port, so nobody serves this worker's metrics. Give "
    "PERSONA_SYNC_METRICS_BIND a port that is free, or end that program: the worker goes on, and "
    "takes the port when it is free."
)
_CANNOT = (
    "Set PERSONA_SYNC_METRICS_BIND to an address of this machine and a port that this user may "
    "open, such as 127.0.0.1:9464. The worker goes on, and tries again."
)


@dataclass(frozen=True, slots=True)
class MetricsNotServed(Fact):
    """The address for Prometheus cannot be opened; the worker goes on without it."""

    name: str = "metrics_not_served"
    level: Level = "warning"
    address: str = ""
    reason: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class MetricsServed(Fact):
    """Prometheus can read this worker's metrics."""

    name: str = "metrics_served"
    address: str = ""


class Endpoint:
    """Serves a registry at an address. An address that cannot be opened is told once as a fact
    and tried again; nothing here ends or delays the worker."""

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        record: Callable[[Fact], None],
        again: float = _AGAIN_SECONDS,
    ) -> None:
        self._address = address
        self._registry = registry
        self._record = record
        self._again = again
        self._stop = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int | None:
        """The port that is served; None if it is not."""
        return self._server.server_port if self._server else None

    def start(self) -> None:
        """Open the address, and serve it until `close`."""
        self._open(is_first=True)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; scrapes under way are left to themselves."""
        self._stop.set()
        if self._thread:
            self._thread.join(2)

    def _serve(self) -> None:
        while self._server is None:
            if self._stop.wait(self._again):
                return
            self._open(is_first=False)
        with self._server:
            while not self._stop.is_set():
                self._server.handle_request()

    def _open(self, *, is_first: bool) -> None:
        host, port = self._address
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = _Server(host, port, self._registry)
        except (OSError, UnicodeError) as error:
            if is_first:
                code = getattr(error, "errno", None)
                reason = errno.errorcode.get(code or 0, type(error).__name__)
                todo = _CANNOT
                if code == errno.EADDRINUSE:
                    todo = _TAKEN if _is_ours(host, port) else _TAKEN_BY_OTHER
                self._record(MetricsNotServed(address=shown, reason=reason, todo=todo))
        else:
            self._record(MetricsServed(address=shown))


def _is_ours(host: str, port: int) -> bool:
    """True if the door of another worker answers there; takes a second or two at most."""
    connection = HTTPConnection(_ANYWHERE.get(host, host), port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().getheader("Server", "").startswith(_NAME)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    timeout = 0.25  # how long `handle_request` waits for one
    # Two workers at one port would answer by turns: counters of one process, then of another.
    allow_reuse_port = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self.registry = registry
        super().__init__(address, _Scrape)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        # The library asks for the name of this machine here, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up in the middle is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Scrape(BaseHTTPRequestHandler):
    server: _Server
    server_version = _NAME
    sys_version = ""
    timeout = 10  # who connects and says nothing is not waited for

    def do_GET(self) -> None:
        """The metrics, or where they are."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain; charset=utf-8", b"The metrics are at /metrics.\n")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(200, content_type, encode(self.server.registry))

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is not worth a line."""
