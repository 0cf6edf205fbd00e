"""`check` against everything that can be wrong; each failure is really provoked."""

import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from console.checks.everything import check_everything
from console.cli import SUBCOMMANDS
from tests.integration.conftest import RealServer, free_port
from tests.integration.flow.support import KEY, Deployment, Sandbox, Worker
from tests.integration.operators.conftest import OTHER_KEY, PROXY_PASSWORD, Command
from worker.contract import key
from worker.stores.keys import DEST, PARTITIONS_KEY, TICKS
from worker.stores.workers import this_process


@pytest.fixture
def running(worker: Worker) -> Worker:
    """A worker and a beat that have just been heard of."""
    worker.stores.workers.beat(this_process())
    worker.stores.workers.ticked()
    return worker


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


def closed() -> str:
    """A place where nobody listens."""
    return f"127.0.0.1:{free_port()}"


class TestAllFine:
    def test_nothing_is_bad_and_everything_was_looked_at(
        self, running: Worker, command: Command
    ) -> None:
        """A healthy deployment exits 0, with a finding for each thing, in the shape promised."""
        done = command("check", "--json")
        assert [item for item in done.json if item["ok"] is not True] == []
        assert done.code == 0
        assert all(set(item) == {"check", "ok", "detail", "todo"} for item in done.json)

    def test_people_are_told_the_same(self, running: Worker, command: Command) -> None:
        """The table has a line for each thing, and a summary."""
        done = command("check")
        assert done.code == 0
        assert "server_persistence" in done.out
        assert "BAD" not in done.out

    def test_nothing_is_changed(self, running: Worker, command: Command, client: Redis) -> None:
        """Looking writes one key that is gone after a second, and nothing to Braze."""
        before = set(client.scan_iter())
        command("check", "--json")
        assert set(client.scan_iter()) - before <= {b"ps1:{a}:check"}
        assert running.stores.allowance.counts() == {}


class TestBraze:
    def test_wrong_key(self, running: Worker, command: Command, tmp_path: Path) -> None:
        """A key that Braze does not know: key and instance are both named, the key is not shown."""
        file = tmp_path / "wrong"
        file.write_text(OTHER_KEY)
        done = command("check", "--json", braze_api_key_file=str(file))
        found = done.finding("braze_key")
        assert (done.code, found["ok"], done.finding("braze")["ok"]) == (1, False, True)
        assert "PERSONA_SYNC_BRAZE_API_KEY" in found["todo"]
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in found["todo"]

    def test_wrong_instance(self, running: Worker, command: Command, elsewhere: Sandbox) -> None:
        """A good key at another instance looks the same, so that both are named."""
        found = command("check", "--json", braze_endpoint=elsewhere.url).finding("braze_key")
        assert found["ok"] is False
        assert "another instance" in found["todo"]

    def test_no_permission(self, running: Worker, command: Command, sandbox: Sandbox) -> None:
        """A key without users.track: the permission is named."""
        sandbox.configure(permissions=["users.export.ids"])
        found = command("check", "--json").finding("braze_key")
        assert found["ok"] is False
        assert "users.track" in found["todo"]

    def test_reading_back_is_optional(
        self, running: Worker, command: Command, sandbox: Sandbox
    ) -> None:
        """Without the permissions to read, all is well but for a word on `seed`."""
        sandbox.configure(permissions=["users.track"])
        done = command("check", "--json")
        found = done.finding("braze_read_back")
        assert (done.code, found["ok"]) == (0, True)
        assert "`seed`" in found["todo"]
        named = re.findall(r"`(\w+)`", found["detail"] + found["todo"])
        assert set(named) <= SUBCOMMANDS.keys()

    def test_no_network(self, running: Worker, command: Command) -> None:
        """Nobody listens there: the place and the setting are named, the rest is not guessed."""
        place = closed()
        done = command("check", "--json", braze_endpoint=f"http://{place}")
        found = done.finding("braze")
        assert (done.code, found["ok"]) == (1, False)
        assert found["detail"] == f"connect: Braze at {place} refuses connections"
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in found["todo"]
        assert done.finding("braze_key")["ok"] is None

    def test_name_is_not_known(self, running: Worker, command: Command) -> None:
        """A name that no server has is told from a server that is away."""
        found = command("check", "--json", braze_endpoint="https://rest.invalid").finding("braze")
        assert found["ok"] is False
        assert found["detail"].startswith("DNS: ")

    def test_no_tls(self, running: Worker, command: Command, sandbox: Sandbox) -> None:
        """A server that speaks no TLS is told from one that is away."""
        endpoint = sandbox.url.replace("http://", "https://")
        found = command("check", "--json", braze_endpoint=endpoint).finding("braze")
        assert found["ok"] is False
        assert found["detail"].startswith("TLS: ")

    def test_proxy_is_away(self, running: Worker, command: Command) -> None:
        """It is the proxy that is away, not Braze; its password is not shown."""
        proxy = f"http://me:{PROXY_PASSWORD}@{closed()}"
        found = command("check", "--json", braze_proxy=proxy).finding("braze")
        assert found["ok"] is False
        assert "PERSONA_SYNC_BRAZE_PROXY" in found["todo"]

    def test_proxy_refuses(self, running: Worker, command: Command) -> None:
        """A proxy that wants a login says so."""
        with answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as place:
            done = command("check", "--json", braze_proxy=f"http://{place}", braze_endpoint="US-01")
        found = done.finding("braze")
        assert found["ok"] is False
        assert "refuses the login" in found["detail"]

    @pytest.mark.parametrize("status", [404, 302])
    def test_wrong_address(
        self, running: Worker, command: Command, sandbox: Sandbox, status: int
    ) -> None:
        """Something answers that is not Braze's API: the endpoint is named."""
        sandbox.fault("status", status=status)
        done = command("check", "--json")
        found = done.finding("braze")
        assert (done.code, found["ok"]) == (1, False)
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in found["todo"]

    def test_another_kind_of_server(
        self, running: Worker, command: Command, sandbox: Sandbox
    ) -> None:
        """A 400 that does not talk as Braze does is no proof of a good key."""
        sandbox.fault("status", status=400, body={"message": "what?"})
        done = command("check", "--json")
        assert done.finding("braze")["ok"] is False
        assert done.finding("braze_key")["ok"] is None

    def test_a_server_that_says_yes_to_everything(
        self, running: Worker, command: Command, sandbox: Sandbox
    ) -> None:
        """A 200 that does not talk as Braze does is another server, not Braze in trouble."""
        sandbox.fault("status", status=200, body={"ok": True})
        found = command("check", "--json").finding("braze")
        assert found["ok"] is False
        assert "this is not Braze" in found["detail"]
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in found["todo"]

    def test_trouble_and_limits_are_told_apart(
        self, running: Worker, command: Command, sandbox: Sandbox
    ) -> None:
        """A 503 is bad news about Braze; a 429 only means that the key could not be looked at."""
        sandbox.fault("status", status=503)
        assert command("check", "--json").finding("braze")["ok"] is False
        sandbox.fault("status", status=429)
        done = command("check", "--json")
        assert (done.code, done.finding("braze_key")["ok"]) == (0, None)

    def test_clock(self, running: Worker, command: Command, sandbox: Sandbox) -> None:
        """Braze's Date two minutes ahead is found, with the difference."""
        sandbox.configure(clock_skew_s=120)
        found = command("check", "--json").finding("braze_clock")
        assert found["ok"] is False
        assert "ahead" in found["detail"]
        assert "NTP" in found["todo"]


class TestServer:
    def test_nobody_there(self, deployment: Deployment, command: Command) -> None:
        """No server: it is named without its password, and what needs it was not looked at."""
        place = closed()
        done = command("check", "--json", redis_url=f"redis://:test-password@{place}/0")
        assert (done.code, done.finding("server")["ok"]) == (1, False)
        assert done.finding("server")["detail"] == f"{place} refuses connections"
        assert done.finding("broker")["ok"] is None
        assert done.finding("workers")["ok"] is None
        assert done.finding("braze_key")["ok"] is True

    def test_wrong_password(self, deployment: Deployment, command: Command) -> None:
        """A refused login is told from a server that is away."""
        url = f"redis://:proxy-password@127.0.0.1:{deployment.server.port}/0"
        found = command("check", "--json", redis_url=url).finding("server")
        assert found["ok"] is False
        assert "login" in found["detail"]

    def test_read_only(self, own_server: RealServer, command: Command) -> None:
        """A replica takes no writes, however well it answers."""
        with own_server.client() as client:
            client.config_set("replica-read-only", "yes")
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        done = command("check", "--json", redis_url=own_server.url)
        found = done.finding("server_writable")
        assert (done.code, found["ok"]) == (1, False)
        assert "read-only replica" in found["detail"]
        assert "primary" in found["todo"]

    def test_too_few_replicas(self, own_server: RealServer, command: Command) -> None:
        """A primary that waits for its replicas takes no writes either."""
        with own_server.client() as client:
            client.config_set("min-replicas-to-write", 1)
        found = command("check", "--json", redis_url=own_server.url).finding("server_writable")
        assert found["ok"] is False
        assert "min-replicas-to-write" in found["todo"]

    def test_user_without_rights(self, own_server: RealServer, command: Command) -> None:
        """A user that may not run scripts is found before the first script fails."""
        with own_server.client() as client:
            client.acl_setuser(
                "weak", enabled=True, passwords=["+proxy-password"], keys=["*"],
                commands=["+@all", "-@scripting"],
            )  # fmt: skip
        url = f"redis://weak:proxy-password@127.0.0.1:{own_server.port}/0"
        found = command("check", "--json", redis_url=url).finding("server_writable")
        assert found["ok"] is False
        assert "ACL" in found["todo"]

    @pytest.mark.parametrize(
        ("missing", "check"),
        [
            (["-ping"], "server"),
            (["-info", "-config"], "server_version"),
            (["-set"], "server_writable"),
        ],
        ids=["ping", "info", "set"],
    )
    def test_a_missing_right_is_no_wrong_password(
        self, own_server: RealServer, command: Command, missing: list[str], check: str
    ) -> None:
        """The login is taken; what its user lacks is bad, with the rights to give, and hides
        nothing else that can be looked at."""
        done = command("check", "--json", redis_url=with_rights(own_server, "~*", "&*", *missing))
        found = done.finding(check)
        assert (done.code, found["ok"]) == (1, False)
        assert "refuses the login" not in found["detail"]
        assert "~ps1:* &* +@all -@dangerous +info" in found["todo"]
        if check == "server_version":
            assert done.finding("server_persistence")["ok"] is None
            for other in ("server_writable", "server_clock", "partitions"):
                assert done.finding(other)["ok"] is True

    def test_celery_needs_channels(self, own_server: RealServer, command: Command) -> None:
        """Without them workers are not heard, however well keys can be written."""
        url = with_rights(own_server, "~ps1:*", "&ps1:*", "-@dangerous", "+info")
        found = command("check", "--json", redis_url=url).finding("server_writable")
        assert (found["ok"], "&*" in found["todo"]) == (False, True)

    def test_the_rights_that_are_named_are_enough(
        self, own_server: RealServer, command: Command
    ) -> None:
        """With those, nothing of the server is bad."""
        url = with_rights(own_server, "~ps1:*", "&*", "-@dangerous", "+info")
        done = command("check", "--json", redis_url=url)
        named = [
            it for it in done.json if it["check"].startswith("server") or it["check"] == "broker"
        ]
        assert {item["ok"] for item in named} == {True}

    def test_evicting(self, own_server: RealServer, command: Command) -> None:
        """A server that throws keys away is none to keep accepted changes in."""
        with own_server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        done = command("check", "--json", redis_url=own_server.url)
        found = done.finding("server_eviction")
        assert (done.code, found["ok"]) == (1, False)
        assert "noeviction" in found["todo"]

    def test_full(self, own_server: RealServer, command: Command) -> None:
        """Memory above the mark at which senders are refused is bad news."""
        with own_server.client() as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", int(used * 1.05))
        found = command("check", "--json", redis_url=own_server.url).finding("server_memory")
        assert found["ok"] is False
        assert "maxmemory" in found["todo"]

    def test_not_durable(self, own_server: RealServer, command: Command) -> None:
        """Without the append-only file a restart loses what was accepted."""
        with own_server.client() as client:
            client.config_set("appendonly", "no")
        found = command("check", "--json", redis_url=own_server.url).finding("server_persistence")
        assert found["ok"] is False

    def test_a_second_may_be_lost(self, own_server: RealServer, command: Command) -> None:
        """`everysec` is a warning that says what may be lost."""
        with own_server.client() as client:
            client.config_set("appendfsync", "everysec")
        found = command("check", "--json", redis_url=own_server.url).finding("server_persistence")
        assert found["ok"] is True
        assert "second" in found["detail"]
        assert "appendfsync always" in found["todo"]

    def test_too_old(self, deployment: Deployment, command: Command) -> None:
        """Redis 6.2 is named with its version, and everything else is still looked at."""
        with old_server() as place:
            done = command("check", "--json", redis_url=f"redis://{place}/0")
        found = done.finding("server_version")
        assert (done.code, found["ok"]) == (1, False)
        assert "6.2.0" in found["detail"]
        assert "7.0" in found["todo"]
        assert done.finding("braze_key")["ok"] is True

    def test_older_still(self, deployment: Deployment, command: Command) -> None:
        """A server from before Redis 6 does not even know the greeting."""

        def talk(handler: socketserver.StreamRequestHandler) -> None:
            while handler.rfile.readline():
                handler.wfile.write(b"-ERR unknown command `HELLO`, with args beginning with:\r\n")

        with _serving(talk) as place:
            found = command("check", "--json", redis_url=f"redis://{place}/0").finding("server")
        assert found["ok"] is False
        assert "7.0" in found["todo"]

    def test_other_partitions(self, running: Worker, command: Command, client: Redis) -> None:
        """The number of partitions is fixed at the first start."""
        assert client.get(PARTITIONS_KEY) == b"1"
        found = command("check", "--json", partitions="3").finding("partitions")
        assert found["ok"] is False
        assert "1" in found["todo"]

    def test_clock(self, running: Worker, deployment: Deployment) -> None:
        """A server whose clock is far from ours is found."""
        settings = deployment.settings()
        findings = check_everything(lambda: settings, wall=lambda: time.time() + 100)
        (found,) = [item for item in findings if item.check == "server_clock"]
        assert (found.ok, "behind ours" in found.detail) == (False, True)


def with_rights(server: RealServer, *rules: str) -> str:
    """The address for a user with all commands, but for these rules."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "ours", "on", ">proxy-password", "+@all", *rules)
    return f"redis://ours:proxy-password@127.0.0.1:{server.port}/0"


class TestSettings:
    def test_nothing_is_set_and_nothing_runs(self, bare_command: Command) -> None:
        """Before anything is set up, `check` says what is missing, and does not fail itself."""
        done = bare_command("check", "--json")
        assert done.code == 1
        wrong = [item["detail"] for item in done.json if item["ok"] is False]
        assert any("PERSONA_SYNC_BRAZE_ENDPOINT" in detail for detail in wrong)
        assert any("PERSONA_SYNC_BRAZE_API_KEY" in detail for detail in wrong)
        assert any("no server is running" in detail for detail in wrong)

    def test_each_wrong_setting_is_named(self, bare_command: Command) -> None:
        """Two wrong values are two findings, and what is missing is found beside them."""
        done = bare_command("check", "--json", valve_share="7", claim_lease="soon")
        said = [item["detail"] for item in done.json if item["ok"] is False]
        for name in ("VALVE_SHARE", "CLAIM_LEASE", "BRAZE_ENDPOINT", "BRAZE_API_KEY"):
            assert len([line for line in said if f"PERSONA_SYNC_{name}" in line]) == 1
        assert "no server is running" in done.finding("server")["detail"]

    def test_one_wrong_setting_hides_nothing(self, running: Worker, command: Command) -> None:
        """Everything else is looked at; what rests on the wrong one says that it could not be."""
        done = command("check", "--json", inbox_high_water="many", claim_lease="1s")
        unseen = {item["check"] for item in done.json if item["ok"] is None}
        assert unseen == {"settings_in_force", "inbox"}
        wrong = [item for item in done.json if item["ok"] is False]
        assert [item["check"] for item in wrong] == ["settings", "settings"]
        assert done.finding("braze_key")["ok"] is True

    @pytest.mark.parametrize("mode", ["dark", "Live "])
    def test_a_wrong_mode_hides_everything(self, command: Command, mode: str) -> None:
        """Nobody can say what a deployment needs whose mode is not known."""
        done = command("check", "--json", mode=mode)
        assert {item["ok"] for item in done.json if item["check"] != "settings"} == {None}

    def test_a_wrong_broker_hides_nothing(self, running: Worker, command: Command) -> None:
        """The list is whole, with the broker bad."""
        done = command("check", "--json", broker_url="amqp://x")
        assert (done.code, done.finding("broker")["ok"]) == (1, False)
        assert done.finding("server")["ok"] is True
        assert done.finding("lanes")["ok"] is True

    def test_missing_registry(self, running: Worker, command: Command) -> None:
        """A file that was named and is not there is a finding, in JSON too."""
        done = command("check", "--json", audiences="/nonexistent.yaml")
        found = done.finding("audiences")
        assert (done.code, found["ok"]) == (1, False)
        assert "there is no file /nonexistent.yaml" in found["detail"]
        assert done.finding("server")["ok"] is True

    @pytest.mark.parametrize("url", ["notaurl", "http://hook.example/hush"], ids=["none", "http"])
    def test_webhook(self, running: Worker, command: Command, url: str) -> None:
        """An address with which no worker starts is found; it is a secret, and not shown."""
        done = command("check", "--json", notice_webhook=url)
        found = done.finding("settings")
        assert (done.code, found["ok"]) == (1, False)
        assert "PERSONA_SYNC_NOTICE_WEBHOOK" in found["detail"]
        assert url not in done.out

    def test_empty_key_file(
        self, running: Worker, command: Command, deployment: Deployment, tmp_path: Path
    ) -> None:
        """What is wrong and what to do are two sentences, about the file."""
        file = tmp_path / "empty"
        file.touch()
        found = command("check", "--json", braze_api_key_file=str(file)).finding("settings")
        assert found["detail"] == f"PERSONA_SYNC_BRAZE_API_KEY_FILE: {file} is empty"
        assert found["todo"] not in found["detail"]

    def test_wrong_registry(
        self, running: Worker, command: Command, deployment: Deployment
    ) -> None:
        """A broken audiences.yaml is found where the workers would only refuse to start."""
        (deployment.folder / "audiences.yaml").write_text("audiences: [{key: email}]")
        done = command("check", "--json")
        assert (done.code, done.finding("audiences")["ok"]) == (1, False)

    def test_a_misspelt_variable_is_a_warning(self, running: Worker, command: Command) -> None:
        """A variable that nobody reads is shown with what was perhaps meant."""
        done = command("check", "--json", braze_apikey=KEY[::-1])
        found = next(item for item in done.json if item["check"] == "settings")
        assert (done.code, found["ok"]) == (0, True)
        assert "PERSONA_SYNC_BRAZE_API_KEY" in found["todo"]

    def test_wrong_use(self, bare_command: Command) -> None:
        """An option that does not exist ends with 2."""
        assert bare_command("check", "--jsn").code == 2


class TestRunning:
    def test_no_worker(self, worker: Worker, command: Command) -> None:
        """Nobody works: said, with how to start one; of the beat nothing can be said then."""
        done = command("check", "--json")
        assert (done.code, done.finding("workers")["ok"]) == (1, False)
        assert "persona-sync up" in done.finding("workers")["todo"]
        assert done.finding("beat")["ok"] is None

    def test_no_beat(self, running: Worker, command: Command, client: Redis) -> None:
        """Workers without ticks: the beat is missing."""
        client.set(TICKS, int(time.time() * 1000) - 300_000)
        done = command("check", "--json")
        assert (done.code, done.finding("beat")["ok"]) == (1, False)

    def test_full_inbox(self, running: Worker, command: Command, deployment: Deployment) -> None:
        """An inbox at its mark refuses senders."""
        deployment.put("u", vip=True)
        found = command("check", "--json", inbox_high_water="1").finding("inbox")
        assert found["ok"] is False

    def test_paused_destination(self, running: Worker, command: Command) -> None:
        """A pause is bad news until it is lifted, and says whose it is."""
        command("pause", "--why", "moving house", "--by", "ann")
        done = command("check", "--json")
        found = done.finding("destination")
        assert (done.code, found["ok"]) == (1, False)
        assert "moving house (by ann, since " in found["detail"]
        assert "persona-sync resume" in found["todo"]

    def test_way_and_destination_say_the_same(
        self, running: Worker, command: Command, sandbox: Sandbox, client: Redis
    ) -> None:
        """While Braze is in trouble both lines say to wait."""
        client.hset(DEST, mapping={"width": 1, "failures": 3, "last_reason": "status_503"})
        sandbox.fault("status", status=503)
        done = command("check", "--json")
        assert done.finding("destination")["ok"] is False
        assert done.finding("braze")["todo"] == done.finding("destination")["todo"]

    def test_no_way_there(self, running: Worker, command: Command, client: Redis) -> None:
        """Without a connection, the destination's line leads to the one that says why."""
        client.hset(DEST, mapping={"width": 1, "failures": 3, "last_reason": "not_connected"})
        assert "`braze`" in command("check", "--json").finding("destination")["todo"]

    def test_only_the_bound_that_is_set_is_named(
        self, deployment: Deployment, command: Command
    ) -> None:
        """Whoever is held is told which setting to raise, and of no other one."""
        worker = deployment.worker(data_points_per_audience_per_day=1)
        worker.stores.workers.beat(this_process())
        for n in range(3):
            deployment.put(f"u{n}", vip=True)
        deployment.drain(worker)
        assert command("status", "--json").json["budget"]["held"][0]["users"] == 2
        found = command("check", "--json").finding("budget")
        assert "PERSONA_SYNC_DATA_POINTS_PER_AUDIENCE_PER_DAY" in found["todo"]
        assert "PERSONA_SYNC_DATA_POINTS_PER_DAY" not in found["todo"]
        said = "1 data point today, all audiences together; the bound is 1 for each audience"
        assert said in command("status").out

    def test_what_going_live_left(self, running: Worker, command: Command) -> None:
        """An answer that was meant for once is to be taken back."""
        found = command("check", "--json", adopt_shadow="trust").finding("mode")
        assert (found["ok"], "PERSONA_SYNC_ADOPT_SHADOW" in found["todo"]) == (True, True)

    def test_dead_letters_are_a_warning(
        self, running: Worker, command: Command, client: Redis
    ) -> None:
        """Dead letters are worth a look, no failure."""
        client.xadd(key(0, "dead"), {"kind": "envelope", "reason": "x", "changes": 1})
        done = command("check", "--json")
        found = done.finding("dead_letters")
        assert (done.code, found["ok"]) == (0, True)
        assert "dead-letters list" in found["todo"]


@contextmanager
def answering(said: bytes) -> Iterator[str]:
    """A server that says one thing to whoever sends a head, and hangs up."""

    def talk(handler: socketserver.StreamRequestHandler) -> None:
        while handler.rfile.readline() not in (b"\r\n", b""):
            pass
        handler.wfile.write(said)

    with _serving(talk) as place:
        yield place


@contextmanager
def old_server() -> Iterator[str]:
    """As much of a Redis 6.2 as `check` sees."""
    info = b"# Server\r\nredis_version:6.2.0\r\nrole:master\r\naof_enabled:1\r\n"
    answers = {
        b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
        b"PING": b"+PONG\r\n",
        b"INFO": b"$%d\r\n%s\r\n" % (len(info), info),
        b"SET": b"+OK\r\n",
        b"EVAL": b":1\r\n",
    }

    def talk(handler: socketserver.StreamRequestHandler) -> None:
        while head := handler.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int(handler.rfile.readline()[1:])
                words.append(handler.rfile.read(size + 2)[:-2])
            handler.wfile.write(answers.get(words[0].upper(), b"-ERR unknown command\r\n"))

    with _serving(talk) as place:
        yield place


@contextmanager
def _serving(talk: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            talk(self)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)
