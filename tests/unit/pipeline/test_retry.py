"""The waits, by example."""

from datetime import timedelta

import pytest

from worker.pipeline.retry import delay, spread

BASE, CAP = timedelta(seconds=1), timedelta(seconds=60)


@pytest.mark.parametrize(
    ("failures", "shortest", "longest"),
    [(1, 0.5, 1), (2, 0.5, 2), (3, 0.5, 4), (6, 0.5, 32), (7, 0.5, 60), (10**9, 0.5, 60)],
)
def test_the_ceiling_doubles_until_the_cap(failures, shortest, longest):
    """Half the base at least, and at most double the last time's most."""
    assert delay(failures, BASE, CAP, 0.0) == timedelta(seconds=shortest)
    assert delay(failures, BASE, CAP, 0.999999).total_seconds() == pytest.approx(longest, rel=1e-5)


def test_no_failure_waits_like_one():
    """A caller that counts from zero does not spin."""
    assert delay(0, BASE, CAP, 0.0) == delay(1, BASE, CAP, 0.0) == timedelta(milliseconds=500)


@pytest.mark.parametrize(
    ("wait", "latest"), [(0.0, 0.0), (3.0, 3.3), (50.0, 55.0), (3600.0, 3605.0)]
)
def test_waking_is_spread(wait, latest):
    """Never early; at most a tenth and at most 5 s late."""
    assert spread(wait, 0.0) == wait
    assert spread(wait, 0.999999) == pytest.approx(latest, rel=1e-5)
