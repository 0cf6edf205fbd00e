"""The rules of each partition, as published, and as this process last read them.

Workers go by these and never by a file. Scripts that depend on them are told the version that the
caller knows, and refuse another one; then the caller reads the rules again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from worker.pipeline.rules import Effect, LaneTerms, Rule, Rules
from worker.stores.keys import key
from worker.stores.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Page:
    """The rules of a partition. `names`: id -> key, of all keys ever seen there; `stamps`: key ->
    (flushed at, resynced at), ms."""

    version: str
    rules: Rules
    names: Mapping[str, str]
    stamps: Mapping[str, tuple[int, int]]


class Rulebook:
    """Safe to use from many threads: a page is replaced as a whole. `epoch`: the server's, see
    identity.py."""

    def __init__(self, scripts: Scripts, epoch: Callable[[], int] = lambda: 0) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self.epoch = epoch
        # By the server's epoch, too: another server may have forgotten ids and given them anew.
        self._pages: dict[tuple[int, int], Page] = {}

    def version(self, partition: int) -> str:
        """The version that this process knows."""
        return self._page(partition).version

    def attribute(self, partition: int, id_: str, epoch: int | None = None) -> str:
        """Braze's name of an attribute, by the rules that this process knows. `epoch`: of the
        server that gave the id, if it may be another by now."""
        page = self._page(partition, epoch)
        if id_ not in page.names:
            # A key that was seen since; an id is never given to another.
            page = self.read(partition, epoch)
        name = page.names[id_]
        return page.rules.rule(name).attribute or name

    def keys_of(self, partition: int, attribute: str) -> list[str]:
        """The key that is sent under this name, in a list; no other is."""
        of = self._page(partition).rules.of
        found = [key for key, rule in of.items() if rule.name(key) == attribute]
        return [key for key in found if not of[key].shadowed] or [attribute]

    def read(self, partition: int, epoch: int | None = None) -> Page:
        """Read the rules as they are published now, and go by them."""
        epoch = self.epoch() if epoch is None else epoch
        with self._client.pipeline(transaction=True) as together:
            together.hget(key(partition, "meta"), "registry")
            together.hgetall(key(partition, "names"))
            together.hgetall(key(partition, "rules"))
            version, names, packed = together.execute()
        page = _page((version or b"").decode(), names, packed)
        self._pages[epoch, partition] = page
        return page

    def put(
        self,
        partition: int,
        version: str,
        rules: Rules,
        effects: Sequence[Effect] = (),
        *,
        instead_of: str | None = None,
        by: str = "",
    ) -> bool:
        """Publish rules, and begin what has to follow, in one step.

        False, and nothing done, if the partition has another version than `instead_of`; None
        stands for any.
        """
        # Packed rules travel as raw strings: cmsgpack does not know msgpack's binary type.
        listed = [(name, msgpack.packb(_stored(rule))) for name, rule in rules.of.items()]
        done = self._scripts.on_partition(
            "registry",
            partition,
            "*" if instead_of is None else instead_of,
            version,
            msgpack.packb(rules.lanes),
            msgpack.packb(listed, use_bin_type=False),
            msgpack.packb([(effect.work, effect.key, effect.value) for effect in effects]),
            by,
        )
        return bool(done)

    def _page(self, partition: int, epoch: int | None = None) -> Page:
        epoch = self.epoch() if epoch is None else epoch
        return self._pages.get((epoch, partition)) or self.read(partition, epoch)


def _stored(rule: Rule) -> tuple[object, ...]:
    """As scripts keep it: the stamps, which are theirs, stand between."""
    return (*rule[:7], 0, 0, rule.shadowed)


def _page(version: str, names: Mapping[bytes, bytes], packed: Mapping[bytes, bytes]) -> Page:
    keys = {id_.decode(): name.decode() for id_, name in names.items()}
    rules: dict[str, Rule] = {}
    stamps: dict[str, tuple[int, int]] = {}
    lanes = LaneTerms()
    for id_, raw in packed.items():
        found: list[Any] = msgpack.unpackb(raw)
        if id_ == b"*":
            lanes = LaneTerms(*(int(part) for part in found[:4]))
            continue
        name = keys[id_.decode()]
        rules[name] = Rule(*found[:7], *found[9:10])
        flushed, resynced = (*found[7:9], 0, 0)[:2]
        stamps[name] = (int(flushed), int(resynced))
    return Page(version, Rules(lanes, rules), keys, stamps)
