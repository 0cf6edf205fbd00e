"""Story (rule 21): everybody is to be sent something, and in the middle of it the worker is killed
and the server restarts. It is gone on with; everybody gets it once, and its progress is true."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ServerAway

from producer.envelopes import Addressed
from tests.integration.flow.support import Deployment, Part, eventually
from worker.contract import Changes, key, ledger_key
from worker.pipeline.rules import Work
from worker.stores.publication import Publication
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts
from worker.stores.sweeps import Sweep, Sweeps
from worker.stores.terms import Terms

Start = Callable[..., Part]
WORKS = [Work.RESYNC, Work.RETIRE]


@pytest.fixture(autouse=True)
def _one_audience(deployment: Deployment) -> None:
    lanes = "lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 1h}}"
    entry = "{key: vip, cadence: realtime}"
    (deployment.folder / "audiences.yaml").write_text(f"{lanes}\naudiences: [{entry}]\n")


def become_members(deployment: Deployment, many: int) -> None:
    """Users whose membership Braze is said to hold already, so that nothing is sent of them."""
    worker = deployment.worker()
    for first in range(0, many, 500):
        users = range(first, min(first + 500, many))
        changes = [deployment.change(f"u{n}", "vip", True) for n in users]
        envelope = Changes(id=f"held{first}", acknowledged=True, changes=changes)
        deployment.append([Addressed.of(envelope, 0)])
        worker.accept()
    assert deployment.is_delivered()
    assert deployment.sandbox.report()["values"] == 0


def begin(deployment: Deployment, work: Work) -> None:
    """An operator has all of them sent again, or retires the audience."""
    if work is Work.RESYNC:
        assert Sweeps(Scripts(deployment.client), Terms(journal_bytes=10**9)).resync(0, "vip", "me")
        return
    scripts = Scripts(deployment.client)
    Publication(scripts, Rulebook(scripts)).retire("vip", "false", "me")
    for values in deployment.meant.values():
        values["vip"] = False


class Progress:
    """Looks at a sweep again and again, and holds it to what it said before."""

    def __init__(self, deployment: Deployment, work: Work, many: int) -> None:
        self._deployment = deployment
        self._sweeps = Sweeps(Scripts(deployment.client), Terms())
        self._work = work
        self._many = many
        self._before: Sweep | None = None
        self.runs: set[str] = set()

    def look(self) -> Sweep | None:
        """The sweep as it is now; None before it has begun."""
        now = next((one for one in self._sweeps.read(0) if one.work is self._work), None)
        if now is None:
            return None
        with self._deployment.client.pipeline(transaction=True) as together:
            together.zcard(key(0, f"dirty:{now.id}"))
            together.hget(ledger_key(0), "values")
            pending, sent = together.execute()
        assert now.changed <= pending + int(sent or 0), "it is not ahead of what it has done"
        assert now.changed == now.points <= self._many
        if now.done_ms is not None:
            assert now.changed == self._many, "done before everybody was"
        if self._before is not None:
            assert now.changed >= self._before.changed
            assert now.users >= self._before.users or now.run != self._before.run
        self._before = now
        self.runs.add(now.run)
        return now

    def has_come_to(self, users: int) -> bool:
        """So many have been changed, and it is not done."""
        now = self.look()
        return now is not None and now.changed >= users

    def is_done(self) -> bool:
        """Everybody has been gone through."""
        now = self.look()
        return now is not None and now.done_ms is not None


def live_through(deployment: Deployment, start: Start, work: Work, many: int, **terms: str) -> None:
    """The worker is killed after a fifth, the server after that; another worker comes."""
    become_members(deployment, many)
    terms = {"journal_bytes": "1000000000", **terms}
    began = time.monotonic()
    start(beat=True)
    first = start("first", **terms)
    begin(deployment, work)
    progress = Progress(deployment, work, many)
    eventually(lambda: progress.has_come_to(many // 5), 60, "a fifth")
    first.end(signal.SIGKILL)
    assert not progress.is_done(), "interrupted in the middle"
    deployment.server.end(signal.SIGKILL)
    deployment.server.start()
    deployment.client.connection_pool.disconnect()
    assert not progress.is_done(), "the server kept how far it had come"
    start("second", **terms)
    eventually(progress.is_done, 240, "the end of the sweep")
    eventually(deployment.is_delivered, 240, "the last request")
    print(f"{work} of {many} users took {time.monotonic() - began:.1f} s, with the restarts")
    assert len(progress.runs) >= 2
    assert_everybody_got_it_once(deployment, many)


def assert_everybody_got_it_once(deployment: Deployment, many: int) -> None:
    """Acknowledged once for each; received more often only in requests of unknown end."""
    deployment.assert_right()
    deployment.assert_balanced()
    assert len(deployment.sandbox.profiles()) == many
    ledger, received = deployment.ledger(), deployment.sandbox.report()["values"]
    assert (ledger["values"], ledger["resent"]) == (many, many)
    twice, unknown = received - many, deployment.unknown_values().total()
    print(f"{twice} values received twice, {unknown} were in requests of unknown end")
    assert 0 <= twice <= unknown


@pytest.mark.parametrize("work", WORKS)
def test_rule_21_everybody_once_through_kill_and_restart(
    deployment: Deployment, start: Start, work: Work
) -> None:
    """Three thousand members, ten in a step."""
    live_through(deployment, start, work, 3_000, sweep_users="10")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("work", WORKS)
def test_rule_21_a_hundred_thousand_once_through_kill_and_restart(
    deployment: Deployment, start: Start, work: Work
) -> None:
    """A hundred thousand members, with the usual steps."""
    live_through(deployment, start, work, 100_000)


def run_of(deployment: Deployment) -> str:
    """Which run of the server this is."""
    return str(deployment.client.info("server")["run_id"])


class RestartsOnce:
    """A client of a server that restarts after it was asked for users, before they are done."""

    def __init__(self, client: Any, restart: Callable[[], None], after: int) -> None:
        self._client = client
        self._restart = restart
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pipeline(self, **options: Any) -> Any:
        """As the client's; the restart comes after one of them."""
        pipeline = self._client.pipeline(**options)
        execute = pipeline.execute

        def then_restart() -> Any:
            found = execute()
            self._left -= 1
            if self._left == 0:
                self._restart()
            return found

        pipeline.execute = then_restart
        return pipeline


@pytest.mark.parametrize("after", [1, 3, 10])
def test_rule_21_a_restart_between_the_look_and_the_step(
    deployment: Deployment, after: int
) -> None:
    """Users of the run before are done, and the next look begins anew: nobody is passed over."""
    become_members(deployment, 500)
    worker, run = deployment.worker(sweep_users="40"), run_of(deployment)

    def restart() -> None:
        deployment.server.end(signal.SIGKILL)
        deployment.server.start()
        deployment.client.connection_pool.disconnect()

    sweeps = worker.stores.sweeps
    sweeps._client = RestartsOnce(sweeps._client, restart, after)
    begin(deployment, Work.RESYNC)
    progress = Progress(deployment, Work.RESYNC, 500)

    def is_done() -> bool:
        with suppress(ServerAway):
            worker.step()
        return progress.is_done() and deployment.is_delivered()

    eventually(is_done, 10, "the end of the sweep")
    assert run_of(deployment) != run
    assert progress.runs == {run_of(deployment)}
    assert_everybody_got_it_once(deployment, 500)
