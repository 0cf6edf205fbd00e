"""`trace` of a user whose messages the door did not take."""

from collections import Counter

import pytest

from producer.envelopes import Samples, refusals
from producer.messages import Refused, Skipped
from tests.integration.flow.support import Deployment, Worker
from tests.integration.operators.conftest import Command
from worker.contract import Refusal, Skip


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


def test_refused_and_skipped_ones_are_shown(
    deployment: Deployment, worker: Worker, command: Command
) -> None:
    """Each by its own word, with its code and where it stood; nobody else's."""
    samples = Samples()
    samples.add(Refused(Refusal.RESERVED_ATTRIBUTE, "u"), "r1:0")
    samples.add(Skipped(Skip.PLAIN_IDENTIFY, "u"), "r2:5")
    samples.add(Refused(Refusal.BAD_REQUEST, "v"), "r3:0")
    deployment.append(
        refusals(
            lambda partition: f"e{partition}",
            "web",
            Counter({"reserved_attribute": 1, "bad_request": 1}),
            Counter({"plain_identify": 1}),
            samples,
            1,
        )
    )
    worker.accept()
    journal = command("trace", "u", "--json").json["journal"]
    assert [(one["fact"], one["code"], one["where"]) for one in journal] == [
        ("refused", "reserved_attribute", "r1:0"),
        ("skipped", "plain_identify", "r2:5"),
    ]


def test_of_whom_nothing_is_known(deployment: Deployment, command: Command) -> None:
    """It says that it would not know of every refused message, and who does."""
    done = command("trace", "nobody")
    assert done.code == 1
    assert "samples" in done.out
    assert "answer" in done.out
