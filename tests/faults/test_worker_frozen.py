"""Story: a worker is frozen in the moment in which it sends, for longer than its claim lasts."""

from tests.faults.late import Late
from tests.integration.flow.support import Deployment, Worker, eventually


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
