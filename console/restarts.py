"""When a part that died is started again, after how long, and when it is given up. Pure."""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True)
class RestartPolicy:
    """When a part that died is started again, and when it is given up."""

    first_wait: timedelta = timedelta(milliseconds=500)
    longest_wait: timedelta = timedelta(seconds=10)
    settled_after: timedelta = timedelta(seconds=60)
    deaths: int = 5
    within: timedelta = timedelta(seconds=60)


@dataclass
class Restarts:
    """One part's deaths so far, and what they mean. Times are of any clock that only rises."""

    policy: RestartPolicy = field(default_factory=RestartPolicy)
    _in_a_row: int = 0
    _died_at: list[float] = field(default_factory=list)

    def died(self, started_at: float, now: float) -> float | None:
        """Seconds to wait before the next start; None: it died too often, give it up."""
        if now - started_at >= self.policy.settled_after.total_seconds():
            self._in_a_row = 0
            self._died_at.clear()
        oldest = now - self.policy.within.total_seconds()
        self._died_at = [at for at in self._died_at if at > oldest] + [now]
        self._in_a_row += 1
        if len(self._died_at) >= self.policy.deaths:
            return None
        doubled = self.policy.first_wait.total_seconds() * 2.0 ** min(self._in_a_row - 1, 30)
        return min(doubled, self.policy.longest_wait.total_seconds())
