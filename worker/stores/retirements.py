"""Which retired keys still have last values to be sent, and so hold their name at Braze.

A name goes to another key only when nothing of the retired one is under way any more: otherwise two
keys would write one attribute, and whichever request came last would count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

from worker.contract import PARTITIONS_KEY
from worker.pipeline.rules import Order, Rules, Work
from worker.stores.keys import key
from worker.stores.rulebook import Rulebook
from worker.stores.server import Server

_SENDS = (Work.RETIRE, Work.RESYNC)


@dataclass(frozen=True, slots=True)
class Held:
    """A name that a key of the file cannot have yet: `retired` is to be sent its last values under
    it."""

    name: str
    wanted_by: str
    retired: str
    order: Order

    def __str__(self) -> str:
        return (
            f"{self.wanted_by} cannot have the attribute {self.name} yet: {self.retired}, retired "
            f"by {self.order.by}, has last values to be sent under it. The file is taken up by "
            "itself once they are; another attribute can be had at once."
        )


class Retirements:
    """Reads them, in all partitions."""

    def __init__(self, client: Server, rulebook: Rulebook) -> None:
        self._client = client
        self._rulebook = rulebook

    def held(
        self, version: str, wanted: Rules, before: Rules, orders: Mapping[str, Order]
    ) -> list[Held]:
        """The names that rules want, and retired keys hold. `version`, `before`: what is published;
        a partition that has not taken it up may not know yet that a key is retired."""
        wanted_by = {rule.name(name): name for name, rule in wanted.of.items()}
        found = []
        for name, order in sorted(orders.items()):
            if not order.retired or name in wanted.of:
                continue
            attribute = order.attribute or before.rule(name).name(name)
            if attribute in wanted_by and not self._is_done(version, name):
                found.append(Held(attribute, wanted_by[attribute], name, order))
        return found

    def _is_done(self, version: str, name: str) -> bool:
        partitions = range(int(self._client.get(PARTITIONS_KEY) or 1))
        return all(self._is_done_in(partition, version, name) for partition in partitions)

    def _is_done_in(self, partition: int, version: str, name: str) -> bool:
        page = self._rulebook.read(partition)
        if page.rules.rule(name).shadowed:
            return True  # another key has the name already, and nothing is sent of this one
        if page.version != version:
            return False
        ids = [id_ for id_, known in page.names.items() if known == name]
        waiting = any(self._client.zcard(key(partition, f"dirty:{id_}")) for id_ in ids)
        return not waiting and not self._is_swept(partition, ids)

    def _is_swept(self, partition: int, ids: list[str]) -> bool:
        for packed in self._client.hvals(key(partition, "sweeps")):
            sweep = msgpack.unpackb(packed)
            if not sweep["done_at"] and sweep["work"] in _SENDS and sweep["id"] in (*ids, "*"):
                return True
        return False
