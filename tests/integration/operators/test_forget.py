"""`forget`, and what `trace`, `status`, `dead-letters` and `resume` say of deletions."""

import os
from pathlib import Path

import pytest
from redis import Redis

from tests.integration.flow.support import Deployment, Worker, eventually
from tests.integration.operators.conftest import Command, run
from worker.contract import inbox_key
from worker.stores.operators import Operators

USER = "someone@example.org"


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """A worker that has Braze delete profiles, too."""
    return deployment.worker(forward_deletes=True)


def ask_braze(worker: Worker) -> None:
    """Work until Braze has been asked for everybody."""

    def is_done() -> bool:
        worker.step()
        worker.flow.forward_deletes(0)
        return worker.stores.forwards.waiting(1) == 0

    eventually(is_done, 10, "the deletion")


class TestForget:
    def test_rule_22_trace_says_that_the_user_was_deleted(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Since when, and until when changes are skipped; in text and as JSON."""
        deployment.put(USER, vip=True)
        deployment.drain(worker)
        deployment.meant.clear()
        done = command("forget", USER, "--yes", "--json", forward_deletes="true")
        assert (done.code, done.json["accepted"], done.json["forwarded"]) == (0, True, True)
        assert done.json["skipped_for"] == "30d"
        assert USER not in done.json["envelope"]
        worker.accept()
        report = command("trace", USER, "--json")
        assert (report.code, report.json["attributes"]) == (0, {})
        assert report.json["deletion"]["waits_for_braze"]
        assert report.json["deletion"]["at"] < report.json["deletion"]["skipped_until"]
        ask_braze(worker)
        deployment.put(USER, vip=False)
        deployment.meant.clear()
        worker.accept()
        found = command("trace", USER, "--json").json
        assert not found["deletion"]["waits_for_braze"]
        assert [item["fact"] for item in found["journal"]] == ["deleted", "skipped"]
        said = command("trace", USER)
        assert said.code == 0
        assert f"User {USER} was deleted at {found['deletion']['at']}" in said.out
        assert f"changes are skipped until {found['deletion']['skipped_until']}" in said.out
        assert command("trace", "another").code == 1
        assert deployment.sandbox.profiles() == {}

    def test_status_counts_deletions(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Nothing is said before the first; then how many, and what waits for what."""
        assert "deleted " not in command("status").out
        deployment.sandbox.configure(permissions=["users.track"])
        command("forget", USER, "--yes")
        worker.accept()
        worker.flow.recover()
        worker.flow.forward_deletes(0)
        found = command("status", "--json").json["deletions"]
        assert (found["users"], found["suppressed"], found["erasing"]) == (1, 1, 0)
        assert (found["forwarded"], found["waiting"]) == (0, 1)
        assert found["braze"]["reason"] == "forbidden_plan_or_key_permission"
        said = command("status").out
        why = "the key or the plan does not allow it (403)"
        assert f"0 taken by Braze, 1 waiting (paused: {why})" in said
        deployment.sandbox.configure(permissions=["users.track", "users.delete"])
        done = command("resume", "--json").json
        assert (done["resumed"], done["deletes_resumed"]) == (False, True)
        ask_braze(worker)
        assert command("status", "--json").json["deletions"]["forwarded"] == 1

    def test_refused_deletion_is_listed_and_replayed(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A dead letter of its own kind; its replay asks Braze again."""
        deployment.sandbox.fault(
            "status", path="/users/delete", status=400, body={"message": "no such thing"}
        )
        command("forget", USER, "--yes")
        worker.accept()
        ask_braze(worker)
        (letter,) = command("dead-letters", "list", "--json").json["letters"]
        assert (letter["kind"], letter["user"]) == ("deletion", USER)
        assert " the profile " in command("dead-letters", "list").out
        dry = command("dead-letters", "replay", "--dry-run", "--json").json
        assert (dry["matched"], dry["kinds"]["deletion"]) == (1, 1)
        done = command("dead-letters", "replay")
        assert done.code == 0
        assert "Braze is asked again to delete 1 profile." in done.out
        assert worker.stores.forwards.waiting(1) == 1
        ask_braze(worker)
        assert worker.stores.forwards.taken(1) == 1

    def test_who_did_it_is_written_down(
        self, deployment: Deployment, command: Command, client: Redis
    ) -> None:
        """By name, beside the envelope; whom it was about is not."""
        said = command("forget", USER, "-y", "--by", "ann", "--json").json
        settings = deployment.settings()
        operators = Operators(client, settings.same_attribute_gap, settings.journal_bytes)
        (action,) = operators.actions()
        assert said["by"] == "ann"
        assert (action.by, action.what, action.why) == ("ann", "forget", said["envelope"])
        assert action.letters == ()

    def test_nobody_to_ask_wants_yes(self, deployment: Deployment, command: Command) -> None:
        """Without a terminal nothing is deleted by accident."""
        done = command("forget", USER)
        assert (done.code, "--yes" in done.err) == (2, True)
        assert deployment.client.xlen(inbox_key(0)) == 0

    @pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
    def test_at_a_terminal_it_asks(
        self, deployment: Deployment, tmp_path: Path, answer: str, code: int
    ) -> None:
        """It says what it would do; a no is exit 1, and with --json a document, too."""
        ours, theirs = os.openpty()
        os.write(ours, f"{answer}\n".encode())
        try:
            done = run(deployment.environment(), tmp_path, "forget", USER, "--json", stdin=theirs)
        finally:
            os.close(ours)
            os.close(theirs)
        assert "changes are skipped for 30d.\nDelete? [y/N]" in done.err
        assert (done.code, deployment.client.xlen(inbox_key(0))) == (code, 1 - code)
        assert code == 0 or done.json["error"]["code"] == "not_confirmed"

    @pytest.mark.parametrize("user", ["", "x" * 988])
    def test_impossible_ids_are_wrong_use(self, command: Command, user: str) -> None:
        """What no user can be called is not sent."""
        assert command("forget", user, "--yes").code == 2
