"""Ctrl-C between two steps, so that what was done can be told exactly."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Until the end of it, Ctrl-C is raised only where the function that is given is called; a
    second one at once. For the main thread."""
    is_asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    def stop_if_asked() -> None:
        if is_asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)
