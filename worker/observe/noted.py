"""Facts worth a person's notice, on their way from a sink to the store: a short list in memory."""

from collections import deque

from worker.pipeline.facts import Fact
from worker.pipeline.notices import Notice, notice_of

_MOST = 100


class Noted:
    """A sink: never blocks, never raises. Who has time takes what was noted; when nobody has, the
    oldest are forgotten (they are in the log)."""

    def __init__(self) -> None:
        self._waiting: deque[Notice] = deque(maxlen=_MOST)

    def __call__(self, fact: Fact) -> None:
        notice = notice_of(fact)
        if notice is not None:
            self._waiting.append(notice)

    def take(self) -> Notice | None:
        """The oldest, which is the caller's now; None if there is none."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def put_back(self, notice: Notice) -> None:
        """It could not be kept; it is the next again."""
        self._waiting.appendleft(notice)
