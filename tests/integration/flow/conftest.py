"""The sandbox once for all tests here; a clean deployment for each, judged when it is over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.integration.conftest import RealServer
from tests.integration.flow.support import Deployment, Part, Sandbox, Worker


@pytest.fixture(scope="session")
def session_sandbox() -> Iterator[Sandbox]:
    """One pretended Braze for the whole session."""
    sandbox = Sandbox()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(session_sandbox: Sandbox) -> Sandbox:
    """The session's sandbox, as if it had just been started."""
    session_sandbox.reset()
    return session_sandbox


@pytest.fixture
def deployment(
    server: RealServer, client: Redis, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Deployment]:
    """A deployment without workers yet. Whatever its story, it must have behaved (rules 5, 12)."""
    deployment = Deployment(server, client, sandbox, tmp_path)
    yield deployment
    deployment.close()
    deployment.assert_balanced()
    deployment.assert_well_behaved()


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment, with the usual short terms."""
    return deployment.worker()


@pytest.fixture
def start(deployment: Deployment) -> Iterator[Callable[..., Part]]:
    """Starts real worker processes (or with `beat=True` the beat); ends those still running."""
    parts: list[Part] = []

    def started(name: str = "worker", beat: bool = False, **changes: Any) -> Part:
        part = Part.beat(deployment) if beat else Part.worker(deployment, name, **changes)
        parts.append(part)
        return part

    yield started
    for part in parts:
        part.stop()
