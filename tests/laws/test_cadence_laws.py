"""Laws of the lanes: reasons add up; order and double negation change nothing."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.audiences.query.trees import legal, traits, users
from worker.audiences.cadence import (
    Code,
    Cycle,
    Known,
    KnownKeys,
    KnownKind,
    Lane,
    Policy,
    order_references,
    read_cadence,
)
from worker.audiences.query.parse import parse_audience
from worker.audiences.query.printer import print_query
from worker.audiences.query.tree import And, AudienceQuery, Not, Or, references

FEW = settings(deadline=None, derandomize=True, max_examples=150)
REGISTRY = KnownKeys(
    {
        "live": Known(KnownKind.AUDIENCE, Lane.REALTIME),
        "slow": Known(KnownKind.AUDIENCE, Lane.BATCHED),
        "spend": Known(KnownKind.COMPUTED_TRAIT, Lane.BATCHED),
        "ltv": Known(KnownKind.SQL_TRAIT),
        "plan": Known(KnownKind.CUSTOM, iso_values=False),
    }
)
policies = st.sampled_from(Policy)
# Small enough that two of them joined, and negated, are still legal.
small = users.filter(lambda query: legal(query, 20))


def lane(root, policy):
    """The lane of a condition."""
    return read_cadence(AudienceQuery(root), policy, REGISTRY).lane


def reasons(root, policy):
    """Why it is batched, wherever in the text; nothing if it is realtime."""
    reading = read_cadence(AudienceQuery(root), policy, REGISTRY)
    if reading.lane is Lane.REALTIME:
        return Counter()
    return Counter((reason.code, reason.text, reason.via) for reason in reading.reasons)


@FEW
@given(small, small, policies, st.sampled_from([And, Or]))
def test_a_junction_is_batched_exactly_if_a_part_is(one, other, policy, junction):
    """The lane of `A AND B`, of `A OR B`, is batched exactly if A's or B's is."""
    parts = {lane(one.root, policy), lane(other.root, policy)}
    both = lane(junction((one.root, other.root)), policy)
    assert (both is Lane.BATCHED) is (Lane.BATCHED in parts)


@FEW
@given(small, small, policies, st.sampled_from([And, Or]))
def test_the_reasons_of_a_junction_are_those_of_its_parts(one, other, policy, junction):
    """None is lost and none is added."""
    both = reasons(junction((one.root, other.root)), policy)
    assert both == reasons(one.root, policy) + reasons(other.root, policy)


@FEW
@given(st.lists(small, min_size=2, max_size=3), st.randoms(use_true_random=False), policies)
def test_the_order_of_operands_changes_nothing(queries, random, policy):
    """Permuting the operands of AND keeps lane and reasons."""
    roots = [query.root for query in queries if legal(query, 16)] or [queries[0].root] * 2
    shuffled = random.sample(roots, len(roots))
    if len(roots) > 1:
        assert reasons(And(tuple(roots)), policy) == reasons(And(tuple(shuffled)), policy)


@FEW
@given(small, policies)
def test_double_negation_changes_nothing(query, policy):
    """NOT NOT A has A's lane and A's reasons."""
    assert reasons(Not(Not(query.root)), policy) == reasons(query.root, policy)


@FEW
@given(small, small, policies)
def test_negation_goes_through_junctions(one, other, policy):
    """NOT (A AND B) has the reasons of NOT A OR NOT B."""
    outside = Not(And((one.root, other.root)))
    inside = Or((Not(one.root), Not(other.root)))
    assert reasons(outside, policy) == reasons(inside, policy)


@FEW
@given(users)
def test_personas_is_the_stricter_policy(query):
    """What is batched under engage is batched under personas, for at least as many reasons."""
    assert reasons(query.root, Policy.ENGAGE) <= reasons(query.root, Policy.PERSONAS)


@FEW
@given(st.one_of(users, traits), policies)
def test_a_reason_quotes_what_stands_there(query, policy):
    """The fragment is found at the line and column that the reason gives."""
    query = parse_audience(print_query(query)) if isinstance(query, AudienceQuery) else query
    reading = read_cadence(query, policy, REGISTRY)
    text = query.text or print_query(query)
    assert reading.reasons
    for reason in reading.reasons:
        line = "\n".join(text.split("\n")[reason.line - 1 :])
        assert reason.fragment
        assert line[reason.column - 1 :].startswith(reason.fragment)
    alone = [reason.code for reason in reading.reasons] == [Code.REALTIME_BY_DEFAULT]
    assert alone is (reading.lane is Lane.REALTIME)


keys = st.sampled_from("abcdefg")


@FEW
@given(st.dictionaries(keys, st.lists(keys, min_size=1, max_size=2), max_size=7))
def test_references_are_ordered_or_a_ring_is_shown(graph):
    """Each key after all it refers to; else a ring in which each key refers to the next."""
    queries = {
        key: parse_audience(" AND ".join(f"trait('{name}').exists()" for name in names))
        for key, names in graph.items()
    }
    order = order_references(queries)
    if isinstance(order, Cycle):
        for one, following in zip(order.keys, (*order.keys[1:], order.keys[0]), strict=True):
            assert following in references(queries[one])
    else:
        assert sorted(order) == sorted(queries)
        for place, key in enumerate(order):
            assert not set(references(queries[key])) & set(order[place:])
