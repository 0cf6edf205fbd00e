"""/metrics of a real engine: complete, exact, quick when the server is away, without secrets."""

import math
import os
import signal
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric as Family
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain
from redis import Redis

from console.destination import as_shown
from producer.envelopes import Addressed
from tests.integration.conftest import PASSWORD, RealServer, free_port
from tests.integration.flow.support import KEY, Deployment, Part, Sandbox, Worker, eventually
from worker.bootstrap import make_engine
from worker.contract import Refusals
from worker.metric import OTHER, Layer
from worker.observe.metrics import METRICS, REGISTER
from worker.observe.process_metrics import DrainEnded
from worker.pipeline.schedule import Lane
from worker.stores.allowance import Destination

USER, AUDIENCE = "a-person-nobody-may-see", "an_audience_of_that_person"


@pytest.fixture(scope="module")
def module_sandbox() -> Iterator[Sandbox]:
    """One pretended Braze for all tests here."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def deployment(
    server: RealServer, client: Redis, module_sandbox: Sandbox, tmp_path: Path
) -> Iterator[Deployment]:
    """A deployment without workers yet."""
    module_sandbox.reset()
    made = Deployment(server, client, module_sandbox, tmp_path)
    yield made
    made.close()


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """An engine whose facts go where they do in a worker process."""
    worker = deployment.worker()
    worker.change_tools(record=worker.engine.record)
    return worker


class Exposition:
    """One scrape, as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Family] = {family.name: family for family in read_plain(text)}

    @property
    def ours(self) -> set[str]:
        """The names of our families, as they are registered."""
        return {
            name + ("_total" if family.type == "counter" else "")
            for name, family in self.families.items()
            if name.startswith("persona_sync_")
        }

    def value(self, name: str, **labels: str) -> float:
        """The value of one series. `name` without the prefix."""
        (found,) = self.series(name, **labels)
        return found[1]

    def series(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """All series of a sample name that have these labels."""
        return [
            (sample.labels, sample.value)
            for family in self.families.values()
            for sample in family.samples
            if sample.name == f"persona_sync_{name}" and labels.items() <= sample.labels.items()
        ]

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Values other than 0, by one label."""
        return {found[label]: value for found, value in self.series(name, **labels) if value}


def scrape(worker: Worker) -> Exposition:
    return Exposition(generate_latest(worker.engine.metrics.registry).decode())


def get(port: int) -> Exposition:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        assert reply.status == 200
        return Exposition(reply.read().decode())
    finally:
        connection.close()


def a_bit_of_everything(deployment: Deployment, worker: Worker) -> None:
    """Delivered, superseded, unchanged and dead changes, a retry, both lanes, the door."""
    sandbox = deployment.sandbox
    sandbox.configure(blocked_attributes=["forbidden"])
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(100)])
    deployment.put(USER, **{AUDIENCE: True}, nightly=True)
    deployment.send([deployment.change("u1", "vip", True), deployment.change("u2", "vip", False)])
    old = deployment.change("u3", "vip", False, event_at=1_000)
    deployment.send([old])
    deployment.append(
        [
            Addressed.of(
                Refusals(
                    id="r1",
                    refused={"broken_json": 2, f"code-of-{USER}": 3},
                    skipped={"no_user_id": 4},
                ),
                0,
            )
        ]
    )
    deployment.put_raw({"e": "{", "n": "0"})
    worker.accept()
    sandbox.fault("status", status=503, times=1)
    worker.stores.workers.beat("one")
    worker.stores.workers.ticked()
    deployment.drain(worker, batched=True)
    worker.engine.record(DrainEnded(task="persona_sync.accept", ended="done"))


def test_everything_registered_is_exposed_and_nothing_else(
    deployment: Deployment, worker: Worker
) -> None:
    """After a small run each registered metric is there, with its type, and no other of ours."""
    a_bit_of_everything(deployment, worker)
    found = scrape(worker)
    assert found.ours == set(REGISTER)
    for metric in METRICS:
        family = found.families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.meaning
        assert family.samples


def test_exact_counters_equal_the_ledger(deployment: Deployment, worker: Worker) -> None:
    """Each counter of the server is the server's own count, and the books balance."""
    a_bit_of_everything(deployment, worker)
    found, stores = scrape(worker), worker.stores
    balance, counts = stores.ledger.balance(1), stores.allowance.counts()
    assert found.value("changes_accepted_total") == balance.accepted == 105
    ends = found.by("changes_ended_total", "end")
    assert ends == {end: n for end, n in balance.ends.items() if n}
    assert {"delivered", "superseded"} <= set(ends)
    assert found.value("changes_pending") == balance.pending == 0
    assert found.value("data_points_total") == balance.values
    assert found.value("objects_delivered_total") == balance.objects
    assert found.value("values_resent_total") == balance.resent
    assert found.value("envelopes_dead_total") == balance.envelopes_dead == 1
    assert found.by("messages_refused_total", "code") == {"broken_json": 2, OTHER: 3}
    assert found.by("messages_skipped_total", "code") == {"no_user_id": 4}
    statuses = found.by("braze_requests_total", "status")
    assert statuses == {
        name.removeprefix("status:"): n for name, n in counts.items() if name.startswith("status:")
    }
    assert "503" in statuses
    assert sum(statuses.values()) == counts["requests"]
    assert sum(found.by("braze_replies_total", "course").values()) == counts["requests"]
    assert found.value("braze_objects_sent_total") == counts["objects"]
    assert found.value("dead_letters") == stores.dead_letters.size(0) == 1
    # One process did it all, so what it saw itself adds up to the same.
    assert sum(found.by("worker_requests_total", "outcome").values()) == counts["requests"]
    durations = found.series("worker_request_duration_seconds_count")
    assert sum(value for _, value in durations) == counts["requests"]
    assert found.by("worker_envelopes_total", "outcome") == {"applied": 4, "refused": 1}


def test_freshness_is_a_cumulative_histogram_of_all_delivered(
    deployment: Deployment, worker: Worker
) -> None:
    """Buckets ascend to the number of changes delivered, and hold what the percentiles say."""
    a_bit_of_everything(deployment, worker)
    found, ledger = scrape(worker), worker.stores.ledger
    total = 0.0
    for lane in Lane:
        buckets = [
            (float(labels["le"]), value)
            for labels, value in found.series("freshness_seconds_bucket", lane=lane)
        ]
        assert buckets == sorted(buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        count = found.value("freshness_seconds_count", lane=lane)
        assert buckets[-1] == (math.inf, count)
        total += count
        (median,) = ledger.freshness(1, lane, (0.5,))
        assert next(value for edge, value in buckets if edge >= median) >= count / 2
        assert 0 < found.value("freshness_seconds_sum", lane=lane) < 10 * count
    assert total == worker.stores.ledger.balance(1).ends["delivered"]


def test_gauges_show_who_waits(deployment: Deployment, worker: Worker) -> None:
    """Inbox, users by lane and state, age of the oldest: as they are at this moment."""
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(3)])
    deployment.put("u9", nightly=True)
    assert scrape(worker).value("inbox_entries") == 2
    worker.accept()
    found = scrape(worker)
    assert found.value("inbox_entries") == 0
    assert found.value("changes_pending") == 4
    realtime = found.by("lane_users", "state", lane="realtime")
    assert sum(realtime.values()) == 3
    assert set(realtime) <= {"waiting", "due"}
    assert sum(found.by("lane_users", "state", lane="batched").values()) == 1
    eventually(lambda: scrape(worker).value("oldest_ready_seconds", lane="realtime") > 0.05)
    claim = worker.stores.memberships.claim(0, Lane.REALTIME, "r1", "t", objects=75, size=10**6)
    assert len(claim.users) == 3
    found = scrape(worker)
    assert found.by("lane_users", "state", lane="realtime") == {"in_flight": 3}
    assert found.value("oldest_ready_seconds", lane="realtime") == 0


def test_workers_and_the_beat_are_seen(worker: Worker) -> None:
    """Without a tick its age is infinite, so that an alert on it fires."""
    found = scrape(worker)
    assert (found.value("workers_alive"), found.value("tick_age_seconds")) == (0, math.inf)
    worker.stores.workers.beat("one")
    worker.stores.workers.beat("two")
    worker.stores.workers.ticked()
    found = scrape(worker)
    assert found.value("workers_alive") == 2
    assert found.value("tick_age_seconds") < 5


def test_the_destination_is_seen(worker: Worker) -> None:
    """Exactly one state is 1; a stop is told from a pause that ends by itself."""

    def look() -> tuple[dict[str, float], float, float]:
        found = scrape(worker)
        return (
            found.by("destination_state", "state"),
            found.value("destination_stopped"),
            found.value("destination_paused_until_timestamp_seconds"),
        )

    assert look() == ({"connected": 1}, 0, 0)
    worker.stores.allowance.stop("valve")
    assert look() == ({"paused": 1}, 1, 0)
    worker.stores.allowance.resume()
    policy_wait = worker.tools.policy.lease
    worker.stores.allowance.pause(policy_wait, "rate_limited", narrow=False)
    state, stopped, until = look()
    assert (state, stopped) == ({"paused": 1}, 0)
    assert time.time() < until < time.time() + policy_wait.total_seconds() + 5


def test_a_shadow_is_seen(deployment: Deployment) -> None:
    """Nothing is sent to Braze from a shadow, so it is not connected; a pause of it is one."""
    worker = deployment.worker(mode="shadow")
    assert scrape(worker).by("destination_state", "state") == {"shadow": 1}
    worker.stores.allowance.stop("operator")
    assert scrape(worker).by("destination_state", "state") == {"paused": 1}


@pytest.mark.parametrize("mode", ["live", "shadow", "forgetting"])
@pytest.mark.parametrize("stop", [None, "valve", "operator"])
@pytest.mark.parametrize("width", [0, 1])
@pytest.mark.parametrize("failures", [0, 3])
@pytest.mark.parametrize("until", [0, 2_000])
@pytest.mark.parametrize("cap", [None, 10])
@pytest.mark.parametrize("left", [None, 0])
def test_metrics_and_status_say_the_same_word(
    mode: str, stop: str | None, width: int, failures: int, until: int, cap: int | None,
    left: int | None,
) -> None:  # fmt: skip
    """Whatever the destination, the metric's state is the one that `status` shows."""
    found: dict[str, Any] = {
        "stop": stop,
        "stopped_at_ms": None,
        "key_print": None,
        "next_probe_ms": 0,
        "until_ms": until,
        "reason": "a reason",
        "failures": failures,
        "last_reason": None,
        "width": width,
        "hint_left": left,
        "hint_reset_ms": 2_000,
        "most_objects": cap,
        "most_bytes": None,
    }
    destination = Destination(**found)
    assert destination.state(1_000, mode)[0] == as_shown(destination, mode, 1_000)["state"]


def test_who_is_held_for_the_budget_is_seen(deployment: Deployment) -> None:
    """They are in no lane: a metric of their own says where they are, beside the bounds."""
    worker = deployment.worker(data_points_per_audience_per_day=2)
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(5)])
    deployment.drain(worker)
    found = scrape(worker)
    assert found.value("changes_pending") == 3
    assert sum(value for _, value in found.series("lane_users")) == 0
    assert found.value("budget_held_users") == 3
    assert found.value("budget_data_points_today") == 2
    assert found.by("budget_data_points", "bound") == {"per_audience_per_day": 2}


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_the_mode_is_seen(deployment: Deployment, mode: str) -> None:
    """Exactly one mode is 1, so that an alert can say that nothing is sent."""
    assert scrape(deployment.worker(mode=mode)).by("mode", "mode") == {mode: 1}


def test_what_is_exposed_parses_in_both_forms(deployment: Deployment, worker: Worker) -> None:
    """Plain text and OpenMetrics, which is stricter, hold the same names."""
    a_bit_of_everything(deployment, worker)
    registry = worker.engine.metrics.registry
    plain = {family.name for family in read_plain(generate_latest(registry).decode())}
    text = generate_open(registry).decode()
    assert {family.name for family in read_open(text)} == plain


def test_series_stay_few_whatever_is_sent(deployment: Deployment, worker: Worker) -> None:
    """Many users, audiences and codes add no series."""
    a_bit_of_everything(deployment, worker)
    before = len(scrape(worker).text.splitlines())
    deployment.send([deployment.change(f"more{n}", f"audience_{n}", True) for n in range(200)])
    refused = {f"code_{n}": 1 for n in range(200)}
    deployment.append([Addressed.of(Refusals(id="r2", refused=refused), 0)])
    deployment.drain(worker)
    found = scrape(worker)
    assert len(found.text.splitlines()) == before
    for metric in METRICS:
        samples = found.families[metric.name.removesuffix("_total")].samples
        assert len(samples) <= metric.most_series


def test_audiences_are_told_apart(deployment: Deployment, worker: Worker) -> None:
    """Members, who is behind and since when, what was sent and saved; undeclared ones as one."""
    for n in range(4):
        deployment.put(f"u{n}", gone_is_null=n > 0, nightly=True, stranger=True)
    deployment.drain(worker, batched=True)
    worker.stores.publication.disable("nightly", "ann")
    worker.flow.recover()
    deployment.put("u0", nightly=False)
    worker.accept()
    found = scrape(worker)

    def of(name: str, audience: str) -> float:
        return found.value(f"audience_{name}", audience=audience)

    assert [of("members", key) for key in ("gone_is_null", "nightly", "other")] == [3, 3, 4]
    assert [of("pending_users", key) for key in ("gone_is_null", "nightly")] == [0, 1]
    assert (
        of("oldest_pending_seconds", "gone_is_null") == 0 < of("oldest_pending_seconds", "nightly")
    )
    assert [of("data_points_total", key) for key in ("gone_is_null", "nightly")] == [4, 4]
    assert (found.value("registry_refused"), found.value("sweeps_unfinished")) == (0, 0)


def test_a_refused_registry_and_work_under_way_show(deployment: Deployment, worker: Worker) -> None:
    """A file that cannot be taken up, and a resync that nobody has done yet."""
    deployment.put("u", vip=True)
    deployment.drain(worker)
    worker.stores.sweeps.resync(0, "vip", "ann")
    file = deployment.folder / "audiences.yaml"
    file.write_text("audiences: [{kye: vip}]\n")
    os.utime(file, (time.time() - 10, time.time() - 10))
    worker.flow.recover()
    worker.flow.recover()
    found = scrape(worker)
    assert (found.value("registry_refused"), found.value("sweeps_unfinished")) == (1, 1)


def test_rule_24_no_secret_and_no_person_is_exposed(deployment: Deployment, worker: Worker) -> None:
    """No key, password, user, undeclared audience or place of the server is in what Prometheus
    reads."""
    a_bit_of_everything(deployment, worker)
    text = scrape(worker).text
    for secret in (USER, AUDIENCE, KEY, PASSWORD, deployment.server.url, "vip"):
        assert secret not in text


def test_a_server_that_is_away_is_said_quickly(
    deployment: Deployment, module_sandbox: Sandbox, tmp_path: Path
) -> None:
    """Killed or frozen, it costs a scrape a few seconds; the process' own metrics are there, and
    the server's are back when it is."""
    folder = tmp_path / "server"
    folder.mkdir()
    own = RealServer(folder)
    own.start()
    port = free_port()
    settings = deployment.settings(redis_url=own.url, metrics_bind=f"127.0.0.1:{port}")
    engine = make_engine(settings, lambda task, partition: None)
    assert engine.endpoint is not None
    engine.endpoint.start()
    mine = {metric.name for metric in METRICS if metric.layer is Layer.PROCESS}
    try:
        assert get(port).value("server_up") == 1
        assert own.process is not None
        own.process.send_signal(signal.SIGSTOP)
        for is_frozen in (True, False):
            began = time.monotonic()
            found = get(port)
            assert time.monotonic() - began < 5
            assert found.ours == {"persona_sync_server_up"} | mine
            assert found.value("server_up") == 0
            if is_frozen:
                own.process.send_signal(signal.SIGCONT)
                own.end(signal.SIGKILL)
        own.start()
        found = get(port)
        assert found.value("server_up") == 1
        # Which statuses Braze answers with is not known before it does.
        assert set(REGISTER) - found.ours == {"persona_sync_braze_requests_total"}
    finally:
        engine.close()
        own.process.send_signal(signal.SIGCONT)
        own.end(signal.SIGKILL)


def test_two_workers_at_one_port_are_harmless(deployment: Deployment) -> None:
    """Real worker processes: the second lives on without the port, and says what to do; each
    scrape of the first has the exact counters, and drains are counted by why they ended."""
    port = free_port()
    bind = {"metrics_bind": f"127.0.0.1:{port}"}
    first = Part.worker(deployment, "first", **bind)
    beat = Part.beat(deployment)
    second = None
    try:
        eventually(lambda: "metrics_served" in first.said(), 15, "the first worker's endpoint")
        second = Part.worker(deployment, "second", **bind)
        eventually(
            lambda: second and deployment.client.zcard("ps1:{a}:workers") == 2, 15, "both workers"
        )
        assert "metrics_not_served" in second.said()
        assert "PERSONA_SYNC_METRICS_BIND" in second.said()
        deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(50)], rings=True)
        eventually(deployment.is_delivered, 15, "delivery")
        found = get(port)
        assert found.ours == set(REGISTER)
        assert found.by("changes_ended_total", "end") == {"delivered": 50}
        assert found.value("workers_alive") == 2
        eventually(lambda: get(port).by("worker_drains_total", "end", task="tick"), 10, "a tick")
        first.end()
        assert first.code == 0
        assert "Traceback" not in first.said() + second.said()
        assert second.is_running
    finally:
        for part in (first, beat, second):
            if part:
                part.stop()
