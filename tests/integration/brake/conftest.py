"""A deployment on a real server, with a clock that only the test moves and a Braze in memory."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stores.conftest import START, TERMS, World, make_world, quick
from worker.audiences.registry_file import RegistryFile
from worker.contract import key
from worker.flow import Flow, FlowPolicy
from worker.forgetting import Forgetting
from worker.observe.noted import Noted
from worker.observe.record import Recorder
from worker.observe.webhook import Webhook
from worker.outages import Outages
from worker.pipeline.facts import Fact
from worker.pipeline.reply import Reply
from worker.pipeline.surprise import SurprisePolicy
from worker.recollection import Recollection
from worker.reload import Reload
from worker.stores.bells import Bells
from worker.stores.budget import Budget
from worker.stores.flips import Flips
from worker.stores.identity import ServerIdentity
from worker.stores.notices import Notices
from worker.sweeping import Sweeping
from worker.tools import Tools
from worker.watch import Courier, CourierPolicy, Watch

__all__ = ["make_world", "quick"]

DAY, HOUR = 86_400_000, 3_600_000
NOON = START - START % DAY + 12 * HOUR


class NoFile(RegistryFile):
    """Says nothing: the tests here declare what they need."""

    def changed(self) -> None:
        """Never."""


class Braze:
    """Takes everything, unless told to answer something else; keeps what it was sent."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.status = 201

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply:
        """One request."""
        if self.status == 201:
            self.objects += json.loads(body)["attributes"]
        said = "success" if self.status == 201 else "no"
        return Reply(status=self.status, body=json.dumps({"message": said}).encode())

    def probe(self) -> Reply:
        """The harmless request."""
        return self.track(b'{"attributes": []}')


@dataclass
class Deployment(World):
    """A world with one worker's flow, and the watch of it."""

    now: int = NOON
    surprises: SurprisePolicy = field(default_factory=SurprisePolicy)
    url: str | None = None
    courier_policy: CourierPolicy = field(default_factory=CourierPolicy)
    launch: Callable[[Callable[[], None]], None] = field(default=lambda work: work())

    NOON, DAY, HOUR = NOON, DAY, HOUR

    def __post_init__(self) -> None:
        super().__post_init__()
        self.facts: list[Fact] = []
        self.rung: list[tuple[str, int]] = []
        self.braze = Braze()
        self.start()

    def start(self, **terms: Any) -> None:
        """The worker is started (again), with these settings changed."""
        self.terms = replace(self.terms, **terms)
        World.__post_init__(self)
        self.budget = Budget(self.scripts, self.terms)
        self.flips = Flips(self.client)
        self.notices = Notices(self.client, lambda: self.now)
        noted = Noted()
        self.record = Recorder([self.facts.append, noted])
        courier = None
        if self.url is not None:
            webhook = Webhook(lambda: self.url or "", timeout=1.0)
            courier = Courier(
                self.notices, webhook, self.record, lambda: 0.5, self.launch, self.courier_policy
            )
        self.watch = Watch(
            self.budget, self.flips, self.notices, noted, self.record,
            Outages(self.allowance, self.notices, self.record), courier,
            policy=self.surprises,
        )  # fmt: skip
        identity = ServerIdentity(1, timedelta(seconds=10))
        tools = Tools(
            memberships=self.memberships,
            allowance=self.allowance,
            braze=self.braze,
            record=self.record,
            clock=lambda: self.now / 1000,
            wall=lambda: self.now / 1000,
            wait=self._wait,
            random=lambda: 0.5,
            key_print=lambda: "0",
            recollection=Recollection(self.memberships, identity, lambda: self.now / 1000),
        )
        bells = Bells(self.client)
        ring: Callable[[str, int], None] = lambda task, partition: self.rung.append(  # noqa: E731
            (task, partition)
        )
        forgetting = Forgetting(self.deletions, self.erasure, self.record, tools.clock)
        reload = Reload(NoFile(Path()), self.publication, self.record, "here")
        sweeping = Sweeping(self.sweeps, self.record, tools.clock, tools.wait)
        self.flow = Flow(
            tools, self.inbox, bells, self.watch, ring, FlowPolicy(), forgetting, reload, sweeping
        )

    def _wait(self, seconds: float) -> bool:
        self.now += round(seconds * 1000)
        return False

    def tick(self) -> Any:
        """A second goes by, and the tick is worked off."""
        self.now += 1_000
        return self.flow.recover()

    def join(self, *users: str, audience: str = "vip", value: bool = True) -> None:
        """These users enter (or leave) an audience, by now."""
        self.say(*(self.change(user, audience, value, self.now) for user in users))

    def crowd(self, count: int, audience: str = "vip", first: int = 0, value: bool = True) -> None:
        """So many users enter an audience."""
        for start in range(first, first + count, 500):
            users = range(start, min(start + 500, first + count))
            self.join(*(f"u{n}" for n in users), audience=audience, value=value)

    def sent_of(self, audience: str) -> list[str]:
        """Who was sent with this audience, in order."""
        return [item["external_id"] for item in self.braze.objects if audience in item]

    def points(self) -> dict[str, int]:
        """Data points of this day as they are counted, by audience; `*` in all."""
        names = self.names() | {"*": "*"}
        found = self.client.hgetall(key(0, f"points:{self.now // DAY}"))
        return {names[k.decode()]: int(v) for k, v in found.items()}

    def counted_flips(self) -> dict[str, int]:
        """Memberships that changed in this hour."""
        return self.flips.of_hour(1, self.now // HOUR)

    def held(self) -> dict[str, int]:
        """How many users wait for the budget, by audience."""
        return {item.audience: item.users for item in self.budget.held(1, self.now)}

    def said(self, name: str) -> list[Any]:
        """Facts of one name."""
        return [fact for fact in self.facts if fact.name == name]

    def texts(self) -> list[str]:
        """The notices, newest first."""
        return [kept.text for kept in self.notices.latest(100)]


@pytest.fixture
def make(quick: Any) -> Iterator[Callable[..., Deployment]]:
    """Makes an empty deployment; `more` are its terms, and the fields of `Deployment`."""
    with quick.client() as client:

        def made(**more: Any) -> Deployment:
            client.flushall()
            fields = {name: more.pop(name) for name in list(more) if name in FIELDS}
            return Deployment(client, replace(TERMS, **more), **fields)

        yield made


FIELDS = {"surprises", "url", "courier_policy", "launch", "now"}


class Hook(HTTPServer):
    """A webhook on loopback; it answers `status`, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posted)
        self.status = 200
        self.got: list[tuple[str, str, bytes]] = []
        self.hangs = threading.Event()
        self.hangs.set()

    @property
    def url(self) -> str:
        """Where it is; the path is the secret."""
        return f"http://127.0.0.1:{self.server_port}/services/T0/s3cr3t-path"


class _Posted(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        """Keep it, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], body))
        self.server.hangs.wait(10)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook that takes what it is sent."""
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.hangs.set()
        server.shutdown()
        thread.join(5)
