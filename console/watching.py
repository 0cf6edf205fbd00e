"""Watches work on many users until it is done, on standard error. Whoever stops watching stops
nothing else, and a server that is restarted meanwhile is waited for."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import ConnectionError as ServerGone
from redis.exceptions import TimeoutError as ServerSilent
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from console.paper import for_bars

_SECONDS = 0.25  # between two looks
_SAID_EVERY = 10.0  # where there is no terminal to draw a bar on
_AWAY = 30.0  # a server that is restarted is back before
SERVER_AWAY = (ServerGone, ServerSilent)


class StoppedWatching(Exception):
    """Ctrl-C. The work goes on by itself."""


@dataclass(frozen=True, slots=True)
class Look:
    """How far it is: `done` of `total` (None: nobody knows), in words, and whether that was all."""

    said: str
    done: int
    total: int | None
    is_over: bool


def watch(
    look: Callable[[], Look],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Look:
    """Look until it is over. Raises StoppedWatching; and what the client raised if the server has
    not answered for half a minute."""
    look = _patient(look, clock)
    out = for_bars()
    bars = Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    )
    told_at, told = time.monotonic(), ""
    try:
        with bars:
            bar = bars.add_task("", total=None)
            while True:
                found = look()
                bars.update(bar, description=found.said, completed=found.done, total=found.total)
                if found.is_over:
                    return found
                now = time.monotonic()
                if bars.disable and found.said != told and now - told_at >= _SAID_EVERY:
                    print(found.said, file=sys.stderr)
                    told_at, told = now, found.said
                sleep(_SECONDS)
    except KeyboardInterrupt:
        raise StoppedWatching from None


def _patient(look: Callable[[], Look], clock: Callable[[], float]) -> Callable[[], Look]:
    """The same look; while the server is away, it says so in the place of how far it is."""
    last, answered = Look("", 0, None, False), clock()

    def patiently() -> Look:
        nonlocal last, answered
        try:
            last = look()
        except SERVER_AWAY:
            if clock() - answered >= _AWAY:
                raise
            return Look("the Redis server does not answer", last.done, last.total, False)
        answered = clock()
        return last

    return patiently
