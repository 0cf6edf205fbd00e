"""Going over from another sync: the deployment in small, the stores on a clock of the test's,
and a clock on which a reading takes no time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console.seeding import Pace, Seeder, Terms
from producer.file_import import Imported, import_file
from tests.integration.flow.conftest import deployment, sandbox, session_sandbox, start
from tests.integration.flow.support import KEY, ROOT, Deployment, Sandbox
from tests.integration.stores.conftest import World, make_world, quick, world
from worker.braze.readback import ReadBack
from worker.stores.seeding import Progress, Seeding

__all__ = [
    "deployment", "make_world", "quick", "sandbox", "session_sandbox", "start", "world",
]  # fmt: skip


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Done:
    """What a call of the command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that it printed."""
        return json.loads(self.out)


class Cutover:
    """A deployment whose audience has members already, and what is done to go over."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.sandbox: Sandbox = deployment.sandbox
        self.folder = folder
        self.clock = Clock()
        self.reading = ReadBack(
            self.sandbox.url,
            lambda: KEY,
            connect=timedelta(seconds=3),
            total=timedelta(seconds=10),
        )

    # --- the scene

    def braze_holds(self, profiles: dict[str, dict[str, Any]]) -> None:
        """What another sync has put into Braze."""
        self.sandbox._call("PUT", "profiles", profiles)

    def file(self, *messages: dict[str, Any]) -> Path:
        """A file of Segment messages."""
        path = self.folder / "members.ndjson"
        path.write_text("".join(json.dumps(message) + "\n" for message in messages))
        return path

    @staticmethod
    def message(user: str, key: str, value: bool, at: str) -> dict[str, Any]:
        """One identify message of an audience."""
        return {
            "type": "identify",
            "userId": user,
            "timestamp": at,
            "receivedAt": at,
            "traits": {key: value},
            "context": {"personas": {"computation_class": "audience", "computation_key": key}},
        }

    def import_acknowledged(self, *messages: dict[str, Any]) -> Imported:
        """Import them as what Braze holds already."""
        producer = self.deployment._producer
        return import_file(self.file(*messages), producer, acknowledged=True)

    # --- reading

    def seeding(self) -> Seeding:
        """The acknowledged side, with the names of the deployment's registry."""
        from worker.stored import make_stores

        settings = self.deployment.settings()
        stores = make_stores(settings, client=self.deployment.client)
        return stores.seeding

    def seeder(
        self,
        *,
        show: Callable[[Progress, str], None] = lambda progress, waiting: None,
        now_ms: Callable[[], int] | None = None,
        **terms: Any,
    ) -> Seeder:
        """A reader of the sandbox, on a clock that passes at once."""
        made = Terms(**terms)
        return Seeder(
            self.seeding(),
            self.reading.export_ids,
            Pace(made.per_minute, self.clock, self.clock.sleep),
            made,
            now_ms or self.server_ms,
            lambda: 0.5,
            show,
        )

    def server_ms(self) -> int:
        """The server's clock."""
        seconds, micros = self.deployment.client.time()
        return seconds * 1000 + micros // 1000

    def exports(self) -> int:
        """How many exports the sandbox was asked for."""
        return int(self.sandbox.report()["by_path"].get("/users/export/ids", 0))

    def state(self, user: str, attribute: str) -> Any:
        """What `trace` says of it."""
        from worker.stored import make_stores

        stores = make_stores(self.deployment.settings(), client=self.deployment.client)
        (found,) = [
            item for item in stores.memberships.trace(0, user) if item.attribute == attribute
        ]
        return found

    # --- the command

    def command(self, *arguments: str, stdin: str = "", **changes: str | None) -> Done:
        """Run `persona-sync` with the settings of the deployment, some changed by name."""
        done = subprocess.run(
            [sys.executable, "-m", "console.cli", *arguments],
            env=self.environment(**changes),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert KEY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def begin(self, *arguments: str, **changes: str | None) -> "subprocess.Popen[bytes]":
        """The same, not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "console.cli", *arguments],
            env=self.environment(**changes),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The deployment's settings for a process."""
        path = os.pathsep.join([str(ROOT)])
        return {
            **self.deployment.environment(**changes), "PYTHONPATH": path, "COLUMNS": "200"
        }  # fmt: skip


@pytest.fixture
def cutover(deployment: Deployment, tmp_path: Path) -> Iterator[Cutover]:
    """A deployment without workers, and a Braze that another sync may have filled."""
    made = Cutover(deployment, tmp_path)
    made.sandbox.configure(export_rate_limit={"limit": None})
    yield made
    made.reading.close()


@pytest.fixture
def say_held(world: World) -> Callable[..., Any]:
    """Accepts changes of one envelope as what Braze holds already."""
    from worker.pipeline.ingest import EntryId

    def say(*changes: Any) -> Any:
        id_ = world.append(*changes)
        (entry,) = world.inbox.read(0, 10)
        ms = EntryId.parse(id_).ms
        return world.memberships.accept(0, entry.id, ms, world.ingested(entry), acknowledged=True)

    return say


@pytest.fixture
def seeding(world: World) -> Seeding:
    """The acknowledged side of the world, on its clock."""
    return Seeding(world.scripts, world.terms, world.rulebook)


@pytest.fixture
def ids(world: World) -> Callable[[str], str]:
    """The interned id of an attribute."""
    return lambda attribute: {name: id_ for id_, name in world.names().items()}[attribute]


@pytest.fixture
def read(world: World, seeding: Seeding, ids: Callable[[str], str]) -> Callable[..., Progress]:
    """Takes over a reading {user: {attribute: JSON text}}, begun now or when it is said."""

    def take(
        readings: dict[str, dict[str, str]], at: int | None = None, lag: timedelta = timedelta()
    ) -> Progress:
        packed: Iterable[Any] = [
            (user, [(ids(name), text) for name, text in values.items()])
            for user, values in readings.items()
        ]
        return seeding.take(
            0,
            list(packed),
            read_at_ms=world.now if at is None else at,
            lag=lag,
            asked=len(readings),
            no_profile=0,
        )

    return take
