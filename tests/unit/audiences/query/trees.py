"""Queries of every shape, for laws: each can be printed and read."""

from hypothesis import strategies as st

from worker.audiences.query.moments import Moment
from worker.audiences.query.tree import (
    AllUsers,
    And,
    AnyUser,
    AudienceQuery,
    Between,
    Compare,
    CompareOp,
    Comparison,
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
    TraitQuery,
    UniqueCount,
    UniqueList,
    Unit,
    ValueType,
    Where,
    Within,
    walk,
)

# Names of every kind: those that quoting must survive, and those a registry knows.
names = st.one_of(
    st.sampled_from(["Order Completed", "plan", "it's", "a\\.b", "slow", "live", "ltv", "spend"]),
    st.text(min_size=1, max_size=8).filter(lambda name: name.strip()),
)
moments = st.one_of(
    st.dates().map(lambda day: Moment(day.isoformat())),
    st.datetimes().map(lambda at: Moment(at.isoformat())),
    st.datetimes().map(lambda at: Moment(f"{at.isoformat()}Z")),
)
numbers = st.one_of(
    st.integers(-(10**20), 10**20), st.integers(0, 3), st.floats(allow_nan=False, width=64)
)
literals = st.builds(
    Literal,
    st.one_of(
        st.text(max_size=8),
        numbers.filter(lambda number: abs(number) != float("inf")),
        moments,
    ),
)
dates = st.builds(Literal, st.one_of(moments, st.text(max_size=8)))
durations = st.builds(Duration, st.integers(0, 36_500), st.sampled_from([Unit.HOURS, Unit.DAYS]))
sessions = st.builds(Duration, st.integers(0, 36_500), st.sampled_from(Unit))


def _properties(wheres):
    parents = st.booleans() if wheres > 1 else st.just(False)
    return st.one_of(st.builds(Property, names, parents), st.builds(Context, names))


def _streams(wheres, depth, session):
    of_parent = st.booleans() if wheres else st.just(False)
    filters = [
        st.builds(Sources, st.lists(names, min_size=1, max_size=2).map(tuple)),
        st.builds(Within, durations, of_parent),
        st.builds(Between, durations, durations, of_parent),
    ]
    if session:
        filters.append(st.builds(ExpiresAfter, sessions))
    if depth:
        filters.append(st.builds(Where, conditions(wheres + 1, depth - 1, session)))
    sources = st.one_of(st.builds(Event, names), st.builds(Event, names), st.builds(Entity, names))
    return st.builds(Stream, sources, st.lists(st.one_of(filters), max_size=2).map(tuple))


def _reduced(wheres, depth, session):
    streams = _streams(wheres, depth, session)
    of = _properties(0)
    plain = st.sampled_from([Reducer.SUM, Reducer.AVG, Reducer.FIRST, Reducer.LAST])
    extremes = st.sampled_from([Reducer.MAX, Reducer.MIN])
    numeric = st.sampled_from([ValueType.NUMBER, ValueType.STRING])
    mode = st.just(Reducer.MODE)
    return st.one_of(
        st.builds(Reduce, streams, st.just(Reducer.COUNT)),
        st.builds(Reduce, streams, plain, of),
        st.builds(Reduce, streams, extremes, of, numeric),
        st.builds(Reduce, streams, mode, of, st.sampled_from(ValueType), st.integers(1, 9)),
        st.builds(UniqueCount, streams, of),
    )


def _comparisons(wheres, depth, session):
    subjects = [st.builds(Trait, names), _reduced(wheres, depth, session)]
    if wheres:
        subjects.append(_properties(wheres))
    subject = st.one_of(subjects)
    counts = st.builds(Literal, st.integers(0, 2))
    matched = st.lists(literals, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compare, subject, st.sampled_from(CompareOp), st.one_of(literals, subject)),
        st.builds(Compare, subject, st.sampled_from(CompareOp), counts),
        st.builds(Presence, subject, st.sampled_from(PresenceOp)),
        st.builds(Match, subject, st.sampled_from(MatchOp), matched),
        st.builds(DateCompare, subject, st.sampled_from(DateOp), dates),
        st.builds(RelativeDate, subject, st.sampled_from(RelativeOp), durations),
    )


def conditions(wheres=0, depth=2, session=False, quantified=True):
    """Conditions that are legal so deep inside `where`."""
    leaf = _comparisons(wheres, depth, session)
    if not depth:
        return leaf
    inner = st.deferred(lambda: conditions(wheres, depth - 1, session, quantified))
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    options = [leaf, st.builds(And, several), st.builds(Or, several), st.builds(Not, inner)]
    if not quantified:
        users = st.deferred(lambda: conditions(wheres, depth - 1, session))
        options += [st.builds(AnyUser, users), st.builds(AllUsers, users)]
    return st.one_of(options)


def legal(query, most=50):
    """Whether it is small enough to be read."""
    return sum(isinstance(node, Comparison) for node in walk(query.root)) <= most


audiences = st.one_of(
    st.builds(AudienceQuery, conditions()),
    st.builds(AudienceQuery, conditions(quantified=False), st.just(Kind.ACCOUNTS)),
).filter(legal)
users = st.builds(AudienceQuery, conditions()).filter(legal)
traits = st.builds(
    TraitQuery,
    st.one_of(
        _reduced(0, 2, True),
        st.builds(UniqueList, _streams(0, 2, True), _properties(0)),
        st.builds(Trait, names),
        literals,
    ),
).filter(legal)
