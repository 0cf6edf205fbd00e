"""Story (rule 13): the server comes back as it was some moments ago, as after a crash without
`always`, or a failover to a replica that lagged."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as ServerAway

from tests.integration.conftest import RealServer
from tests.integration.flow.support import TOTAL, Deployment, Part, Worker, eventually
from worker.contract import key
from worker.pipeline.schedule import Lane
from worker.stores.keys import SERVER

Start = Callable[..., Part]


class Moment:
    """What the server had on disk at one time."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        self._server = server
        self._copy = folder
        shutil.copytree(server.folder, folder)

    def come_back(self) -> None:
        """Kill the server, and start it as it was; nothing after the moment ever happened."""
        self._server.end(signal.SIGKILL)
        shutil.rmtree(self._server.folder)
        shutil.copytree(self._copy, self._server.folder)
        self._server.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    """A server of the test's own: it is put back in time."""
    (tmp_path / "data").mkdir()
    server = RealServer(tmp_path / "data")
    server.start()
    yield server
    server.end()


@pytest.fixture
def client(server: RealServer) -> Iterator[Redis]:
    """A client of it."""
    with server.client() as client:
        yield client


@pytest.fixture
def moment(server: RealServer, tmp_path: Path) -> Callable[[], Moment]:
    """Keeps the present moment."""
    return lambda: Moment(server, tmp_path / "moment")


@pytest.fixture
def seen(deployment: Deployment, worker: Worker) -> Deployment:
    """Everybody starts as false, acknowledged."""
    deployment.put("u", vip=False)
    deployment.drain(worker)
    return deployment


def replaced(worker: Worker) -> list[tuple[bool, int]]:
    """Of each change of servers that a worker told: whether it had all wait, values forgotten."""
    return [(bool(fact.seconds), fact.forgotten) for fact in worker.facts_named("server_replaced")]


def flush_through(worker: Worker, problems: list[BaseException]) -> None:
    """One drain; that the server goes away in the middle of it is part of the story."""
    try:
        worker.flush()
    except ServerAway:
        pass
    except BaseException as error:  # noqa: BLE001 - told to the test
        problems.append(error)


def test_rule_13_flip_back_after_a_forgotten_acknowledgement_ends_right(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """Without the rule the old value would count as what Braze holds, for ever."""
    seen.put("u", vip=True)
    worker.accept()
    before = moment()
    seen.drain(worker)
    assert seen.sandbox.attributes("u") == {"vip": True}
    before.come_back()
    seen.put("u", vip=False)
    seen.drain(worker)
    assert seen.sandbox.values("u", "vip") == [False, True, False]
    seen.assert_right()
    assert replaced(worker) == [(True, 1)]


def test_rule_13_forgotten_change_is_forgotten_in_braze_too(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """A change that the server lost with its delivery: Braze is brought to what the server says."""
    before = moment()
    seen.put("u", vip=True)
    seen.drain(worker)
    before.come_back()
    seen.drain(worker)
    eventually(lambda: replaced(worker), 3, "the comparison")
    seen.drain(worker)
    seen.meant["u"]["vip"] = False
    seen.assert_right()


def test_rule_13_what_was_not_forgotten_is_not_sent_again(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """A server that kept everything costs a pause, and no data point."""
    seen.put("u", vip=True)
    seen.drain(worker)
    moment().come_back()
    seen.put("v", vip=True)
    seen.drain(worker)
    assert seen.sandbox.values("u", "vip") == [False, True]
    assert replaced(worker) == [(True, 0)]
    assert seen.ledger()["resent"] == 0


def test_rule_13_nobody_claims_for_one_total(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """Whoever meets the new server first has all others wait, too, once for each server."""
    other = seen.worker()
    seen.put("u", vip=True)
    worker.accept()
    moment().come_back()
    assert worker.flush().ended == "quiet"
    left_ms = seen.client.pttl(key(0, "quiet"))
    assert 0 < left_ms <= TOTAL * 1000
    assert other.flush().ended == "quiet"
    assert not worker.stores.memberships.claim(
        0, Lane.REALTIME, "c", "t", objects=9, size=999
    ).users
    assert [replaced(each) for each in (worker, other)] == [[(True, 0)], [(False, 0)]]
    assert seen.sandbox.values("u", "vip") == [False]
    seen.drain(other)
    seen.assert_right()


def test_rule_13_a_mere_reconnect_changes_nothing(seen: Deployment, worker: Worker) -> None:
    """The same server over a new connection: nobody waits, nothing is compared."""
    seen.client.client_kill_filter(_type="normal", skipme=True)
    seen.put("u", vip=True)
    worker.accept()
    assert worker.flush().delivered == 1
    assert not seen.client.exists(key(0, "quiet"))
    assert replaced(worker) == []


def test_rule_13_request_under_way_while_the_server_forgets_its_claim(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """What was sent for a claim that nobody remembers is unknown, whatever the reply says."""
    seen.put("u", vip=True)
    worker.accept()
    before = moment()
    seen.sandbox.configure(latency=[0.3, 0.3])
    problems: list[BaseException] = []
    flushing = threading.Thread(target=flush_through, args=(worker, problems), daemon=True)
    flushing.start()
    eventually(lambda: seen.client.zcard(key(0, "claims")), 3, "a claim")
    before.come_back()
    flushing.join(10)
    seen.sandbox.configure(latency=None)
    assert not problems
    assert not seen.client.zcard(key(0, "claims"))
    seen.put("u", vip=False)
    seen.drain(worker)
    assert seen.sandbox.values("u", "vip") == [False, True, False]
    seen.assert_right()


def test_rule_13_each_worker_tells_what_it_sent(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """Two workers, each with a value of its own; the last one that was sent counts."""
    other = seen.worker()
    before = moment()
    for teller, user in ((worker, "a"), (other, "b")):
        seen.put(user, vip=True)
        seen.put("u", tier=user)
        seen.drain(teller)
    before.come_back()
    for user in ("a", "b"):
        seen.put(user, vip=False)
    seen.put("u", tier="c")
    eventually(lambda: worker.step() or replaced(worker), 3, "the comparison")
    seen.drain(other)
    seen.drain(worker)
    seen.assert_right()


def test_rule_13_names_are_learned_anew(
    seen: Deployment, worker: Worker, moment: Callable[[], Moment]
) -> None:
    """An attribute that the server forgot may have given its short id to another one."""
    before = moment()
    seen.put("u", gold=True)
    seen.drain(worker)
    before.come_back()
    seen.put("v", silver=True)
    seen.drain(worker)
    assert seen.sandbox.attributes("v") == {"silver": True}


def test_rule_13_a_start_on_a_server_that_keeps_everything_does_not_wait(
    seen: Deployment, moment: Callable[[], Moment]
) -> None:
    """A deployment that is stopped and started, server and all, sends at once."""
    moment().come_back()
    late = seen.worker()
    seen.put("u", vip=True)
    late.accept()
    assert late.flush().delivered == 1


def test_rule_13_a_start_on_a_server_that_may_forget_waits(
    seen: Deployment, moment: Callable[[], Moment]
) -> None:
    """The worker that sent the last requests may have been killed with the server."""
    moment().come_back()
    with seen.server.client() as plain:
        plain.config_set("appendfsync", "everysec")
    late = seen.worker()
    late.flow.recollect()
    assert replaced(late) == [(True, 0)]
    assert late.flush().ended == "quiet"
    late.flow.recollect()
    assert len(replaced(late)) == 1


def test_rule_13_an_empty_server_is_waited_for_too(seen: Deployment, worker: Worker) -> None:
    """A server that forgot everything knows no state to compare with; nothing is made up."""
    seen.server.end(signal.SIGKILL)
    shutil.rmtree(seen.server.folder)
    seen.server.folder.mkdir()
    seen.server.start()
    worker.stores.workers.beat("w")
    worker.flow.recollect()
    assert replaced(worker) == [(True, 0)]
    assert seen.client.exists(key(0, "quiet"), SERVER) == 2
    assert not seen.client.exists(key(0, "u:u"))


def test_rule_13_worker_processes_tell_by_themselves(
    deployment: Deployment, start: Start, moment: Callable[[], Moment]
) -> None:
    """A worker that has nothing else to do compares with its heartbeat."""
    first = start("w0")
    deployment.put("u", vip=False)
    start(beat=True)
    eventually(lambda: deployment.sandbox.attributes("u") == {"vip": False}, 20, "the first value")
    eventually(deployment.is_delivered, 5, "idleness")
    before = moment()
    deployment.put("u", vip=True)
    eventually(lambda: deployment.sandbox.attributes("u") == {"vip": True}, 20, "the second")
    eventually(deployment.is_delivered, 5, "idleness")
    before.come_back()
    deployment.meant["u"]["vip"] = False
    eventually(lambda: deployment.sandbox.attributes("u") == {"vip": False}, 20, "the first again")
    assert "server_replaced" in first.said()
