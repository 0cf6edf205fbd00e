"""The policy table, row by row and in combination: which lane, and every reason for it."""

import pytest

from worker.audiences.cadence import (
    Code,
    Cycle,
    Decision,
    Definition,
    Known,
    KnownKeys,
    KnownKind,
    Lane,
    Policy,
    Reading,
    Reason,
    decide,
    decide_all,
    order_references,
    read_cadence,
)
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import (
    AudienceQuery,
    Compare,
    CompareOp,
    Duration,
    Event,
    Kind,
    Literal,
    Reduce,
    Reducer,
    Stream,
    Unit,
    Within,
)

WINDOW = Reason(Code.EVENT_WITHIN, "within(7 days)", 1, 12, "It looks at events in the last week.")
SLIDING = Reason(Code.SLIDING_WINDOW, "within(7 days)", 1, 12, "It is computed over a window.")
REGISTRY = KnownKeys(
    {
        "live": Known(KnownKind.AUDIENCE, Lane.REALTIME),
        "slow": Known(KnownKind.AUDIENCE, Lane.BATCHED, (WINDOW,)),
        "told": Known(KnownKind.AUDIENCE, Lane.BATCHED),
        "total": Known(KnownKind.COMPUTED_TRAIT, Lane.REALTIME),
        "spend_30": Known(KnownKind.COMPUTED_TRAIT, Lane.BATCHED, (SLIDING,)),
        "ltv": Known(KnownKind.SQL_TRAIT),
        "plan": Known(KnownKind.CUSTOM),
        "iso": Known(KnownKind.CUSTOM, iso_values=True),
        "us_date": Known(KnownKind.CUSTOM, iso_values=False),
    }
)
REALTIME = [Code.REALTIME_BY_DEFAULT]
DONE = "event('x').within(7 days).count() >= 1"
FUNNEL = "event('x').where(event('y').count() >= 1).count() >= 1"


def codes(reading):
    """The reason codes, in the order of the text; a lane that does not fit them fails."""
    found = [reason.code for reason in reading.reasons]
    assert (found == REALTIME) is (reading.lane is Lane.REALTIME)
    return found


def read(text, policy=Policy.PERSONAS, kind=Kind.USERS):
    """The reading of an audience."""
    return read_cadence(parse_audience(text, kind), policy, REGISTRY)


# query, codes under personas, codes under engage ([]: realtime by default)
TABLE = [
    # event done or not done, any count, no window
    ("event('x').count() >= 1", [], []),
    ("event('x').count() = 0", [], []),
    ("NOT event('x').count() >= 3", [], []),
    ("event('x').sources({exclude: 'a'}).last(property('p')) = 'a'", [], []),
    ("event('x').unique(property('p')).count() > 2", [], []),
    # property filter, constant
    ("event('x').where(property('p') >= 100 AND context('c').exists()).count() >= 1", [], []),
    ("event('x').where(property('p').one_of('a', 'b')).count() >= 1", [], []),
    ("event('x').where(trait('plan') = 'gold').count() >= 1", [], []),
    # custom trait, no time
    ("trait('plan') = 'gold'", [], []),
    ("trait('unheard_of').exists()", [], []),
    ("trait('plan') = trait('other')", [], []),
    ("trait('slow.inner') = 'true'", [], []),
    # computed trait
    ("trait('total') > 100", [], []),
    ("trait('spend_30') > 100", ["batched_trait"], ["batched_trait"]),
    ("event('x').where(property('p') > 1 AND trait('spend_30') > 1).count() > 1",)
    + (["batched_trait"],) * 2,
    # SQL trait
    ("trait('ltv') > 100", ["sql_trait"], ["sql_trait"]),
    # membership
    ("trait('live') = 'true'", [], []),
    ("trait('slow') = 'true'", ["batched_audience"], ["batched_audience"]),
    ("NOT (trait('slow') = 'true')", ["batched_audience"], ["batched_audience"]),
    ("trait('told') = 'true'", ["batched_audience"], ["batched_audience"]),
    # within
    (DONE, ["event_within"], []),
    ("event('x').within(2 hours).sum(property('p')) > 5", ["event_within"], []),
    ("event('x').within(7 days).within(9 days).count() > 1", ["event_within"] * 2, []),
    ("event('x').within(7 days).count() > trait('n')", ["event_within"], []),
    ("trait('n') <= event('x').within(7 days).count()", ["event_within"], []),
    # between
    ("event('x').between(7 days, 10 days).count() >= 1", ["event_between"], ["event_between"]),
    (
        "event('x').within(9 days).between(7 days, 10 days).count() >= 1",
        ["event_within", "event_between"],
        ["event_between"],
    ),
    # not done within
    *(
        (text, ["not_done_within"], ["not_done_within"])
        for text in (
            f"NOT ({DONE})",
            f"NOT {DONE}",
            "event('x').within(7 days).count() = 0",
            "event('x').within(7 days).count().equals('0')",
            "event('x').within(7 days).count() < 1",
            "event('x').within(7 days).count() <= 0",
            "event('x').within(7 days).count().at_most(0)",
            "event('x').within(7 days).count().less_than(1)",
            "event('x').within(7 days).count() <= 3",
            "event('x').within(7 days).count().one_of(0, 1)",
            "event('x').within(7 days).count() != 2",
            "NOT (event('x').within(7 days).count() > 0)",
            "NOT (event('x').within(7 days).count() != 0)",
            "NOT (event('x').within(7 days).count() >= 5)",
            "NOT NOT NOT event('x').within(7 days).count() > 0",
            "NOT NOT event('x').within(7 days).count() = 0",
            "event('x').between(7 days, 9 days).count() = 0",
            "event('x').within(7 days).last(property('p')).absent()",
            "event('x').within(7 days).last(property('p')).none_of('a')",
            "NOT event('x').within(7 days).last(property('p')).exists()",
            "NOT event('x').within(7 days).sum(property('p')) > 5",
            "event('x').within(7 days).unique(property('p')).count() = 0",
            "event('x').within(7 days).count() < trait('n')",
            "trait('n') > event('x').within(7 days).count()",
            "event('x').where(property('p') = 1).within(7 days).count() = 0",
        )
    ),
    # not "not done": it holds for somebody who has done it, or says nothing
    ("NOT (event('x').within(7 days).count() = 0)", ["event_within"], []),
    ("NOT NOT event('x').within(7 days).count() > 0", ["event_within"], []),
    ("NOT (event('x').within(7 days).count() < 1)", ["event_within"], []),
    ("event('x').within(7 days).count() != 0", ["event_within"], []),
    ("event('x').within(7 days).count() >= 0", ["event_within"], []),
    ("event('x').within(7 days).count() = 2", ["event_within"], []),
    ("NOT event('x').within(7 days).last(property('p')).absent()", ["event_within"], []),
    # De Morgan
    (
        f"NOT ({DONE} AND event('y').within(1 day).count() = 0)",
        ["not_done_within", "event_within"],
        ["not_done_within"],
    ),
    (f"NOT (NOT {DONE} OR trait('plan') = 'a')", ["event_within"], []),
    # trait against today
    *(
        (f"trait('{trait}').{name}(7 days)", ["relative_date"], [])
        for name in ("within_last", "within_next", "before_last", "after_next")
        for trait in ("iso", "unheard_of")
    ),
    ("trait('us_date').within_last(7 days)",) + (["trait_values_not_iso"],) * 2,
    ("NOT trait('iso').within_last(7 days)", ["relative_date"], []),
    ("event('x').where(property('p').within_last(7 days)).count() > 1", ["relative_date"], []),
    ("event('x').last(property('p')).within_last(7 days)", ["relative_date"], []),
    # fixed dates
    ("trait('iso').before_date('2023-12-07T18:50:00Z')", [], []),
    ("trait('iso').after_date(2023-12-07T18:50:00+01:00)", [], []),
    ("trait('iso').before_date('12/07/2023')", ["date_not_iso"], ["date_not_iso"]),
    ("trait('iso').after_date(2023-12-07T18:50:00)", ["date_not_iso"], ["date_not_iso"]),
    ("trait('iso').after_date(2023-12-07)", ["date_not_iso"], ["date_not_iso"]),
    ("trait('us_date').after_date('2023-12-07T18:50:00Z')",) + (["trait_values_not_iso"],) * 2,
    ("event('x').where(property('p').after_date('soon')).count() > 1",) + (["date_not_iso"],) * 2,
    # funnel
    (FUNNEL, ["funnel"], ["funnel"]),
    (
        "event('x').where(NOT event('y').within(parent: 1 day).count() >= 1).count() >= 1",
        ["funnel"],
        ["funnel"],
    ),
    (
        "event('x').where(event('y').within(2 days).count() >= 1).count() >= 1",
        ["funnel", "event_within"],
        ["funnel"],
    ),
    # dynamic property
    ("event('x').where(property('p') > trait('plan')).count() > 1",) + (["dynamic_property"],) * 2,
    ("event('x').where(trait('plan') = property('p')).count() > 1",) + (["dynamic_property"],) * 2,
    ("event('x').where(property('p') = context('q')).count() > 1",) + (["dynamic_property"],) * 2,
    (
        "event('x').where(event('y').where(property('p') = property(parent: 'q')).count() > 1)"
        ".count() > 1",
        ["funnel", "dynamic_property"],
        ["funnel", "dynamic_property"],
    ),
    (
        "event('x').where(event('y').where(property(parent: 'q') = 1).count() > 1).count() > 1",
        ["funnel", "dynamic_property"],
        ["funnel", "dynamic_property"],
    ),
    # linked
    ("entity('orders').count() >= 1", ["linked_entity"], ["linked_entity"]),
    # combinations
    (f"{DONE} AND trait('plan') = 'a'", ["event_within"], []),
    (f"trait('plan') = 'a' OR ({DONE} AND trait('live') = 'true')", ["event_within"], []),
    (
        f"trait('slow') = 'true' AND ({FUNNEL} OR NOT {DONE})",
        ["batched_audience", "funnel", "not_done_within"],
        ["batched_audience", "funnel", "not_done_within"],
    ),
]
ACCOUNTS = [
    ("trait('plan') = 'gold'", ["account_level"]),
    ("ANY trait('plan') = 'gold'", ["account_level"]),
    ("ALL NOT (event('x').count() >= 1)", ["account_level"]),
    (
        "ANY trait('a') = 1 AND ALL trait('ltv') = 1",
        ["account_level", "account_level", "sql_trait"],
    ),
]
TRAITS = [
    ("event('x').count()", []),
    ("event('x').expires_after(1800 seconds).count()", []),
    ("event('x').within(30 days).sum(property('p'))", ["sliding_window"]),
    ("event('x').between(1 day, 30 days).unique(property('p'))", ["sliding_window"]),
    ("event('x').expires_after(1 day).within(30 days).count()", ["sliding_window"]),
    ("event('x').where(trait('ltv') > 1).count()", ["sql_trait"]),
    ("event('x').where(event('y').within(parent: 1 day).count() = 0).count()", ["funnel"]),
    ("trait('slow')", ["batched_audience"]),
]


@pytest.mark.parametrize(("text", "strict", "current"), TABLE, ids=[row[0] for row in TABLE])
def test_a_row_of_the_policy_table(text, strict, current):
    """The lane and all reasons of an audience, under both policies."""
    assert codes(read(text, Policy.PERSONAS)) == (strict or REALTIME)
    assert codes(read(text, Policy.ENGAGE)) == (current or REALTIME)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize(("text", "found"), ACCOUNTS)
def test_account_audiences_are_always_batched(text, found, policy):
    """Under every policy, with one reason for each ANY and ALL."""
    assert codes(read(text, policy, Kind.ACCOUNTS)) == found


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize(("text", "found"), TRAITS)
def test_a_computed_trait_is_batched_if_its_window_slides(text, found, policy):
    """Session windows are realtime, sliding windows batched, whatever the policy."""
    assert codes(read_cadence(parse_trait(text), policy, REGISTRY)) == (found or REALTIME)


def test_every_code_has_a_row():
    """No reason exists that the tables do not show."""
    shown = {code for _, strict, _ in TABLE for code in strict}
    shown |= {code for _, found in (*ACCOUNTS, *TRAITS) for code in found}
    assert shown | {"declared", "realtime_by_default"} == set(Code)


def test_a_reason_quotes_the_query_where_it_stands():
    """The fragment is the text at that line and column."""
    text = (
        f"trait('plan') = 'gold'\n  AND NOT ( {DONE} )\n"
        "  OR event('z').between(1 day, 2 days).count() > 1"
    )
    first, second = read(text).reasons
    assert (first.fragment, first.line, first.column) == (f"NOT ( {DONE} )", 2, 7)
    assert (second.fragment, second.line, second.column) == ("between(1 day, 2 days)", 3, 17)
    assert first.text == (
        "It can hold for people who have no 'x' in the last 7 days, and only the clock shows that "
        "this time has passed."
    )


def test_a_realtime_audience_says_so_once():
    """The one reason quotes the whole query."""
    (reason,) = read(" trait('plan') = 'gold' ").reasons
    assert (reason.fragment, reason.line, reason.column) == ("trait('plan') = 'gold'", 1, 2)


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_every_reason_is_one_plain_sentence(row):
    """It begins with a capital, ends with a stop, and says no word of ours."""
    for policy in Policy:
        for reason in read(row[0], policy).reasons:
            assert reason.text[0].isupper()
            assert reason.text.endswith(".")
            assert ". " not in reason.text
            # Function names and codes are words of ours; names of the user stand in quotes.
            assert "_" not in "".join(reason.text.split("'")[::2])


def test_inheritance_names_the_way():
    """`via` holds the keys from the nearest to the origin, and the sentence says why."""
    decisions = decide_all(
        {
            "a": Definition(KnownKind.AUDIENCE, parse_audience("trait('b') = 'true'")),
            "b": Definition(KnownKind.AUDIENCE, parse_audience("trait('c') > 5")),
            "c": Definition(
                KnownKind.COMPUTED_TRAIT, parse_trait("event('x').within(7 days).count()")
            ),
        },
        Policy.ENGAGE,
    )
    assert [one.lane for one in decisions.values()] == [Lane.BATCHED] * 3
    (b,), (a,) = decisions["b"].reasons, decisions["a"].reasons
    assert (b.code, b.via, b.fragment) == ("batched_trait", ("c",), "trait('c')")
    assert b.text == (
        "It depends on the computed trait 'c', which is batched: it is computed over a window that "
        "slides with the clock, in the last 7 days."
    )
    assert (a.code, a.via, a.fragment) == ("batched_audience", ("b", "c"), "trait('b')")
    assert a.text == ("It depends on the audience 'b', which is batched because it depends on 'c'.")


def test_a_declared_cadence_is_inherited_too():
    """An audience that refers to one declared batched is batched, to one declared realtime not."""
    decisions = decide_all(
        {
            "told": Definition(KnownKind.AUDIENCE, declared=Lane.BATCHED),
            "freed": Definition(KnownKind.AUDIENCE, parse_audience(DONE), Lane.REALTIME),
            "ltv": Definition(KnownKind.SQL_TRAIT),
            "a": Definition(KnownKind.AUDIENCE, parse_audience("trait('told') = 'true'")),
            "b": Definition(KnownKind.AUDIENCE, parse_audience("trait('freed') = 'true'")),
            "c": Definition(KnownKind.AUDIENCE, parse_audience("trait('ltv') = 1")),
        },
        Policy.PERSONAS,
    )
    assert {key: one.lane.value for key, one in decisions.items()} == {
        "told": "batched",
        "freed": "realtime",
        "ltv": "batched",
        "a": "batched",
        "b": "realtime",
        "c": "batched",
    }
    assert decisions["freed"].disagrees
    assert [decisions[key].reasons[0].via for key in "ac"] == [("told",), ("ltv",)]
    assert decisions["a"].reasons[0].text == (
        "It depends on the audience 'told', which is batched: the registry declares it batched, "
        "and that wins."
    )


def test_a_declared_cadence_wins_and_disagreement_shows():
    """The lane is the declared one; the reading is kept beside it."""
    reading = read(DONE)
    decision = decide(reading, Lane.REALTIME)
    assert decision == Decision(Lane.REALTIME, reading, Lane.REALTIME)
    assert decision.disagrees
    assert [reason.code for reason in decision.reasons] == ["declared"]
    agreed = decide(reading, Lane.BATCHED)
    assert not agreed.disagrees
    assert agreed.reasons == reading.reasons


def test_without_query_and_declaration_it_is_realtime():
    """What nobody says anything about is realtime by default."""
    decision = decide(None, None)
    assert (decision.lane, decision.disagrees) == (Lane.REALTIME, False)
    assert [reason.code for reason in decision.reasons] == REALTIME


def test_a_tree_without_text_is_printed_first():
    """A query that code has built is read and quoted like any other."""
    week = Within(Duration(7, Unit.DAYS))
    count = Reduce(Stream(Event("x"), (week,)), Reducer.COUNT)
    built = AudienceQuery(Compare(count, CompareOp.AT_LEAST, Literal(1)))
    assert read_cadence(built, Policy.PERSONAS, KnownKeys()) == read(DONE)
    assert isinstance(read(DONE), Reading)


def queries(**texts):
    """Audiences that refer to each other."""
    return {
        key: parse_audience(" AND ".join(f"trait('{one}') = 'true'" for one in names))
        for key, names in texts.items()
    }


def test_references_are_ordered():
    """Each key comes after all that it refers to; keys not defined here do not matter."""
    order = order_references(queries(a=["b", "c"], b=["c", "plan"], c=["other"]))
    assert order == ("c", "b", "a")


@pytest.mark.parametrize(
    ("texts", "ring"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"c": ["a"], "a": ["b"], "b": ["c"], "d": ["a"]}, "a -> b -> c -> a"),
    ],
)
def test_a_ring_is_spelled_out(texts, ring):
    """Each key of the ring refers to the next, and the last to the first."""
    found = order_references(queries(**texts))
    assert isinstance(found, Cycle)
    assert str(found) == ring
    definitions = {
        key: Definition(KnownKind.AUDIENCE, query) for key, query in queries(**texts).items()
    }
    assert decide_all(definitions, Policy.PERSONAS) == found


def test_a_long_chain_of_references_is_no_trouble():
    """Thousands of audiences, each referring to the next, are resolved without recursion."""
    texts = {f"k{number}": [f"k{number + 1}"] for number in range(3_000)}
    definitions = {
        key: Definition(KnownKind.AUDIENCE, query) for key, query in queries(**texts).items()
    }
    definitions["k3000"] = Definition(KnownKind.AUDIENCE, declared=Lane.BATCHED)
    decisions = decide_all(definitions, Policy.PERSONAS)
    assert {one.lane for one in decisions.values()} == {Lane.BATCHED}
