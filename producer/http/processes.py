"""Several processes that share a listening socket: started again when they die, stopped together.

The parent only watches. A child that finds its parent gone stops by itself: nothing is left
behind that nobody watches.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

import structlog

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 10.0
_SETTLED_SECONDS = 60.0


@dataclass(slots=True)
class _Child:
    number: int
    pid: int = 0  # 0: it does not run
    started_at: float = 0.0
    start_at: float = 0.0
    deaths: int = 0  # in a row, none of them after a settled life


@dataclass(slots=True)
class Processes:
    """`run(number, lifeline)` is what a child does, and its exit code; `lifeline` becomes readable
    when the parent is gone."""

    count: int
    run: Callable[[int, int], int]
    on_restart: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    _children: list[_Child] = field(default_factory=list)
    _is_stopping: bool = False

    def keep(self, grace: float) -> int:
        """Run them until SIGTERM or SIGINT; 0 if all stopped by themselves within the grace."""
        bell_in, bell_out = os.pipe()
        os.set_blocking(bell_out, False)
        os.set_blocking(bell_in, False)
        lifeline, held = os.pipe()
        before = {
            number: signal.signal(number, self._signalled)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        }
        signal.set_wakeup_fd(bell_out)
        self._children = [_Child(number) for number in range(self.count)]
        try:
            while not self._is_stopping:
                self._start_what_is_due(lifeline, (bell_in, bell_out, held))
                select.select([bell_in], [], [], self._until_next())
                _drain(bell_in)
                self._bury()
            return self._stop(grace)
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            for fd in (bell_in, bell_out, lifeline, held):
                os.close(fd)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._is_stopping = self._is_stopping or number != signal.SIGCHLD

    def _start_what_is_due(self, lifeline: int, not_theirs: tuple[int, ...]) -> None:
        for child in self._children:
            if child.pid or child.start_at > self.clock():
                continue
            child.started_at = self.clock()
            child.pid = os.fork()
            if not child.pid:
                os._exit(self._be(child.number, lifeline, not_theirs))

    def _be(self, number: int, lifeline: int, not_theirs: tuple[int, ...]) -> int:
        """In the child; it never returns to the parent's code."""
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(one, signal.SIG_DFL)
        for fd in not_theirs:
            os.close(fd)
        try:
            return self.run(number, lifeline)
        except BaseException as error:  # noqa: BLE001 - it must end here, whatever it is
            structlog.get_logger().error("process_failed", reason=type(error).__name__)
            return 1

    def _until_next(self) -> float:
        waits = [child.start_at - self.clock() for child in self._children if not child.pid]
        return max(0.0, min(waits, default=60.0))

    def _bury(self) -> None:
        """Reap who died, and set when each is started again."""
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            child.pid = 0
            if self._is_stopping:
                continue
            now = self.clock()
            is_settled = now - child.started_at >= _SETTLED_SECONDS
            child.deaths = 1 if is_settled else child.deaths + 1
            wait = min(_FIRST_WAIT * 2.0 ** min(child.deaths - 1, 30), _LONGEST_WAIT)
            child.start_at = now + wait
            self.on_restart()
            structlog.get_logger().warning(
                "process_died",
                process=child.number,
                how=_how(os.waitstatus_to_exitcode(status)),
                again_in_seconds=wait,
            )

    def _stop(self, grace: float) -> int:
        self._signal_all(signal.SIGTERM)
        until = self.clock() + grace
        while any(child.pid for child in self._children) and self.clock() < until:
            select.select([], [], [], 0.05)
            self._bury()
        late = [child for child in self._children if child.pid]
        self._signal_all(signal.SIGKILL)
        for child in late:
            os.waitpid(child.pid, 0)
        return 1 if late else 0

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, number)


def _drain(fd: int) -> None:
    with suppress(BlockingIOError):
        os.read(fd, 1024)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
