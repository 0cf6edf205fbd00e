"""Runs the parts of the local system, prints what they say, restarts the ones that die.

One thread does it all: it waits for the parts' output, for signals and for the next restart.
Each part has a session of its own, so a terminal's Ctrl-C reaches the supervisor only, which
then stops the parts in order. On Linux a part ends even if the supervisor is killed.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TextIO

from console.child_process import die_with_parent, why_it_ended
from console.part_output import Printer
from console.restarts import RestartPolicy, Restarts

_TICK_SECONDS = 0.1
_PROBE_SECONDS = 0.25
_LONGEST_LINE = 65_536
_COLORS = (36, 33, 32, 35, 34, 31)


@dataclass(frozen=True)
class Part:
    """One process to keep running.

    Parts are started in the order given, each after the one before is `ready`. Those of the
    highest `stage` are stopped first; the parts of one stage are stopped together.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = None  # None: the supervisor's
    stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace: timedelta = timedelta(seconds=5)  # to end in, after that it is killed
    essential: bool = True  # False: when it is given up, the others go on
    ready: Callable[[], bool] | None = None  # None: as soon as it runs
    ready_within: timedelta = timedelta(seconds=60)  # then the next one is started all the same
    # Where to look when it is given up; asked then, if it depends on what is so then.
    look_at: str | Callable[[], str] = "its last lines are above"
    # The exit code by which it says that only a person can help: it is not started again.
    helpless_code: int | None = None

    @property
    def advice(self) -> str:
        """Where to look, in words."""
        return self.look_at if isinstance(self.look_at, str) else self.look_at()


class Supervisor:
    """Keeps the parts running until a signal, `stop_soon`, or a part that cannot be kept alive."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        out: TextIO | None = None,
        on_ready: Callable[[], None] = lambda: None,
        stamp: Callable[[], str] = str,
    ) -> None:
        self._clock = clock
        self._stamp = stamp
        self._selector = selectors.DefaultSelector()
        self._printer = Printer(out or sys.stdout, max((len(p.name) for p in parts), default=0))
        self._on_ready = on_ready
        self._children = [
            _Child(part, Restarts(policy or RestartPolicy()), _COLORS[place % len(_COLORS)])
            for place, part in enumerate(parts)
        ]
        self._asked_to_stop = 0
        self._failed = False
        self._stopping = False
        self._closed = False
        self._bell_in, self._bell_out = os.pipe()
        os.set_blocking(self._bell_in, False)
        os.set_blocking(self._bell_out, False)
        self._selector.register(self._bell_in, selectors.EVENT_READ)

    def run(self, *, handle_signals: bool = True) -> int:
        """Start the parts and keep them running; return when all have been stopped.

        0: it was asked to stop. 1: an essential part died too often, or cannot start until a
        person helps. Once; signals can be handled in the main thread only.
        """
        said_ready = False
        with _signals_call(self._signalled) if handle_signals else nullcontext():
            try:
                while not (self._asked_to_stop or self._failed or self._printer.broken):
                    all_ready = self._start_what_is_due()
                    if all_ready and not said_ready:
                        said_ready = True
                        self._on_ready()
                    self._step()
            finally:
                self._stop_all()
                self._close()
        return 1 if self._failed or self._printer.broken else 0

    def stop_soon(self) -> None:
        """Ask `run` to stop the parts and return; from any thread. A second time hurries it."""
        self._asked_to_stop += 1
        if not self._closed:
            with suppress(BlockingIOError):  # full: it is awake
                os.write(self._bell_out, b"!")

    def pids(self) -> dict[str, int]:
        """The process of each part that runs now."""
        return {
            child.part.name: process.pid
            for child in self._children
            if (process := child.process) is not None
        }

    def say(self, text: str) -> None:
        """Print a line of the supervisor's own, with the stamp before it."""
        self._printer.line("", f"{self._stamp()}{text}")

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT or not self._asked_to_stop:  # only a second Ctrl-C hurries
            self.stop_soon()

    def _start_what_is_due(self) -> bool:
        """Start parts whose time has come; True once each was ready at least once."""
        for child in self._children:
            if child.process is None and child.start_at <= self._clock():
                self._start(child)
            if not child.was_ready and not self._becomes_ready(child):
                return False
        return True

    def _start(self, child: "_Child") -> None:
        child.started_at = self._clock()
        try:
            child.process = subprocess.Popen(
                child.part.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=child.part.env,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        except OSError as error:
            self._died(child, f"cannot be started ({error.strerror})")
            return
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _becomes_ready(self, child: "_Child") -> bool:
        now = self._clock()
        if child.process is None:
            child.was_ready = child.given_up
        elif child.part.ready is None:
            child.was_ready = True
        elif now >= child.probe_at:
            child.probe_at = now + _PROBE_SECONDS
            child.was_ready = child.part.ready()
            if not child.was_ready and now - child.started_at > _seconds(child.part.ready_within):
                self.say(
                    f"{child.part.name} runs, but has not answered within "
                    f"{_seconds(child.part.ready_within):g} s"
                )
                child.was_ready = True
        return child.was_ready

    def _step(self) -> None:
        """Wait a moment for output or a bell, and see who has died."""
        for key, _ in self._selector.select(_TICK_SECONDS):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.read(self._bell_in, 1024)
            else:
                self._read(key.data)
        for child in self._children:
            if child.process is not None and child.has_ended():
                returncode = self._bury(child)
                if self._stopping:
                    continue
                if returncode == child.part.helpless_code:
                    self._give_up(child, f"{child.part.name} cannot start: {child.part.advice}.")
                else:
                    self._died(child, why_it_ended(returncode))

    def _read(self, child: "_Child") -> bool:
        """Print what a part has written; False if there is nothing more for now."""
        assert child.process is not None
        assert child.process.stdout is not None
        try:
            data = os.read(child.process.stdout.fileno(), 65_536)
        except BlockingIOError:
            return False
        if not data:
            with suppress(KeyError):
                self._selector.unregister(child.process.stdout)
            data, more = (b"\n" if child.unfinished else b""), False
        else:
            more = True
        *lines, child.unfinished = (child.unfinished + data).split(b"\n")
        if len(child.unfinished) > _LONGEST_LINE:
            lines.append(child.unfinished)
            child.unfinished = b""
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            self._printer.line(child.part.name, text, child.color)
        return more

    def _bury(self, child: "_Child") -> int:
        """Reap a dead part, end what it left running, print its last lines."""
        process = child.process
        assert process is not None
        assert process.stdout is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its number is taken until it is reaped
        returncode = process.wait()
        while self._read(child):
            pass
        with suppress(KeyError):
            self._selector.unregister(process.stdout)
        process.stdout.close()
        child.process, child.unfinished = None, b""
        return returncode

    def _died(self, child: "_Child", why: str) -> None:
        name, now = child.part.name, self._clock()
        wait = child.restarts.died(child.started_at, now)
        if wait is not None:
            child.start_at = now + wait
            self.say(f"{name} stopped: {why}. It is started again in {wait:g} s.")
            return
        policy = child.restarts.policy
        self._give_up(
            child,
            f"{name} stopped: {why}. That was death {policy.deaths} within "
            f"{_seconds(policy.within):g} s: it is given up; {child.part.advice}.",
        )

    def _give_up(self, child: "_Child", said: str) -> None:
        child.start_at, child.given_up = float("inf"), True
        self.say(said)
        self._failed = self._failed or child.part.essential

    def _stop_all(self) -> None:
        self._stopping = True
        stages = sorted({child.part.stage for child in self._children}, reverse=True)
        for stage in stages:
            running = [
                child
                for child in self._children
                if child.part.stage == stage and child.process is not None
            ]
            if running:
                self._stop_together(running)

    def _stop_together(self, children: "list[_Child]") -> None:
        hurried = self._asked_to_stop > 1
        since = self._clock()
        for child in children:
            if child.process is not None and not child.has_ended():
                os.kill(child.process.pid, child.part.stop_signal)
        while running := [child for child in children if child.process is not None]:
            self._step()
            hurried = hurried or self._asked_to_stop > 1
            for child in running:
                grace = min(_seconds(child.part.grace), 1.0 if hurried else float("inf"))
                if child.process is not None and self._clock() - since > grace:
                    self.say(f"{child.part.name} did not stop within {grace:g} s and is killed")
                    self._kill(child)

    def _kill(self, child: "_Child") -> None:
        assert child.process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        self._bury(child)

    def _close(self) -> None:
        self._closed = True
        self._selector.close()
        os.close(self._bell_in)
        os.close(self._bell_out)


@dataclass(eq=False)
class _Child:
    part: Part
    restarts: Restarts
    color: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    probe_at: float = 0.0
    was_ready: bool = False
    given_up: bool = False
    unfinished: bytes = b""

    def has_ended(self) -> bool:
        """True if the process is over; it is not reaped, so its number is not given away."""
        assert self.process is not None
        if not hasattr(os, "waitid"):
            return self.process.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is not None


def _seconds(span: timedelta) -> float:
    return span.total_seconds()


@contextmanager
def _signals_call(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP call the handler; afterwards what was before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN or number is not signal.SIGHUP:  # nohup
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
