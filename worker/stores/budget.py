"""The budget of data points for each UTC day of the server's clock: who is held, and who may go.

The scripts that claim and settle keep to it, see `parts/budget.lua`; this lets users go again, and
reads. A value counts when Braze acknowledges it. What is in flight is booked before it is sent, so
the acknowledged values of a day never go over; a value whose end is unknown is not counted until it
is acknowledged, though Braze may have taken it.
"""

from collections import Counter
from dataclasses import dataclass

import msgpack

from worker.stores.keys import key
from worker.stores.scripts import Scripts
from worker.stores.terms import Terms

DAY_MS = 86_400_000
# A tick lets so many users of an attribute go; the claims that follow fetch the others.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Over:
    """An audience (or trait) that is held. `points` it had today, `all_points` everything;
    `users` who wait, some of whom may have nothing to send any more."""

    audience: str
    points: int
    all_points: int
    users: int


class Budget:
    """Reads what is held; lets go what may go again."""

    def __init__(self, scripts: Scripts, terms: Terms) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._terms = terms

    @property
    def per_day(self) -> int | None:
        """Data points of the whole deployment in a day; None: no bound."""
        return self._terms.points_per_day

    @property
    def per_audience(self) -> int | None:
        """Data points of one audience in a day; None: no bound."""
        return self._terms.points_per_audience

    def free(self, partition: int) -> list[Over]:
        """Let users go for whom there is room again; who is held still.

        Asks one question where nobody is held, as without a budget.
        """
        if not self._client.exists(key(partition, "over")):
            return []
        packed = self._scripts.on_partition(
            "free", partition, *self._terms.limits(partition), _AT_ONCE
        )
        return [Over(*item) for item in sorted(msgpack.unpackb(packed))]

    def reached(self, partition: int, over: list[Over]) -> tuple[int | None, list[Over]]:
        """Which bound is spent: all points if the day's is; the audiences that spent theirs.

        The others are held for what is in flight, and go on in a moment.
        """
        per_day, per_audience = self._terms.limits(partition)
        spent = next((item.all_points for item in over), 0)
        in_all = spent if over and per_day != "" and spent >= int(per_day) else None
        each = [item for item in over if per_audience != "" and item.points >= int(per_audience)]
        return in_all, each

    def held(self, partitions: int, now_ms: int) -> list[Over]:
        """Who is held now, in all partitions together. Reads only."""
        users: Counter[str] = Counter()
        points: Counter[str] = Counter()
        everything = self.today(partitions, now_ms)
        for partition in range(partitions):
            for id_ in self._client.smembers(key(partition, "over")):
                name = self._client.hget(key(partition, "names"), id_) or id_
                day = key(partition, f"points:{now_ms // DAY_MS}")
                users[name.decode()] += self._client.zcard(key(partition, f"over:{id_.decode()}"))
                points[name.decode()] += int(self._client.hget(day, id_) or 0)
        return [Over(name, points[name], everything, users[name]) for name in sorted(users)]

    def today(self, partitions: int, now_ms: int) -> int:
        """Data points of this day, counted since there is a budget."""
        day = now_ms // DAY_MS
        return sum(
            int(self._client.hget(key(partition, f"points:{day}"), "*") or 0)
            for partition in range(partitions)
        )

    def today_of(self, partitions: int, now_ms: int, name: str) -> int:
        """Those of one audience."""
        points = 0
        for partition in range(partitions):
            if (id_ := self._client.hget(key(partition, "attrs"), name)) is not None:
                day = key(partition, f"points:{now_ms // DAY_MS}")
                points += int(self._client.hget(day, id_) or 0)
        return points
