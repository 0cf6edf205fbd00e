"""The system under measurement: embedded server, sandbox, workers, beat; and what they cost."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.local_server import LocalServer
from console.standing import read_standing
from producer.envelopes import Addressed
from producer.publish import Producer
from worker.audiences.registry import Registry
from worker.contract import Change, ChangeClass, Changes
from worker.settings import Settings
from worker.stored import Stores, make_stores

_TICKS = os.sysconf("SC_CLK_TCK")
# Nothing but the machine limits: what is measured is the engine.
LIFTED = {
    "PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND": "10000",
    "PERSONA_SYNC_BRAZE_BURST": "10000",
    "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "0ms",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How the system is run. `latency` of the sandbox in seconds, uniform between the two."""

    workers: int = 1
    threads: int = 64
    latency: tuple[float, float] | None = None
    settings: dict[str, str] = field(default_factory=lambda: dict(LIFTED))
    audiences: str = "audiences: []\n"


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds, by part."""

    worker: float
    server: float
    sandbox: float


class Stack:
    """A running system. Made by `running`; its processes are ended by their ids."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._folder = folder
        self._shape = shape
        self._workers: list[subprocess.Popen[bytes]] = []
        self.url = ""
        self.stores: Stores
        self.settings: Settings

    @contextmanager
    def running(self) -> Iterator["Stack"]:
        """Start everything, wait until the workers beat, end everything."""
        with ExitStack() as parts:
            server = LocalServer(self._folder)
            server.start()
            parts.callback(server.stop)
            self._server_pid = int(server.pid or 0)
            self._start_sandbox(parts)
            environment = self._environment(server.url)
            command = [sys.executable, "-m", "celery", "-A", "worker.celery_app"]
            for number in range(self._shape.workers):
                threads = str(self._shape.threads)
                pool = ["worker", "-P", "threads", "-c", threads, "-n", f"w{number}@%h"]
                options = ["--without-gossip", "--without-mingle"]
                self._workers.append(self._child(parts, [*command, *pool, *options], environment))
            schedule = str(self._folder / "beat")
            beat = ["beat", "--schedule", schedule, "--pidfile="]
            self._child(parts, [*command, *beat], environment)
            self.settings = Settings.model_validate(
                {
                    name.removeprefix("PERSONA_SYNC_").lower(): value
                    for name, value in environment.items()
                    if name.startswith("PERSONA_SYNC_")
                }
            )
            self.stores = make_stores(self.settings)
            parts.callback(self.stores.client.close)
            self._wait_for_the_workers()
            yield self

    def _wait_for_the_workers(self) -> None:
        """Raises RuntimeError with what the children said, if one ended or none ever beat."""

        def is_up() -> bool:
            ended = any(process.poll() is not None for process in self._workers)
            return ended or self.stores.workers.alive() >= self._shape.workers

        with suppress(TimeoutError):
            wait_for(is_up, 60)
        if self.stores.workers.alive() < self._shape.workers:
            said = (self._folder / "children.log").read_text(errors="replace")
            raise RuntimeError(f"the workers did not start:\n{said[-2000:]}")

    def _start_sandbox(self, parts: ExitStack) -> None:
        self._key = f"bench-{secrets.token_hex(8)}"
        command = [sys.executable, "-m", "sandbox", "--port", "0", "--api-key", self._key]
        given = [*command, "--requests-per-second", "0"]
        self._sandbox = self._child(parts, given, dict(os.environ), subprocess.PIPE)
        assert self._sandbox.stdout is not None
        parts.callback(self._sandbox.stdout.close)
        self.url = json.loads(self._sandbox.stdout.readline())["url"]
        if self._shape.latency:
            self.call("/sandbox/config", {"latency": list(self._shape.latency)}, "PUT")

    def _environment(self, server_url: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
        audiences = self._folder / "audiences.yaml"
        audiences.write_text(self._shape.audiences)
        return {
            **kept,
            "PERSONA_SYNC_REDIS_URL": server_url,
            "PERSONA_SYNC_BRAZE_ENDPOINT": self.url,
            "PERSONA_SYNC_BRAZE_API_KEY": self._key,
            "PERSONA_SYNC_AUDIENCES": str(audiences),
            **self._shape.settings,
        }

    def _child(
        self,
        parts: ExitStack,
        command: Sequence[str],
        environment: dict[str, str],
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        log = parts.enter_context((self._folder / "children.log").open("ab"))
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log
        )
        parts.callback(_end, process)
        return process

    def call(self, path: str, body: object = None, method: str = "GET") -> Any:
        """JSON over HTTP to the sandbox."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)

    def report(self) -> dict[str, Any]:
        """What the sandbox received."""
        found: dict[str, Any] = self.call("/sandbox/report")
        return found

    def cost(self) -> Cost:
        """CPU used so far."""
        return Cost(
            worker=sum(cpu_seconds(process.pid) for process in self._workers),
            server=cpu_seconds(self._server_pid),
            sandbox=cpu_seconds(self._sandbox.pid),
        )

    def producer(self) -> Producer:
        """A producer beside the system; close it after use."""
        return Producer.from_settings(self.settings)

    def wait_until_idle(self, limit: float) -> None:
        """Until everything accepted has had its end."""
        registry = Registry()

        def is_idle() -> bool:
            standing = read_standing(self.stores, registry, 1)
            return standing.is_idle and not standing.report["pending"]

        wait_for(is_idle, limit)


def wait_for(condition: Any, limit: float) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the system did not get there within {limit:,.0f} s")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def envelope(number: int, changes: Sequence[tuple[str, str, bool]], at_ms: int) -> Addressed:
    """One envelope of (user, attribute, value); event times ascend."""
    made = [
        Change.model_construct(
            user_id=user,
            attribute=attribute,
            value=value,
            event_at=at_ms + place,
            arrived_at=None,
            place=place,
            message_id="",
            source="bench",
            change_class=ChangeClass.AUDIENCE,
        )
        for place, (user, attribute, value) in enumerate(changes)
    ]
    body = Changes.model_construct(version=1, id=f"bench-{number}", kind="changes", changes=made)
    return Addressed.of(body, 0)


def user_id(number: int) -> str:
    """28 bytes, as a hash or a KSUID would be."""
    return f"user-{number:023d}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
