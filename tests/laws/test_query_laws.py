"""Laws of the query language: printing and reading are inverse, and no input breaks the reader."""

import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.unit.audiences.query.trees import audiences, traits, users
from worker.audiences.query.errors import QueryError
from worker.audiences.query.functions import FUNCTIONS, SYMBOLS
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.printer import print_query
from worker.audiences.query.tree import Kind, walk

FEW = settings(deadline=None, derandomize=True, max_examples=150)
MANY = settings(deadline=None, derandomize=True, max_examples=400)


@FEW
@given(audiences)
def test_a_printed_audience_reads_as_the_same_tree(query):
    """Whatever the tree: its text is accepted, and says the same."""
    text = print_query(query)
    again = parse_audience(text, query.kind)
    assert again == query
    assert hash(again) == hash(query)
    assert print_query(again) == text


@FEW
@given(traits)
def test_a_printed_trait_reads_as_the_same_tree(query):
    """Whatever the tree: its text is accepted, and says the same."""
    text = print_query(query)
    assert parse_trait(text) == query
    assert print_query(parse_trait(text)) == text


@FEW
@given(users)
def test_spans_lie_inside_each_other(query):
    """A node's span lies in the text, and a child's in its parent's."""
    text = print_query(query)
    query = parse_audience(text)
    for node in walk(query.root):
        start, end = node.span
        assert 0 <= start < end <= len(text)
        assert all(start <= one.span.start and one.span.end <= end for one in walk(node))


@FEW
@given(users, st.sampled_from(["\n", "  ", "\t", "\u00a0"]))
def test_white_space_says_nothing(query, space):
    """Between tokens any space reads as one."""
    tokens = _tokens(print_query(query))
    assert parse_audience(space.join(token for token in tokens if token.strip())) == query


def _tokens(text):
    return re.findall(
        r"'(?:[^'\\]|\\.)*'|[0-9]{4}-[0-9]{2}-[0-9T:.Z+-]+|-?[0-9][0-9.]*(?:e[+-]?[0-9]+)?"
        r"|[A-Za-z_]+|[!<>=]+|\s+|.",
        text,
        re.DOTALL,
    )


def holds_its_promise(text):
    """Reading gives a query that prints, or a QueryError whose place is in the text."""
    for read in (parse_audience, parse_trait, lambda one: parse_audience(one, Kind.ACCOUNTS)):
        query = error = None
        try:
            query = read(text)
        except QueryError as refused:
            error = refused
        if error is None:
            assert read(print_query(query)) == query
            continue
        assert 0 <= error.offset <= len(text)
        assert error.offset + error.length <= len(text)
        assert error.line == text.count("\n", 0, error.offset) + 1
        assert 1 <= error.column <= len(text.split("\n")[error.line - 1]) + 1
        assert error.message.endswith(".")
        assert "^" in error.render()


words = st.one_of(
    st.sampled_from([*FUNCTIONS, *SYMBOLS, *"(){}[],.:'-;&/\"\\\n"]),
    st.sampled_from(
        ["AND", "OR", "NOT", "ANY", "ALL", "as", "string", "parent", "exclude", "true"]
    ),
    st.sampled_from(["''", "'x'", "1", "1.5e3", "7 days", "2022-10-17", ".count()", ">= 1"]),
    st.sampled_from(["event('x')", "trait('y')", "property('p')", ".where(", "count("]),
)


@MANY
@given(st.text(max_size=60))
@example("'")
@example("\x00")
@example("\ud800")
@example("trait('\ud800') = 1")
@example("9" * 5_000)
@example("trait('x').before_date(0000-00-00)")
@example("trait('x').before_date(0001-01-01T00:00:00+23:59)")
@example("trait('x').before_date(2022-10-17T)")
@example("trait('x') = ٣")
def test_no_text_breaks_the_reader(text):
    """Any text is read, or refused with a place."""
    holds_its_promise(text)


@MANY
@given(st.lists(words, max_size=25), st.sampled_from(["", " "]))
def test_no_heap_of_words_breaks_the_reader(heap, glue):
    """Words of the language in any order are read, or refused with a place."""
    holds_its_promise(glue.join(heap))


@MANY
@given(st.one_of(audiences, traits), st.data())
def test_no_slip_of_the_pen_breaks_the_reader(query, data):
    """A query with tokens lost, doubled, swapped or strange is read, or refused with a place."""
    tokens = _tokens(print_query(query))
    assume(tokens)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(tokens) - 1))
        other = data.draw(st.integers(0, len(tokens) - 1))
        match data.draw(st.sampled_from(["lose", "double", "swap", "insert", "cut"])):
            case "lose" if len(tokens) > 1:
                del tokens[at]
            case "double":
                tokens.insert(at, tokens[other])
            case "swap":
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case "insert":
                tokens.insert(at, data.draw(words))
            case _:
                tokens[at] = tokens[at][: len(tokens[at]) // 2]
    holds_its_promise("".join(tokens))
