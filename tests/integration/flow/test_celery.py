"""The Celery side, mostly as real processes: names, options, plain errors, stopping, realtime."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from kombu.utils.scheduling import cycle_by_name

from tests.integration.conftest import RealServer
from tests.integration.flow.support import ROOT, Deployment, Part, eventually
from worker.celery_app import QUEUES, TICK_SECONDS, make_app
from worker.contract import BROKER_KEY_PREFIX, QUEUE_OF_TASK, QueueName, TaskName, key

Start = Callable[..., Part]


@pytest.fixture
def app(server: RealServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application as a worker would make it."""
    monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", server.url)
    yield make_app.__wrapped__()
    structlog.reset_defaults()


def test_messages_are_json_late_and_without_results(app: Any) -> None:
    """A message is acknowledged after its work, one at a time, and nothing but JSON is read."""
    conf = app.conf
    assert (conf.task_serializer, list(conf.accept_content)) == ("json", ["json"])
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost) == (True, True)
    assert (conf.worker_prefetch_multiplier, conf.task_ignore_result) == (1, True)
    assert conf.result_backend is None
    assert conf.broker_transport_options["global_keyprefix"] == BROKER_KEY_PREFIX


def test_every_queue_is_consumed_and_every_task_has_one(app: Any) -> None:
    """A worker started without -Q consumes all queues that tasks are sent to."""
    names = {value for name, value in vars(QueueName).items() if name.isupper()}
    tasks = {value for name, value in vars(TaskName).items() if name.isupper()}
    assert set(app.amqp.queues.consume_from) == names == set(QUEUES)
    assert set(QUEUE_OF_TASK) == tasks
    assert {task: found["queue"] for task, found in app.conf.task_routes.items()} == QUEUE_OF_TASK


def test_rule_18_queues_are_asked_most_urgent_first(app: Any) -> None:
    """Whatever order the transport hands them in, realtime is looked at before the others."""
    cycle = cycle_by_name(app.conf.broker_transport_options["queue_order_strategy"])()
    for handed_in in (set(QUEUES), sorted(QUEUES), sorted(QUEUES, reverse=True)):
        cycle.update(handed_in)
        assert cycle.consume(len(QUEUES)) == list(QUEUES)
        cycle.rotate(QUEUES[0])
        assert cycle.consume(2) == [QueueName.CONTROL, QueueName.ACCEPT]


def test_beat_ticks_once_a_second(app: Any) -> None:
    """One entry: the tick; it expires rather than piling up."""
    (entry,) = app.conf.beat_schedule.values()
    assert (entry["task"], entry["schedule"]) == (TaskName.TICK, TICK_SECONDS)
    assert TICK_SECONDS <= 1
    assert entry["options"]["expires"] <= 60


def test_tasks_take_a_partition_and_return_a_short_summary(
    deployment: Deployment,
) -> None:
    """What Flower shows of a task is its name, a number and counts; never a user."""
    deployment.put("a-secret-person", vip=True)
    script = (
        "import json, worker.tasks as t\n"
        "said = []\n"
        "for task in (t.accept, t.flush_realtime, t.flush_batched):\n"
        "    said.append((task.name, task(0)))\n"
        "said.append((t.tick.name, t.tick()))\n"
        "print(json.dumps(said))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=deployment.environment(log_level="ERROR"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert dict(said)[TaskName.ACCEPT] == {"envelopes": 1, "changes": 1}
    assert dict(said)[TaskName.FLUSH_REALTIME]["delivered"] == 1
    assert [name for name, _ in said] == [
        TaskName.ACCEPT,
        TaskName.FLUSH_REALTIME,
        TaskName.FLUSH_BATCHED,
        TaskName.TICK,
    ]
    assert len(done.stdout) < 500
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"redis_url": "", "data_dir": "nowhere"}, "No server is running in nowhere"),
        ({"redis_url": "redis://127.0.0.1:1/0"}, "cannot be reached"),
        ({"braze_endpoint": "US-99"}, "is not a Braze instance. Known: US-01"),
        ({"braze_endpoint": ""}, "Set PERSONA_SYNC_BRAZE_ENDPOINT"),
        ({"braze_api_key_file": None}, "Set PERSONA_SYNC_BRAZE_API_KEY"),
        ({"claim_lease": "1s"}, "PERSONA_SYNC_CLAIM_LEASE must be at least 1s longer"),
        ({"drain_budget": "soon"}, "PERSONA_SYNC_DRAIN_BUDGET"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_setting_ends_the_worker_with_one_plain_sentence(
    changes: dict[str, str | None], says: str, deployment: Deployment, start: Start
) -> None:
    """No traceback: what is wrong, and what would be right."""
    part = start("wrong", **changes)
    eventually(lambda: not part.is_running, 15, "the end of the worker")
    assert part.code != 0
    assert "persona-sync: " in part.said()
    assert says in part.said()
    assert "Traceback" not in part.said()


def test_worker_and_beat_deliver_end_to_end_and_stop_within_seconds_mid_load(
    deployment: Deployment, start: Start
) -> None:
    """SIGTERM in the middle of load: requests under way end, the rest waits for the next worker."""
    deployment.sandbox.configure(latency=[0.1, 0.2])
    worker, beat = start("first", threads=8), start(beat=True)
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers"), 15, "the worker")
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(4000)], rings=True)
    eventually(lambda: deployment.sandbox.report()["requests"] > 6, 10, "load")
    began = time.monotonic()
    worker.end()
    took = time.monotonic() - began
    assert took < 5
    assert not deployment.is_idle()
    assert deployment.client.zcard(key(0, "claims")) == 0
    assert deployment.client.zcard("ps1:{a}:workers") == 0
    deployment.assert_balanced()
    start("second", threads=8)
    eventually(deployment.is_idle, 20, "idleness")
    deployment.assert_right()
    assert deployment.sandbox.report()["values_unchanged"] == 0
    assert "Traceback" not in worker.said()
    beat.end()


def test_a_worker_outlives_a_server_that_may_not_write(
    deployment: Deployment, start: Start
) -> None:
    """A failover in which the server is a replica for a while, who is also the broker: the worker
    is not heard of, says so once, and goes on as before when it is over."""
    worker, beat = start(), start(beat=True)
    workers = "ps1:{a}:workers"
    eventually(lambda: deployment.client.zcard(workers), 15, "the worker")
    deployment.client.replicaof("127.0.0.1", "1")  # nobody is there
    try:
        eventually(lambda: "heartbeat_failed" in worker.said(), 10, "a beat that is refused")
        eventually(lambda: "connect and takes nothing" in worker.said(), 10, "a broker in trouble")
        eventually(lambda: "the tick is not sent" in beat.said(), 10, "a tick that is refused")
    finally:
        deployment.client.replicaof("NO", "ONE")
    eventually(lambda: "heartbeat_heard" in worker.said(), 10, "a beat that is taken")
    deployment.put("u", vip=True)
    eventually(lambda: deployment.sandbox.attributes("u") == {"vip": True}, 15, "the value")
    assert worker.said().count("heartbeat_failed") == 1
    # A line for each thing that it stopped, and no pages.
    assert "Traceback" not in worker.said() + beat.said()
    assert worker.is_running
    assert beat.is_running


def test_rule_18_realtime_is_delivered_soon_while_batched_holds_its_threads(
    deployment: Deployment, start: Start
) -> None:
    """A slow Braze and hundreds of batched users due: accept and realtime still find a thread."""
    part, _ = start("busy", threads=8, braze_objects_per_request="5"), start(beat=True)
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers"), 15, "the worker")
    deployment.sandbox.configure(latency=[0.25, 0.3])
    deployment.send(
        [deployment.change(f"u{n:04}", "nightly", True) for n in range(500)], rings=True
    )
    eventually(lambda: deployment.sandbox.report()["in_flight"] >= 2, 10, "batched load")
    delays = []
    for n in range(6):
        began = time.monotonic()
        deployment.send([deployment.change(f"r{n}", "vip", True)], rings=True)
        eventually(lambda n=n: deployment.sandbox.attributes(f"r{n}"), 10)
        delays.append(time.monotonic() - began)
    busy = deployment.client.zcard(key(0, "bt:ready"))
    print(f"realtime beside slow batched: {[round(delay, 2) for delay in delays]} s")
    assert busy > 0
    assert sorted(delays)[3] < 0.8
    assert max(delays) < 1.8
    deployment.sandbox.configure(latency=None)
    eventually(deployment.is_idle, 20, "idleness")
    deployment.assert_right()
    assert part.is_running


def test_rule_18_turned_away_task_is_rung_for_when_a_seat_is_free(
    deployment: Deployment,
) -> None:
    """A drain that found no seat is not forgotten: whoever leaves one rings for it."""
    script = (
        "import worker.tasks as t\n"
        "from worker.contract import TaskName\n"
        "rung = []\n"
        "t.engine().flow._ring_out = lambda task, partition: rung.append(task)\n"
        "bells = t.engine().stores.bells\n"
        "bells.take(TaskName.ACCEPT, 0)\n"
        "with t.seats.one(TaskName.ACCEPT, 0) as taken:\n"
        "    assert taken\n"
        "    assert t.accept(0) == {'seats': 'taken'}\n"
        "    assert t.flush_batched(0) == {'ended': 'empty'}\n"
        "    assert rung == []\n"
        "assert rung == [TaskName.ACCEPT], rung\n"
        "print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=deployment.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "fine" in done.stdout, done.stderr[-2000:]
