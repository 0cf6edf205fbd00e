"""When a part that died is started again, and when it is given up."""

import signal
from datetime import timedelta

import pytest

from console.child_process import why_it_ended
from console.restarts import RestartPolicy, Restarts


class TestWait:
    def test_doubles(self) -> None:
        """Each death in a row doubles the wait, from half a second."""
        restarts = Restarts()
        assert [restarts.died(at, at + 1) for at in (0, 2, 4, 6)] == [0.5, 1, 2, 4]

    def test_is_capped(self) -> None:
        """The wait never exceeds ten seconds, however long the row of deaths."""
        restarts = Restarts()
        waits = [restarts.died(at, at + 30) for at in range(0, 60_000, 30)]
        assert waits[-1] == 10
        assert None not in waits

    def test_begins_anew_after_a_settled_run(self) -> None:
        """A part that ran for a minute is as good as new."""
        restarts = Restarts()
        for at in (0, 2, 4):
            restarts.died(at, at + 1)
        assert restarts.died(10, 70) == 0.5


class TestGivingUp:
    def test_comes_with_the_fifth_death_in_a_minute(self) -> None:
        """Five deaths within sixty seconds are enough."""
        restarts = Restarts()
        assert [restarts.died(at, at + 1) for at in (0, 10, 20, 30, 40)][-1] is None

    def test_counts_only_the_last_minute(self) -> None:
        """Deaths that are further apart are borne for ever."""
        restarts = Restarts()
        assert all(restarts.died(at, at + 15) is not None for at in range(0, 3_000, 16))

    def test_follows_its_policy(self) -> None:
        """The numbers are the policy's."""
        policy = RestartPolicy(deaths=2, first_wait=timedelta(seconds=3))
        restarts = Restarts(policy)
        assert restarts.died(0, 1) == 3
        assert restarts.died(5, 6) is None


@pytest.mark.parametrize(
    ("returncode", "said"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-64_000, "killed by signal 64000"),
    ],
)
def test_the_end_is_named(returncode: int, said: str) -> None:
    """An exit code and a signal are told apart, and the signal has its name."""
    assert why_it_ended(returncode) == said
