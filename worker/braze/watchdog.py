"""The end of a request, held by the clock: one thread that shuts sockets down in time.

A time-out of a socket bounds one operation, so a server that sends a byte now and then keeps a
request open for ever. Each request is a `Call` with a total; when that is over its socket is
shut down, whatever the call is doing with it, and the thread that waits there wakes up.

The thread sleeps until the earliest deadline and never polls. Ended calls stay in the heap
until they come to its top; they hold no socket by then.
"""

import contextlib
import heapq
import itertools
import socket
import threading
from collections.abc import Callable


class TotalOver(TimeoutError):
    """The time of the call is over; nothing more may be done for it."""


class Call:
    """One request: its socket of the moment, and how far it got. Made by `Watchdog.begin`."""

    __slots__ = ("_at", "_dog", "_done", "_sock", "_total_at", "connect_until", "over", "sending")

    def __init__(self, dog: "Watchdog", total_at: float, connect_until: float) -> None:
        self._dog = dog
        self._total_at = total_at
        self._at = total_at
        self._sock: socket.socket | None = None
        self._done = False
        self.connect_until = min(connect_until, total_at)
        self.over = False  # the watchdog ended it
        self.sending = False  # the first byte of the request may have left

    def left_to_connect(self) -> float:
        """Seconds left to connect. Raises TotalOver if there are none."""
        left = self.connect_until - self._dog.clock()
        if left <= 0:
            raise TotalOver
        return left

    def connecting(self, sock: socket.socket) -> None:
        """Watch a socket during handshakes: until the connect's deadline, not the total."""
        with self._dog.lock:
            self._hold(sock)
            if self._at > self.connect_until:
                self._at = self.connect_until
                self._dog.watch(self)

    def begin_sending(self, sock: socket.socket) -> None:
        """The connection stands: from here on the end is ambiguous.

        Raises TotalOver, with nothing sent, if the time is over already.
        """
        with self._dog.lock:
            self._at = self._total_at
            self._hold(sock)
            self.sending = True

    def end(self) -> bool:
        """Let go of the socket. False: it was shut down before, what was read from it may be cut.

        May be called again; the first answer stands.
        """
        with self._dog.lock:
            self._done = True
            self._sock = None
            return not self.over

    def expire(self, at: float) -> None:
        """The watchdog's part, under its lock: a deadline of this call came."""
        if self._done or self._at > at:  # moved to a later deadline, which is in the heap as well
            return
        self.over = True
        if self._sock is not None:
            _shut_down(self._sock)

    def _hold(self, sock: socket.socket) -> None:
        if self.over or self._dog.clock() >= self._at:
            self.over = True
            raise TotalOver
        self._sock = sock


class Watchdog:
    """Ends calls whose time is over. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self._wake = threading.Condition(self.lock)
        self._heap: list[tuple[float, int, Call]] = []
        self._number = itertools.count()
        self._sleeps_until = float("inf")
        self._stopped = False
        self._thread: threading.Thread | None = None

    def begin(self, total_at: float, connect_until: float) -> Call:
        """A new call, watched from now on; both instants are of `clock`."""
        call = Call(self, total_at, connect_until)
        with self.lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run, name="braze-watchdog", daemon=True
                )
                self._thread.start()
            self.watch(call)
        return call

    def watch(self, call: Call) -> None:
        """Put the present deadline of a call into the heap. Under the lock."""
        at = call._at
        heap = self._heap
        while heap and heap[0][2]._done:
            heapq.heappop(heap)
        heapq.heappush(heap, (at, next(self._number), call))
        if at < self._sleeps_until:
            self._wake.notify()

    def stop(self) -> None:
        """End the thread. Calls still under way lose their watch, not their socket time-outs."""
        with self.lock:
            self._stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self.lock:
            while not self._stopped:
                self._expire_due()
                if self._heap:
                    self._sleeps_until = self._heap[0][0]
                    self._wake.wait(max(self._sleeps_until - self.clock(), 0.0))
                else:
                    self._sleeps_until = float("inf")
                    self._wake.wait()

    def _expire_due(self) -> None:
        heap = self._heap
        while heap and (heap[0][2]._done or heap[0][0] <= self.clock()):
            at, _, call = heapq.heappop(heap)
            call.expire(at)


def _shut_down(sock: socket.socket) -> None:
    # Not the method of a TLS socket: that one first drops its encryption, and a thread which is
    # writing just then would go on in plain text.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
