"""The real producer process before the real server, asked over real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.http.signature import signature_of
from worker.contract import ENVELOPE, Change, Changes, Deletion, Refusals, inbox_key

ROOT = Path(__file__).parents[3]
KEY, SHARED_SECRET, TOKEN = "k-1a2b3c", "s-4d5e6f", "t-7a8b9c"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], Any], within: float = 15) -> Any:
    """Ask again and again until the answer is true, and return it; fail after a while."""
    pause, deadline = threading.Event(), time.monotonic() + within
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not so after {within:g} s"
        pause.wait(0.02)
    return answer


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Door:
    """A running producer."""

    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        given = {
            "PERSONA_SYNC_WRITE_KEYS": f"web:{KEY}",
            "PERSONA_SYNC_SHARED_SECRET": SHARED_SECRET,
            "PERSONA_SYNC_WEBHOOK_TOKEN": TOKEN,
            "PERSONA_SYNC_PRODUCER_BIND": f"127.0.0.1:{self.port}",
            "PERSONA_SYNC_LOG_FORMAT": "json",
            **self.settings,
        }
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "producer"],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **given},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self.lives)

    @property
    def log(self) -> Path:
        return self.folder / "producer.log"

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def lives(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM, within: float = 15) -> int:
        """Signal it, wait, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(within)
        # Its children outlive a parent that was killed, and have counts to append still.
        until(self._is_gone, within)
        return code

    def _is_gone(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def ask(self, method: str, path: str, body: bytes | None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def send(self, path: str, document: Any, key: str | None = KEY, **headers: str) -> Answer:
        """A message or a batch to /v1, as JSON, with the write key."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        if key is not None:
            headers["Authorization"] = "Basic " + b64encode(f"{key}:".encode()).decode()
        return self.ask("POST", path, body, **{"Content_Type": "application/json", **headers})

    def webhook(
        self, document: Any, token: str | None = None, signed: Any = None, **headers: str
    ) -> Answer:
        """What Segment's webhook sends; `signed` is what its signature covers, if not all."""
        body = document if isinstance(document, bytes) else _compact(document)
        covered = body if signed is None else _compact(signed)
        headers["X_Signature"] = signature_of(SHARED_SECRET, covered)
        return self.send(
            "/webhooks/segment", body, None,
            **headers, **({"Authorization": f"Bearer {token}"} if token else {}),
        )  # fmt: skip

    def raw(self) -> socket.socket:
        """A bare connection, for what no client would do."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def _compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@contextmanager
def _running(folder: Path, url: str, settings: dict[str, str]) -> Iterator[Door]:
    door = Door(folder, {"PERSONA_SYNC_REDIS_URL": url, **settings})
    try:
        door.start()
        yield door
    finally:
        door.process.kill()
        door.process.wait()


@pytest.fixture(scope="module")
def shared_door(session_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One producer for the tests of a file that do not hurt it. It ends with the file: its counts
    come up to a second later, and the server is the next file's by then."""
    with _running(tmp_path_factory.mktemp("door"), session_server.url, {}) as door:
        yield door


@pytest.fixture
def door(shared_door: Door, server: Any) -> Door:
    """The session's producer, before an empty server."""
    until(lambda: shared_door.get("/readyz").status == 200)
    return shared_door


@pytest.fixture
def open_door(server: Any, tmp_path: Path) -> Iterator[Callable[..., Door]]:
    """Producers of a test's own, with its settings."""
    opened: list[Door] = []

    def make(url: str = server.url, **settings: str) -> Door:
        folder = tmp_path / f"door{len(opened)}"
        folder.mkdir()
        named = {f"PERSONA_SYNC_{name.upper()}": value for name, value in settings.items()}
        door = Door(folder, {"PERSONA_SYNC_REDIS_URL": url, **named})
        opened.append(door)
        door.start()
        return door

    yield make
    for door in opened:
        door.process.kill()
        door.process.wait()


class Inbox:
    """What is in the inbox, read as a worker would."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def envelopes(self) -> list[Changes | Refusals | Deletion]:
        entries: Any = self._client.xrange(inbox_key(0))
        return [ENVELOPE.validate_json(fields[b"e"]) for _, fields in entries]

    def changes(self) -> list[Change]:
        return [
            change
            for envelope in self.envelopes()
            if isinstance(envelope, Changes)
            for change in envelope.changes
        ]

    def counted(self) -> dict[str, int]:
        """What was refused and skipped, by code."""
        found: dict[str, int] = {}
        for envelope in self.envelopes():
            if isinstance(envelope, Refusals):
                for code, by in (*envelope.refused.items(), *envelope.skipped.items()):
                    found[code] = found.get(code, 0) + by
        return found


@pytest.fixture
def inbox(client: Redis) -> Inbox:
    """The inbox of the server that `door` is before."""
    return Inbox(client)


class Tools:
    """What is shared, handed over as a fixture: a conftest cannot be imported."""

    key, shared_secret, token, root = KEY, SHARED_SECRET, TOKEN, ROOT
    until = staticmethod(until)
    free_port = staticmethod(free_port)

    @staticmethod
    def engage(user: str = "u1", key: str = "vip", value: object = True, **more: Any) -> Any:
        """An identify call as Engage makes it."""
        personas = {"computation_class": "audience", "computation_key": key}
        return {
            "type": "identify",
            "userId": user,
            "context": {"personas": personas},
            "traits": {key: value},
            **more,
        }


@pytest.fixture(scope="session")
def tools() -> Tools:
    """See the class."""
    return Tools()
