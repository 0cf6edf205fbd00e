"""This process's heartbeat, by which others know that a worker is alive.

It beats as long as the process runs, whatever the server says: one that may not write for a while
(a failover, a full disk) takes the beats that come after. An outage is told once, and so is its
end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.pipeline.facts import Fact, Level

SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HeartbeatFailed(Fact):
    """A beat was not taken; those that follow are tried all the same."""

    name: str = "heartbeat_failed"
    level: Level = "warning"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HeartbeatHeard(Fact):
    """Beats are taken again, `seconds` after one was not."""

    name: str = "heartbeat_heard"
    seconds: float = 0.0


@dataclass(slots=True)
class Heartbeat:
    """`beat` is tried again and again until `wait(seconds)` says that the process stops."""

    beat: Callable[[], None]
    record: Callable[[Fact], None]
    wait: Callable[[float], bool]
    clock: Callable[[], float]
    _failing_since: float | None = field(default=None, init=False)

    def run(self) -> None:
        """Returns when the process stops."""
        while True:
            self._try()
            if self.wait(SECONDS):
                return

    def _try(self) -> None:
        try:
            self.beat()
        except Exception as error:  # noqa: BLE001 - without this thread the worker counts as lost
            if self._failing_since is None:
                self._failing_since = self.clock()
                self.record(HeartbeatFailed(reason=_reason(error)))
            return
        if self._failing_since is not None:
            self.record(HeartbeatHeard(seconds=round(self.clock() - self._failing_since, 1)))
            self._failing_since = None


def _reason(error: Exception) -> str:
    """The code of what the server answered (`MISCONF`), or else the kind of the error."""
    code = str(error).partition(" ")[0]
    return code if code.isalpha() and code.isupper() else type(error).__name__
