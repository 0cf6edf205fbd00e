"""Story: the server is killed and started again in the middle of load."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.flow.support import Deployment, Part, Traffic, eventually

Start = Callable[..., Part]


def first_delivery(deployment: Deployment) -> float:
    """Seconds from now until more is delivered."""
    began, before = time.monotonic(), deployment.ledger()["delivered"]
    eventually(lambda: deployment.ledger()["delivered"] > before, 20, "a delivery")
    return time.monotonic() - began


def kill_the_server(deployment: Deployment, start: Start, times: int) -> None:
    """Two workers and the beat live through it; producers repeat what was not taken."""
    deployment.sandbox.configure(latency=[0.0, 0.08])
    start(beat=True)
    workers = [start(f"w{n}", inbox_deliveries="50") for n in range(2)]
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    with Traffic(deployment) as traffic:
        for _ in range(times):
            at = time.monotonic() + 2.0
            eventually(lambda at=at: time.monotonic() > at, 10)
            deployment.server.end(signal.SIGKILL)
            at = time.monotonic() + 0.5
            eventually(lambda at=at: time.monotonic() > at, 10)
            deployment.server.start()
            deployment.client.connection_pool.disconnect()
            print(f"a delivery {first_delivery(deployment):.2f} s after the server's return")
    assert traffic.refusals > 0
    ended = time.monotonic()
    eventually(deployment.is_delivered, 30, "idleness")
    print(f"idle {time.monotonic() - ended:.1f} s after the end of the load")
    deployment.assert_right()
    deployment.assert_balanced()
    assert deployment.ledger()["dead"] == 0
    for worker in workers:
        assert worker.is_running, worker.said()[-3000:]
        assert "Traceback" not in worker.said()
        assert "DeprecationWarning" not in worker.said()


def test_killed_server_loses_nothing(deployment: Deployment, start: Start) -> None:
    """Two kills under load: what was accepted is delivered, by the same workers."""
    kill_the_server(deployment, start, times=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_server_killed_many_times_loses_nothing(deployment: Deployment, start: Start) -> None:
    """The same with fifteen kills."""
    kill_the_server(deployment, start, times=15)
