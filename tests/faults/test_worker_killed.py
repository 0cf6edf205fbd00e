"""Story: workers are killed again and again in the middle of accept and flush, under load."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.flow.support import Deployment, Part, Traffic, eventually

Start = Callable[..., Part]
# Killed this often, an innocent envelope is read more often than in real life.
STOP_SECONDS = 15.0
TERMS = {"inbox_deliveries": "50", "log_level": "INFO"}


def kill_again_and_again(
    deployment: Deployment,
    start: Start,
    kills: int,
    every: float,
    how: signal.Signals = signal.SIGKILL,
) -> None:
    """Two workers; each in turn is ended, and another takes its place.

    A value is sent twice when its worker went after the request and before settling: what Braze
    took is then unknown, and is said again. So it grows with the requests under way at a kill.
    """
    deployment.sandbox.configure(latency=[0.0, 0.08])
    start(beat=True)
    workers = [start(f"w{n}", **TERMS) for n in range(2)]
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    in_flight, slowest = 0, 0.0

    def is_sending() -> bool:
        return bool(deployment.sandbox.report()["in_flight"])

    with Traffic(deployment):
        for n in range(kills):
            at = time.monotonic() + every
            eventually(lambda at=at: time.monotonic() > at, every + 5)
            if n % 2:
                eventually(is_sending, 10, "a request under way")
            in_flight += is_sending()
            asked = time.monotonic()
            workers[0].end(how)
            slowest = max(slowest, time.monotonic() - asked)
            workers = [workers[1], start(f"w{n + 2}", **TERMS)]
    ended = time.monotonic()
    eventually(deployment.is_delivered, 30, "idleness")
    taken, acknowledged = deployment.sandbox.report()["values"], deployment.ledger()["values"]
    print(
        f"{kills} times {how.name}, gone after {slowest:.1f} s at most; "
        f"idle {time.monotonic() - ended:.1f} s after the end of the load; "
        f"{in_flight} times requests were under way; "
        f"{taken - acknowledged} of {taken} values sent twice; "
        f"{deployment.ledger()['accepted']} changes accepted"
    )
    deployment.assert_right()
    deployment.assert_balanced()
    assert deployment.ledger()["dead"] == 0
    assert slowest < STOP_SECONDS
    assert in_flight > 0


def test_killed_workers_lose_nothing(deployment: Deployment, start: Start) -> None:
    """After six kills under load every profile is right and the ledger balances."""
    kill_again_and_again(deployment, start, kills=6, every=1.2)


def test_stopped_workers_hang_nowhere_and_send_nothing_twice(
    deployment: Deployment, start: Start
) -> None:
    """SIGTERM under load: each worker is gone soon, and what it had begun was settled."""
    kill_again_and_again(deployment, start, kills=4, every=1.2, how=signal.SIGTERM)
    assert deployment.sandbox.report()["values"] == deployment.ledger()["values"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_workers_ended_a_hundred_times_lose_nothing(
    how: signal.Signals, deployment: Deployment, start: Start
) -> None:
    """A hundred times, under load all along."""
    kill_again_and_again(deployment, start, kills=100, every=0.8, how=how)
