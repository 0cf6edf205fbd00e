"""Two ways to reach the sandbox: in this process with a clock of ours, and as a real server."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from sandbox.app import Sandbox
from sandbox.delivery import Delivery
from sandbox.wire import Reply, Request

ROOT = Path(__file__).parents[2]
KEY = "sandbox-key"
BEARER = {"Authorization": f"Bearer {KEY}"}


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Local:
    """A sandbox in this process, spoken to without a socket."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.app = Sandbox(clock=self.clock)

    def begin(self, path: str, body: Any, method: str = "POST", **headers: str) -> Request:
        sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(method, path, sent, content, self.clock.monotonic())
        self.app.begin(request)
        return request

    def deliver(self, path: str, body: Any, method: str = "POST", **headers: str) -> Delivery:
        request = self.begin(path, body, method, **headers)
        delivery = self.app.handle(request)
        self.app.finish(request, replied=True)
        return delivery

    def call(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> Reply:
        return self.deliver(path, body, method, **headers).reply

    def track(self, *attributes: Any, **arrays: Any) -> tuple[int, Any]:
        document = {"attributes": list(attributes), **arrays} if attributes else arrays
        reply = self.call("/users/track", document)
        return reply.status, json.loads(reply.body)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.call(f"/sandbox/{path}", body, method)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def attributes(self, user: str) -> dict[str, Any]:
        profile = self.app.state.profiles.get(user)
        assert profile is not None
        return profile.attributes()


class Remote:
    """A sandbox in its own process, spoken to over HTTP."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self.session = requests.Session()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.session.request(method, f"{self.url}/sandbox/{path}", json=body, timeout=5)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def track(self, *users: str, timeout: float = 5, **attributes: Any) -> requests.Response:
        """One object per user, all with the same attributes, on a connection of its own."""
        values = attributes or {"vip": True}
        objects = [{"external_id": user, **values} for user in users]
        return requests.post(
            f"{self.url}/users/track",
            json={"attributes": objects},
            headers=BEARER,
            timeout=(5, timeout),
        )

    def attributes(self, user: str) -> dict[str, Any] | None:
        reply = self.session.get(f"{self.url}/sandbox/profiles/{user}", timeout=5)
        return reply.json()["attributes"] if reply.status_code == 200 else None

    def connect(self) -> socket.socket:
        where = urlsplit(self.url)
        return socket.create_connection((where.hostname, where.port), timeout=5)

    def request_bytes(self, *users: str) -> bytes:
        body = json.dumps({"attributes": [{"external_id": u, "vip": True} for u in users]})
        return (
            f"POST /users/track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.communicate(timeout=5)


@pytest.fixture
def local() -> Local:
    return Local()


@pytest.fixture(scope="session")
def _served() -> Iterator[Remote]:
    process = start()
    assert process.stdout is not None
    hello = json.loads(process.stdout.readline())
    remote = Remote(hello["url"], hello["pid"])
    yield remote
    remote.session.close()
    end(process)


@pytest.fixture
def remote(_served: Remote) -> Iterator[Remote]:
    """A server without a past: faults and counts gone, settings as at the start."""
    before = _served.control("GET", "config")
    _served.control("POST", "reset")
    yield _served
    _served.control("PUT", "config", {**before, "keys": [KEY]})


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Poll until the question is answered with something true; fail after five seconds."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if answer := question():
                return answer
            time.sleep(0.005)
        raise AssertionError("it never became true")

    return wait


@pytest.fixture
def run_sandbox() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start sandboxes with arguments of one's own; all are ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> "subprocess.Popen[str]":
        started.append(start(*arguments))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            end(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
