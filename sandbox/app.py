"""The sandbox as a whole: one request in, one delivery out.

The server calls `begin` when a request's headers are there, `handle` when its body is, and
`finish` once when its reply was written or its client has gone.
"""

import sys
import traceback
from dataclasses import dataclass
from random import Random

from sandbox.braze import TRACK, Braze
from sandbox.clock import Clock, SystemClock
from sandbox.conduct import Span
from sandbox.config import Config
from sandbox.control import CONTROL_BYTES, CONTROL_PATH, Control
from sandbox.delivery import Delivery
from sandbox.faults import FaultQueue
from sandbox.mischief import Mischief
from sandbox.report import Entry
from sandbox.state import State
from sandbox.wire import Request, message


@dataclass(slots=True)
class Exchange:
    """A track request under way, with the life of the workspace it belongs to."""

    state: State
    span: Span
    entry: Entry
    status: int | None = None


class Sandbox:
    """The workspace and everything that acts on it. Not thread-safe: one event loop owns it."""

    def __init__(self, config: Config | None = None, clock: Clock | None = None) -> None:
        self.config = config or Config()
        self.clock = clock or SystemClock()
        self.state = State()
        self.faults = FaultQueue()
        self.in_flight = 0
        self._random = Random(7)
        self._braze = Braze(self.config, self.clock)
        self._mischief = Mischief(self._braze, self._random)
        self._control = Control(self)

    def body_limit(self, path: str) -> int:
        """How many bytes of body to keep; what is longer is taken off the wire and forgotten."""
        return CONTROL_BYTES if path.startswith(CONTROL_PATH) else self.config.max_bytes

    def date(self) -> float:
        """The time that Braze's Date header tells."""
        return self._braze.now()

    def begin(self, request: Request) -> None:
        if request.path == TRACK:
            self.in_flight += 1
            tally = self.state.tally
            tally.max_in_flight = max(tally.max_in_flight, self.in_flight)

    def handle(self, request: Request) -> Delivery:
        """Decide what the client gets. A mistake of the sandbox itself is a 500 and a traceback."""
        try:
            if request.path.startswith(CONTROL_PATH):
                return Delivery(self._control.answer(request))
            return self._as_braze(request)
        except Exception:  # noqa: BLE001 - one bad request must not end a test run
            traceback.print_exc(file=sys.stderr)
            return Delivery(message(500, "Internal Server Error"))

    def finish(self, request: Request, replied: bool) -> None:
        if request.path != TRACK:
            return
        self.in_flight -= 1
        exchange = request.exchange
        if isinstance(exchange, Exchange):
            now = self.clock.monotonic()
            status = exchange.status if replied else None
            exchange.state.conduct.finish(exchange.span, now, status)
            exchange.state.tally.finish(exchange.entry, status, now - request.started_at)

    def reset(self) -> None:
        """Forget profiles, counters and faults; requests still under way count for nothing."""
        self.state = State()
        self.state.tally.max_in_flight = self.in_flight
        self.faults.clear()

    def _as_braze(self, request: Request) -> Delivery:
        state = self.state
        exchange = self._watch(request, state)
        fault = self.faults.take(request) if self.faults.faults else None
        if fault is None:
            delivery = Delivery(self._braze.answer(request, state), delay=self._usual_delay())
        else:
            delivery = self._mischief.play(fault, request, state)
            if exchange is not None:
                exchange.entry.fault = fault.kind
        if exchange is not None:
            exchange.status = delivery.status
        return delivery

    def _watch(self, request: Request, state: State) -> Exchange | None:
        state.tally.count_path(request.path)
        if request.path != TRACK or request.method != "POST":
            return None
        at = self.clock.now()
        entry = state.tally.receive(at, request.body)
        span = state.conduct.receive(request, at, self.config.gap_s)
        request.exchange = exchange = Exchange(state, span, entry)
        return exchange

    def _usual_delay(self) -> float:
        latency = self.config.latency
        return self._random.uniform(*latency) if latency is not None else 0.0
