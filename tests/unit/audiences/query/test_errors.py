"""How a query is refused: the place, the words, what would be legal, what to write."""

import pickle
import sys
from time import process_time

import pytest

from worker.audiences.cadence import KnownKeys, Policy, read_cadence
from worker.audiences.query.errors import QueryError
from worker.audiences.query.limits import (
    MAX_CHARS,
    MAX_COMPARISONS,
    MAX_FILTERS,
    MAX_NESTING,
    WHERE_LEVELS,
)
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.printer import print_query
from worker.audiences.query.tree import Kind


def refusal(text, read=parse_audience, **options):
    """The error that the text is refused with."""
    with pytest.raises(QueryError) as caught:
        read(text, **options)
    return caught.value


# text, line, column, words of the message, one thing expected, words of the suggestion
AUDIENCES = [
    ("", 1, 1, "empty", "event", "For example"),
    ("  \n ", 2, 2, "condition", "event", None),
    ("evnt('x').count() >= 1", 1, 1, "no function `evnt`", "event", "Did you mean `event`?"),
    ("traits('x') = 1", 1, 1, "no function `traits`", "trait", "`trait`"),
    ("event('x').cuont() >= 1", 1, 12, "no function `cuont`", "count", "`count`"),
    ("event('x').Count() >= 1", 1, 12, "no function `Count`", "count", "`count`"),
    ("event('x').average(property('p')) > 1", 1, 12, "`average`", "avg", "`avg`"),
    ("trait('x').within_lst(7 days)", 1, 12, "`within_lst`", "within_last", "`within_last`"),
    ("trait('x').gte(7)", 1, 12, "`gte`", "at_least", "`at_least`"),
    ("trait('x').xyzzy()", 1, 12, "`xyzzy`", "equals", None),
    # quotes
    (
        'event("Order Completed").count() >= 1',
        1,
        7,
        "single quotes",
        "a name in single quotes",
        "'Order Completed'",
    ),
    ("trait('x') = “gold”", 1, 14, "single quotes", None, "Write 'gold'"),
    ("trait(`x`) = 1", 1, 7, "single quotes", None, "Write 'x'"),
    ("event('Order.count() >= 1", 1, 7, "never closed", "a name in single quotes", "single quote"),
    (
        "event('A).count() > 1\nAND event('B').count() > 1",
        2,
        12,
        "not `B`",
        ")",
        "line 1, column 7",
    ),
    ("event('Bob's order').count() >= 1", 1, 12, "not `s`", ")", r"written \'"),
    ("event(Order Completed).count() >= 1", 1, 7, "without quotes", None, "'Order Completed'"),
    ("trait('plan') = gold AND trait('x') = 1", 1, 17, "without quotes", None, "Write 'gold'."),
    ("trait('x').one_of(gold, silver)", 1, 19, "without quotes", None, "Write 'gold'"),
    ("event(5).count() >= 1", 1, 7, "name in single quotes", None, "'5'"),
    ("event('').count() >= 1", 1, 7, "no name", None, "event('Order Completed')"),
    ("event().count() >= 1", 1, 7, "name in single quotes", None, "event('Order Completed')"),
    # parentheses
    ("(event('x').count() >= 1", 1, 25, "line 1, column 1 is never closed", ")", "Add `)`"),
    ("event('x').count() >= 1)", 1, 24, "closes nothing", "AND", "Remove it"),
    ("event('x').within(7 days.count() >= 1", 1, 25, "should stand `)`", ")", "within(7 days)"),
    ("event('x').count >= 1", 1, 18, "should stand `(`", "(", "count()"),
    ("(event('x').count()) >= 1", 1, 2, "is a value", ">=", "Parentheses hold whole"),
    ("(trait('x') = 1) = 2", 1, 18, "already yes or no", "AND", "Parentheses hold whole"),
    ("trait('x') = ('a')", 1, 14, "one value", "a number", "Parentheses hold whole"),
    ("event('x').where({property('p') = 1).count() > 1", 1, 36, "should stand `}`", "}", None),
    # what is compared
    ("event('x')", 1, 1, "many events", "count", ".count() >= 1"),
    ("event('x').within(7 days)", 1, 1, "many events", "count", ".count() >= 1"),
    ("event('x').at_least(1)", 1, 12, "many events", "count", ".count().at_least(1)"),
    ("event('x') >= 1", 1, 12, "many events", "count", ".count() >= 1"),
    ("event('x') = 1", 1, 12, "many events", "count", ".count() = 1"),
    ("trait('x') = event('y')", 1, 14, "many events", "count", ".count()"),
    ("event('x').count()", 1, 1, "an audience needs yes or no", ">=", ">= 1"),
    ("trait('x') AND trait('y') = 1", 1, 1, "an audience needs yes or no", "exists", ".exists()"),
    ("event('x').unique(property('p'))", 1, 1, "list of values", "count", ".count() >= 1"),
    ("event('x').unique(property('p')) = 'a'", 1, 34, "only `count`", "count", ".count()"),
    ("literal(5)", 1, 1, "constant", None, "right"),
    ("literal(5) = 5", 1, 12, "stands alone", None, "right"),
    ("100 < trait('x')", 1, 1, "begin a condition", "trait", "right"),
    ("'plan' = 'gold'", 1, 1, "begin a condition", "trait", "trait('plan')"),
    ("plan = 'gold'", 1, 1, "no function `plan`", "trait", "trait('plan')"),
    ("trait('x') >=", 1, 14, "missing", "a number", None),
    ("trait('x').equals()", 1, 19, "missing", "a number", "equals(1)"),
    ("trait('x').exists() = 'true'", 1, 21, "complete", "AND", None),
    ("trait('x').exists().absent()", 1, 21, "complete", "AND", None),
    ("trait('x') = trait('y').exists()", 1, 14, "complete comparison", "trait", None),
    ("trait('x') is 'gold'", 1, 12, "not `is`", "=", ".equals"),
    ("event('x') within(7 days).count() > 1", 1, 12, "`.` is missing", ".", ".within(7 days)"),
    ("event('x').event('y').count() > 1", 1, 12, "begins a chain", "count", "AND or OR"),
    ("trait('x').count() > 1", 1, 12, "works on events", "exists", "event('...')"),
    ("event('x').count().within(7 days) > 1", 1, 20, "works on events", None, "before the reducer"),
    ("event('x').count().sum(property('p')) > 1", 1, 20, "works on events", None, "one reducer"),
    ("within(7 days).count() > 1", 1, 1, "cannot begin", "event", "event('Order Completed')"),
    # where it is legal
    ("property('x') = 1", 1, 1, "only inside .where", "event", ".where("),
    ("trait('x') = property('y')", 1, 14, "only inside .where", "trait", ".where("),
    ("event('x').where('p' > 1).count() > 1", 1, 18, "begin a condition", None, "property('p')"),
    ("event('x').where(p > 1).count() > 1", 1, 18, "no function `p`", None, "property('p')"),
    ("event('x').where().count() > 1", 1, 18, "needs a condition", "property", "where("),
    ("event('x').within(parent: 3 days).count() > 1", 1, 19, "funnel", None, ".where("),
    ("event('x').where(property(parent: 'p') = 1).count() > 1", 1, 27, "funnel", None, ".where("),
    ("event('x').expires_after(1 day).count() > 1", 1, 12, "session window", "within", "within"),
    ("ANY event('x').count() >= 1", 1, 1, "ANY asks about", "NOT", "ACCOUNTS"),
    # arguments
    ("event('x').mode(property('p')) = 1", 1, 30, "second argument", ",", "mode("),
    ("event('x').mode(property('p'), 0) = 1", 1, 32, "whole number from 1", None, "mode("),
    ("event('x').sum('p') > 1", 1, 16, "`property`", "property", "Write property('p')"),
    ("event('x').sum() > 1", 1, 16, "`property`", "property", "sum("),
    ("event('x').sum(trait('p')) > 1", 1, 16, "`property`", "property", "sum("),
    ("event('x').sum(property('p') > 1) > 1", 1, 30, "stands alone", ")", ".where("),
    ("event('x').max(property('p') as array) > 1", 1, 33, "`number` or `string`", "number", None),
    ("event('x').count(property('p')) > 1", 1, 18, "takes nothing", ")", ".unique("),
    ("event('x').sources('a').count() > 1", 1, 20, "`{`", "{", "exclude"),
    ("event('x').sources({'a'}).count() > 1", 1, 21, "`exclude:`", "exclude:", "exclude"),
    ("trait('x').one_of('a' 'b')", 1, 23, "`,`", ",", "closing quote"),
    ("trait('x').one_of()", 1, 19, "single quotes", "a number", "one_of("),
    ("trait('x').contains(trait('y'))", 1, 21, "single quotes", "a number", "contains("),
    ("trait('x').before_date(5)", 1, 24, "is a number", None, "before_date("),
    ("trait('x').before_date(2022-13-45)", 1, 24, "no such date", None, "2023-12-07"),
    ("trait('x').before_date(17/10/2022)", 1, 24, "is a number", None, "2023-12-07"),
    ("trait('x') = 17/10/2022", 1, 16, "`/`", "AND", "2023-12-07"),
    ("trait('x') = " + "9" * 40, 1, 14, "too large", None, None),
    ("trait('x') = 1e999", 1, 14, "too large", None, None),
    # durations
    ("event('x').within(7).count() >= 1", 1, 20, "unit is missing", "days", "7 days"),
    ("event('x').within(days).count() >= 1", 1, 19, "whole number", None, "within(7 days)"),
    ("event('x').within(7 weeks).count() >= 1", 1, 21, "not `weeks`", "days", "49 days"),
    ("event('x').within(120 minutes).count() >= 1", 1, 23, "not `minutes`", "hours", "2 hours"),
    ("event('x').within(5 seconds).count() >= 1", 1, 21, "not `seconds`", "hours", "1 hour"),
    ("event('x').within(5 moons).count() >= 1", 1, 21, "not `moons`", "hours", None),
    ("event('x').within('7 days').count() >= 1", 1, 19, "duration", None, "without quotes"),
    ("event('x').within(1.5 days).count() >= 1", 1, 19, "whole number", None, "within(7 days)"),
    ("event('x').within(99999999 days).count() >= 1", 1, 19, "hundred years", None, "everything"),
    ("event('x').between(7 days).count() >= 1", 1, 26, "`,`", ",", "between("),
    # between conditions
    ("trait('x') = 1 AND", 1, 19, "not the end", "event", None),
    ("trait('x') = 1\nOR\nAND trait('y') = 1", 3, 1, "one is missing", "event", None),
    ("trait('x') = 1 trait('y') = 1", 1, 16, "`AND`", "AND", None),
    ("trait('x') = 1 = 2", 1, 16, "`AND`", "the end of the query", None),
    ("trait('x') = 1 && trait('y') = 2", 1, 16, "`&&`", "AND", "AND"),
    ("trait('x') <> 1", 1, 12, "`<>`", "!=", "!="),
    ("trait('x') => 1", 1, 12, "`=>`", None, ">="),
    ("trait('x') = 1;", 1, 15, "`;`", None, "semicolon"),
    ("trait('x') = 1 -- vip", 1, 16, "`--`", None, "comments"),
    ("trait('x') = - 1", 1, 14, "minus", None, None),
    ("trait('x') =\u200b1", 1, 13, "U+200B", None, None),
    ("trait('x').é()", 1, 12, "é", None, None),
]
TRAITS = [
    ("event('x').count() >= 1", 1, 20, "makes it yes or no", None, "Leave the comparison out"),
    ("event('x').count().at_least(1)", 1, 1, "makes it yes or no", None, "Leave the comparison"),
    ("NOT trait('x')", 1, 1, "computed trait is a value", "event", ".count()"),
    ("(event('x').count())", 1, 1, "computed trait is a value", "event", ".count()"),
    ("event('x').within(7 days)", 1, 1, "many events", "count", ".count()"),
    ("event('x').expires_after(5 minutes).count()", 1, 28, "not `minutes`", "seconds", "300 sec"),
    ("event('x').count() AND event('y').count()", 1, 20, "the end of the query", None, None),
]
ACCOUNTS = [
    ("ANY (ALL trait('x') = 1)", 1, 6, "inside ANY or ALL", "NOT", None),
    ("event('x').where(ANY trait('x') = 1).count() > 1", 1, 18, "inside where", "NOT", None),
]


def check(error, text, line, column, words, expected, suggestion):
    """One row of a table."""
    assert (error.line, error.column) == (line, column), error.render()
    assert words in error.message, error.render()
    assert expected is None or expected in error.expected, error.render()
    assert (suggestion is None) or suggestion in (error.suggestion or ""), error.render()
    assert 0 <= error.offset <= len(text)


@pytest.mark.parametrize("row", AUDIENCES, ids=[row[0][:40] for row in AUDIENCES])
def test_an_audience_is_refused_in_these_words(row):
    """Line, column, what is wrong, what would be legal, what to write instead."""
    check(refusal(row[0]), *row)


@pytest.mark.parametrize("row", TRAITS, ids=[row[0][:40] for row in TRAITS])
def test_a_trait_is_refused_in_these_words(row):
    """A computed trait is one value, and says so."""
    check(refusal(row[0], parse_trait), *row)


@pytest.mark.parametrize("row", ACCOUNTS, ids=[row[0][:40] for row in ACCOUNTS])
def test_an_account_audience_is_refused_in_these_words(row):
    """ANY and ALL speak of the users of one account, once."""
    check(refusal(row[0], kind=Kind.ACCOUNTS), *row)


def test_the_line_is_shown_with_a_caret():
    """The sentence, the line, what is wrong underlined, what would be legal, the suggestion."""
    assert refusal("trait('a') = 1 AND\nevnt('x').count() >= 1").render() == (
        "line 2, column 1: There is no function `evnt`.\n"
        "  evnt('x').count() >= 1\n"
        "  ^^^^\n"
        "expected: NOT, (, event, trait, entity, literal\n"
        "Did you mean `event`?"
    )


def test_a_long_line_is_cut_around_the_caret():
    """An error fits a terminal, however long the query."""
    text = " OR ".join(["trait('x') = 1"] * 30) + " wrong " + "y" * 30_000
    shown = refusal(text).render().splitlines()
    assert max(map(len, shown[:3])) < 120
    assert shown[1].index("wrong") == shown[2].index("^")
    assert shown[1].startswith("  …")
    assert shown[1].endswith("…")


def test_the_caret_stands_under_wide_characters():
    """Characters of two columns and control characters do not shift the caret."""
    _, line, caret, *_ = refusal("trait('日本\t') wrong").render().splitlines()
    assert line == "  trait('日本 ') wrong"
    assert caret == " " * 17 + "^^^^^"


def test_an_error_can_be_pickled():
    """An error that crosses processes keeps its place."""
    error = refusal("trait('x') = 1 AND")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.line, copy.column, str(copy)) == (error.line, error.column, str(error))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(" * 5_000 + "trait('x').exists()" + ")" * 5_000, "nested"),
        ("NOT " * 5_000 + "trait('x').exists()", "nested"),
        ("event('x').where(" * 3_000, "nested"),
        ("NOT (" * 5_000, "nested"),
        ("event('x').where({" * 3_000, "nested"),
        ("trait('x') = 1 AND " * 3_000, "comparisons"),
        ("event('x')" + ".within(1 day)" * 4_000, "filters"),
        ("a" * 2**20, "65,536 is the most"),
        ("'" * 2**20, "65,536 is the most"),
        ("\n" * 2**20, "65,536 is the most"),
        ("x" * MAX_CHARS, "no function"),
        ("' " * 30_000, "condition"),
        ("'" + r"\'" * 32_000, "never closed"),
        ("\\" * 60_000, "no meaning"),
    ],
    ids=lambda value: value[:12],
)
def test_too_much_is_refused_quickly(text, words):
    """Deep, long or endless: refused with a position, in a moment, whatever the stack."""
    began = process_time()
    error = refusal(text)
    took = process_time() - began
    assert words in error.message
    assert 0 <= error.offset <= len(text)
    assert took < 0.25  # seconds of the processor; a few ms where it is quick


def test_the_limits_are_exact():
    """At the limit a query is read, one beyond it is not."""
    leaf = "trait('x').exists()"
    parse_audience(" AND ".join([leaf] * MAX_COMPARISONS))
    refusal(" AND ".join([leaf] * (MAX_COMPARISONS + 1)))
    parse_audience("(" * MAX_NESTING + leaf + ")" * MAX_NESTING)
    refusal("(" * (MAX_NESTING + 1) + leaf + ")" * (MAX_NESTING + 1))
    chain = "event('x')" + ".within(1 day)" * MAX_FILTERS
    parse_trait(chain + ".count()")
    refusal(chain + ".within(1 day).count()", parse_trait)
    parse_audience(leaf + " " * (MAX_CHARS - len(leaf)))
    refusal(leaf + " " * (MAX_CHARS - len(leaf) + 1))


@pytest.mark.parametrize("wheres", [0, 12, MAX_NESTING // WHERE_LEVELS])
def test_the_deepest_query_needs_little_stack(wheres):
    """The deepest query can be read, compared, hashed and printed by a caller who is deep too."""
    around = (MAX_NESTING - wheres * WHERE_LEVELS) // 2
    text = "trait('x').exists()"
    for _ in range(wheres):
        text = f"event('x').where({{{text}}}).count() >= 1"
    text = "NOT (" * around + text + ")" * around
    assert sys.getrecursionlimit() <= 1_000
    _deep_down(300, text)


def _deep_down(levels, text):
    if levels:
        return _deep_down(levels - 1, text)
    query = parse_audience(text)
    assert parse_audience(print_query(query)) == query
    assert hash(query) == hash(parse_audience(text))
    return read_cadence(query, Policy.PERSONAS, KnownKeys())
