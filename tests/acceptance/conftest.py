"""Whole-system tests go through the doors that users have: commands, HTTP, files, signals.

Nothing here imports the engine. What a test starts is ended by its number, never by a name.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# A machine behind a proxy that is down: nothing of ours may ask it for anything.
DEAD_PROXY = "http://127.0.0.1:9"


@dataclass
class Child:
    """A process that a test started, in a session of its own; its output is in `log`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, within: float, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, wait, and return its exit code; it is a failure if it takes longer."""
        self.process.send_signal(how)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not stop within {within:g} s:\n{self.said[-2000:]}")

    def interrupt(self, within: float) -> int:
        """As Ctrl-C at a terminal does: SIGINT to its whole group."""
        os.killpg(self.pid, signal.SIGINT)
        return self.process.wait(within)

    def kill(self) -> None:
        """End it and all of its session, however it stands."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Doors:
    """Starts commands with an environment of the test's choice, and none of ours besides."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    def start(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Child:
        """Start a process that goes on."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                env=self.env(environment),
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def run(
        self,
        command: list[str],
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
        within: float = 90,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            env=self.env(environment),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
        )

    def persona_sync(self, *arguments: str, within: float = 90) -> subprocess.CompletedProcess[str]:
        """Run the command that users type."""
        return self.run([str(BIN / "persona-sync"), *arguments], within=within)

    def status(self) -> dict[str, Any]:
        """`persona-sync status --json`; empty while it cannot be read."""
        done = self.persona_sync("status", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        base = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        return {**base, "PYTHONUNBUFFERED": "1", **self.environment, **(more or {})}

    def close(self) -> None:
        """End what still runs, the last started first."""
        for child in reversed(self.children):
            child.kill()


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Commands of one module's tests, in a folder whose name has spaces."""
    opened = Doors(tmp_path_factory.mktemp("a folder with spaces"))
    yield opened
    opened.close()


def until(holds: Callable[[], Any], within: float = 60) -> Any:
    """Ask again and again until the answer is true, and return it; fail after a while."""
    pause, deadline = threading.Event(), time.monotonic() + within
    while not (answer := holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {within:g} s")
        pause.wait(0.1)
    return answer


def is_empty(status: dict[str, Any]) -> bool:
    """Nothing waits in either lane, not even for a boundary."""
    return bool(status) and status["idle"] and not status["pending"]


def processes_of(folder: Path) -> dict[int, str]:
    """Processes, by number, that have the folder on their command line or in a variable."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if str(folder).encode() in line + (entry / "environ").read_bytes():
                    found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def http(url: str, login: str | None = None, body: object = None, method: str = "GET") -> Reply:
    """One HTTP request; a refusal is a reply too, and no answer is status 0."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    if login:
        request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as reply:
            return Reply(reply.status, reply.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return Reply(refusal.code, refusal.read())
    except OSError:
        return Reply(0, b"")


class Tools:
    """What is shared, handed over as a fixture: a conftest cannot be imported."""

    root = ROOT
    bin = BIN
    dead_proxy = DEAD_PROXY
    doors = Doors
    until = staticmethod(until)
    is_empty = staticmethod(is_empty)
    processes_of = staticmethod(processes_of)
    free_port = staticmethod(free_port)
    http = staticmethod(http)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """See the class."""
    return Tools()
