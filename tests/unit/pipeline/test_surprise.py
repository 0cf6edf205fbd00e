"""What is an unusual hour, by example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.surprise import SurprisePolicy, is_unusual, usual

POLICY = SurprisePolicy(factor=10, least=1_000)
STEADY = [100] * 47 + [150]
DAILY = ([0] * 23 + [20_000]) * 2
counts = st.lists(st.integers(0, 100_000), max_size=48)


@pytest.mark.parametrize(
    ("current", "previous", "share", "expected"),
    [
        (1_001, STEADY, 1.0, True),
        (1_000, STEADY, 1.0, False),
        (5_000, [], 1.0, False),
        (5_000, [10] * 5, 1.0, False),
        (5_000, [10] * 6, 1.0, True),
        (999, [0] * 48, 1.0, False),
        (1_000, [0] * 48, 1.0, True),
        (40_000, DAILY, 1.0, False),
        (40_001, DAILY, 1.0, True),
        (2_001, [1_000] * 48, 0.2, True),
        (2_001, [1_000] * 48, 0.3, False),
        (2_000, [1_000] * 48, 0.0, False),
    ],
)
def test_examples(current, previous, share, expected):
    """Tenfold the median, twice the busiest hour, the least: all three; and a history."""
    assert is_unusual(current, previous, share, POLICY) is expected


def test_zero_is_off():
    """With the factor 0 nothing is unusual."""
    assert not is_unusual(10**9, [1] * 48, 1.0, SurprisePolicy(factor=0, least=1))


def test_a_surprise_does_not_repeat():
    """The hour after a surprise is compared with it, too."""
    assert is_unusual(50_000, STEADY, 1.0, POLICY)
    assert not is_unusual(50_000, [*STEADY[1:], 50_000], 1.0, POLICY)


def test_a_new_audience_has_no_usual_hour():
    """Six hours are known first."""
    assert usual([9] * 5) is None
    assert usual([1, 2, 3, 4, 5, 60]).busiest == 60


@given(st.integers(0, 10**6), st.integers(0, 10**6), counts, st.floats(0, 1))
def test_more_is_never_less_unusual(fewer, more, previous, share):
    """If an hour is unusual, one with more changes is, too."""
    fewer, more = sorted((fewer, more))
    assert is_unusual(more, previous, share, POLICY) >= is_unusual(fewer, previous, share, POLICY)


@given(st.integers(0, 10**6), counts, st.floats(0, 1))
def test_as_much_as_before_is_never_unusual(current, previous, share):
    """What an audience has done before in an hour is no surprise; nor is less than the least."""
    if current < POLICY.least or current <= max(previous, default=0):
        assert not is_unusual(current, previous, share, POLICY)
