"""Story (rule 21): a worker is frozen while the registry changes, and goes on with what it knew."""

import signal
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from tests.faults.late import Late
from tests.integration.flow.support import Deployment, Part, Worker, eventually

Start = Callable[..., Part]
USERS = [f"u{n}" for n in range(30)]


def named(folder: Path, attribute: str) -> Path:
    """A file in which `vip` is sent under this name."""
    file = folder / f"{attribute}.yaml"
    lanes = "lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 1h}}"
    entry = f"{{key: vip, cadence: realtime, attribute: {attribute}}}"
    file.write_text(f"{lanes}\naudiences: [{entry}]\n")
    return file


def say(deployment: Deployment, users: Iterable[str], value: bool) -> None:
    """A change of each user."""
    deployment.send([deployment.change(user, "vip", value) for user in users])


def all_hold(deployment: Deployment, name: str, value: bool) -> Callable[[], bool]:
    """Whether everybody's profile has this value under this name."""

    def look() -> bool:
        profiles = deployment.sandbox.profiles()
        return all(profiles.get(user, {}).get(name) == value for user in USERS)

    return look


def test_rule_21_a_frozen_process_never_sends_under_a_name_that_is_over(
    deployment: Deployment, start: Start
) -> None:
    """It wakes with the names of before, alone; its claim is refused, and it sends by the new."""
    names = ["vip", "second", "third", "fourth"]
    frozen = start("frozen", audiences=str(named(deployment.folder, "vip")))
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 1, 20, "the worker")
    start(beat=True)
    say(deployment, USERS, True)
    eventually(all_hold(deployment, "vip", True), 10, "the first name")
    eventually(deployment.is_idle, 5, "idleness")
    for before, after in pairwise(names):
        frozen.send_signal(signal.SIGSTOP)
        # The start of this worker publishes its file; it sends all under the new name.
        other = deployment.worker(audiences=named(deployment.folder, after))
        eventually(lambda other=other: other.step() or is_over(deployment, other), 10, "the sweep")
        value = deployment.meant["u0"]["vip"]
        assert all_hold(deployment, after, value)()
        received = deployment.sandbox.report()["attributes"][before]
        # It applies what is said next, too: what the thawed one does first is to claim.
        say(deployment, USERS, not value)
        other.accept()
        frozen.send_signal(signal.SIGCONT)
        eventually(all_hold(deployment, after, not value), 10, "the value of the thawed")
        eventually(deployment.is_idle, 5, "idleness")
        assert deployment.sandbox.report()["attributes"][before] == received
    assert deployment.sandbox.report()["values"] == deployment.ledger()["values"]
    assert "Traceback" not in frozen.said()


def is_over(deployment: Deployment, worker: Worker) -> bool:
    """Nothing waits, and no sweep is left."""
    return deployment.is_idle() and not worker.stores.sweeps.unfinished(0)


def test_rule_21_a_request_frozen_while_it_is_sent_is_made_good_under_the_new_name(
    deployment: Deployment,
) -> None:
    """It comes late, under the old name; its claim is gone by then, and the new name is right."""
    worker = deployment.worker(audiences=named(deployment.folder, "vip"))

    def meanwhile() -> None:
        other = deployment.worker(audiences=named(deployment.folder, "seg_vip"))
        deployment.put("u", vip=False)
        sent = lambda: deployment.sandbox.attributes("u") == {"seg_vip": False}  # noqa: E731
        eventually(lambda: other.step() or sent(), 10, "the new name")

    worker.change_tools(braze=Late(worker.engine.braze, meanwhile))
    deployment.put("u", vip=True)
    worker.accept()
    eventually(lambda: worker.flush().requests, 3, "a request")
    assert worker.facts_named("claim_gone")
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"vip": True, "seg_vip": False}
    deployment.put("u", vip=True)
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"vip": True, "seg_vip": True}
