"""What is known of each audience in numbers: members, who waits, what was sent and saved.

Exact: the scripts that cause a change count it. Read for people, in a few round trips.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.pipeline.rules import Order, Rule, Rules
from worker.pipeline.schedule import Lane, boundary_after
from worker.stores.keys import ORDERS, key
from worker.stores.publication import read_orders
from worker.stores.rulebook import Rulebook
from worker.stores.server import Server

_COUNTED = ("members", "known", "sent", "saved", "skipped", "flushed")


@dataclass(frozen=True, slots=True)
class AudienceBook:
    """One key. `members`: desired value true; `known`: have a value at all; `pending`: differ from
    what Braze acknowledged, the oldest since `oldest_ms`. `sent`: data points ever; `saved`:
    changes that cost none; `skipped`: came after the key was retired. `order`: an operator's."""

    key: str
    rule: Rule
    members: int = 0
    known: int = 0
    pending: int = 0
    oldest_ms: int | None = None
    sent: int = 0
    saved: int = 0
    skipped: int = 0
    flushed_ms: int | None = None
    next_flush_ms: int | None = None
    order: Order | None = None

    @property
    def lane(self) -> Lane:
        """Where it is sent."""
        return Lane.BATCHED if self.rule.lane == "b" else Lane.REALTIME


class AudienceBooks:
    """Reads them, of all partitions together."""

    def __init__(self, client: Server, rulebook: Rulebook) -> None:
        self._client = client
        self._rulebook = rulebook

    def read(self, partitions: int, now_ms: int) -> dict[str, AudienceBook]:
        """Every key that is declared, was ever seen, or has an order; by key."""
        orders = read_orders(self._client.hgetall(ORDERS))
        counts: dict[str, dict[str, int]] = {}
        rules, of = Rules(), dict[str, Rule]()
        for partition in range(partitions):
            page = self._rulebook.read(partition)
            rules = page.rules if page.version else rules
            # A key whose name is another's has its rule only where it was seen.
            of |= page.rules.of
            self._add(partition, page.names, counts)
        rules = Rules(rules.lanes, of)
        names = sorted({*counts, *rules.of, *orders})
        return {
            name: _book(name, rules, counts.get(name, {}), orders.get(name), now_ms)
            for name in names
        }

    def _add(
        self, partition: int, names: Mapping[str, str], counts: dict[str, dict[str, int]]
    ) -> None:
        ids, places = list(names), {id_: place for place, id_ in enumerate(names)}
        with self._client.pipeline(transaction=False) as together:
            for counted in _COUNTED:
                together.hgetall(key(partition, counted))
            for id_ in ids:
                together.zcard(key(partition, f"dirty:{id_}"))
                together.zrange(key(partition, f"dirty:{id_}"), 0, 0, withscores=True)
            found = together.execute()
        for id_, name in names.items():
            mine = counts.setdefault(name, {})
            for counted, raw in zip(_COUNTED, found, strict=False):
                value = int(raw.get(id_.encode(), 0))
                latest = max(mine.get(counted, 0), value)
                mine[counted] = latest if counted == "flushed" else mine.get(counted, 0) + value
            place = len(_COUNTED) + 2 * places[id_]
            mine["pending"] = mine.get("pending", 0) + int(found[place])
            for _, since in found[place + 1]:
                mine["oldest"] = min(mine.get("oldest", int(since)), int(since))


def _book(
    name: str, rules: Rules, counts: Mapping[str, int], order: Order | None, now_ms: int
) -> AudienceBook:
    rule, oldest = rules.rule(name), counts.get("oldest")
    next_flush = None
    if rule.lane == "b" and rule.enabled:
        every = rule.every or rules.lanes.every
        since = oldest if oldest is not None else now_ms
        next_flush = boundary_after(since, every, rules.lanes.offset)
    return AudienceBook(
        key=name,
        rule=rule,
        members=counts.get("members", 0),
        known=counts.get("known", 0),
        pending=counts.get("pending", 0),
        oldest_ms=oldest,
        sent=counts.get("sent", 0),
        saved=counts.get("saved", 0),
        skipped=counts.get("skipped", 0),
        flushed_ms=counts.get("flushed") or None,
        next_flush_ms=next_flush,
        order=order,
    )
