"""Story: workers are killed again and again in the middle of accept and flush, under load."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.flow.support import Deployment, Part, Traffic, eventually

Start = Callable[..., Part]
# Killed this often, an innocent envelope is read more often than in real life.
TERMS = {"inbox_deliveries": "50", "log_level": "INFO"}


def kill_again_and_again(deployment: Deployment, start: Start, kills: int, every: float) -> None:
    """Two workers; each in turn is killed, and another takes its place."""
    deployment.sandbox.configure(latency=[0.0, 0.08])
    start(beat=True)
    workers = [start(f"w{n}", **TERMS) for n in range(2)]
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    in_flight = 0

    def is_sending() -> bool:
        return bool(deployment.sandbox.report()["in_flight"])

    with Traffic(deployment):
        for n in range(kills):
            at = time.monotonic() + every
            eventually(lambda at=at: time.monotonic() > at, every + 5)
            if n % 2:
                eventually(is_sending, 10, "a request under way")
            in_flight += is_sending()
            workers[0].end(signal.SIGKILL)
            workers = [workers[1], start(f"w{n + 2}", **TERMS)]
    ended = time.monotonic()
    eventually(deployment.is_delivered, 30, "idleness")
    report = deployment.sandbox.report()
    print(
        f"{kills} kills: idle {time.monotonic() - ended:.1f} s after the end of the load, "
        f"{in_flight} times requests were under way, {report['values_unchanged']} of "
        f"{report['values']} values sent twice, "
        f"{deployment.ledger()['accepted']} changes accepted"
    )
    deployment.assert_right()
    deployment.assert_balanced()
    assert deployment.ledger()["dead"] == 0
    assert in_flight > 0


def test_killed_workers_lose_nothing(deployment: Deployment, start: Start) -> None:
    """After six kills under load every profile is right and the ledger balances."""
    kill_again_and_again(deployment, start, kills=6, every=1.2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_killed_many_times_lose_nothing(deployment: Deployment, start: Start) -> None:
    """The same with forty kills."""
    kill_again_and_again(deployment, start, kills=40, every=2.0)
