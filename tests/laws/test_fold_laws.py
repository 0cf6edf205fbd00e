"""Laws of the fold, of time, and of what is ranked: the specification of the scripts."""

import random
from collections import Counter

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.contract import Changes
from worker.pipeline.fold import Desired, End, fold
from worker.pipeline.ingest import EntryId, Rank, Ranked, ingest, value_text
from worker.pipeline.schedule import boundary_after, not_before, realtime_due

_steady = settings(deadline=None, database=None, derandomize=True, max_examples=200)
_small = st.integers(0, 2)
_ranks = st.builds(Rank, _small, _small, _small, _small)
_values = st.sampled_from(["true", "false", "450"])
# A rank is one message's: the same rank never comes with another value.
_histories = st.dictionaries(_ranks, _values, min_size=1, max_size=8).map(
    lambda said: [Ranked("a", value, rank) for rank, value in said.items()]
)
_moments = st.integers(0, 2**43)
_spans = st.integers(1, 86_400_000)


def _fold_all(changes: list[Ranked]) -> tuple[Desired, Counter[End]]:
    state, ends = None, Counter[End]()
    for change in changes:
        state, caused = fold(state, change)
        ends.update(caused)
    assert state is not None
    return state, ends


class TestFold:
    @_steady
    @given(changes=_histories, seed=st.integers(0, 99))
    def test_order_does_not_matter(self, changes: list[Ranked], seed: int) -> None:
        """Whatever the order, the value of the highest rank remains."""
        highest = max(changes, key=lambda change: change.rank)
        random.Random(seed).shuffle(changes)
        state, _ = _fold_all(changes)
        assert (state.value, state.rank) == (highest.value, highest.rank)

    @_steady
    @given(changes=_histories, data=st.data())
    def test_repeats_do_not_matter(self, changes: list[Ranked], data: st.DataObject) -> None:
        """Any change said again at any later time changes nothing but the counts."""
        repeated = list(changes)
        for change in data.draw(st.lists(st.sampled_from(changes), max_size=5)):
            at = data.draw(st.integers(repeated.index(change) + 1, len(repeated)))
            repeated.insert(at, change)
        assert _fold_all(repeated)[0] == _fold_all(changes)[0]

    @_steady
    @given(changes=st.lists(st.builds(Ranked, st.just("a"), _values, _ranks), min_size=1))
    def test_every_change_has_one_end_or_is_open(self, changes: list[Ranked]) -> None:
        """What was said is what has ended and the one that is open."""
        state, ends = _fold_all(changes)
        assert len(changes) == ends.total() + state.is_open

    @_steady
    @given(rank=_ranks, other=_ranks, values=st.tuples(_values, _values))
    def test_ties_are_settled_by_arrival_then_place(
        self, rank: Rank, other: Rank, values: tuple[str, str]
    ) -> None:
        """Event time decides, then arrival, then place; a full tie leaves the first standing."""
        state, _ = _fold_all([Ranked("a", values[0], rank), Ranked("a", values[1], other)])
        assert state.value == (values[1] if tuple(other) > tuple(rank) else values[0])

    @_steady
    @given(changes=_histories, acknowledged=_values)
    def test_what_braze_holds_is_unchanged(self, changes: list[Ranked], acknowledged: str) -> None:
        """A user is open exactly if the desired value differs from the acknowledged one."""
        before = Desired("true", Rank(-1, 0, 0, 0), acknowledged, is_open=acknowledged != "true")
        state = before
        for change in changes:
            state, _ = fold(state, change)
        assert state.is_open == state.differs == (state.value != acknowledged)

    @_steady
    @given(change=st.builds(Ranked, st.just("a"), _values, _ranks))
    def test_only_a_newer_change_lifts_a_refusal(self, change: Ranked) -> None:
        """A refused version is no difference until something of a higher rank comes."""
        refused = Desired("true", Rank(1, 1, 1, 1), is_open=False, is_refused=True)
        assert not refused.differs
        state, _ = fold(refused, change)
        assert state.is_refused == (change.rank <= refused.rank)
        assert state.differs == (change.rank > refused.rank)


class TestTime:
    @_steady
    @given(at=_moments, every=_spans, offset=st.integers(0, 86_400_000))
    def test_a_boundary_lies_after_and_within_the_interval(
        self, at: int, every: int, offset: int
    ) -> None:
        """It is the first multiple strictly after the moment, so that nothing goes early."""
        boundary = boundary_after(at, every, offset)
        assert at < boundary <= at + every
        assert (boundary - offset) % every == 0

    @_steady
    @given(at=_moments, later=st.integers(0, 86_400_000), every=_spans)
    def test_the_same_interval_means_the_same_boundary(
        self, at: int, later: int, every: int
    ) -> None:
        """All changes up to a boundary share it; a change at the boundary has the next one."""
        boundary = boundary_after(at, every)
        other = boundary_after(at + later, every)
        assert (other == boundary) == (at + later < boundary)
        assert boundary_after(boundary, every) == boundary + every

    @_steady
    @given(at=_moments, every=_spans, times=st.integers(2, 24))
    def test_a_multiple_of_the_interval_shares_boundaries(
        self, at: int, every: int, times: int
    ) -> None:
        """A boundary of the longer interval is one of the shorter, too: one object for both."""
        assert boundary_after(at, every * times) % every == 0
        assert boundary_after(at, every) <= boundary_after(at, every * times)

    @_steady
    @given(
        first=_moments,
        since=st.integers(0, 10_000),
        linger=st.integers(0, 5_000),
        max_wait=st.integers(0, 10_000),
    )
    def test_realtime_is_bounded_by_both_waits(
        self, first: int, since: int, linger: int, max_wait: int
    ) -> None:
        """A linger after the last change, at most the longest wait after the first."""
        due = realtime_due(first + since, first, linger, max_wait)
        assert due <= first + max_wait
        assert due <= first + since + linger
        assert due in (first + max_wait, first + since + linger)

    @_steady
    @given(
        value=_values,
        acknowledged=st.none() | _values,
        ambiguous=st.none() | _values,
        ack_at=_moments,
        gap=st.integers(0, 10_000),
        hold=_moments,
    )
    def test_only_a_different_value_waits(
        self,
        value: str,
        acknowledged: str | None,
        ambiguous: str | None,
        ack_at: int,
        gap: int,
        hold: int,
    ) -> None:
        """The same value goes at once; a different one after both the gap and the hold."""
        free = not_before(
            value,
            acknowledged=acknowledged,
            acknowledged_at=ack_at,
            gap=gap,
            ambiguous=ambiguous,
            hold_until=hold,
        )
        waits = [0]
        if acknowledged not in (None, value):
            waits.append(ack_at + gap)
        if ambiguous not in (None, value):
            waits.append(hold)
        assert free == max(waits)


_scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


def _kind(value: object) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


class TestValues:
    @_steady
    @given(value=_scalars)
    def test_a_text_reads_back_as_the_value(self, value: object) -> None:
        """Nothing is lost or coerced on the way to Braze."""
        read = orjson.loads(value_text(value))
        assert _kind(read) == _kind(value)
        assert read == value

    @_steady
    @given(one=_scalars, other=_scalars | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0]))
    def test_equal_texts_are_equal_values(self, one: object, other: object) -> None:
        """Two values have one text only if they are the same to Braze."""
        if value_text(one) == value_text(other):
            assert (_kind(one), one) == (_kind(other), other)

    @_steady
    @given(number=st.integers(1 - 2**53, 2**53 - 1))
    def test_a_whole_float_is_written_as_its_integer(self, number: int) -> None:
        """450.0 is written 450: the same amount is no difference."""
        assert value_text(float(number)) == value_text(number) == str(number)

    def test_types_are_told_apart(self) -> None:
        """Truth, one and the text of either are four values."""
        assert len({value_text(value) for value in (True, 1, "true", "1")}) == 4


@st.composite
def _envelopes(draw: st.DrawFn) -> Changes:
    ms = st.none() | st.integers(1_000_000, 3_000_000)
    changes = [
        {
            "user_id": draw(st.sampled_from(["u", "v"])),
            "attribute": draw(st.sampled_from(["a", "b"])),
            "value": draw(st.booleans()),
            "event_at": draw(ms),
            "arrived_at": draw(ms),
            "place": draw(st.integers(0, 3)),
            "class": "audience",
        }
        for _ in range(draw(st.integers(1, 6)))
    ]
    return Changes.model_validate({"id": "e", "changes": changes})


_entry_ms = st.integers(1_000_000, 3_000_000)
_tolerances = st.integers(0, 10**6)


class TestIngest:
    @_steady
    @given(
        envelope=_envelopes(), ms=st.integers(1_000_000, 3_000_000), tolerance=st.integers(0, 10**6)
    )
    def test_nothing_is_dropped_and_order_is_kept(
        self, envelope: Changes, ms: int, tolerance: int
    ) -> None:
        """Every change is there once, under its user, in the order of the envelope."""
        ingested = ingest(envelope, EntryId(ms, 0), tolerance)
        for user in {change.user_id for change in envelope.changes}:
            said = [change for change in envelope.changes if change.user_id == user]
            ranked = ingested.users[user]
            assert [(x.attribute, x.value) for x in ranked] == [
                (x.attribute, value_text(x.value)) for x in said
            ]
        assert sum(map(len, ingested.users.values())) == len(envelope.changes)

    @_steady
    @given(
        envelope=_envelopes(), ms=st.integers(1_000_000, 3_000_000), tolerance=st.integers(0, 10**6)
    )
    def test_the_future_is_clamped(self, envelope: Changes, ms: int, tolerance: int) -> None:
        """No rank lies beyond the tolerance; what does is set to its arrival, and counted."""
        ingested = ingest(envelope, EntryId(ms, 0), tolerance)
        latest, clamped = ms + tolerance, 0
        said = sorted(envelope.changes, key=lambda change: change.user_id)
        ranks = [x.rank for _, user in sorted(ingested.users.items()) for x in user]
        for change, rank in zip(said, ranks, strict=True):
            arrived = ms if change.arrived_at is None else change.arrived_at
            event = arrived if change.event_at is None else change.event_at
            assert rank.event_ms <= latest
            assert rank.event_ms in ((event,) if event <= latest else (arrived, ms))
            clamped += event > latest
        assert ingested.clamped == clamped

    @_steady
    @given(envelope=_envelopes())
    def test_arrival_is_segments_or_the_entrys(self, envelope: Changes) -> None:
        """Without receivedAt the entry's id is the arrival, its sequence number included."""
        ingested = ingest(envelope, EntryId(2_000_000, 7), 10**9)
        said = sorted(envelope.changes, key=lambda change: change.user_id)
        ranks = [x.rank for _, user in sorted(ingested.users.items()) for x in user]
        for change, rank in zip(said, ranks, strict=True):
            arrival = (2_000_000, 7) if change.arrived_at is None else (change.arrived_at, 0)
            assert (rank.arrived_ms, rank.arrived_seq) == arrival

    @_steady
    @given(st.tuples(_moments, st.integers(0, 10**6)), st.tuples(_moments, st.integers(0, 10**6)))
    def test_entry_ids_are_ordered_as_numbers(
        self, one: tuple[int, int], other: tuple[int, int]
    ) -> None:
        """As text 10 comes before 9; as ids it does not."""
        read = [EntryId.parse(f"{ms}-{seq}") for ms, seq in (one, other)]
        assert (read[0] < read[1]) == (one < other)
