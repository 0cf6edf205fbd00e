"""What the language means: every function and every spelling, as a tree."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from worker.audiences.query.functions import FUNCTIONS
from worker.audiences.query.moments import Moment, is_iso_timestamp
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.printer import print_query
from worker.audiences.query.tree import (
    AllUsers,
    And,
    AnyUser,
    Between,
    Compare,
    CompareOp,
    Context,
    DateCompare,
    DateOp,
    Duration,
    Entity,
    Event,
    ExpiresAfter,
    Kind,
    Literal,
    Match,
    MatchOp,
    Not,
    Or,
    Presence,
    PresenceOp,
    Property,
    Reduce,
    Reducer,
    RelativeDate,
    RelativeOp,
    Sources,
    Stream,
    Trait,
    UniqueCount,
    UniqueList,
    Unit,
    ValueType,
    Where,
    Within,
    references,
    walk,
)

# From the Twilio Segment documentation, CC BY 4.0, but for the last four.
DOCUMENTED = [
    "event('Shoes Bought').where( property('price') >= 100 ).within(7 days).count() >= 1",
    "event('Shoes Bought').where( \nproperty('price') >= trait('avg_spend')\nAND \n"
    "event('Shoes Returned').within(parent: 5 days).count() >= 1 \n).within(30 days).count() >= 1",
    "NOT ( event('Shoes Bought').count() >= 1 AND trait('total_spend') > 200 )",
    "entity('orders').count() >= 1 OR trait('VIP') = 'true'",
    "event('Trial Started').between(7 days, 30 days).count() >= 1 "
    "AND NOT event('Plan Purchased').within(30 days).count() >= 1",
    "trait('renewal_date').within_next(14 days)",
    "event('Cart Opened').where( event('Order Placed').where( property('cart_id') = "
    "property(parent: 'cart_id') ).within(parent: 2 hours).count() = 0 ).count() >= 1",
    "trait('plan').one_of('gold','silver') AND trait('vip_audience') = 'true' "
    "AND trait('email').exists()",
]
DOCUMENTED_ACCOUNTS = [
    "ALL ( event('Shoes Bought').count() >= 1 AND trait('total_spend') > 200 )",
    "ALL NOT event('Shoes Bought').count() >= 1",
    "ANY event('Shoes Bought').count() >= 1",
]
DOCUMENTED_TRAITS = [
    "event('Shoes Bought').within(30 days).avg(property('spend'))",
    "event('Shoes Bought').where( property('price') > 100 AND property('brand') = 'My Brand' )"
    ".min(property('spend'))",
    "event('Shoes Bought').within(30 days).first(property('spend'))",
    "event('Shoes Bought').within(30 days).mode(property('spend'), 2)",
]

X, K, P = Stream(Event("x")), Trait("k"), Property("p")
COUNT = Reduce(X, Reducer.COUNT)
WEEK = Duration(7, Unit.DAYS)


def compare(subject, operator, value):
    """A comparison with a constant."""
    return Compare(subject, operator, Literal(value))


def filtered(*filters):
    """The audience that has x, filtered so."""
    return compare(Reduce(Stream(Event("x"), filters), Reducer.COUNT), CompareOp.AT_LEAST, 1)


AUDIENCES = [
    ("event('x').count() >= 1", compare(COUNT, CompareOp.AT_LEAST, 1)),
    ("event('x').count().at_least(1)", compare(COUNT, CompareOp.AT_LEAST, 1)),
    ("event('x').count() > 1.5", compare(COUNT, CompareOp.GREATER_THAN, 1.5)),
    ("event('x').count().greater_than(-2)", compare(COUNT, CompareOp.GREATER_THAN, -2)),
    ("event('x').count() < 1", compare(COUNT, CompareOp.LESS_THAN, 1)),
    ("event('x').count().less_than(1)", compare(COUNT, CompareOp.LESS_THAN, 1)),
    ("event('x').count() <= 1", compare(COUNT, CompareOp.AT_MOST, 1)),
    ("event('x').count().at_most(1)", compare(COUNT, CompareOp.AT_MOST, 1)),
    ("trait('k') = 'v'", compare(K, CompareOp.EQUALS, "v")),
    ("trait('k') == 'v'", compare(K, CompareOp.EQUALS, "v")),
    ("trait('k').equals('v')", compare(K, CompareOp.EQUALS, "v")),
    ("trait('k').equals(literal('v'))", compare(K, CompareOp.EQUALS, "v")),
    ("trait('k') = literal('v')", compare(K, CompareOp.EQUALS, "v")),
    ("trait('k') != 5", compare(K, CompareOp.DIFFERS, 5)),
    ("trait('k').differs(5)", compare(K, CompareOp.DIFFERS, 5)),
    ("trait('k') = true", compare(K, CompareOp.EQUALS, "true")),
    ("trait('k') = 2022-10-17", compare(K, CompareOp.EQUALS, Moment("2022-10-17"))),
    ("trait('k') = 1e3", compare(K, CompareOp.EQUALS, 1000.0)),
    ("trait('k') = trait('l')", Compare(K, CompareOp.EQUALS, Trait("l"))),
    ("trait('k') < event('x').count()", Compare(K, CompareOp.LESS_THAN, COUNT)),
    ("trait('k').exists()", Presence(K, PresenceOp.EXISTS)),
    ("trait('k').absent()", Presence(K, PresenceOp.ABSENT)),
    (
        "trait('k').contains('a','b')",
        Match(K, MatchOp.CONTAINS, (Literal("a"), Literal("b"))),
    ),
    ("trait('k').omits('a')", Match(K, MatchOp.OMITS, (Literal("a"),))),
    ("trait('k').starts_with('a')", Match(K, MatchOp.STARTS_WITH, (Literal("a"),))),
    ("trait('k').ends_with('a')", Match(K, MatchOp.ENDS_WITH, (Literal("a"),))),
    (
        "trait('k').one_of('a', 2, literal('c'))",
        Match(K, MatchOp.ONE_OF, (Literal("a"), Literal(2), Literal("c"))),
    ),
    ("trait('k').one_of(['a'])", Match(K, MatchOp.ONE_OF, (Literal("a"),))),
    ("trait('k').none_of('a')", Match(K, MatchOp.NONE_OF, (Literal("a"),))),
    (
        "trait('k').before_date('2023-12-07T18:50:00Z')",
        DateCompare(K, DateOp.BEFORE_DATE, Literal("2023-12-07T18:50:00Z")),
    ),
    (
        "trait('k').after_date(2023-12-07T18:50:00Z)",
        DateCompare(K, DateOp.AFTER_DATE, Literal(Moment("2023-12-07T18:50:00Z"))),
    ),
    ("trait('k').within_last(7 days)", RelativeDate(K, RelativeOp.WITHIN_LAST, WEEK)),
    (
        "trait('k').within_next(1 hour)",
        RelativeDate(K, RelativeOp.WITHIN_NEXT, Duration(1, Unit.HOURS)),
    ),
    ("trait('k').before_last(7 days)", RelativeDate(K, RelativeOp.BEFORE_LAST, WEEK)),
    ("trait('k').after_next(7 day)", RelativeDate(K, RelativeOp.AFTER_NEXT, WEEK)),
    (
        "entity('o').count() >= 1",
        compare(Reduce(Stream(Entity("o")), Reducer.COUNT), CompareOp.AT_LEAST, 1),
    ),
    (
        "event('x').where(property('p') = 1).count() >= 1",
        filtered(Where(compare(P, CompareOp.EQUALS, 1))),
    ),
    (
        "event('x').where({ property('p') = 1 }).count() >= 1",
        filtered(Where(compare(P, CompareOp.EQUALS, 1))),
    ),
    (
        "event('x').where(context('page.url').contains('a')).count() >= 1",
        filtered(Where(Match(Context("page.url"), MatchOp.CONTAINS, (Literal("a"),)))),
    ),
    ("event('x').within(7 days).count() >= 1", filtered(Within(WEEK))),
    (
        "event('x').between(12 hours, 7 days).count() >= 1",
        filtered(Between(Duration(12, Unit.HOURS), WEEK)),
    ),
    (
        "event('x').sources({exclude: 'a', 'b'}).count() >= 1",
        filtered(Sources(("a", "b"))),
    ),
    (
        "event('x').sources({exclude: ['a', 'b']}).within(7days).count() >= 1",
        filtered(Sources(("a", "b")), Within(WEEK)),
    ),
    (
        "event('x').where(event('y').where(property('p') = property(parent: 'q'))"
        ".between(parent: 1 hour, 7 days).count() >= 1).count() >= 1",
        filtered(
            Where(
                compare(
                    Reduce(
                        Stream(
                            Event("y"),
                            (
                                Where(Compare(P, CompareOp.EQUALS, Property("q", True))),
                                Between(Duration(1, Unit.HOURS), WEEK, True),
                            ),
                        ),
                        Reducer.COUNT,
                    ),
                    CompareOp.AT_LEAST,
                    1,
                )
            )
        ),
    ),
    (
        "event('x').unique(property('p')).count() > 2",
        compare(UniqueCount(X, P), CompareOp.GREATER_THAN, 2),
    ),
]

TRAITS = [
    ("event('x').count()", COUNT),
    ("event('x').sum(property('p'))", Reduce(X, Reducer.SUM, P)),
    ("event('x').avg(context('p'))", Reduce(X, Reducer.AVG, Context("p"))),
    ("event('x').first(property('p'))", Reduce(X, Reducer.FIRST, P)),
    ("event('x').last(property('p'))", Reduce(X, Reducer.LAST, P)),
    ("event('x').max(property('p'))", Reduce(X, Reducer.MAX, P, ValueType.NUMBER)),
    ("event('x').max(property('p') as number)", Reduce(X, Reducer.MAX, P, ValueType.NUMBER)),
    ("event('x').min(property('p') as string)", Reduce(X, Reducer.MIN, P, ValueType.STRING)),
    ("event('x').mode(property('p'), 2)", Reduce(X, Reducer.MODE, P, ValueType.STRING, 2)),
    ("event('x').mode(property('p') as array, 1)", Reduce(X, Reducer.MODE, P, ValueType.ARRAY, 1)),
    ("event('x').unique(property('p'))", UniqueList(X, P)),
    ("event('x').unique(property('p')).count()", UniqueCount(X, P)),
    ("trait('k')", K),
    ("literal(5)", Literal(5)),
    (
        "event('x').expires_after(1800 seconds).count()",
        Reduce(Stream(Event("x"), (ExpiresAfter(Duration(1800, Unit.SECONDS)),)), Reducer.COUNT),
    ),
]
A, B, C = (Presence(Trait(name), PresenceOp.EXISTS) for name in "abc")


@pytest.mark.parametrize("text", DOCUMENTED)
def test_documented_audiences_are_read(text):
    """Every audience of the documentation is accepted, and survives printing."""
    query = parse_audience(text)
    assert parse_audience(print_query(query)) == query


@pytest.mark.parametrize("text", DOCUMENTED_ACCOUNTS)
def test_documented_account_audiences_are_read(text):
    """Every account audience of the documentation is accepted, and survives printing."""
    query = parse_audience(text, Kind.ACCOUNTS)
    assert parse_audience(print_query(query), Kind.ACCOUNTS) == query


@pytest.mark.parametrize("text", DOCUMENTED_TRAITS)
def test_documented_traits_are_read(text):
    """Every computed trait of the documentation is accepted, and survives printing."""
    query = parse_trait(text)
    assert parse_trait(print_query(query)) == query


@pytest.mark.parametrize(("text", "root"), AUDIENCES)
def test_an_audience_has_this_tree(text, root):
    """Both spellings of sugar, both forms of where and sources, every function."""
    query = parse_audience(text)
    assert query.root == root
    assert parse_audience(print_query(query)) == query


@pytest.mark.parametrize(("text", "root"), TRAITS)
def test_a_trait_has_this_tree(text, root):
    """Every reducer, its default type filled in; session windows."""
    query = parse_trait(text)
    assert query.root == root
    assert parse_trait(print_query(query)) == query


def test_the_tables_leave_no_function_out():
    """Every function of the language stands in one of the tables above."""
    texts = [text for text, _ in (*AUDIENCES, *TRAITS)]
    assert not [name for name in FUNCTIONS if not any(f"{name}(" in text for text in texts)]


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("a OR b AND c", Or((A, And((B, C))))),
        ("(a OR b) AND c", And((Or((A, B)), C))),
        ("a AND b AND c", And((A, B, C))),
        ("a AND (b AND c)", And((A, And((B, C))))),
        ("NOT a AND b", And((Not(A), B))),
        ("NOT (a AND b)", Not(And((A, B)))),
        ("NOT NOT a", Not(Not(A))),
        ("((a))", A),
        ("not a or b", Or((Not(A), B))),
    ],
)
def test_junctions_bind_as_documented(text, root):
    """AND before OR, prefix operators cover one comparison, keywords in either case."""
    words = text.replace("(", "( ").replace(")", " )").split()
    written = " ".join(f"trait('{word}').exists()" if word in "abc" else word for word in words)
    query = parse_audience(written)
    assert query.root == root
    assert parse_audience(print_query(query)) == query


def test_prefixes_of_accounts_stack():
    """ALL NOT x: no user of the account; ANY x: some user."""
    both = "ALL NOT trait('a').exists() OR ANY (trait('b').exists())"
    assert parse_audience(both, Kind.ACCOUNTS).root == Or((AllUsers(Not(A)), AnyUser(B)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"'it\'s'", "it's"),
        (r"'a\.b'", r"a\.b"),
        (r"'a\\.b'", r"a\.b"),
        (r"'a\nb'", r"a\nb"),
        ("'a\nb'", "a\nb"),
        ("'Æther ☃'", "Æther ☃"),
        ("'2022-10-17'", "2022-10-17"),
    ],
)
def test_strings_keep_what_they_say(text, value):
    """A backslash escapes a quote or a backslash, and nothing else."""
    query = parse_audience(f"trait('k') = {text}")
    assert query.root == compare(K, CompareOp.EQUALS, value)
    assert parse_audience(print_query(query)) == query


def test_a_trait_name_is_a_path():
    """A period walks into an object; with a backslash it belongs to the name."""
    assert Trait("address.city").path == ("address", "city")
    assert Trait("address.city").key is None
    assert Trait(r"v1\.2").path == ("v1.2",)
    assert Trait(r"v1\.2").key == "v1.2"


def test_equality_ignores_where_it_stood():
    """The same query, written otherwise, is equal and has the same hash."""
    one = parse_audience("event('x').count()>=1")
    other = parse_audience("\n  event( 'x' ) . count() . at_least( literal(1) )")
    assert one == other
    assert hash(one) == hash(other)


def test_every_node_knows_its_text():
    """The span of a node quotes it, whatever is around."""
    text = (
        "NOT (trait('a').exists())\n OR "
        "event('x').where(property('p') = 1).within(7 days).count() > 1"
    )
    query = parse_audience(text)
    quoted = {type(node).__name__: text[slice(*node.span)] for node in walk(query.root)}
    assert quoted["Or"] == text
    assert quoted["Not"] == "NOT (trait('a').exists())"
    assert quoted["Presence"] == "trait('a').exists()"
    assert quoted["Event"] == "event('x')"
    assert quoted["Where"] == "where(property('p') = 1)"
    assert quoted["Within"] == "within(7 days)"
    assert quoted["Stream"] == "event('x').where(property('p') = 1).within(7 days)"
    assert quoted["Reduce"] == "event('x').where(property('p') = 1).within(7 days).count()"
    assert quoted["Property"] == "property('p')"
    assert quoted["Literal"] == "1"


def test_references_are_listed_once():
    """The keys that may be audiences: traits of every depth, those inside objects left out."""
    text = (
        "trait('vip') = 'true' AND event('x').where(property('p') > trait('avg')).count() > "
        "trait('vip') AND trait('address.city') = 'Bern'"
    )
    assert references(parse_audience(text)) == ("vip", "avg")


def test_durations_are_lengths_of_time():
    """A duration keeps how it was written and knows how long it is."""
    assert Duration(36, Unit.HOURS).span == timedelta(hours=36)
    assert str(Duration(1, Unit.DAYS)) == "1 day"
    rolling = Between(Duration(30, Unit.DAYS), WEEK)
    assert (rolling.youngest, rolling.oldest) == (timedelta(days=7), timedelta(days=30))


def test_moments_without_a_zone_are_utc():
    """A date is its midnight; a zone counts where there is one."""
    assert Moment("2022-10-17").at == datetime(2022, 10, 17, tzinfo=UTC)
    assert Moment("2022-10-17T10:00:00").at == datetime(2022, 10, 17, 10, tzinfo=UTC)
    assert Moment("2022-10-17T10:00:00+02:00").at == datetime(2022, 10, 17, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "is_iso"),
    [
        ("2022-10-17T10:00:00Z", True),
        ("2022-10-17T10:00Z", True),
        ("2022-10-17T10:00:00.123Z", True),
        ("2022-10-17T10:00:00+02:00", True),
        ("2022-10-17T10:00:00", False),
        ("2022-10-17", False),
        ("2022-10-17 10:00:00Z", False),
        ("2022-13-17T10:00:00Z", False),
        ("10/17/2022", False),
        ("1666000000", False),
        ("", False),
    ],
)
def test_an_iso_timestamp_has_a_zone(text, is_iso):
    """Only a whole timestamp with a zone is compared in real time."""
    assert is_iso_timestamp(text) is is_iso


def test_a_query_can_be_pickled():
    """A tree is a plain value: it crosses processes."""
    query = parse_audience(DOCUMENTED[1])
    assert pickle.loads(pickle.dumps(query)) == query
