"""`status` and `check` tell what the workers run with, and not what their own shell says."""

import json
from datetime import timedelta
from typing import Any

from redis import Redis

from console.deployment import opened
from console.instants import iso
from tests.integration.flow.support import KEY, Deployment, Worker
from tests.integration.operators.conftest import Command
from worker.bootstrap import rules_of
from worker.stores.in_force import InForce
from worker.stores.keys import IN_FORCE, WORKERS
from worker.stores.workers import Workers, this_process


def start(deployment: Deployment, **changes: Any) -> Worker:
    """A worker that is heard of."""
    worker = deployment.worker(**changes)
    worker.stores.workers.beat(this_process())
    worker.stores.workers.ticked()
    return worker


class TestStatus:
    def test_the_budget_is_the_workers(self, deployment: Deployment, command: Command) -> None:
        """A shell without the setting shows the bound that holds; one with another, the same."""
        start(deployment, data_points_per_day=5_000, data_points_per_audience_per_day=300)
        for changes in ({}, {"data_points_per_day": "7"}):
            budget = command("status", "--json", **changes).json["budget"]
            assert (budget["per_day"], budget["per_audience"]) == (5_000, 300)

    def test_the_boundaries_are_the_workers(self, deployment: Deployment, command: Command) -> None:
        """A shell that has another audiences.yaml does not move them."""
        worker = start(deployment)
        elsewhere = deployment.folder / "elsewhere.yaml"
        elsewhere.write_text("lanes: {batched: {every: 1d}}")
        found = command("status", "--json", audiences=str(elsewhere)).json
        now = worker.stores.allowance.now_ms()
        assert found["lanes"]["batched"]["next_boundary"] <= iso_after(now)

    def test_it_says_whose_settings_they_are(
        self, deployment: Deployment, command: Command
    ) -> None:
        """The worker and when it started; nobody before the first start."""
        assert command("status", "--json").json["in_force"] is None
        start(deployment)
        found = command("status", "--json").json["in_force"]
        assert found["worker"] == this_process()
        assert found["since"].endswith("Z")

    def test_partitions_are_the_servers(self, deployment: Deployment, command: Command) -> None:
        """A shell that says another number still finds the user."""
        worker = start(deployment)
        deployment.put("u", vip=True)
        worker.step()
        assert command("trace", "u", partitions="7").code == 0


class TestDeployment:
    def test_the_workers_word_counts(self, deployment: Deployment) -> None:
        """Spans and numbers are those of the workers; before the first start, this shell's."""
        shell = deployment.settings(same_attribute_gap="1s", braze_objects_per_request=7)
        with opened(shell) as found:
            before = found.span("same_attribute_gap"), found.number("braze_objects_per_request")
        start(deployment, same_attribute_gap="9s", braze_objects_per_request=50)
        with opened(shell) as found:
            since = found.span("same_attribute_gap"), found.number("braze_objects_per_request")
        assert before == (timedelta(seconds=1), 7)
        assert since == (timedelta(seconds=9), 50)

    def test_a_deletion_is_remembered_as_the_workers_do(
        self, deployment: Deployment, command: Command
    ) -> None:
        """`forget` promises what will be so, whatever this shell says."""
        start(deployment, deletion_memory="7d", forward_deletes=False)
        changes = {"deletion_memory": "1d", "forward_deletes": "true"}
        said = command("forget", "u", "--yes", "--json", **changes).json
        assert (said["skipped_for"], said["forwarded"]) == ("7d", False)

    def test_a_file_of_the_same_meaning_is_no_other_one(
        self, deployment: Deployment, command: Command
    ) -> None:
        """The offset of the boundaries is the workers', too, when files are compared."""
        start(deployment, batched_offset="3h")
        file = deployment.folder / "audiences.yaml"
        file.write_text(f"# a remark\n{file.read_text()}")
        assert command("audiences", "list", batched_offset="1h").err == ""


def iso_after(now_ms: int) -> str:
    """A few seconds later: the boundaries of this deployment are a second apart."""
    return iso(now_ms + 3_000)


class TestCheck:
    def test_the_same_settings_are_fine(self, deployment: Deployment, command: Command) -> None:
        """The name of an instance and its URL are one and the same."""
        start(deployment)
        found = command("check", "--json").finding("settings_in_force")
        assert (found["ok"], found["todo"]) == (True, None)

    def test_a_shell_that_differs_is_told(self, deployment: Deployment, command: Command) -> None:
        """Which settings, which values here and there; a warning, since the workers are right."""
        start(deployment, data_points_per_day=5_000)
        done = command("check", "--json", braze_requests_per_second="7")
        found = done.finding("settings_in_force")
        assert (done.code, found["ok"]) == (0, True)
        assert "PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND is 7.0 here, 100.0 there" in found["detail"]
        assert "PERSONA_SYNC_DATA_POINTS_PER_DAY is not set here, 5000 there" in found["detail"]
        assert found["todo"]

    def test_workers_that_differ_are_bad(self, deployment: Deployment, command: Command) -> None:
        """Two that run with different settings: one of them is wrong."""
        worker = start(deployment)
        rules = rules_of(deployment.settings(braze_requests_per_second=3))
        other = InForce(deployment.client)
        other.publish("elsewhere:7", rules)
        worker.stores.workers.beat("elsewhere:7")
        done = command("check", "--json")
        found = done.finding("settings_in_force")
        assert (done.code, found["ok"]) == (1, False)
        assert "elsewhere:7" in found["detail"]
        assert "PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND is " in found["detail"]

    def test_a_wrong_endpoint_is_not_a_missing_one(
        self, deployment: Deployment, command: Command
    ) -> None:
        """What this shell says is told as wrong: it is set."""
        start(deployment)
        found = command("check", "--json", braze_endpoint="US-99").finding("settings_in_force")
        assert "PERSONA_SYNC_BRAZE_ENDPOINT is wrong here, http" in found["detail"]

    def test_shadow_mode_is_told(self, deployment: Deployment, command: Command) -> None:
        """That nothing is sent, and how to begin."""
        start(deployment, mode="shadow")
        done = command("check", "--json", mode="shadow")
        found = done.finding("mode")
        assert (done.code, found["ok"]) == (0, True)
        assert "nothing is sent" in found["detail"]
        assert "PERSONA_SYNC_ADOPT_SHADOW" in found["todo"]

    def test_live_is_nothing_to_look_at(self, deployment: Deployment, command: Command) -> None:
        """No bound and live: both are said, neither asks for anything."""
        start(deployment)
        done = command("check", "--json")
        assert [done.finding(name)["todo"] for name in ("mode", "budget")] == [None, None]
        assert "no bound" in done.finding("budget")["detail"]

    def test_a_spent_budget_is_told(self, deployment: Deployment, command: Command) -> None:
        """Who is held, how many, until when, and which setting to raise; not by one's own shell."""
        worker = start(deployment, data_points_per_audience_per_day=1)
        for user in ("a", "b", "c"):
            deployment.put(user, vip=True)
        deployment.drain(worker)
        found = command("check", "--json").finding("budget")
        assert found["ok"] is True
        assert found["detail"] == "the data points of today are spent for vip: 2 users held"
        assert "PERSONA_SYNC_DATA_POINTS_PER_AUDIENCE_PER_DAY" in found["todo"]

    def test_a_budget_with_room_is_told(self, deployment: Deployment, command: Command) -> None:
        """What is spent, of how much."""
        worker = start(deployment, data_points_per_day=1_000)
        deployment.put("a", vip=True)
        deployment.drain(worker)
        found = command("check", "--json").finding("budget")
        assert (found["detail"], found["todo"]) == ("1 data point today, of 1,000 in all", None)


class TestPublished:
    def test_no_secret_is_among_them(self, deployment: Deployment, client: Redis) -> None:
        """Only numbers, spans, switches, the mode and Braze's address are there."""
        start(
            deployment,
            braze_api_key="a-key-of-ours",
            notice_webhook="https://hooks.example/s3cret",
            shared_secret="s3cret-too",
            write_keys="web:s3cret-key",
        )
        ((name, packed),) = client.hgetall(IN_FORCE).items()
        assert name.decode() == this_process()
        text = packed.decode()
        secrets = ("s3cret", "a-key-of-ours", KEY, "test-password")
        assert not [word for word in secrets if word in text]
        settings = json.loads(text)["settings"]
        words = {name for name, value in settings.items() if isinstance(value, str)}
        assert {"mode", "braze_endpoint", "same_attribute_gap"} <= words
        assert not [name for name in settings if name.endswith("_file")]

    def test_those_long_gone_are_forgotten(self, client: Redis) -> None:
        """When another worker starts; the newest of those alive is in force."""
        store, workers = InForce(client), Workers(client)
        store.publish("a:1", {"mode": "live"})
        store.publish("b:1", {"mode": "live"})
        workers.beat("a:1")
        latest = store.latest()
        assert latest is not None
        assert (latest.worker, [it.worker for it in store.alive()]) == ("a:1", ["a:1"])
        age(client, "b:1")
        store.publish("c:1", {"mode": "live"})
        assert sorted(client.hkeys(IN_FORCE)) == [b"a:1", b"c:1"]

    def test_without_a_worker_alive_the_last_counts(self, client: Redis) -> None:
        """What they ran with is still what waits for them."""
        store = InForce(client)
        assert store.latest() is None
        store.publish("a:1", {"data_points_per_day": 5})
        latest = store.latest()
        assert latest is not None
        assert latest.settings == {"data_points_per_day": 5}
        assert client.zcard(WORKERS) == 0


def age(client: Redis, worker: str) -> None:
    """As if that worker had started ten minutes ago."""
    found = json.loads(client.hget(IN_FORCE, worker))
    found["at_ms"] -= 600_000
    client.hset(IN_FORCE, worker, json.dumps(found))
