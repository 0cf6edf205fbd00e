"""urllib3's connections and pools, made to report to the call that uses them.

A connection tells the thread's current `Call` which socket it uses: while connecting (so that
a slow handshake ends in time) and right before the request is written (from where on the end
is ambiguous). A pool gives a connection back only after its call has let go of it, and closes
connections that were idle for too long instead of using them again: the server may close such
a one in the very moment a request is written to it.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from worker.braze.watchdog import Call


class _Thread(threading.local):
    call: Call | None = None


_thread = _Thread()


def set_current(call: Call | None) -> None:
    """From now on, connections used by this thread report to `call`."""
    _thread.call = call


def _current() -> Call:
    call = _thread.call
    if call is None:
        raise RuntimeError("a watched connection is used outside of a call")
    return call


class WatchedTLSSocket(ssl.SSLSocket):
    """Reports itself before its handshake, when the plain socket below is gone already."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, at most until the connect's deadline."""
        call = _current()
        self.settimeout(call.left_to_connect())
        call.connecting(self)
        super().do_handshake(block)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Certificates are always checked, against the authorities in `ca_file` (PEM)."""
    context = create_urllib3_context()
    context.load_verify_locations(cafile=ca_file)
    context.sslsocket_class = WatchedTLSSocket
    return context


class _Watched(HTTPConnection):
    """What plain and TLS connections have in common."""

    idle_since: float = 0.0

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; all of them share the time to connect."""
        call = _current()
        host, port = self._dns_host, self.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            share = call.left_to_connect() / (len(found) - tried)
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(share)
                sock.connect(address)
                sock.settimeout(call.left_to_connect())
                call.connecting(sock)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Write the request, if there is still time for it."""
        if self.sock is None:
            self.connect()
        # TLS inside TLS (a proxy with https) wraps the real socket in an object of its own.
        _current().begin_sending(getattr(self.sock, "socket", self.sock))
        super().request(*args, **kwargs)


class WatchedHTTPConnection(_Watched):
    """A plain connection: this machine itself, or a proxy."""


class WatchedHTTPSConnection(_Watched, HTTPSConnection):
    """A TLS connection."""


class _IdlePool(HTTPConnectionPool):
    """A pool that knows since when a connection is idle. `clock` is monotonic seconds."""

    clock: Callable[[], float]
    idle: float = 0.0
    _swept_at: float = 0.0

    def _get_conn(self, timeout: float | None = None) -> Any:
        now = self.clock()
        if now - self._swept_at >= self.idle:
            self._swept_at = now
            self._close_idle(now)
        conn: Any = super()._get_conn(timeout)
        if conn.sock is not None and now - conn.idle_since >= self.idle:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        call = _thread.call
        if conn is not None:
            if call is not None and not call.end():
                conn.close()
            conn.idle_since = self.clock()
        super()._put_conn(conn)

    def _close_idle(self, now: float) -> None:
        """Close what lies idle below the few connections that are used again and again."""
        waiting = self.pool
        if not isinstance(waiting, queue.LifoQueue):  # the pool is closed
            return
        with waiting.mutex:
            for conn in waiting.queue:
                if conn is not None and now - conn.idle_since >= self.idle:
                    conn.close()


class WatchedHTTPPool(_IdlePool):
    """Plain connections to one host."""

    ConnectionCls = WatchedHTTPConnection


class WatchedHTTPSPool(_IdlePool, HTTPSConnectionPool):
    """TLS connections to one host."""

    ConnectionCls = WatchedHTTPSConnection
