"""Does the work on many users, step by step, beside everything else and never in its way.

A drain works for a bounded time and rests after each step for as long as that took, so that the
server is free for others at least half the time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.pipeline import facts
from worker.stores.sweeps import Sweep, Sweeps


@dataclass(slots=True)
class SweepTally:
    """What one drain did; Flower shows it as the task's result."""

    steps: int = 0
    done: int = 0
    ended: str = ""


@dataclass(slots=True)
class Sweeping:
    """`clock`: seconds; `wait(seconds)` returns True if the worker is to stop."""

    sweeps: Sweeps
    record: Callable[[facts.Fact], None]
    clock: Callable[[], float]
    wait: Callable[[float], bool]

    def has_work(self, partition: int) -> bool:
        """True if a sweep is not done."""
        return bool(self.sweeps.unfinished(partition))

    def drain(self, partition: int, until: float) -> SweepTally:
        """Do steps until this moment, or until nothing is left to do."""
        tally = SweepTally()
        while not self.wait(0):
            sweep = next(iter(self.sweeps.unfinished(partition)), None)
            if sweep is None:
                tally.ended = "empty"
                break
            began = self.clock()
            if self.sweeps.step(partition, sweep):
                tally.steps += 1
                tally.done += self._said_if_done(partition, sweep)
            now = self.clock()
            if now >= until:
                tally.ended = "time_over"
                break
            self.wait(now - began)
        return tally

    def _said_if_done(self, partition: int, sweep: Sweep) -> bool:
        now = next((one for one in self.sweeps.read(partition) if one.name == sweep.name), None)
        if now is None or now.done_ms is None:
            return False
        self.record(
            facts.SweepEnded(
                work=now.work,
                audience=now.key,
                users=now.users,
                changed=now.changed,
                points=now.points,
                seconds=(now.done_ms - now.begun_ms) / 1000,
            )
        )
        return True
