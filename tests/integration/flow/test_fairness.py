"""Rules 15, 18, 19: full requests, realtime first, one doorbell, harmless beats."""

import time

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.contract import TaskName, key
from worker.pipeline.schedule import Lane

FLUSHES = (TaskName.FLUSH_REALTIME, TaskName.FLUSH_BATCHED)


def test_rule_15_requests_are_filled(deployment: Deployment, worker: Worker) -> None:
    """A thousand ready users are 13 full requests and one with the rest."""
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(1000)])
    while worker.accept().envelopes:
        pass
    with deployment.threads(*[worker.flush] * 6):
        eventually(deployment.is_idle, 10, "idleness")
    assert deployment.sandbox.report()["fill_histogram"] == {"25": 1, "75": 13}
    deployment.assert_right()


def test_rule_15_batched_users_due_at_one_boundary_fill_requests(
    deployment: Deployment, worker: Worker
) -> None:
    """Two batched audiences of one interval make one object for each user."""
    deployment.send(
        [
            deployment.change(f"u{n}", name, True)
            for n in range(150)
            for name in ("nightly", "weekly")
        ]
    )
    while worker.accept().envelopes:
        pass
    with deployment.threads(*[lambda: worker.flush(Lane.BATCHED)] * 3):
        eventually(lambda: not deployment.client.zcard(key(0, "bt:ready")), 5, "the boundary")
        eventually(deployment.is_idle, 10, "idleness")
    assert deployment.sandbox.report()["objects"] == 150
    assert deployment.sandbox.report()["requests"] <= 3
    deployment.assert_right()


def test_rule_15_crumbs_have_one_gatherer(deployment: Deployment, worker: Worker) -> None:
    """However many threads are idle, a trickle is gathered by one of them."""
    waiting = deployment.folder / "audiences.yaml"
    waiting.write_text("lanes: {realtime: {linger: 300ms, max_wait: 600ms}}\n")
    patient = deployment.worker()
    for n in range(20):
        deployment.put(f"u{n}", vip=True)
    patient.accept()
    with deployment.threads(*[patient.flush] * 8):
        eventually(deployment.is_idle, 5, "idleness")
    assert deployment.sandbox.report()["fill_histogram"] == {"20": 1}


def test_rule_18_realtime_is_not_behind_batched_at_a_small_allowance(
    deployment: Deployment,
) -> None:
    """With hundreds of batched users due and a scarce allowance, a realtime change is quick."""
    scarce = {
        "braze_requests_per_second": 20,
        "braze_burst": 1,
        "braze_objects_per_request": 5,
    }
    worker = deployment.worker(**scarce)
    deployment.send([deployment.change(f"u{n}", "nightly", True) for n in range(300)])
    while worker.accept().envelopes:
        pass
    eventually(lambda: worker.stores.memberships.look(0, Lane.BATCHED, 5, "t").state == "full", 3)
    batched = [lambda: worker.flush(Lane.BATCHED)] * 4
    with deployment.threads(*batched, worker.accept, *[worker.flush] * 2):
        eventually(lambda: deployment.sandbox.report()["requests"] > 5, 5)
        delays = []
        for n in range(5):
            began = time.monotonic()
            deployment.put(f"r{n}", vip=True)
            eventually(lambda n=n: deployment.sandbox.attributes(f"r{n}"), 5)
            delays.append(time.monotonic() - began)
        assert deployment.client.zcard(key(0, "bt:ready")) > 0
        eventually(deployment.is_idle, 15, "idleness")
    print(f"realtime beside batched: {sorted(round(delay, 3) for delay in delays)} s")
    assert sorted(delays)[2] < 0.5
    assert max(delays) < 1.0
    deployment.assert_right()


def test_rule_19_one_outstanding_doorbell(deployment: Deployment, worker: Worker) -> None:
    """While a bell is on its way nobody rings again; heard, it may be rung again."""
    for n in range(5):
        deployment.put(f"u{n}", vip=True)
        worker.accept()
        worker.flow.recover()
    assert [task for task, _ in worker.rung] == [TaskName.FLUSH_REALTIME]
    deployment.drain(worker)
    deployment.put("v", vip=True)
    worker.accept()
    assert [task for task, _ in worker.rung].count(TaskName.FLUSH_REALTIME) == 2
    deployment.drain(worker)


def test_rule_19_two_beats_are_harmless(deployment: Deployment) -> None:
    """Two ticks at once ring once, void once, and change nothing else."""
    first, second = deployment.worker(), deployment.worker()
    deployment.put("u", vip=True)
    first.flow.recover()
    second.flow.recover()
    assert [*first.rung, *second.rung] == [(TaskName.ACCEPT, 0)]
    first.accept()
    claim = eventually(
        lambda: (
            (
                found := first.stores.memberships.claim(
                    0, Lane.REALTIME, "lost", "t", objects=75, size=10**6
                )
            ).users
            and found
        ),
        3,
    )
    assert claim.users[0].user_id == "u"
    eventually(
        lambda: first.stores.memberships.expired_claims(0, first.stores.allowance.now_ms()), 3
    )
    with deployment.threads(first.flow.recover, second.flow.recover):
        eventually(lambda: not deployment.client.zcard(key(0, "claims")), 3)
    voids = [*first.facts_named("claim_void"), *second.facts_named("claim_void")]
    assert len(voids) == 1
    deployment.drain(first)
    assert deployment.ledger()["delivered"] == 1


def test_rule_19_bell_that_cannot_be_rung_is_rung_by_the_next_tick(
    deployment: Deployment, worker: Worker
) -> None:
    """A broker that is away costs a tick, not the bell."""
    ring_out = worker.flow._ring_out

    def away(task: str, partition: int) -> None:
        raise OSError("broker away")

    worker.flow._ring_out = away
    deployment.put("u", vip=True)
    assert worker.flow.recover().rung == []
    assert worker.facts_named("bell_failed")
    worker.flow._ring_out = ring_out
    assert worker.flow.recover().rung == [TaskName.ACCEPT]
    deployment.drain(worker)


def test_rule_19_batched_is_rung_for_at_its_boundary_only(
    deployment: Deployment, worker: Worker
) -> None:
    """A batched user rings nobody until about a second before the boundary."""
    deployment.folder.joinpath("audiences.yaml").write_text(
        "lanes: {batched: {every: 8h}}\naudiences: [{key: nightly, cadence: batched}]\n"
    )
    rare = deployment.worker()
    deployment.put("u", nightly=True)
    rare.accept()
    rare.flow.recover()
    assert [task for task, _ in rare.rung if task in FLUSHES] == []
    assert rare.flush(Lane.BATCHED).ended == "not_due"
    assert deployment.is_idle()
