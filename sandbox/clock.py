"""Where the sandbox takes its time from, so that tests can own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """`now` is UTC epoch seconds; `monotonic` never goes back, its differences are seconds."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
