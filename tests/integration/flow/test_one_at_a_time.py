"""Rule 5: one object per user per request, one request per user, none that outlives its lease."""

import random
import time
from typing import Any

from tests.integration.flow.support import GAP, LEASE, TOTAL, Deployment, Worker, eventually
from worker.pipeline.schedule import Lane


def test_rule_5_no_overlap_under_concurrency(deployment: Deployment) -> None:
    """Two workers, many threads and both lanes: never two requests for one user."""
    deployment.sandbox.configure(latency=[0.0, 0.04], gap_s=GAP)
    workers = [deployment.worker(), deployment.worker()]
    chance = random.Random(5)

    def publish() -> None:
        users = [f"u{chance.randrange(150)}" for _ in range(40)]
        names = chance.choices(["vip", "gold", "nightly", "weekly"], k=40)
        deployment.send(
            [
                deployment.change(user, name, chance.random() < 0.5)
                for user, name in zip(users, names, strict=True)
            ]
        )

    jobs = [publish]
    for worker in workers:
        jobs += [worker.accept, worker.flow.recover]
        jobs += [worker.flush] * 4 + [lambda worker=worker: worker.flush(Lane.BATCHED)] * 2
    with deployment.threads(*jobs):
        over_at = time.monotonic() + 2
        eventually(lambda: time.monotonic() > over_at, 5)
        # Or nothing was shown.
        eventually(lambda: deployment.sandbox.report()["max_in_flight"] > 1, 15, "concurrency")
    deployment.assert_balanced()
    deployment.drain(workers[0], batched=True, within=20)
    report = deployment.sandbox.report()
    assert report["violations"] == {}, report["violation_samples"][:3]
    assert report["values_unchanged"] == 0
    deployment.assert_right()


def test_rule_5_dripping_reply_ends_at_the_total(deployment: Deployment, worker: Worker) -> None:
    """A reply that comes byte by byte is given up when the total is over."""
    deployment.sandbox.fault("drip", interval=0.1)
    deployment.put("u", vip=True)
    deployment.drain(worker)
    first, second = worker.facts_named("request_ended")
    assert first.reason == "timeout"
    assert TOTAL - 0.05 < first.seconds < TOTAL + 0.3
    assert second.delivered == 1


def test_rule_5_nothing_is_sent_with_too_little_left_on_the_lease(
    deployment: Deployment, worker: Worker
) -> None:
    """A worker that was frozen between claim and send sends nothing; its users are ready again."""
    memberships, clock = worker.tools.memberships, worker.tools.clock
    asleep = [0.0]

    class Sleepy:
        """The machine sleeps just after each claim."""

        def __getattr__(self, name: str) -> Any:
            return getattr(memberships, name)

        def claim(self, *args: Any, **options: Any) -> Any:
            claim = memberships.claim(*args, **options)
            asleep[0] += LEASE
            return claim

    worker.change_tools(memberships=Sleepy(), clock=lambda: clock() + asleep[0])
    deployment.put("u", vip=True)
    worker.accept()
    tally = eventually(lambda: (found := worker.flush()).retry and found, 3, "a claim")
    assert (tally.requests, tally.retry) == (0, 1)
    assert deployment.sandbox.report()["requests"] == 0
    trace = worker.stores.memberships.trace(0, "u")[0]
    assert (trace.in_flight, trace.hold_until_ms) == (False, None)
    worker.change_tools(memberships=memberships)
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [True]


def test_rule_5_redirect_is_not_followed(deployment: Deployment, worker: Worker) -> None:
    """A redirect stops the destination; the key is not carried elsewhere."""
    where = {"Location": f"{deployment.sandbox.url}/elsewhere"}
    deployment.sandbox.fault("status", status=307, headers=where)
    deployment.put("u", vip=True)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    assert worker.stores.allowance.destination().stop == "redirected"
    assert list(deployment.sandbox.report()["by_path"]) == ["/users/track"]
    deployment.drain(worker)
    deployment.assert_right()


def test_rule_5_user_in_both_lanes_gets_one_object(deployment: Deployment, worker: Worker) -> None:
    """What both lanes have due goes in one object; a batched value is never early."""
    eventually(lambda: time.time() % 1 < 0.5, what="a moment well before the boundary")
    deployment.put("u", vip=True, nightly=True, weekly=True)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3, "the realtime flush")
    assert "nightly" not in deployment.sandbox.attributes("u")
    deployment.drain(worker, batched=True)
    objects = [item for request in deployment.sandbox.requests() for item in request["objects"]]
    assert objects == [
        {"external_id": "u", "vip": True},
        {"external_id": "u", "nightly": True, "weekly": True},
    ]
