"""When Braze does not answer for long: says so once, and that it is over.

Transient trouble passes by itself, and most of it within seconds; it is a person's business only
when it lasts. Part of each tick; what was said is kept on the server, so that it does not matter
which worker looks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.pipeline import facts
from worker.stores.allowance import Allowance
from worker.stores.budget import DAY_MS
from worker.stores.notices import Notices

# Longer than a deployment or a restart at the other end, shorter than anybody waits for news.
OUTAGE_MS = 30_000


@dataclass(slots=True)
class Outages:
    """An outage that goes on for days is said once a day.

    What lay between an operator's pause and the resume is no outage: nothing was tried.
    """

    allowance: Allowance
    notices: Notices
    record: Callable[[facts.Fact], None]

    def look(self, now_ms: int) -> None:
        """Record an outage that lasts, and the end of any for which all workers had narrowed."""
        found = self.allowance.destination()
        if found.answered_ms is not None:
            self._say_over(found.released_ms or 0)
        since = found.failing_since_ms
        if since is None or found.state(now_ms)[0] != "unreachable":
            return
        tried_ms = now_ms - max(since, found.released_ms or 0)
        if tried_ms >= OUTAGE_MS and self.notices.first([_name(since)], DAY_MS):
            self.record(
                facts.DestinationUnreachable(
                    reason=found.last_reason or "", seconds=tried_ms / 1000
                )
            )

    def _say_over(self, released_ms: int) -> None:
        ended = self.allowance.take_answered()
        if ended is None:
            return
        since, answered = ended
        self.record(
            facts.DestinationResumed(
                by="answer",
                seconds=(answered - min(max(since, released_ms), answered)) / 1000,
                was_noticed=self.notices.was_said(_name(since)),
            )
        )


def _name(since_ms: int) -> str:
    return f"outage:{since_ms}"
