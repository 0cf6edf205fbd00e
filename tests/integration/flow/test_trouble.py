"""Rules 9, 11, 16, 17, 24: Braze is in trouble, refuses the key, or asks for patience."""

import logging
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.integration.flow.support import KEY, Deployment, Worker, eventually
from worker.contract import TaskName, key
from worker.pipeline.schedule import Lane
from worker.stores.keys import PERMITS

NEW_KEY = "rotated-key-5678"


def publish(deployment: Deployment, users: int, prefix: str = "u") -> None:
    """One change for each of many users."""
    deployment.send([deployment.change(f"{prefix}{n}", "vip", True) for n in range(users)])


def crew(workers: Iterable[Worker], flushes: int) -> list[Any]:
    """What the threads of these workers do."""
    jobs: list[Any] = []
    for worker in workers:
        jobs += [worker.accept, worker.flow.recover, *[worker.flush] * flushes]
    return jobs


def assert_normal(deployment: Deployment, worker: Worker) -> None:
    """No pause, no stop, no narrowing is left, nor a place that nobody uses."""
    destination = worker.stores.allowance.destination()
    assert (destination.stop, destination.failures) == (None, 0)
    assert destination.until_ms <= worker.stores.allowance.now_ms()
    assert deployment.client.zcard(PERMITS) == 0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 503}),
        ("reset_before", {}),
        ("reset_after", {}),
        ("html", {"status": 502}),
        ("cut", {}),
        ("odd_message", {}),
        ("hang", {"seconds": 2.0}),
        ("drip", {"interval": 0.05}),
    ],
    ids=[
        *("503", "reset_before", "reset_after", "html_502"),
        *("cut", "odd_message", "hang", "drip"),
    ],
)
def test_rule_9_burst_narrows_to_one_probe_and_widens_again(
    kind: str, options: dict[str, Any], deployment: Deployment
) -> None:
    """A burst of trouble costs few requests, nothing is lost, and all is normal soon after."""
    workers = [deployment.worker(), deployment.worker()]
    deployment.sandbox.fault(kind, times=None, **options)
    publish(deployment, 300)
    with deployment.threads(*crew(workers, 8)):
        eventually(lambda: deployment.sandbox.faults()[0]["hits"] >= 3, 5, "the burst")
        narrowed = eventually(
            lambda: (found := workers[0].stores.allowance.destination()).width and found, 3
        )
        at_first = deployment.sandbox.faults()[0]["hits"]
        over_at = time.monotonic() + 1.5
        eventually(lambda: time.monotonic() > over_at, 5)
        wasted = deployment.sandbox.faults()[0]["hits"]
        deployment.sandbox.no_faults()
        healed = time.monotonic()
        eventually(deployment.is_idle, 10, "idleness")
        normal_after = time.monotonic() - healed
    print(f"{kind}: {wasted} requests wasted in 1.5 s, normal {normal_after:.2f} s after")
    assert narrowed.width == 1
    # Sixteen threads may be under way when the trouble begins; after that, one at a time.
    assert wasted - at_first <= 30
    assert wasted <= 16 + 30
    assert normal_after < 3
    deployment.assert_right()
    assert_normal(deployment, workers[0])


def test_rule_9_many_failures_at_once_are_one_trouble(deployment: Deployment) -> None:
    """A short outage that all threads run into does not make the pause as long as a long one."""
    worker = deployment.worker(backoff_base="50ms", backoff_cap="60s", braze_burst=40)
    full = worker.tools.allowance.policy.objects
    deployment.sandbox.fault("hang", seconds=0.3, times=24)
    publish(deployment, 24 * full)
    with deployment.threads(*crew([worker], 24)):
        eventually(lambda: deployment.sandbox.faults()[0]["hits"] >= 20, 10, "the outage")
        eventually(deployment.is_idle, 8, "idleness")
    slowed = worker.facts_named("destination_slowed")
    assert slowed
    assert max(fact.seconds for fact in slowed) < 1.0
    deployment.assert_right()


def test_rule_9_narrowing_ends_after_successes(deployment: Deployment, worker: Worker) -> None:
    """Each success doubles the number of requests at once, until there is no bound."""
    deployment.sandbox.fault("status", status=500, times=3)
    publish(deployment, 3)
    deployment.drain(worker)
    widths = []
    for n in range(8):
        widths.append(worker.stores.allowance.destination().width)
        deployment.put(f"w{n}", vip=True)
        deployment.drain(worker)
    assert widths == [2, 4, 8, 16, 32, 0, 0, 0]


def test_rule_9_pauses_are_jittered(deployment: Deployment) -> None:
    """Two troubles of the same length are not followed by the same pause."""
    worker = deployment.worker(backoff_base="20ms", backoff_cap="100ms")
    deployment.sandbox.fault("status", status=500, times=12)
    publish(deployment, 1)
    deployment.drain(worker)
    pauses = {fact.seconds for fact in worker.facts_named("destination_slowed")}
    assert len(pauses) == 10
    assert max(pauses) <= 0.1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_rule_11_refused_credentials_pause_and_a_probe_resumes(
    status: int, deployment: Deployment, worker: Worker
) -> None:
    """Nothing is burned, the queue is kept, what to do is said, a harmless request resumes."""
    deployment.sandbox.fault("status", status=status, times=3)
    publish(deployment, 100)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    destination = worker.stores.allowance.destination()
    assert destination.stop
    (fact,) = worker.facts_named("destination_stopped")
    assert "PERSONA_SYNC_BRAZE" in fact.todo or "users.track" in fact.todo
    assert (worker.flush().requests, worker.flush().ended) == (0, "stopped")
    assert deployment.client.zcard(key(0, "rt:ready")) == 100
    deployment.drain(worker)
    deployment.assert_right()
    assert deployment.ledger()["dead"] == 0
    probes = [item for item in deployment.sandbox.requests() if not item["objects"]]
    assert 2 <= len(probes) <= 3
    assert worker.facts_named("destination_resumed")
    assert_normal(deployment, worker)


def test_rule_11_rotated_key_file_resumes_without_a_restart(
    deployment: Deployment, worker: Worker
) -> None:
    """The key's file is read anew: a changed key is tried at once."""
    publish(deployment, 1)
    deployment.drain(worker)
    deployment.sandbox.configure(keys=[NEW_KEY])
    publish(deployment, 100, "v")
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    assert worker.flow.recover().probed == "invalid_key_or_wrong_instance"
    assert worker.flow.recover().probed == ""
    deployment.key_file.write_text(NEW_KEY)
    assert worker.flow.recover().probed == "resumed"
    deployment.drain(worker)
    deployment.assert_right()


@pytest.mark.parametrize("content", [None, "", "two\nlines of text", "Schlüssel-ä"])
def test_rule_11_unusable_key_file_pauses(
    content: str | None, deployment: Deployment, worker: Worker
) -> None:
    """A key file that is gone, caught half written, or full of nonsense sends nothing and loses
    nothing, and is not called a key that Braze refused."""
    if content is None:
        deployment.key_file.unlink()
    else:
        deployment.key_file.write_text(content, encoding="latin-1")
    publish(deployment, 3)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    assert deployment.sandbox.report()["requests"] == 0
    assert worker.stores.allowance.destination().stop == "no_key"
    # Who keeps the key in a file is sent to that file.
    (stopped,) = worker.facts_named("destination_stopped")
    assert stopped.reason == "no_key"
    assert "PERSONA_SYNC_BRAZE_API_KEY_FILE" in stopped.todo
    deployment.key_file.write_text(KEY)
    deployment.drain(worker)
    deployment.assert_right()


def test_rule_11_late_refusal_does_not_lift_what_a_person_stopped(
    deployment: Deployment, worker: Worker
) -> None:
    """A 401 that comes in after an operator's pause leaves the pause the operator's."""
    braze = worker.engine.braze

    class Slow:
        """The operator pauses while the request is under way."""

        def track(self, body: bytes, **options: Any) -> Any:
            reply = braze.track(body, **options)
            worker.stores.allowance.stop("operator")
            return reply

        probe = braze.probe

    worker.change_tools(braze=Slow())
    deployment.sandbox.fault("status", status=401)
    publish(deployment, 1)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    assert worker.flow.recover().probed == ""
    assert worker.stores.allowance.destination().stop == "operator"
    assert worker.facts_named("destination_stopped") == []


def test_rule_11_requests_that_run_into_one_stop_say_it_once(deployment: Deployment) -> None:
    """Whatever is under way at a 401 is refused, too; it is one stop, and one line in the log."""
    workers = [deployment.worker(), deployment.worker()]
    deployment.sandbox.configure(keys=[NEW_KEY], latency=[0.2, 0.3])
    publish(deployment, 600)
    workers[0].accept()
    with deployment.threads(*crew(workers, 4)):
        eventually(lambda: deployment.sandbox.report()["by_status"].get("401", 0) > 3, 10)
        eventually(lambda: not deployment.client.zcard(key(0, "claims")), 10)
    stopped = [fact for worker in workers for fact in worker.facts_named("destination_stopped")]
    assert [fact.reason for fact in stopped] == ["invalid_key_or_wrong_instance"]
    deployment.meant.clear()


def test_rule_24_key_is_in_no_log_fact_or_key_of_redis(
    deployment: Deployment,
    worker: Worker,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Braze echoes the key in its 401; it appears nowhere on our side."""
    caplog.set_level(logging.DEBUG)
    wrong = "wrong-key-99887766"
    deployment.key_file.write_text(wrong)
    publish(deployment, 3)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3)
    assert worker.flow.recover().probed == "invalid_key_or_wrong_instance"
    body = f'{{"message":"Invalid API key: {wrong}"}}'
    deployment.sandbox.fault("status", status=400, body=body)
    deployment.key_file.write_text(KEY)
    deployment.drain(worker)
    out, err = capfd.readouterr()
    held = " ".join(repr(deployment.client.dump(name)) for name in deployment.client.keys("ps1:*"))
    for secret in (KEY, wrong):
        for text in (out, err, caplog.text, repr(worker.facts), held):
            assert secret not in text


@pytest.mark.parametrize("form", ["epoch", "delta", "mau", "retry-after", "none"])
def test_rule_17_after_a_429_nobody_asks_before_the_time(form: str, deployment: Deployment) -> None:
    """All threads of all workers stop, whatever header says how long; then they go on."""
    workers = [deployment.worker(), deployment.worker()]
    deployment.sandbox.fault("status", status=429, header_form=form, retry_after_s=1.0)
    publish(deployment, 300)
    with deployment.threads(*crew(workers, 6)):
        eventually(deployment.is_idle, 10, "idleness")
    deployment.assert_right()
    requests = deployment.sandbox.requests()
    limited = next(item for item in requests if item["status"] == 429)
    # Those under way already cannot be called back, and on a busy machine they take a while.
    later = [item["at"] - limited["at"] for item in requests if item["at"] > limited["at"] + 0.4]
    assert len(requests) - len(later) <= 12
    if form != "none":
        assert all(wait >= 0.95 for wait in later), later
    assert deployment.sandbox.report()["by_status"]["429"] == 1
    assert_normal(deployment, workers[0])


def test_rule_17_wait_that_comes_with_a_server_error_is_kept(deployment: Deployment) -> None:
    """A 503 that says for how long is believed the first time, too, and narrows nobody yet."""
    workers = [deployment.worker(), deployment.worker()]
    deployment.sandbox.fault("status", status=503, headers={"Retry-After": "1"})
    publish(deployment, 1)
    with deployment.threads(*crew(workers, 2)):
        eventually(deployment.is_idle, 10, "idleness")
    refused, *later = deployment.sandbox.requests()
    assert later
    assert all(item["at"] - refused["at"] >= 0.95 for item in later)
    slowed = [fact for worker in workers for fact in worker.facts_named("destination_slowed")]
    assert [(fact.reason, fact.failures) for fact in slowed] == [("status_503", 1)]
    assert 1.0 <= slowed[0].seconds <= 1.1
    assert_normal(deployment, workers[0])
    deployment.assert_right()


@pytest.mark.parametrize("form", ["epoch", pytest.param("delta", marks=pytest.mark.slow)])
def test_rule_17_real_limit_is_met_without_many_429s(form: str, deployment: Deployment) -> None:
    """What is left of a window, as the replies say it, is shared out; few requests are refused."""
    deployment.sandbox.configure(rate_limit={"limit": 20, "window_s": 2.0, "header_form": form})
    workers = [deployment.worker(braze_objects_per_request=5) for _ in range(2)]
    publish(deployment, 125)
    with deployment.threads(*crew(workers, 4)):
        eventually(deployment.is_idle, 15, "idleness")
    deployment.assert_right()
    refused = deployment.sandbox.report()["by_status"].get("429", 0)
    print(f"{refused} of {deployment.sandbox.report()['requests']} refused")
    # Those that begin together before the first reply cannot know.
    assert refused <= 6


def test_rule_16_rate_is_shared_by_all_workers(deployment: Deployment) -> None:
    """Two workers with many threads never go beyond the rate and the burst."""
    terms = {
        "braze_requests_per_second": 40,
        "braze_burst": 5,
        "braze_objects_per_request": 3,
    }
    workers = [deployment.worker(**terms), deployment.worker(**terms)]
    publish(deployment, 240)
    with deployment.threads(*crew(workers, 8)):
        eventually(deployment.is_idle, 15, "idleness")
    at = [item["at"] for item in deployment.sandbox.requests()]
    assert len(at) == 80
    for begin, first in enumerate(at):
        for end in range(begin + 1, len(at)):
            span = at[end] - first
            # What was granted apart may arrive together on a busy machine: 250 ms of slack. Two
            # workers with a rate each would be at 80 after a second, where 56 are allowed.
            assert end - begin + 1 <= 5 + 40 * (span + 0.25) + 1
    assert at[-1] - at[0] < 80 / 40 * 2.5
    deployment.assert_right()


def test_rule_16_pause_that_comes_while_waiting_for_permission_is_seen(
    deployment: Deployment,
) -> None:
    """Who was granted a later moment looks again before claiming: nothing is sent into a pause."""
    worker = deployment.worker(braze_requests_per_second=3, braze_burst=1)
    publish(deployment, 1)
    deployment.drain(worker)
    wait = worker.tools.wait

    def paused_meanwhile(seconds: float) -> bool:
        if seconds > 0.1:
            worker.stores.allowance.stop("operator")
        return wait(seconds)

    worker.change_tools(wait=paused_meanwhile)
    publish(deployment, 1, "v")
    worker.accept()
    tally = eventually(lambda: (found := worker.flush()).ended == "paused" and found, 3)
    assert tally.requests == 0
    assert deployment.client.zcard(PERMITS) == 0
    assert deployment.client.zcard(key(0, "claims")) == 0
    worker.change_tools(wait=wait)
    worker.stores.allowance.resume()
    deployment.drain(worker)
    deployment.assert_right()


def test_rule_19_no_bell_while_paused(deployment: Deployment, worker: Worker) -> None:
    """While nothing may be sent, no flush is rung for; afterwards the tick rings."""
    worker.stores.allowance.stop("operator")
    for n in range(3):
        deployment.put(f"u{n}", vip=True)
        worker.accept()
    worker.flow.recover()
    flushes = (TaskName.FLUSH_REALTIME, TaskName.FLUSH_BATCHED)
    assert [task for task, _ in worker.rung if task in flushes] == []
    worker.stores.allowance.resume()
    assert worker.flow.recover().rung == [TaskName.FLUSH_REALTIME]
    deployment.drain(worker)
    assert worker.flush(Lane.REALTIME).requests == 0


def loses_the_server(worker: Worker) -> bool:
    """Whether a flush ended because the server was away."""
    try:
        worker.flush()
    except ConnectionError:
        return True
    return False


def test_server_error_between_permission_and_report_gives_the_place_back(
    deployment: Deployment, worker: Worker
) -> None:
    """A narrowed destination is not blocked by a drain that failed after it had permission."""
    memberships = worker.tools.memberships

    class Broken:
        """Claiming fails."""

        def __getattr__(self, name: str) -> Any:
            return getattr(memberships, name)

        def claim(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError("away")

    publish(deployment, 1)
    worker.accept()
    worker.change_tools(memberships=Broken())

    eventually(lambda: loses_the_server(worker), 3, "the failure")
    assert deployment.client.zcard(PERMITS) == 0
    worker.change_tools(memberships=memberships)
    began = time.monotonic()
    deployment.drain(worker)
    # The gatherer's place, if it was left behind, is free again after 3 s at the latest.
    assert time.monotonic() - began < 4


def test_server_error_before_a_second_request_gives_the_place_back(
    deployment: Deployment, worker: Worker
) -> None:
    """Nor by one that failed with users in hand, once it had permission to go on with them."""
    memberships = worker.tools.memberships

    class Broken:
        """Whether somebody was deleted cannot be asked."""

        def __getattr__(self, name: str) -> Any:
            return getattr(memberships, name)

        def has_lost(self, *_: Any) -> Any:
            raise ConnectionError("away")

    deployment.sandbox.fault("status", status=413)
    publish(deployment, 2)
    worker.accept()
    worker.change_tools(memberships=Broken())

    eventually(lambda: loses_the_server(worker), 3, "the failure")
    assert deployment.client.zcard(PERMITS) == 0
    worker.change_tools(memberships=memberships)
    deployment.drain(worker)
    deployment.assert_right()
