"""Laws of rule 21: what follows from other rules, for any two registries and any orders."""

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.pipeline.rules import (
    UNDECLARED,
    Effect,
    LaneTerms,
    Order,
    Rule,
    Rules,
    Work,
    effects,
    in_force,
)

_keys = st.sampled_from(["a", "b", "c"])
_rules = st.builds(
    Rule,
    lane=st.sampled_from("rb"),
    every=st.sampled_from([0, 5_000]),
    exit=st.sampled_from("fn"),
    enabled=st.sampled_from([0, 1]),
    attribute=st.sampled_from(["", "a", "seg"]),
    retired=st.just(""),
    declared=st.just(1),
    shadowed=st.just(""),
)
_lanes = st.builds(
    LaneTerms, every=st.sampled_from([5_000, 10_000]), offset=st.sampled_from([0, 90])
)
_orders = st.dictionaries(
    _keys,
    st.builds(Order, is_disabled=st.booleans(), retired=st.sampled_from(["", "", "false", "null"])),
)
_in_force = st.builds(in_force, _lanes, st.dictionaries(_keys, _rules), _orders)


def _due(rules: Rules, key: str, since: int) -> int | None:
    """When a value is due that differs since then; None for the realtime lane."""
    rule, lanes = rules.rule(key), rules.lanes
    if rule.lane == "r":
        return None
    every = rule.every or lanes.every
    return ((since - lanes.offset) // every + 1) * every + lanes.offset


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(old=_in_force, new=_in_force)
def test_rule_21_what_follows(old: Rules, new: Rules) -> None:
    """Who must be sent again or listed anew is, and nobody else."""
    found = effects(old, new)
    assert len(found) == len(set(found)), "twice"
    for key in {*old.of, *new.of}:
        was, rule = old.rule(key), new.rule(key)
        works = {effect.work for effect in found if effect.key == key}
        if rule.retired:
            assert (Work.RETIRE in works) == (rule.retired != was.retired)
            continue
        if rule.shadowed:
            assert not works, "nothing of it is sent"
            continue
        is_renamed = was.name(key) != rule.name(key) or bool(was.shadowed)
        assert (Work.RESYNC in works) == is_renamed
        assert (Work.EXIT_CHANGED in works) == (was.exit != rule.exit and not is_renamed)
        instants = range(0, 40_000, 777)
        moves = any(_due(old, key, at) != _due(new, key, at) for at in instants)
        if rule.enabled and (moves or not was.enabled):
            assert Work.RESCHEDULE in works
        if not rule.enabled:
            assert Work.RESCHEDULE not in works


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(rules=_in_force)
def test_rule_21_the_same_rules_need_nothing(rules: Rules) -> None:
    """Nothing follows from what is not another."""
    assert effects(rules, rules) == []


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(lanes=_lanes, declared=st.dictionaries(_keys, _rules), orders=_orders)
def test_rule_21_the_operators_word_counts(
    lanes: LaneTerms, declared: dict[str, Rule], orders: dict[str, Order]
) -> None:
    """Disabled is disabled whatever the file says; retired is written as it was ordered."""
    rules = in_force(lanes, declared, orders)
    assert rules.lanes == lanes
    for key in {*declared, *orders}:
        rule, order = rules.rule(key), orders.get(key, Order())
        said = declared.get(key, UNDECLARED)
        is_sent = not rule.shadowed
        if order.retired:
            assert (rule.retired, rule.enabled, rule.exit) == (order.retired, is_sent, "f")
        else:
            assert rule.enabled == (said.enabled and not order.is_disabled and is_sent)
            assert (rule.lane, rule.exit, rule.retired) == (said.lane, said.exit, "")


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(rules=_in_force)
def test_rule_21_one_attribute_has_one_writer(rules: Rules) -> None:
    """Whatever is declared and ordered, no two keys are sent under one name, seen or not."""
    keys = {*rules.of, "a", "b", "c", "seg", "unseen"}
    for name in {rules.rule(key).name(key) for key in keys}:
        called_so = {key for key in keys if rules.rule(key).name(key) == name}
        writers = {key for key in called_so if not rules.rule(key).shadowed}
        assert len(writers) == 1
        for key in called_so - writers:
            assert rules.rule(key).shadowed in writers
            assert not rules.rule(key).enabled


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(lanes=_lanes, said=_rules, value=st.sampled_from(["false", "null"]))
def test_rule_21_a_retired_key_keeps_its_terms(lanes: LaneTerms, said: Rule, value: str) -> None:
    """Its entry may be taken out of the file: lane and name stay, and nothing follows."""
    kept = Order(retired=value, lane=said.lane, every=said.every, attribute=said.attribute)
    declared, gone = in_force(lanes, {"a": said}, {"a": kept}), in_force(lanes, {}, {"a": kept})
    assert gone.rule("a") == declared.rule("a")._replace(declared=0)
    assert effects(declared, gone) == []


def test_rule_21_disabling_needs_nothing() -> None:
    """Claims pass a disabled audience over; it is found again when it is enabled."""
    on, off = Rules(of={"a": Rule()}), Rules(of={"a": Rule(enabled=0)})
    assert effects(on, off) == []
    assert effects(off, on) == [Effect(Work.RESCHEDULE, "a")]
