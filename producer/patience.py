"""Waits while the inbox takes nothing, and gives up in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from producer.refusals import ProducerRefused
from worker.durations import format_duration

_T = TypeVar("_T")
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


class GaveUp(Exception):
    """The inbox took nothing for the whole patience. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Repeats an action that is safe to repeat, with pauses that grow up to five seconds."""

    limit: timedelta
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    on_wait: Callable[[str], None]

    def keep_trying(self, action: Callable[[], _T]) -> _T:
        """The action's result. Raises GaveUp, or at once a refusal that waiting does not lift."""
        since = self.clock()
        pause = FIRST_PAUSE
        while True:
            try:
                return action()
            except ProducerRefused as refused:
                if not refused.is_worth_repeating:
                    raise
                if self.clock() - since >= self.limit.total_seconds():
                    raise GaveUp(
                        f"Gave up after {format_duration(self.limit)}. {refused}"
                    ) from refused
                self.on_wait(str(refused))
                self.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
