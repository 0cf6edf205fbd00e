"""`flush` and `resync` beside a flow in this process: one audience now, or all of it again."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.integration.flow.support import Deployment, Sandbox, Worker, eventually
from tests.integration.operators.conftest import Command
from worker.contract import key
from worker.stores.operators import Operators
from worker.stores.workers import this_process

HOURLY = """
lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 12h}}
audiences:
  - {key: nightly, cadence: batched}
  - {key: weekly, cadence: batched}
  - {key: vip}
"""
Working = Callable[[Worker], AbstractContextManager[None]]


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """A worker of a deployment whose boundaries are far away."""
    (deployment.folder / "audiences.yaml").write_text(HOURLY)
    return deployment.worker(batched_offset="3h")


@pytest.fixture
def working(deployment: Deployment) -> Working:
    """Has a worker do all that its queues would bring, and be heard of, as long as it lasts."""

    @contextmanager
    def work(worker: Worker) -> Iterator[None]:
        def once() -> None:
            worker.stores.workers.beat(this_process())
            worker.stores.workers.ticked()
            worker.step()

        once()
        with deployment.threads(once):
            yield

    return work


def put(deployment: Deployment, worker: Worker, count: int = 5, **values: object) -> None:
    """So many users with these values, applied."""
    for n in range(count):
        deployment.put(f"u{n}", **(values or {"nightly": True, "weekly": True}))
    worker.accept()


class TestFlush:
    def test_one_audience_is_brought_up_to_date(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """--wait ends when all is sent, and says what; the other audience keeps its boundary."""
        put(deployment, worker)
        with working(worker):
            done = command("flush", "nightly", "--wait", "--by", "ann", "--json")
        assert done.code == 0, done.out + done.err
        report = done.json
        assert (report["begun"], report["users"], report["left"]) == (True, 5, 0)
        assert (report["sent"], report["dead"], report["up_to_date"]) == (5, 0, True)
        assert report["in_the_way"] == []
        assert deployment.sandbox.profiles() == {f"u{n}": {"nightly": True} for n in range(5)}
        assert (
            deployment.client.zcard(key(0, "dirty:2")) + deployment.client.zcard(key(0, "dirty:1"))
            == 5
        )

    def test_for_people(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """Without --wait it says what will be sent; with it, what was."""
        put(deployment, worker)
        with working(worker):
            said = command("flush", "nightly").out
            assert said.startswith("nightly: 5 users to be sent now, which takes less than a")
            eventually(lambda: len(deployment.sandbox.profiles()) == 5, 10)
            said = command("flush", "weekly", "--wait").out
        assert said.startswith("weekly is up to date: 5 data points sent in ")

    def test_who_is_held_is_no_part_of_the_forecast(
        self, deployment: Deployment, working: Working, command: Command
    ) -> None:
        """Those who wait for a gap go later, and how much later is said."""
        (deployment.folder / "audiences.yaml").write_text(HOURLY)
        worker = deployment.worker(batched_offset="3h", same_attribute_gap="25s")
        put(deployment, worker)
        with working(worker):
            command("flush", "nightly", "--wait")
            put(deployment, worker, nightly=False)
            batched = command("flush", "nightly").out
            put(deployment, worker, vip=True)
            eventually(lambda: deployment.sandbox.attributes("u4").get("vip"))
            put(deployment, worker, vip=False)
            realtime = command("flush", "vip").out
        late = r"less than a second, and up to \d+ s for whom another value was sent just now\. "
        assert re.match(f"nightly: 5 users to be sent now, which takes {late}", batched)
        late = r"vip: 5 users held for a gap or a hold, to be sent by themselves within \d+ s\. "
        assert re.match(late, realtime)

    def test_nothing_waits(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """An audience that is up to date is said to be; nothing is begun."""
        put(deployment, worker, vip=True)
        deployment.drain(worker)
        with working(worker):
            done = command("flush", "vip", "--wait", "--json")
        assert (done.code, done.json["begun"], done.json["up_to_date"]) == (0, False, True)
        assert worker.stores.sweeps.read(0) == []

    def test_an_unknown_key_names_the_nearest(self, worker: Worker, command: Command) -> None:
        """For people a sentence, for programs a document; exit 1."""
        done = command("flush", "nightli")
        assert (done.code, done.out) == (1, "")
        assert "Did you mean nightly?" in done.err
        error = command("flush", "nightli", "--json").json["error"]
        assert (error["code"], error["near"]) == ("unknown_audience", ["nightly"])

    def test_without_a_worker_it_stands_and_says_so(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Nobody sends: exit 1, even with --wait; the flush is done as soon as somebody does."""
        put(deployment, worker)
        done = command("flush", "nightly", "--wait")
        assert done.code == 1
        assert "No worker is alive. Start one: `persona-sync up`." in done.out
        deployment.drain(worker)
        assert deployment.sandbox.profiles() == {f"u{n}": {"nightly": True} for n in range(5)}

    def test_paused_it_stands_and_says_so(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """Whose pause it is, and what lifts it; exit 1."""
        put(deployment, worker)
        command("pause", "--by", "bob", "--why", "tea")
        with working(worker):
            done = command("flush", "nightly", "--wait")
            assert done.code == 1
            assert "Braze is paused: operator: tea (by bob" in done.out
            assert "`persona-sync resume` lifts that." in done.out
            command("resume")
            eventually(lambda: len(deployment.sandbox.profiles()) == 5, 10)

    def test_over_budget_it_says_so(
        self, deployment: Deployment, working: Working, command: Command
    ) -> None:
        """Who is left is held until midnight; it does not wait for that."""
        (deployment.folder / "audiences.yaml").write_text(HOURLY)
        worker = deployment.worker(data_points_per_audience_per_day=2, batched_offset="3h")
        put(deployment, worker)
        with working(worker):
            done = command("flush", "nightly", "--wait", "--json")
        report = done.json
        assert (done.code, report["sent"], report["left"]) == (1, 2, 3)
        assert [one["code"] for one in report["in_the_way"]] == ["over_budget"]

    def test_who_was_refused_for_good_is_counted(
        self,
        deployment: Deployment,
        sandbox: Sandbox,
        worker: Worker,
        working: Working,
        command: Command,
    ) -> None:
        """It ends, with how many Braze refused; exit 1."""
        sandbox.fault("poison", match_user="u1", times=None)
        put(deployment, worker, 3)
        with working(worker):
            done = command("flush", "nightly", "--wait", "--json")
        report = done.json
        assert (done.code, report["sent"], report["dead"], report["left"]) == (1, 2, 1, 0)

    def test_it_is_written_down(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Who, what, why."""
        put(deployment, worker)
        command("flush", "nightly", "--by", "ann", "--why", "campaign")
        settings = deployment.settings()
        store = Operators(deployment.client, settings.same_attribute_gap, settings.journal_bytes)
        assert [(it.by, it.what, it.why) for it in store.actions()] == [
            ("ann", "flush nightly", "campaign")
        ]


class TestResync:
    def test_without_a_terminal_it_is_a_dry_run(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """What it costs, at the rate in force, and how to go on; nothing is changed."""
        put(deployment, worker, vip=True)
        deployment.drain(worker)
        report = command("resync", "vip", "--json", braze_requests_per_second="1").json
        assert report["begun"] is False
        cost = report["cost"]
        assert (cost["users"], cost["data_points"], cost["requests"]) == (5, 5, 1)
        assert (cost["requests_per_second"], cost["begins_at"]) == (100.0, None)
        done = command("resync", "vip")
        assert done.code == 0
        assert "add --yes" in done.out
        assert "data points  5; Braze bills each" in done.out
        assert worker.stores.sweeps.read(0) == []

    def test_all_of_an_audience_is_sent_again(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """--wait ends when all is sent."""
        put(deployment, worker, vip=True, nightly=True)
        with working(worker):
            assert command("flush", "nightly", "--wait").code == 0
            eventually(deployment.is_delivered)
            done = command("resync", "vip", "--yes", "--wait", "--by", "ann", "--json")
        assert done.code == 0, done.out + done.err
        report = done.json
        assert (report["done"], report["left"], report["by"]) == (True, 0, "ann")
        assert (report["sweep"]["changed"], report["sweep"]["data_points"]) == (5, 5)
        for n in range(5):
            assert deployment.sandbox.values(f"u{n}", "vip") == [True, True]
            assert deployment.sandbox.values(f"u{n}", "nightly") == [True]

    def test_a_batched_one_says_its_boundary(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """It goes out at the next boundary, which the cost names; --all asks nobody for a key."""
        put(deployment, worker, vip=True, nightly=True)
        with working(worker):
            command("flush", "nightly", "--wait")
            eventually(deployment.is_delivered)
            cost = command("resync", "nightly", "--json").json["cost"]
            assert cost["begins_at"].endswith((":00:00.000Z",))
            cost = command("resync", "--all", "--json").json["cost"]
        assert (cost["users"], cost["data_points"]) == (5, 10)

    def test_since_a_moment(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """Only what was acknowledged since then; nothing is nothing."""
        put(deployment, worker, vip=True)
        deployment.drain(worker)
        assert command("resync", "vip", "--since", "1h", "--json").json["cost"]["users"] == 5
        report = command("resync", "weekly", "--since", "1h", "--yes", "--json").json
        assert (report["cost"]["users"], report["begun"]) == (0, False)
        done = command("resync", "vip", "--since", "2100-01-01T00:00Z", "--yes")
        assert (done.code, "is still to come" in done.err) == (2, True)

    def test_wrong_use(self, worker: Worker, command: Command) -> None:
        """A key or --all, not both and not neither; a moment that is one; exit 2."""
        assert command("resync").code == 2
        assert command("resync", "vip", "--all").code == 2
        done = command("resync", "vip", "--since", "yesterday")
        assert (done.code, "2026-11-22T10:00Z" in done.err) == (2, True)
        assert command("resync", "vipp").code == 1

    def test_wrong_use_is_a_document_too(self, worker: Worker, command: Command) -> None:
        """With --json whatever is wrong is on standard output as one; exit 2 as without."""
        for wrong in (
            ("resync",), ("flush",), ("flush", "a", "b"), ("resync", "--nonsense"),
            ("audiences", "retire", "vip", "--set", "true"), ("resync", "vip", "--since", "soon"),
            ("audiences", "validate", "nofile.yaml"),
        ):  # fmt: skip
            done = command(*wrong, "--json")
            error = done.json["error"]
            assert (done.code, error["code"] in ("wrong_use", "no_file")) == (2, True), wrong
            assert error["reason"] in done.err.replace("Error: ", ""), wrong
            assert "Value error" not in done.out + done.err
