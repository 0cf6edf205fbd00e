"""Laws of the waits: bounded, never zero, never early."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.retry import delay, spread

spans = st.timedeltas(timedelta(microseconds=1), timedelta(days=30))
randoms = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**12), spans, spans, randoms)
def test_a_delay_is_bounded_and_never_zero(failures, base, cap, random):
    """Whatever the failures: more than nothing, at most the cap."""
    assert timedelta(0) < delay(failures, base, cap, random) <= cap


@given(st.integers(0, 200), spans, spans, randoms)
def test_more_failures_never_wait_less(failures, base, cap, random):
    """With the same luck, the wait does not shrink."""
    assert delay(failures, base, cap, random) <= delay(failures + 1, base, cap, random)


@given(st.integers(0, 200), spans, spans, randoms, randoms)
def test_luck_decides_between_floor_and_ceiling(failures, base, cap, one, other):
    """The wait grows with the random number: it is spread, not fixed."""
    low, high = sorted((one, other))
    assert delay(failures, base, cap, low) <= delay(failures, base, cap, high)


@given(st.floats(0, 4_000), randoms)
def test_a_pause_is_never_cut_short(wait, random):
    """Not a moment early; late by at most a tenth and at most 5 s."""
    woken = spread(wait, random)
    assert wait <= woken <= wait * 1.1 + 1e-9
    assert woken <= wait + 5
