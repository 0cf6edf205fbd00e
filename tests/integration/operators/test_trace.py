"""`trace`: what is told of one user's values, for people and for programs."""

import re
from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Worker
from tests.integration.operators.conftest import Command


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


def traced(command: Command, user: str = "u") -> dict[str, Any]:
    """The user's document."""
    return dict(command("trace", user, "--json").json)


class TestAcknowledged:
    def test_nobody_knows_is_not_a_value(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """What nobody knows is null and a flag; the text "unknown" is a value like any other."""
        deployment.put("u", plan="unknown")
        worker.accept()
        before = traced(command)["attributes"]["plan"]
        assert (before["acknowledged"], before["acknowledged_known"]) == (None, False)
        assert re.search(r'"unknown" +\S+Z +unknown ', command("trace", "u").out)
        deployment.drain(worker)
        after = traced(command)["attributes"]["plan"]
        assert (after["acknowledged"], after["acknowledged_known"]) == ("unknown", True)
        assert re.search(r'"unknown" +\S+Z +"unknown" ', command("trace", "u").out)

    def test_a_removed_attribute_is_known_to_be_null(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A null that Braze took is told from one that says nothing."""
        deployment.put("u", gone_is_null=True)
        deployment.drain(worker)
        deployment.put("u", gone_is_null=False)
        deployment.drain(worker)
        found = traced(command)["attributes"]["gone_is_null"]
        assert (found["acknowledged"], found["acknowledged_known"]) == (None, True)


class TestNext:
    def test_while_paused_it_says_so(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A value that is due and held back shows why, not a moment that has passed."""
        command("pause", "--why", "tea", "--by", "ann")
        deployment.put("u", vip=True)
        worker.accept()
        found = traced(command)
        while not found["attributes"]["vip"]["is_due"]:
            found = traced(command)
        assert found["destination"]["state"] == "paused"
        assert "due; Braze is paused: operator: tea (by ann, since" in command("trace", "u").out
        command("resume")
        assert "due now" in command("trace", "u").out


class TestJournal:
    def test_its_columns_stand(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """However long a fact's name is, what follows begins in one column."""
        deployment.sandbox.fault("poison", match_user="u", named=True, times=None)
        deployment.put("u", vip=True)
        deployment.drain(worker)
        command("dead-letters", "replay")
        lines = command("trace", "u").out.partition("journal")[2].splitlines()[1:]
        assert any("replay of a dead letter" in line for line in lines)
        assert len({line.index("{") for line in lines}) == 1
