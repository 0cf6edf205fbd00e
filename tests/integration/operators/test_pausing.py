"""`pause` and `resume` beside a flow in this process."""

import pytest
from redis import Redis

from tests.integration.flow.support import KEY, Deployment, Sandbox, Worker, eventually
from tests.integration.operators.conftest import OTHER_KEY, Command
from worker.stores.keys import DEST
from worker.stores.operators import Operators


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


def operators(deployment: Deployment) -> Operators:
    """Reads what operators did."""
    settings = deployment.settings()
    return Operators(deployment.client, settings.same_attribute_gap, settings.journal_bytes)


class TestPause:
    def test_nothing_is_sent_until_resume(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Paused, changes are accepted and none is sent, whatever a tick does; then all are."""
        done = command("pause", "--why", "moving house", "--by", "ann")
        assert (done.code, "Paused" in done.out) == (0, True)
        deployment.put("u", vip=True)
        worker.step()
        assert worker.flow.recover().probed == ""
        assert deployment.sandbox.report()["requests"] == 0
        assert deployment.ledger()["accepted"] == 1
        assert command("resume").code == 0
        deployment.drain(worker)
        deployment.assert_right()

    def test_status_says_who_why_and_since_when(
        self, deployment: Deployment, command: Command
    ) -> None:
        """The reason begins with `operator`, and tells the whole story."""
        report = command("pause", "--why", "moving house", "--by", "ann", "--json").json
        found = command("status", "--json").json["destination"]
        assert found["state"] == "paused"
        assert found["reason"] == f"operator: moving house (by ann, since {report['since']})"
        assert report == {
            "paused": True,
            "by": "ann",
            "why": "moving house",
            "since": report["since"],
            "instead_of": None,
        }

    def test_without_a_name_it_is_the_login(self, deployment: Deployment, command: Command) -> None:
        """Somebody is always named: login@machine."""
        assert "@" in command("pause", "--json").json["by"]

    def test_who_and_why_are_one_bounded_line(
        self, deployment: Deployment, command: Command
    ) -> None:
        """Whatever is typed, what is shown later is one printable line."""
        report = command("pause", "--by", "a\x1b[31mnn", "--why", "x\ny " * 200, "--json").json
        assert report["by"] == "a [31mnn"
        assert len(report["why"]) == 200
        assert "\n" not in report["why"]

    def test_a_second_pause_says_what_it_replaces(
        self, deployment: Deployment, command: Command
    ) -> None:
        """The last one to pause is the one who is named."""
        command("pause", "--by", "ann", "--why", "first")
        report = command("pause", "--by", "bob", "--json").json
        assert (report["instead_of"]["by"], report["instead_of"]["why"]) == ("ann", "first")
        assert "by bob" in command("status", "--json").json["destination"]["reason"]

    def test_each_action_is_written_down(self, deployment: Deployment, command: Command) -> None:
        """The journal holds who did what, the newest first."""
        command("pause", "--by", "ann", "--why", "tea")
        command("resume", "--by", "bob")
        found = [(it.by, it.what, it.why) for it in operators(deployment).actions()]
        assert found == [("bob", "resume", "operator"), ("ann", "pause", "tea")]

    def test_the_journal_knows_its_size(self, deployment: Deployment, command: Command) -> None:
        """A note counts into the journal's bound, as every other entry does."""
        command("pause", "--by", "ann", "--why", "tea")
        entries = deployment.client.xrange("ps1:{0}:journal")
        size = int(deployment.client.get("ps1:{0}:journal:size"))
        assert size == sum(len(fields[b"b"]) for _, fields in entries)


class TestResume:
    def test_not_paused(self, deployment: Deployment, command: Command) -> None:
        """Nothing to resume is no failure, and is said; nothing is written down."""
        done = command("resume", "--json")
        assert (done.code, done.json["resumed"], done.json["cleared"]) == (0, False, None)
        assert "nothing to resume" in command("resume").out
        assert list(operators(deployment).actions()) == []

    def test_it_says_what_it_clears(self, deployment: Deployment, command: Command) -> None:
        """Whose pause it was, and why."""
        command("pause", "--by", "ann", "--why", "tea")
        cleared = command("resume", "--by", "bob", "--json").json["cleared"]
        assert (cleared["stop"], cleared["by"], cleared["why"]) == ("operator", "ann", "tea")

    def test_what_braze_asked_for_stands(self, deployment: Deployment, command: Command) -> None:
        """A resume lifts our own stop, never a wait that Braze asked for."""
        worker = deployment.worker()
        later = worker.stores.allowance.now_ms() + 60_000
        deployment.client.hset(DEST, mapping={"until": later, "reason": "rate_limited"})
        command("pause", "--by", "ann")
        report = command("resume", "--json").json
        assert (report["resumed"], report["state"], report["reason"]) == (
            True,
            "paused",
            "rate_limited",
        )
        assert not worker.stores.allowance.may_go()

    def test_the_valve_is_cleared(self, deployment: Deployment, command: Command) -> None:
        """A flood of refusals stops everything; a resume clears the valve, and its counts."""
        worker = deployment.worker(valve_verdicts=40, braze_objects_per_request=20)
        deployment.send([deployment.change(f"u{n:03}", "$bad", True) for n in range(100)])
        worker.accept()
        eventually(lambda: worker.flush().ended == "stopped", 5, "the valve")
        assert command("status", "--json").json["destination"]["reason"] == "valve"
        dead = deployment.ledger()["dead"]
        report = command("resume", "--by", "ann", "--json").json
        assert report["cleared"]["stop"] == "valve"
        assert worker.stores.allowance.may_go()
        # With its counts gone, fewer verdicts than it needs do not trip it at once.
        assert worker.flush().dead > 0
        assert deployment.ledger()["dead"] > dead

    def test_who_was_told_of_a_stop_is_told_of_its_end(
        self, deployment: Deployment, sandbox: Sandbox, command: Command
    ) -> None:
        """After a resume by hand `status` says since when the notice of the stop is over."""
        worker = deployment.worker()
        sandbox.configure(keys=[OTHER_KEY])
        deployment.put("u", vip=True)
        worker.accept()
        worker.flush()
        worker.engine.record(worker.facts_named("destination_stopped")[0])
        worker.flow.recover()
        stop = command("status", "--json").json["notices"][0]
        assert (stop["kind"], stop["over"]) == ("destination_stopped", False)
        assert " - over" not in command("status").out
        command("resume", "--by", "ann")
        end, stop = command("status", "--json").json["notices"][:2]
        assert end["text"] == "Braze is sent to again: resumed by ann."
        assert (stop["over"], stop["over_since"]) == (True, end["at"])
        assert f" - over since {end['at']}" in command("status").out

    def test_refused_credentials(
        self, deployment: Deployment, sandbox: Sandbox, command: Command
    ) -> None:
        """A resume lifts the stop; while the key is still wrong the next request sets it again."""
        worker = deployment.worker()
        sandbox.configure(keys=[OTHER_KEY])
        deployment.put("u", vip=True)
        worker.accept()
        worker.flush()
        report = command("resume", "--json").json
        assert report["cleared"]["stop"] == "invalid_key_or_wrong_instance"
        worker.flush()
        assert worker.stores.allowance.destination().stop == "invalid_key_or_wrong_instance"
        sandbox.configure(keys=[KEY])
        command("resume")
        deployment.drain(worker)
        deployment.assert_right()

    def test_a_probe_does_not_lift_an_operators_pause(
        self, deployment: Deployment, sandbox: Sandbox, command: Command, client: Redis
    ) -> None:
        """Who pauses while a probe is under way stays paused, though the probe succeeds."""
        worker = deployment.worker()
        worker.stores.allowance.stop("invalid_key_or_wrong_instance")
        braze = worker.tools.braze

        class Slow:
            track = braze.track

            def probe(self) -> object:
                command("pause", "--by", "ann")
                return braze.probe()

        worker.change_tools(braze=Slow())
        worker.flow.recover()
        assert worker.stores.allowance.destination().stop == "operator"
