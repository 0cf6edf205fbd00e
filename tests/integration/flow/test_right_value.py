"""Rules 1 to 4: the right final value, only differences, and what an unknown end costs."""

import random
from typing import Any

import pytest

from tests.integration.flow.support import (
    GAP,
    HOLD,
    TOTAL,
    Deployment,
    Worker,
    eventually,
    free_port,
)
from worker.pipeline.schedule import Lane

# What a client may meet after it has sent a request: it cannot know whether that took effect.
AMBIGUOUS: dict[str, tuple[str, dict[str, Any]]] = {
    "timeout_applied": ("hang", {"apply": True, "seconds": 5}),
    "timeout_not_applied": ("hang", {"apply": False, "seconds": 5}),
    "reset_applied": ("reset_after", {}),
    "reset_not_applied": ("reset_before", {}),
    "cut_applied": ("cut", {}),
    "cut_not_applied": ("cut", {"apply": False}),
    "dripping": ("drip", {"interval": 0.1}),
    "unreadable": ("status", {"status": 201, "body": "this is no JSON"}),
    "status_500": ("status", {"status": 500}),
    "status_503": ("status", {"status": 503}),
    "html_502": ("html", {}),
}
SURELY_NOT: dict[str, tuple[str, dict[str, Any]]] = {
    "status_429": ("status", {"status": 429, "headers": {"X-Ratelimit-Retry-After": "0.1"}}),
    "status_401": ("status", {"status": 401}),
    "status_408": ("status", {"status": 408}),
    "nothing_accepted": ("odd_message", {}),
}


def seen_false(deployment: Deployment, worker: Worker) -> None:
    """Everybody starts as false, acknowledged."""
    deployment.put("u", vip=False)
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"vip": False}


def fail_once(deployment: Deployment, worker: Worker, kind: str, options: dict[str, Any]) -> Any:
    """Send true once, which meets the fault; then the value flips back."""
    deployment.sandbox.fault(kind, **options)
    deployment.put("u", vip=True)
    worker.accept()
    hasty = deployment.hasty_worker()
    eventually(lambda: hasty.flush().requests, 3, "a request")
    found = worker.stores.memberships.trace(0, "u")[0]
    deployment.put("u", vip=False)
    return found


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_rule_3_ambiguous_send_that_flips_back_ends_right(
    name: str, deployment: Deployment, worker: Worker
) -> None:
    """Whatever Braze made of the unknown send, the value that came back is sent again."""
    seen_false(deployment, worker)
    trace = fail_once(deployment, worker, *AMBIGUOUS[name])
    assert trace.acknowledged is None
    assert trace.hold_until_ms is not None
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [False, True, False]
    deployment.assert_right()
    ledger = deployment.ledger()
    assert (ledger["delivered"], ledger["superseded"]) == (2, 1)


@pytest.mark.parametrize("name", SURELY_NOT)
def test_rule_3_surely_not_accepted_leaves_the_acknowledged_value_alone(
    name: str, deployment: Deployment, worker: Worker
) -> None:
    """What was surely not accepted changed nothing: flipping back sends nothing."""
    seen_false(deployment, worker)
    trace = fail_once(deployment, worker, *SURELY_NOT[name])
    assert trace.acknowledged == "false"
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [False, True]
    deployment.assert_right()
    ledger = deployment.ledger()
    assert (ledger["delivered"], ledger["superseded"], ledger["unchanged"]) == (1, 1, 1)


def test_rule_3_never_connected_leaves_the_acknowledged_value_alone(
    deployment: Deployment, worker: Worker
) -> None:
    """If no connection came about, nothing is unknown and the change is kept."""
    seen_false(deployment, worker)
    lost = deployment.worker(braze_endpoint=f"http://127.0.0.1:{free_port()}")
    deployment.put("u", vip=True)
    lost.accept()
    eventually(lambda: lost.flush().requests, 3, "an attempt")
    trace = lost.stores.memberships.trace(0, "u")[0]
    assert (trace.acknowledged, trace.hold_until_ms) == ("false", None)
    deployment.drain(worker)
    deployment.assert_right()


class Killed(BaseException):
    """Stands for the end of a process."""


def test_rule_3_killed_between_send_and_settle_is_unknown(
    deployment: Deployment, worker: Worker
) -> None:
    """A lease that runs out makes what was sent unknown: another worker sends again."""
    seen_false(deployment, worker)
    doomed = deployment.worker()
    braze = doomed.engine.braze

    class Dying:
        """Sends, and does not live to see the reply."""

        def track(self, body: bytes, **options: Any) -> Any:
            braze.track(body, **options)
            raise Killed

        probe = braze.probe

    doomed.change_tools(braze=Dying())
    deployment.put("u", vip=True)
    doomed.accept()
    with pytest.raises(Killed):
        eventually(doomed.flush, 3, "death")
    assert deployment.sandbox.attributes("u") == {"vip": True}
    deployment.put("u", vip=False)
    deployment.drain(worker)
    assert len(worker.facts_named("claim_void")) == 1
    assert deployment.sandbox.values("u", "vip") == [False, True, False]
    deployment.assert_right()


def test_rule_3_settling_a_void_claim_changes_nothing(
    deployment: Deployment, worker: Worker
) -> None:
    """A worker that comes back after its lease does not undo what others did meanwhile."""
    seen_false(deployment, worker)
    slow = deployment.worker()
    braze = slow.engine.braze

    class Frozen:
        """Sends, and is frozen until others have ended its claim."""

        def track(self, body: bytes, **options: Any) -> Any:
            reply = braze.track(body, **options)
            deployment.put("u", vip=False)
            deployment.drain(worker)
            return reply

        probe = braze.probe

    slow.change_tools(braze=Frozen())
    deployment.put("u", vip=True)
    slow.accept()
    eventually(lambda: slow.flush().requests, 5, "a request")
    deployment.drain(worker)
    assert worker.stores.memberships.trace(0, "u")[0].acknowledged == "false"
    deployment.assert_right()


@pytest.mark.parametrize("lands_after", [TOTAL + 0.1, TOTAL + HOLD - 0.15])
def test_rule_4_late_landing_within_the_hold_ends_right(
    lands_after: float, deployment: Deployment, worker: Worker
) -> None:
    """A timed-out request that takes effect late cannot overwrite the value that came after."""
    seen_false(deployment, worker)
    late = {"apply": True, "apply_after": lands_after, "seconds": 5}
    fail_once(deployment, worker, "hang", late)
    deployment.drain(worker)
    eventually(lambda: deployment.sandbox.report()["in_flight"] == 0, 3, "quiet")
    assert deployment.sandbox.values("u", "vip") == [False, True, False]
    deployment.assert_right()


def test_rule_4_same_value_after_an_ambiguous_end_need_not_wait(
    deployment: Deployment, worker: Worker
) -> None:
    """The hold is for a different value: the same one goes again at once."""
    deployment.sandbox.fault("reset_after")
    deployment.put("u", vip=True)
    deployment.drain(worker)
    first, second = deployment.sandbox.requests()
    assert second["at"] - first["at"] < HOLD
    deployment.assert_right()


def test_rule_4_newer_change_does_not_shorten_a_hold(
    deployment: Deployment, worker: Worker
) -> None:
    """However many changes come during a hold, the different value waits it out."""
    seen_false(deployment, worker)
    fail_once(deployment, worker, "reset_after", {})
    for value in (True, False, True, False):
        deployment.put("u", vip=value)
        worker.step()
    deployment.drain(worker)
    times = [item["at"] for item in deployment.sandbox.requests()]
    assert deployment.sandbox.values("u", "vip")[-1] is False
    sent = list(zip(deployment.sandbox.values("u", "vip"), times, strict=True))
    first_true = next(at for value, at in sent if value is True)
    back = next(at for value, at in sent if value is False and at > first_true)
    assert back - first_true >= HOLD - 0.02
    deployment.assert_right()


def test_rule_4_different_value_waits_out_the_gap(deployment: Deployment, worker: Worker) -> None:
    """As the sandbox sees it, another value never begins sooner than the gap."""
    deployment.sandbox.configure(gap_s=GAP)
    for value in (True, False, True, False):
        deployment.put("u", vip=value)
        deployment.put("v", vip=not value)
        deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [True, False, True, False]
    deployment.assert_right()


def test_rule_2_no_unchanged_value_is_sent(deployment: Deployment, worker: Worker) -> None:
    """Doubles, disorder and returns within the linger cost nothing at Braze."""
    chance = random.Random(11)
    said = []
    for _ in range(4):
        changes = []
        for _ in range(120):
            user, name = f"u{chance.randrange(40)}", chance.choice(["vip", "gold", "nightly"])
            changes.append(deployment.change(user, name, chance.random() < 0.5))
        said += changes
        deployment.send(changes)
        deployment.send(chance.sample(said, 100))
        worker.step()
    deployment.drain(worker, batched=True)
    report = deployment.sandbox.report()
    assert report["values_unchanged"] == 0
    assert report["violations"] == {}
    deployment.assert_right()


def test_rule_2_user_without_a_difference_is_no_empty_object(
    deployment: Deployment, worker: Worker
) -> None:
    """Who left and came back before the flush is not in the request at all."""
    deployment.put("u", vip=True)
    deployment.put("v", vip=True)
    deployment.drain(worker)
    deployment.put("u", vip=False)
    worker.accept()
    deployment.put("u", vip=True)
    deployment.put("v", vip=False)
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [True]
    assert deployment.sandbox.report()["objects"] == 3


def test_rule_1_older_event_that_arrives_later_changes_nothing(
    deployment: Deployment, worker: Worker
) -> None:
    """Event time decides, not the order of arrival; what lost is counted as superseded."""
    deployment.put("u", vip=True)
    deployment.drain(worker)
    deployment.send([deployment.change("u", "vip", False, event_at=1_600_000_000_000)])
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "vip") == [True]
    assert deployment.ledger()["superseded"] == 1


def test_exit_may_be_written_as_null(deployment: Deployment, worker: Worker) -> None:
    """With `on_exit: null` the attribute goes away, and once only."""
    deployment.put("u", gone_is_null=True)
    deployment.drain(worker)
    deployment.put("u", gone_is_null=False)
    deployment.drain(worker)
    deployment.put("u", gone_is_null=False)
    deployment.drain(worker)
    assert deployment.sandbox.values("u", "gone_is_null") == [True, None]
    assert worker.flush(Lane.BATCHED).requests == 0
