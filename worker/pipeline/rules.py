"""The rules that scripts go by, and what has to follow when they change (rule 21).

A rule says of one key how its values are sent. It is made of what audiences.yaml declares and of
what an operator has ordered since; of both, the operator's word counts.

One attribute of Braze has one writer: of all keys that would be sent under a name, one is, and the
others are shadowed by it. Their changes are recorded, and nothing of them is sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from worker.audiences.registry import Registry


class LaneTerms(NamedTuple):
    """Timing of both lanes, in ms: boundaries are multiples of `every` plus `offset`."""

    linger: int = 200
    max_wait: int = 2_000
    every: int = 3_600_000
    offset: int = 0


LANES = LaneTerms()


class Rule(NamedTuple):
    """How one key is sent, as scripts are given it; see `stores/lua/parts/rules.lua`.

    `lane` and `exit` are letters: `r`|`b`, and `f`|`n` for an exit written as false or null.
    `every`: ms, 0 for the lane's. `attribute`: Braze's name, '' if it is the key. `retired`: the
    JSON text at which a retired key stays, '' for one that is not. `shadowed`: the key that is sent
    under its name instead, '' for one that is sent itself; a shadowed one is never enabled.
    """

    lane: str = "r"
    every: int = 0
    exit: str = "f"
    enabled: int = 1
    attribute: str = ""
    retired: str = ""
    declared: int = 1
    shadowed: str = ""

    def name(self, key: str) -> str:
        """What the key is called at Braze."""
        return self.attribute or key


UNDECLARED = Rule(declared=0)


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator has ordered of one key: who, why, when (ms).

    `is_disabled`: its changes are recorded and nothing is sent. `retired`: the JSON text that
    every user keeps for good, '' for a key in use. A retired key keeps the `lane` ('': unknown),
    the interval and the attribute that it had, whatever becomes of its entry in the file.
    """

    is_disabled: bool = False
    retired: str = ""
    by: str = ""
    why: str = ""
    at_ms: int = 0
    lane: str = ""
    every: int = 0
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rule of each key that has one, and the lanes. Any other key is UNDECLARED."""

    lanes: LaneTerms = LANES
    of: Mapping[str, Rule] = field(default_factory=dict)

    def rule(self, key: str) -> Rule:
        """What counts for a key."""
        return self.of.get(key, UNDECLARED)


class Work(StrEnum):
    """What may have to be done to many users, in the background.

    reschedule    those who wait for a key are listed anew, by the rules as they are
    flush         the same, and what they wait for now is due at once
    resync        what was acknowledged of a key is unknown, and is sent again
    exit_changed  who left is sent what leaving is written as now
    retire        every user gets the value at which the key stays
    """

    RESCHEDULE = "reschedule"
    FLUSH = "flush"
    RESYNC = "resync"
    EXIT_CHANGED = "exit_changed"
    RETIRE = "retire"


class Effect(NamedTuple):
    """Work that a change of the rules of one key makes necessary. `value`: where it retires."""

    work: Work
    key: str
    value: str = ""


def declared(registry: Registry) -> Rules:
    """What a file says, as rules."""
    attributes = registry.attributes()
    return Rules(
        LaneTerms(*registry.lane_terms()),
        {name: Rule(*rule, attribute=attributes[name]) for name, rule in registry.rules()},
    )


def in_force(lanes: LaneTerms, declared: Mapping[str, Rule], orders: Mapping[str, Order]) -> Rules:
    """The rules as the file and the operators make them.

    A retired key is enabled, whatever was said before: its last value has to arrive. It is
    written as it was ordered, whatever an exit is written as.

    Of several keys with one name that is the writer which is declared; if none is, the one that was
    retired last; and an undeclared key only if no other has its name. The rules hold the shadow of
    each name that is not its writer's key, too: nobody knows whether that key will ever be seen.
    """
    of = dict(declared)
    for key, order in orders.items():
        rule = of.get(key, UNDECLARED)
        if order.retired:
            if order.lane:
                rule = rule._replace(lane=order.lane, every=order.every, attribute=order.attribute)
            of[key] = rule._replace(enabled=1, exit="f", retired=order.retired)
        elif order.is_disabled:
            of[key] = rule._replace(enabled=0)
    return Rules(lanes, _with_one_writer(of, orders))


def _with_one_writer(of: Mapping[str, Rule], orders: Mapping[str, Order]) -> dict[str, Rule]:
    def rank(key: str) -> tuple[bool, bool, int, str]:
        rule = of[key]
        return not rule.declared, not rule.retired, -orders.get(key, Order()).at_ms, key

    writers: dict[str, str] = {}
    for key in sorted(of, key=rank):
        writers.setdefault(of[key].name(key), key)
    found = dict(of)
    for key, rule in of.items():
        writer = writers[rule.name(key)]
        if writer != key:
            found[key] = rule._replace(enabled=0, shadowed=writer)
    for name, writer in writers.items():
        if name not in found:
            found[name] = UNDECLARED._replace(enabled=0, shadowed=writer)
    return found


def effects(old: Rules, new: Rules) -> list[Effect]:
    """What has to follow when the rules change from old to new; by key, in a fixed order.

    A key that becomes disabled needs nothing: claims pass it over, and it stays pending.
    """
    return [
        effect
        for key in sorted({*old.of, *new.of})
        for effect in _effects_of(key, (old.rule(key), old.lanes), (new.rule(key), new.lanes))
    ]


def _effects_of(
    key: str, old: tuple[Rule, LaneTerms], new: tuple[Rule, LaneTerms]
) -> Iterator[Effect]:
    (was, _), (rule, _) = old, new
    if rule.retired:
        if rule.retired != was.retired:
            yield Effect(Work.RETIRE, key, rule.retired)
        elif rule.name(key) != was.name(key):
            yield Effect(Work.RESYNC, key)
        is_writer_again = was.retired == rule.retired and rule.enabled and not was.enabled
        if is_writer_again or _timing(*old) != _timing(*new):
            yield Effect(Work.RESCHEDULE, key)
        return
    if rule.shadowed:
        return  # nothing of it is sent; once it is its name's writer again, all of it is
    if rule.name(key) != was.name(key) or was.shadowed:
        # All is sent again, in the way that exits are written now.
        yield Effect(Work.RESYNC, key)
    elif rule.exit != was.exit:
        yield Effect(Work.EXIT_CHANGED, key)
    if rule.enabled and (not was.enabled or _timing(*old) != _timing(*new)):
        yield Effect(Work.RESCHEDULE, key)


def _timing(rule: Rule, lanes: LaneTerms) -> tuple[int, int]:
    """When values are due: the interval and the offset of the boundaries; (0, 0) for realtime."""
    return (rule.every or lanes.every, lanes.offset) if rule.lane == "b" else (0, 0)
