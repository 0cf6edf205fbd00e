"""The demo's scenes: a pretended Braze, the whole system beside it, and an oracle at the end.

Everything goes through the doors that users have: the commands, the settings, HTTP. The demo
has a data folder of its own, and takes no setting of the environment's.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from console.audiences_listed import Row, read_seen, rows, undeclared
from console.child_process import die_with_parent
from console.standing import Standing, read_standing
from worker.audiences.registry import load_registry
from worker.pipeline.schedule import Lane
from worker.settings import NothingRunning, Settings
from worker.stored import Stores, make_stores

START_SECONDS = 40.0
STOP_SECONDS = 22.0
# What real life brings, so that it is seen to be coped with: slow answers, a limit, a bad minute.
LATENCY = [0.02, 0.08]
FAULTS = [
    {"kind": "status", "status": 429, "header_form": "mau", "retry_after_s": 1, "times": 2,
     "after": 30},
    {"kind": "status", "status": 503, "times": 2, "after": 60},
]  # fmt: skip
ENVIRONMENT = {
    "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "2s",
    "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT": "3s",
    "PERSONA_SYNC_AMBIGUOUS_HOLD": "3s",
    "PERSONA_SYNC_LOG_LEVEL": "INFO",
}


class DemoFailed(Exception):
    """The demo could not be played. The message says what happened and where to look."""


def call(url: str, body: object = None, method: str = "GET") -> Any:
    """JSON over HTTP to the sandbox, whatever proxies the environment names."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as reply:
        return json.load(reply)


class Demo:
    """One performance. `folder` is emptied first; `say` takes a line for people."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.example = folder / "messages.ndjson.gz"
        self._say = say
        self._url = ""
        self._environment: dict[str, str] = {}

    @contextmanager
    def stage(self) -> Iterator["Demo"]:
        """The sandbox and the system, running; both are stopped at the end, whatever happens."""
        self._clear()
        with ExitStack() as running:
            running.enter_context(self._sandbox())
            running.enter_context(self._system())
            yield self

    def _clear(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o700, parents=True)
        for name in ("messages.ndjson.gz", "audiences.yaml"):
            with as_file(files("sandbox.engage") / name) as shipped:
                shutil.copyfile(shipped, self.folder / name)

    @contextmanager
    def _sandbox(self) -> Iterator[None]:
        key = f"demo-{secrets.token_hex(16)}"
        # The key is handed over in a file of settings, as it would be in earnest.
        key_file = self.folder / "braze-api-key"
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        command = [sys.executable, "-m", "sandbox", "--port", "0", "--api-key", key]
        with self._child("sandbox", command, os.environ.copy(), subprocess.PIPE) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise DemoFailed(f"The sandbox did not start; see {self.folder / 'sandbox.log'}.")
            self._url = json.loads(line)["url"]
            call(f"{self._url}/sandbox/config", {"latency": LATENCY}, "PUT")
            call(f"{self._url}/sandbox/faults", FAULTS, "PUT")
            kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
            self._environment = {
                **kept,
                **ENVIRONMENT,
                "PERSONA_SYNC_DATA_DIR": str(self.folder),
                "PERSONA_SYNC_AUDIENCES": str(self.folder / "audiences.yaml"),
                "PERSONA_SYNC_BRAZE_ENDPOINT": self._url,
                "PERSONA_SYNC_BRAZE_API_KEY_FILE": str(key_file),
            }
            yield

    @contextmanager
    def _system(self) -> Iterator[None]:
        with self._child("up", self._command("up"), self._environment) as process:
            deadline = time.monotonic() + START_SECONDS
            while not self._is_up():
                if process.poll() is not None or time.monotonic() > deadline:
                    log = self.folder / "up.log"
                    raise DemoFailed(f"The system did not start; see {log}.\n{_tail(log)}")
                time.sleep(0.1)
            yield

    def _is_up(self) -> bool:
        try:
            stores = self.stores()
            with stores.client:
                return stores.workers.alive() > 0
        except (NothingRunning, RedisError):
            return False

    def settings(self) -> Settings:
        """The settings that the demo's system runs with."""
        given = {
            name.removeprefix("PERSONA_SYNC_").lower(): value
            for name, value in self._environment.items()
            if name.startswith("PERSONA_SYNC_")
        }
        return Settings.model_validate(given)

    def stores(self) -> Stores:
        """The stores of the demo's system. Raises NothingRunning."""
        settings = self.settings()
        return make_stores(settings)

    def take_in(self) -> dict[str, Any]:
        """Import the example through the command; its progress goes to the terminal."""
        command = self._command("import", str(self.example), "--json")
        done = subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, check=False, text=True
        )
        if done.returncode not in (0, 1) or not done.stdout:
            raise DemoFailed("The import failed; its message stands above.")
        imported: dict[str, Any] = json.loads(done.stdout)
        return imported

    def wait_until_idle(self, show: Callable[[Standing], None], limit: float) -> Standing:
        """Until both lanes are empty; batched changes wait for their boundary."""
        settings = self.settings()
        registry = load_registry(settings.registry_file())
        stores = self.stores()
        deadline = time.monotonic() + limit
        with stores.client:
            while True:
                standing = read_standing(stores, registry, settings.partitions)
                show(standing)
                if standing.is_idle and not standing.report["lanes"]["batched"]["pending"]:
                    return standing
                if time.monotonic() > deadline:
                    raise DemoFailed(f"Not empty after {limit:.0f} s: {standing.report}")
                time.sleep(0.1)

    def freshness(self) -> tuple[float, float]:
        """Seconds from inbox to Braze's acknowledgement, realtime lane: p50 and p95."""
        stores = self.stores()
        with stores.client:
            found = stores.ledger.freshness(self.settings().partitions, Lane.REALTIME, (0.5, 0.95))
        return (found[0], found[1]) if found else (0.0, 0.0)

    def lanes(self) -> list[Row]:
        """Every audience and trait that is declared or arrived, with its lane and why."""
        settings = self.settings()
        registry = load_registry(settings.registry_file())
        stores = self.stores()
        with stores.client:
            seen = read_seen(stores, settings.partitions)
        return [*rows(registry, seen), *undeclared(registry, seen)]

    def sandbox_report(self) -> dict[str, Any]:
        """What the pretended Braze received."""
        report: dict[str, Any] = call(f"{self._url}/sandbox/report")
        return report

    def ask_oracle(self) -> dict[str, Any]:
        """Every profile compared with what the generator meant; it knows nothing of us."""
        command = [sys.executable, "-m", "sandbox.engage.oracle"]
        given = [*command, "--input", str(self.example), "--braze", self._url, "--json"]
        done = subprocess.run(given, stdout=subprocess.PIPE, check=False, text=True)
        if done.returncode not in (0, 1):
            raise DemoFailed("The oracle could not compare; its message stands above.")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def meant(self) -> dict[str, Any]:
        """What the generator meant the door to do with its lines."""
        command = [sys.executable, "-m", "sandbox.engage.oracle", "--describe", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        described: dict[str, Any] = json.loads(done.stdout)
        return described

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "console", *arguments]

    @contextmanager
    def _child(
        self, name: str, command: list[str], environment: dict[str, str], stdout: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A process of our own session, ended on the way out; its output goes to a log file."""
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
            try:
                yield process
            finally:
                _end(process)
                if process.stdout:
                    process.stdout.close()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
