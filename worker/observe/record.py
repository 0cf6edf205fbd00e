"""One fact, all its readers: the only emit site of the engine."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from worker.pipeline.facts import Fact

Sink = Callable[[Fact], None]


class Recorder:
    """Hands each fact to every sink, in order. A sink must not raise and must not block."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def __call__(self, fact: Fact) -> None:
        for sink in self._sinks:
            # A log that nobody reads any more must not stop a delivery.
            with suppress(OSError):
                sink(fact)
