"""`audiences disable|enable|retire` beside a flow in this process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.integration.flow.support import Deployment, Worker, eventually
from tests.integration.operators.conftest import Command
from worker.audiences.registry import load_registry
from worker.stores.operators import Operators
from worker.stores.workers import this_process

Working = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


@pytest.fixture
def working(deployment: Deployment, worker: Worker) -> Working:
    """Has the worker do all that its queues would bring, and be heard of, as long as it lasts."""

    @contextmanager
    def work() -> Iterator[None]:
        def once() -> None:
            worker.stores.workers.beat(this_process())
            worker.stores.workers.ticked()
            worker.step()

        once()
        with deployment.threads(once):
            yield

    return work


def noted(deployment: Deployment) -> list[tuple[str, str, str]]:
    """What operators did: by, what, why; the newest first."""
    settings = deployment.settings()
    store = Operators(deployment.client, settings.same_attribute_gap, settings.journal_bytes)
    return [(it.by, it.what, it.why) for it in store.actions()]


class TestDisable:
    def test_recorded_and_not_sent_until_enabled(
        self, deployment: Deployment, working: Working, command: Command
    ) -> None:
        """Changes wait while it is disabled; enabling says how many are sent, and they are."""
        with working():
            done = command("audiences", "disable", "vip", "--by", "ann")
            assert (done.code, done.out) == (1, "")  # nobody has ever heard of it
            deployment.put("u0", vip=True)
            eventually(lambda: deployment.sandbox.attributes("u0"))
            report = command(
                "audiences", "disable", "vip", "--why", "wrong query", "--by", "ann", "--json"
            ).json
            assert (report["disabled"], report["in_force"], report["by"]) == (True, True, "ann")
            deployment.put("u0", vip=False)
            deployment.put("u1", vip=True, other=True)
            eventually(lambda: deployment.sandbox.attributes("u1") == {"other": True})
            done = command("flush", "vip")
            assert (done.code, "was disabled by ann (wrong query)" in done.err) == (1, True)
            assert "audiences enable vip" in done.err
            report = command("audiences", "enable", "vip", "--by", "bob", "--json").json
            assert (report["enabled"], report["users"]) == (True, 2)
            assert (report["was"]["by"], report["was"]["why"]) == ("ann", "wrong query")
            eventually(deployment.is_delivered)
        assert deployment.sandbox.attributes("u1") == {"other": True, "vip": True}
        assert noted(deployment) == [
            ("bob", "enable vip", ""), ("ann", "disable vip", "wrong query")
        ]  # fmt: skip

    def test_nothing_to_enable(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """No order: it is said, and exit 0; what the file disables is the file's, and exit 1."""
        done = command("audiences", "enable", "weekly")
        assert (done.code, "nothing to enable" in done.out) == (0, True)
        text = (deployment.folder / "audiences.yaml").read_text()
        declared = text.replace("key: weekly,", "key: weekly, enabled: false,")
        (deployment.folder / "audiences.yaml").write_text(declared)
        with working():
            eventually(lambda: worker.facts_named("registry_published"))
            done = command("audiences", "enable", "weekly")
            assert (done.code, "remove `enabled: false`" in done.out) == (1, True)

    def test_without_a_worker_it_is_not_in_force_yet(
        self, worker: Worker, command: Command
    ) -> None:
        """The order stands, and it is said that nobody has taken it up; exit 1, as of a flush."""
        done = command("audiences", "disable", "weekly")
        assert (done.code, "not in force yet" in done.out) == (1, True)
        worker.flow.recover()
        assert worker.stores.rulebook.read(0).rules.rule("weekly").enabled == 0

    def test_disabled_once_more_it_keeps_its_reason(
        self, worker: Worker, working: Working, command: Command
    ) -> None:
        """It is said that it was, by whom and why; only another reason takes the place of it."""
        with working():
            command("audiences", "disable", "weekly", "--why", "wrong query", "--by", "ann")
            done = command("audiences", "disable", "weekly", "--by", "bob")
            assert done.out.startswith("weekly was disabled already, by ann (wrong query), ")
            report = command("audiences", "disable", "weekly", "--by", "bob", "--json").json
            assert (report["already"], report["by"], report["why"]) == (True, "ann", "wrong query")
            report = command(
                "audiences", "disable", "weekly", "--why", "too many", "--by", "bob", "--json"
            ).json
            assert (report["by"], report["instead_of"]["why"]) == ("bob", "wrong query")
        assert worker.stores.publication.orders()["weekly"].why == "too many"

    def test_explain_and_trace_say_so(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """No next flush is promised of a disabled key, and no nothing where there is something."""
        with working():
            deployment.put("u", weekly=True)
            command("audiences", "disable", "weekly", "--why", "wrong query", "--by", "ann")
            eventually(lambda: deployment.ledger()["accepted"] == 1)
            found = command("audiences", "explain", "weekly", "--json").json
            assert (found["enabled"], found["next_flush_at"]) == (False, None)
            assert (found["disabled"]["by"], found["retired"]) == ("ann", None)
            said = command("audiences", "explain", "weekly").out
            assert said.startswith("weekly: batched; disabled by ann (wrong query), ")
            assert "disabled by ann (wrong query)\n" in command("trace", "u").out
            found = command("trace", "u", "--json").json["attributes"]["weekly"]
            assert (found["disabled"]["by"], found["retired"]) == ("ann", None)

    def test_no_sentence_changes_a_key(
        self, worker: Worker, working: Working, command: Command
    ) -> None:
        """Keys are told apart by case, so none is written with a capital that it does not have."""
        with working():
            command("audiences", "disable", "weekly", "--by", "ann")
            done = command("flush", "weekly")
        assert done.err.startswith("Nothing of weekly is sent: it was disabled by ann. ")
        assert "Weekly" not in done.err


class TestRetire:
    def test_a_trait_retires_at_null_only(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """False is no value of a number; nothing is ordered."""
        (deployment.folder / "audiences.yaml").write_text("traits: [{key: spend, kind: sql}]\n")
        registry = load_registry(deployment.folder / "audiences.yaml")
        text = (deployment.folder / "audiences.yaml").read_text()
        worker.stores.publication.publish(registry, text, "here")
        worker.stores.publication.catch_up(0)
        done = command("audiences", "retire", "spend", "--set", "false", "--yes")
        assert (done.code, "give --set null" in done.err) == (1, True)
        assert worker.stores.publication.orders() == {}

    def test_an_undeclared_one_is_explained(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Nobody declared it, and that it is closed is said all the same."""
        deployment.put("u0", stranger=True)
        deployment.drain(worker)
        args = ("--set", "null", "--yes", "--by", "ann", "--why", "over")
        command("audiences", "retire", "stranger", *args)
        done = command("audiences", "explain", "stranger")
        assert done.code == 0
        assert "retired at null by ann (over), " in done.out
        found = command("audiences", "explain", "stranger", "--json").json
        assert (found["retired"]["value"], found["retired"]["by"]) == ("null", "ann")

    def test_it_is_not_sent_again(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A resync of it is refused, with who closed it."""
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        command("audiences", "retire", "vip", "--set", "false", "--yes", "--by", "ann")
        done = command("resync", "vip", "--yes", "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "retired")
        assert [one.work for one in worker.stores.sweeps.read(0) if one.work == "resync"] == []

    def test_everybody_gets_the_value_and_the_key_is_closed(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """What it costs; then --wait until all is sent; later changes are skipped."""
        for n in range(6):
            deployment.put(f"u{n}", gone_is_null=n % 3 > 0)
        with working():
            eventually(deployment.is_delivered)
            report = command("audiences", "retire", "gone_is_null", "--set", "null", "--json").json
            assert (report["begun"], report["members"], report["former_members"]) == (False, 4, 2)
            assert (report["cost"]["users"], report["cost"]["data_points"]) == (4, 4)
            done = command(
                "audiences", "retire", "gone_is_null", "--set", "null", "--yes", "--wait",
                "--by", "ann", "--why", "over", "--json",
            )  # fmt: skip
            assert done.code == 0, done.out + done.err
            report = done.json
            assert (report["done"], report["left"], report["sweep"]["by"]) == (True, 0, "ann")
            deployment.put("u0", gone_is_null=True)
            eventually(lambda: deployment.ledger()["skipped"] == 1)
        assert not any("gone_is_null" in found for found in deployment.sandbox.profiles().values())
        assert noted(deployment) == [("ann", "retire gone_is_null at null", "over")]

    def test_called_again_it_shows_how_far_it_is(
        self, deployment: Deployment, worker: Worker, working: Working, command: Command
    ) -> None:
        """The same value: progress, and no second order. Another value is refused."""
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        command("audiences", "retire", "vip", "--set", "false", "--yes", "--by", "ann")
        done = command("audiences", "retire", "vip", "--set", "false", "--wait")
        assert (done.code, "No worker is alive" in done.out) == (1, True)
        with working():
            done = command("audiences", "retire", "vip", "--set", "false", "--wait", "--json")
        assert (done.code, done.json["done"], done.json["by"]) == (0, True, "ann")
        assert deployment.sandbox.attributes("u0") == {"vip": False}
        done = command("audiences", "retire", "vip", "--set", "null", "--yes")
        assert (done.code, "was retired at false by ann" in done.err) == (1, True)
        done = command("audiences", "disable", "vip", "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "retired")
        assert len(noted(deployment)) == 1

    def test_without_a_terminal_it_is_a_dry_run(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Members and former members, the cost, how to go on; nothing is ordered."""
        deployment.put("u0", vip=True)
        deployment.drain(worker)
        done = command("audiences", "retire", "vip", "--set", "false")
        assert done.code == 0
        assert "everybody who ever was in it gets false" in done.out
        assert "add --yes" in done.out
        assert worker.stores.publication.orders() == {}
