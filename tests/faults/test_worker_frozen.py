"""Story: a worker is frozen in the moment in which it sends, for longer than its claim lasts."""

from collections.abc import Callable
from datetime import timedelta

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.braze.client import BrazeClient
from worker.pipeline.reply import Reply


class Late:
    """A client that is frozen once, after the last look at the clock and before its bytes leave."""

    def __init__(self, client: BrazeClient, meanwhile: Callable[[], None]) -> None:
        self._client = client
        self._meanwhile: Callable[[], None] | None = meanwhile

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """One request, late."""
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        return self._client.track(body, total=total)

    def probe(self) -> Reply:
        """As it is."""
        return self._client.probe()


def test_value_that_a_thawed_worker_overwrote_is_sent_again(
    deployment: Deployment, worker: Worker
) -> None:
    """It finds its claim gone, compares what it sent with the state, and the newer value wins."""
    other = deployment.worker()

    def meanwhile() -> None:
        deployment.put("u", vip=False)
        eventually(lambda: other.step() or deployment.sandbox.attributes("u") == {"vip": False}, 10)

    worker.change_tools(braze=Late(worker.engine.braze, meanwhile))
    deployment.put("u", vip=True)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3, "a request")
    assert worker.facts_named("claim_gone")
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [False, True, False]
    deployment.assert_right()
