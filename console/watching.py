"""Watches work on many users until it is done, on standard error. Whoever stops watching stops
nothing else."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_SECONDS = 0.25  # between two looks
_SAID_EVERY = 10.0  # where there is no terminal to draw a bar on


class StoppedWatching(Exception):
    """Ctrl-C. The work goes on by itself."""


@dataclass(frozen=True, slots=True)
class Look:
    """How far it is: `done` of `total` (None: nobody knows), in words, and whether that was all."""

    said: str
    done: int
    total: int | None
    is_over: bool


def watch(look: Callable[[], Look], sleep: Callable[[float], None] = time.sleep) -> Look:
    """Look until it is over. Raises StoppedWatching."""
    out = Console(stderr=True, markup=False, highlight=False)
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
