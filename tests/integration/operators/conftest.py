"""The command as its users run it, beside a deployment in this process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import PASSWORD, RealServer
from tests.integration.flow.conftest import deployment, sandbox, session_sandbox
from tests.integration.flow.support import KEY, ROOT, Deployment, Sandbox

__all__ = ["deployment", "sandbox", "session_sandbox"]

OTHER_KEY = "another-key-5678"
PROXY_PASSWORD = "proxy-password"
SECRETS = (KEY, OTHER_KEY, PASSWORD, PROXY_PASSWORD)


@dataclass(frozen=True)
class Done:
    """What a call of the command left: exit code and output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that it printed."""
        return json.loads(self.out)

    def finding(self, check: str) -> dict[str, Any]:
        """What `check --json` found of one thing; the worst, if there are several."""
        found = [item for item in self.json if item["check"] == check]
        assert found, self.out
        return min(found, key=lambda item: (item["ok"] is not False, item["ok"] is not None))


Command = Callable[..., Done]


def run(
    environment: dict[str, str], folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL
) -> Done:
    """Run `persona-sync`; whatever it says, no secret is in it."""
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        cwd=folder,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def command(deployment: Deployment, tmp_path: Path) -> Command:
    """Calls the command with the deployment's settings, some of them changed by name."""

    def call(*arguments: str, **changes: str | None) -> Done:
        return run(deployment.environment(**changes), tmp_path, *arguments)

    return call


@pytest.fixture
def bare_command(tmp_path: Path) -> Command:
    """Calls the command with nothing set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}

    def call(*arguments: str, **changes: str) -> Done:
        ours = {f"PERSONA_SYNC_{k.upper()}": v for k, v in changes.items()}
        return run({**kept, **ours}, tmp_path, *arguments)

    return call


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RealServer]:
    """A server of the test's own, to be spoilt."""
    folder = tmp_path / "own-server"
    folder.mkdir()
    server = RealServer(folder)
    server.start()
    yield server
    server.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def elsewhere() -> Iterator[Sandbox]:
    """Another Braze instance, which has never heard of our key."""
    sandbox = Sandbox()
    sandbox.configure(keys=[OTHER_KEY])
    yield sandbox
    sandbox.stop()
