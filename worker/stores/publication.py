"""The registry that all workers go by, and what operators have ordered: one for the deployment.

It is published under a version, digest of its meaning and generation; then each partition takes it
up in one step of its own (`catch_up`), which any worker may do and which the tick repeats, so that
a publisher that is killed midway leaves nothing behind. See docs/decisions/0011-registry-reload.md.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from worker.audiences.registry import Registry
from worker.pipeline.rules import (
    Effect,
    LaneTerms,
    Order,
    Rule,
    Rules,
    Work,
    declared,
    effects,
    in_force,
)
from worker.stores.keys import ORDERS, REGISTRY, key
from worker.stores.retirements import Held, Retirements
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts


class ChangedMeanwhile(Exception):
    """Somebody else published each time that this was tried."""


class RetiredKey(Exception):
    """A retired key is closed for good. The message names it, when it was retired, and by whom."""


class NameHeld(Exception):
    """A key is to have an attribute under which a retired one is still sent. This passes: the
    registry can be published when that is done. The message says whose, and how many users wait."""


@dataclass(frozen=True, slots=True)
class RegistryFault:
    """A file that could not be taken up: what is wrong with it, where, since when (ms)."""

    text: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Published:
    """What is published. `generation` 0: nothing yet. `text`: the file, as it was read; `by`: the
    host it was read on. `fault`: a newer file that is refused; what was published before stays."""

    version: str = ""
    generation: int = 0
    digest: str = ""
    declared: Rules = field(default_factory=Rules)
    text: str = ""
    by: str = ""
    at_ms: int = 0
    replaced: str = ""
    fault: RegistryFault | None = None


@dataclass(frozen=True, slots=True)
class Concerned:
    """Work that a partition has begun. `users` have a value that it concerns."""

    work: Work
    key: str
    users: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a partition took up: the rules before and since, and the work that follows. `shadowed`:
    keys seen there of which nothing is sent from now on, their name being another's."""

    before: Rules
    since: Rules
    replaced: str
    version: str
    work: tuple[Concerned, ...]
    shadowed: tuple[str, ...] = ()


_TRIES = 10


class Publication:
    """Publishes, takes orders, and has partitions follow."""

    def __init__(self, scripts: Scripts, rulebook: Rulebook) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._rulebook = rulebook
        self._retirements = Retirements(scripts.client, rulebook)

    # --- what is published

    def read(self) -> Published:
        """What is published now."""
        return _published(self._client.hgetall(REGISTRY))

    def version(self) -> str:
        """Its version; '' if nothing is published."""
        return (self._client.hget(REGISTRY, "version") or b"").decode()

    def generation(self) -> int:
        """How often it was published; 0 if nothing is published."""
        return int(self._client.hget(REGISTRY, "generation") or 0)

    def orders(self) -> dict[str, Order]:
        """What operators have ordered, by key."""
        return read_orders(self._client.hgetall(ORDERS))

    def publish(self, registry: Registry, text: str, by: str) -> bool:
        """Publish a registry. False if it says what is published already; a fault that was noted is
        over either way. Raises RetiredKey and NameHeld.
        """
        rules = declared(registry)
        for _ in range(_TRIES):
            before, orders = self._read_both()
            if before.digest == registry.version:
                self.note_fault("", by)
                return False
            for said in _closed(rules, orders):
                raise RetiredKey(said)
            for held in self._held(rules, before, orders):
                raise NameHeld(str(held))
            packed = json.dumps([rules.lanes, rules.of])
            if self._publish(before.generation, registry.version, packed, text, by, "", ""):
                return True
        raise ChangedMeanwhile("The registry changed each time it was to be published.")

    def refused(self, registry: Registry) -> list[str]:
        """Why a registry would not be published now, in sentences; empty if it would be."""
        rules, (before, orders) = declared(registry), self._read_both()
        if before.digest == registry.version:
            return []
        return [*_closed(rules, orders), *map(str, self._held(rules, before, orders))]

    def _held(self, rules: Rules, before: Published, orders: Mapping[str, Order]) -> list[Held]:
        return self._retirements.held(before.version, rules, before.declared, orders)

    def note_fault(self, text: str, by: str) -> bool:
        """Note why a file is refused; '' for one that is fine again. False if it was noted so."""
        stored = (self._client.hget(REGISTRY, "fault") or b"").decode()
        if stored == text:
            return False
        if text:
            at = self._scripts.now_ms()
            fields: dict[str, object] = {"fault": text, "fault_by": by, "fault_at": at}
            self._client.hset(REGISTRY, mapping=fields)
        else:
            self._client.hdel(REGISTRY, "fault", "fault_by", "fault_at")
        return True

    # --- orders

    def disable(self, name: str, by: str, why: str = "") -> None:
        """Record the key's changes and send nothing, until it is enabled. Raises RetiredKey."""
        self._order(name, lambda _: Order(True, "", by, why, self._scripts.now_ms()))

    def enable(self, name: str) -> None:
        """Take a disabling back: what differs is sent. What the file says of the key counts again.

        Raises RetiredKey.
        """
        self._order(name, lambda _: None)

    def retire(self, name: str, value: str, by: str, why: str = "") -> None:
        """Close a key for good: everybody who has a value of it gets this one, `false` or `null`.

        Changes of it are skipped from now on. It keeps its lane and its attribute, whatever becomes
        of its entry in the file. Raises RetiredKey if it is retired already.
        """
        if value not in ("false", "null"):
            raise ValueError("a key retires at false or at null")
        self._order(
            name,
            lambda rule: Order(
                False, value, by, why, self._scripts.now_ms(), rule.lane, rule.every, rule.attribute
            ),
        )

    def _order(self, name: str, order: Callable[[Rule], Order | None]) -> None:
        """Give an order, made of what the file says of the key; None takes it back."""
        for _ in range(_TRIES):
            before, orders = self._read_both()
            known = orders.get(name)
            if known and known.retired:
                raise RetiredKey(said_of_retired(name, known))
            new = order(before.declared.rule(name))
            if new is None and known is None:
                return
            packed = json.dumps(asdict(new)) if new else ""
            if self._publish(before.generation, "", "", "", "", name, packed):
                return
        raise ChangedMeanwhile("The registry changed each time an order was to be given.")

    # --- partitions

    def catch_up(self, partition: int) -> Taken | None:
        """Have a partition go by what is published; None if it does, or nothing is published.

        Whatever has to follow is begun in the same step.
        """
        for _ in range(_TRIES):
            stored = self._client.hget(key(partition, "meta"), "registry") or b""
            if self.version() in ("", stored.decode()):
                return None
            published, orders = self._read_both()
            before = self._rulebook.read(partition)
            rules = in_force(published.declared.lanes, published.declared.of, orders)
            follow = effects(before.rules, rules)
            concerned = self._concerned(partition, before.names, follow)
            is_put = self._rulebook.put(
                partition, published.version, rules, follow,
                instead_of=before.version, by=published.by,
            )  # fmt: skip
            if is_put:
                shadowed = _newly_shadowed(before.names.values(), before.rules, rules)
                return Taken(
                    before.rules, rules, before.version, published.version, concerned, shadowed
                )
        return None  # somebody else does it, again and again

    def _concerned(
        self, partition: int, names: Mapping[str, str], follow: list[Effect]
    ) -> tuple[Concerned, ...]:
        ids = {name: id_ for id_, name in names.items()}
        found = []
        for work, name, _ in follow:
            if name not in ids:
                continue
            known = int(self._client.hget(key(partition, "known"), ids[name]) or 0)
            if work is Work.RESCHEDULE:
                users = int(self._client.zcard(key(partition, f"dirty:{ids[name]}")))
            elif work is Work.EXIT_CHANGED:
                members = int(self._client.hget(key(partition, "members"), ids[name]) or 0)
                users = known - members
            else:
                users = known
            if known:
                found.append(Concerned(work, name, users))
        return tuple(found)

    # --- the two keys

    def _read_both(self) -> tuple[Published, dict[str, Order]]:
        with self._client.pipeline(transaction=True) as together:
            together.hgetall(REGISTRY)
            together.hgetall(ORDERS)
            registry, orders = together.execute()
        return _published(registry), read_orders(orders)

    def _publish(self, generation: int, *args: str) -> bool:
        return bool(self._scripts.alone("publish", [REGISTRY, ORDERS], generation, *args))


def _closed(rules: Rules, orders: Mapping[str, Order]) -> list[str]:
    """What is wrong with rules that name retired keys."""
    return [
        said_of_retired(name, order)
        for name, order in sorted(orders.items())
        if order.retired and name in rules.of
    ]


def _newly_shadowed(known: Iterable[str], before: Rules, since: Rules) -> tuple[str, ...]:
    is_new = {key for key in known if since.rule(key).shadowed and not before.rule(key).shadowed}
    return tuple(sorted(is_new))


def said_of_retired(name: str, order: Order) -> str:
    """Why a key cannot be used, and what to do."""
    return (
        f"{name} was retired by {order.by} and is closed for good; remove the entry, and give a "
        "new audience another key."
    )


def _published(raw: Mapping[bytes, bytes]) -> Published:
    if not raw:
        return Published()
    of = {name.decode(): value.decode() for name, value in raw.items()}
    lanes, rules = json.loads(of.get("rules", "[[], {}]"))
    fault = (
        RegistryFault(of["fault"], of["fault_by"], int(of["fault_at"])) if "fault" in of else None
    )
    return Published(
        version=of.get("version", ""),
        generation=int(of.get("generation", 0)),
        digest=of.get("digest", ""),
        declared=Rules(LaneTerms(*lanes), {name: Rule(*rule) for name, rule in rules.items()}),
        text=of.get("text", ""),
        by=of.get("by", ""),
        at_ms=int(of.get("published_at", 0)),
        replaced=of.get("replaced", ""),
        fault=fault,
    )


def read_orders(raw: Mapping[bytes, bytes]) -> dict[str, Order]:
    """Orders as they are stored, by key."""
    return {name.decode(): Order(**json.loads(packed)) for name, packed in raw.items()}
