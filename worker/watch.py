"""What a person should know: budgets that are spent, audiences that flip far more than usual,
outages, and other facts that are worth a notice; and the way of a notice to the webhook.

Part of each tick. Nothing here ends, holds or delays a delivery but the budget, which lets go.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from worker.durations import to_ms
from worker.observe.noted import Noted
from worker.observe.webhook import Webhook
from worker.outages import Outages
from worker.pipeline import facts
from worker.pipeline.retry import delay
from worker.pipeline.surprise import HOURS, SurprisePolicy, is_unusual, usual
from worker.stores.budget import DAY_MS, Budget
from worker.stores.flips import HOUR_MS, Flips
from worker.stores.notices import Notices, Unsent

Record = Callable[[facts.Fact], None]
_LOOK_EVERY_MS = 60_000
# The end of an hour may fall between two looks: for so long the hour before is looked at, too.
_LOOK_BACK_MS = 2 * _LOOK_EVERY_MS


@dataclass(frozen=True, slots=True)
class CourierPolicy:
    """Posts in a minute, tries of one notice, and the back-off between them."""

    per_minute: int = 10
    tries: int = 10
    base: timedelta = timedelta(seconds=5)
    cap: timedelta = timedelta(minutes=5)


class Courier:
    """Brings notices to the webhook, one for each tick, beside whatever the tick does.

    `launch` runs a function somewhere else than in the caller's thread.
    """

    def __init__(
        self,
        notices: Notices,
        webhook: Webhook,
        record: Record,
        random: Callable[[], float],
        launch: Callable[[Callable[[], None]], None],
        policy: CourierPolicy | None = None,
    ) -> None:
        self._notices = notices
        self._webhook = webhook
        self._record = record
        self._random = random
        self._launch = launch
        self._policy = policy or CourierPolicy()

    def go(self) -> None:
        """Take the next notice, if it is its time, and have it posted."""
        if unsent := self._notices.next_unsent(self._policy.per_minute):
            self._launch(lambda: self._bring(unsent))

    def _bring(self, unsent: Unsent) -> None:
        try:
            reason = self._webhook.post(unsent.text)
            tries = unsent.tries + 1
            if not reason:
                self._notices.sent(unsent)
                return
            given_up = tries >= self._policy.tries
            if given_up:
                self._notices.sent(unsent)
            else:
                policy = self._policy
                waited = delay(tries, policy.base, policy.cap, self._random())
                self._notices.not_sent(unsent, to_ms(waited))
        except Exception as error:  # noqa: BLE001 - a notice that fails is a fact and never more
            reason, tries, given_up = type(error).__name__, unsent.tries + 1, False
        self._record(facts.NoticeNotSent(reason=reason, tries=tries, given_up=given_up))


@dataclass(slots=True)
class Watch:
    """`courier` is None without a webhook."""

    budget: Budget
    flips: Flips
    notices: Notices
    noted: Noted
    record: Record
    outages: Outages
    courier: Courier | None = None
    partitions: int = 1
    policy: SurprisePolicy = field(default_factory=SurprisePolicy)

    def let_go(self, partition: int, now_ms: int) -> None:
        """Let users go for whom the budget has room again; say which budgets are spent."""
        over = self.budget.free(partition)
        if not over:
            return
        in_all, each = self.budget.reached(partition, over)
        spent = {item.audience: self.budget.per_audience or 0 for item in each}
        if in_all is not None:
            spent[""] = self.budget.per_day or 0
        # A bound that was raised, and is spent as well, is said anew.
        names = {f"budget:{now_ms // DAY_MS}:{bound}:{name}": name for name, bound in spent.items()}
        for name in self.notices.first(list(names), 2 * DAY_MS):
            audience = names[name]
            self.record(facts.BudgetReached(audience=audience, limit=spent[audience]))

    def look(self, now_ms: int) -> None:
        """See whether Braze answers and, about once a minute, what is unusual. Then give the
        notices that there are."""
        self.outages.look(now_ms)
        if self.policy.factor > 0 and self.notices.first(["look"], _LOOK_EVERY_MS):
            hour, into = divmod(now_ms, HOUR_MS)
            self._look_at(hour, into / HOUR_MS)
            if into < _LOOK_BACK_MS:
                self._look_at(hour - 1, 1.0)
        self.give()
        if self.courier:
            self.courier.go()

    def give(self) -> None:
        """Keep what was noted in this process. Costs nothing if there is nothing."""
        while notice := self.noted.take():
            try:
                self.notices.add(notice, for_webhook=self.courier is not None)
            except BaseException:
                self.noted.put_back(notice)
                raise

    def _look_at(self, hour: int, share: float) -> None:
        loud = self.flips.many(self.partitions, hour, self.policy.least, HOURS)
        unusual = {
            f"flips:{hour}:{found.audience}": found
            for found in loud
            if is_unusual(found.current, found.previous, share, self.policy)
        }
        for name in self.notices.first(list(unusual), 2 * HOUR_MS):
            found = unusual[name]
            known = usual(found.previous)
            assert known is not None
            self.record(
                facts.FlipsUnusual(
                    audience=found.audience,
                    flips=found.current,
                    median=known.median,
                    busiest=known.busiest,
                )
            )
