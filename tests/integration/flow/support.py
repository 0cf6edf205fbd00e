"""A deployment in small: the real server, the sandbox, engines in this process, a witness.

Every wait is a poll with a deadline. Terms are short: gap 200 ms, hold 500 ms, a request 400 ms
at most, a lease of 1.6 s.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import msgpack
import requests
from redis import Redis

from producer.envelopes import Addressed
from producer.publish import Producer
from producer.refusals import ProducerRefused
from tests.integration.conftest import RealServer, free_port
from worker.bootstrap import Engine, make_engine
from worker.contract import Change, Changes, inbox_key, key, ledger_key
from worker.flow import Flow
from worker.observe.logs import log_fact
from worker.pipeline.facts import Fact
from worker.pipeline.schedule import Lane
from worker.settings import Settings
from worker.tools import Tools

__all__ = ["free_port"]

ROOT = Path(__file__).parents[3]
KEY = "sandbox-key-1234"
GAP, HOLD, TOTAL, LEASE = 0.2, 0.5, 0.4, 1.6
ENDS = ("delivered", "superseded", "unchanged", "dead", "skipped")
AUDIENCES = """
lanes:
  realtime: {linger: 10ms, max_wait: 50ms}
  batched: {every: 1s}
audiences:
  - {key: nightly, cadence: batched}
  - {key: weekly, cadence: batched}
  - {key: gone_is_null, on_exit: null}
"""
USUAL_KEYS = ("vip", "gold", "gone_is_null", "nightly", "weekly")
TERMS: dict[str, Any] = {
    "same_attribute_gap": "200ms",
    "ambiguous_hold": "500ms",
    "braze_request_timeout": "400ms",
    "braze_connect_timeout": "300ms",
    "claim_lease": "1600ms",
    "inbox_takeover": "400ms",
    "backoff_base": "50ms",
    "backoff_cap": "400ms",
    "probe_interval": "300ms",
    "drain_budget": "1s",
    "realtime_drain_budget": "1s",
}
USUAL_CONFIG: dict[str, Any] = {
    "keys": [KEY],
    "permissions": ["users.track", "users.export.ids", "users.delete", "custom_attributes.get"],
    "rate_limit": {"limit": 3000, "window_s": 3.0, "header_form": "epoch"},
    "max_objects": 75,
    "max_objects_form": "combined",
    "max_bytes": 4_000_000,
    "blocked_attributes": [],
    "forced_types": {},
    "export_delay_s": 0,
    "clock_skew_s": 0,
    "latency": None,
    "gap_s": 0,
}


def eventually(holds: Callable[[], Any], within: float = 10.0, what: str = "it") -> Any:
    """What `holds` returns, once that is true. Fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} did not come within {within} s"
        time.sleep(0.01)
    return found


class Sandbox:
    """The pretended Braze, as a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--port", "0", "--api-key", KEY],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"]
        self._session = requests.Session()
        self._session.trust_env = False

    def stop(self) -> None:
        """End the process, and wait until it has gone."""
        self._session.close()
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _call(self, method: str, path: str, document: Any = None) -> Any:
        reply = self._session.request(
            method, f"{self.url}/sandbox/{path}", json=document, timeout=10
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    def reset(self) -> None:
        """No profiles, no counts, no faults, the usual settings."""
        self._call("PUT", "config", USUAL_CONFIG)
        self._call("POST", "reset")

    def configure(self, **settings: Any) -> None:
        """Change some settings."""
        self._call("PUT", "config", settings)

    def fault(self, kind: str, **options: Any) -> None:
        """Append one fault to the queue."""
        self._call("POST", "faults", {"kind": kind, **options})

    def faults(self) -> list[dict[str, Any]]:
        """The queue of faults, with how often each struck."""
        return list(self._call("GET", "faults"))

    def no_faults(self) -> None:
        """Behave from now on."""
        self._call("DELETE", "faults")

    def report(self) -> dict[str, Any]:
        """Counters, broken rules, waste."""
        return dict(self._call("GET", "report"))

    def requests(self) -> list[dict[str, Any]]:
        """The last requests, oldest first; at most 200."""
        return list(reversed(self._call("GET", "requests?limit=200")["requests"]))

    def profiles(self) -> dict[str, dict[str, Any]]:
        """The custom attributes of everybody."""
        return dict(self._call("GET", "profiles?limit=100000")["profiles"])

    def attributes(self, user: str) -> dict[str, Any]:
        """The custom attributes of one user; empty for an unknown one."""
        return self.profiles().get(user, {})

    def values(self, user: str, attribute: str) -> list[Any]:
        """What was sent for one attribute of a user, in order, whether or not it took effect."""
        return [
            item[attribute]
            for request in self.requests()
            for item in request["objects"]
            if item.get("external_id") == user and attribute in item
        ]


class Worker:
    """One worker process's engine, in this process; what it recorded and whom it rang."""

    def __init__(self, engine: Engine, rung: list[tuple[str, int]]) -> None:
        self.engine = engine
        self.flow: Flow = engine.flow
        self.stores = engine.stores
        self.rung = rung
        self.facts: list[Fact] = []
        self.change_tools(record=self._record)
        forgetting = self.flow._forgetting
        if forgetting.forwarding:
            tools = replace(forgetting.forwarding._tools, record=self._record)
            forgetting.forwarding._tools = tools
        self.flow._forgetting = replace(forgetting, record=self._record)
        self.flow._reload.record = self._record
        self.flow._sweeping.record = self._record

    def _record(self, fact: Fact) -> None:
        self.facts.append(fact)
        log_fact(fact)

    @property
    def tools(self) -> Tools:
        """What the flow is made of."""
        return self.flow._tools

    def change_tools(self, **changes: Any) -> None:
        """Put something else in the place of a tool."""
        self.flow._tools = replace(self.flow._tools, **changes)

    def facts_named(self, name: str) -> list[Any]:
        """The recorded facts of one name."""
        return [fact for fact in self.facts if fact.name == name]

    def accept(self) -> Any:
        """One accept drain."""
        return self.flow.accept(0)

    def flush(self, lane: Lane = Lane.REALTIME) -> Any:
        """One flush drain."""
        return self.flow.flush(0, lane)

    def step(self) -> None:
        """One of everything that a worker's queues would bring."""
        self.flow.recover()
        self.flow.accept(0)
        self.flow.sweep(0)
        self.flow.flush(0, Lane.REALTIME)
        self.flow.flush(0, Lane.BATCHED)


class Deployment:
    """Engines, a producer's way in, and what must hold whatever happened."""

    def __init__(self, server: RealServer, client: Redis, sandbox: Sandbox, folder: Path) -> None:
        self.server = server
        self.client = client
        self.sandbox = sandbox
        self.folder = folder
        self.key_file = folder / "braze-key"
        self.key_file.write_text(KEY)
        (folder / "audiences.yaml").write_text(AUDIENCES)
        self.meant: dict[str, dict[str, Any]] = {}
        self.breaks_allowed: set[str] = set()
        self._workers: list[Worker] = []
        self._envelopes = count(1)
        self._event_ms = int(time.time() * 1000) - 3_600_000
        self._producer = Producer.from_settings(self.settings())

    def settings(self, **changes: Any) -> Settings:
        """The settings of this deployment."""
        return Settings(
            **{
                "redis_url": self.server.url,
                "braze_endpoint": self.sandbox.url,
                "braze_api_key_file": self.key_file,
                "audiences": self.folder / "audiences.yaml",
                **TERMS,
                **changes,
            }
        )

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The same settings for a process of its own; None unsets one."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
        ours = {
            "redis_url": self.server.url,
            "braze_endpoint": self.sandbox.url,
            "braze_api_key_file": str(self.key_file),
            "audiences": str(self.folder / "audiences.yaml"),
            **TERMS,
            **changes,
        }
        return {
            **kept,
            **{f"PERSONA_SYNC_{k.upper()}": v for k, v in ours.items() if v is not None},
        }

    def worker(self, clock: Callable[[], int] | None = None, **changes: Any) -> Worker:
        """A worker of this deployment, settings changed by name; `clock` (ms) for the server's."""
        rung: list[tuple[str, int]] = []

        def ring(task: str, partition: int) -> None:
            rung.append((task, partition))

        made = Worker(make_engine(self.settings(**changes), ring, clock), rung)
        self._workers.append(made)
        return made

    def hasty_worker(self) -> Worker:
        """A worker whose drains end after one request."""
        return self.worker(drain_budget="1ms", realtime_drain_budget="1ms")

    def close(self) -> None:
        """Give everything back."""
        for worker in self._workers:
            worker.engine.close()
        self._producer.close()

    # --- what goes in

    def change(self, user: str, attribute: str, value: Any, event_at: int | None = None) -> Change:
        """A change later than all before, unless `event_at` says otherwise. Noted as meant."""
        if event_at is None:
            self._event_ms += 1
            event_at = self._event_ms
            self.meant.setdefault(user, {})[attribute] = value
        kind = "audience" if isinstance(value, bool) else "trait"
        return Change(
            user_id=user,
            attribute=attribute,
            value=value,
            event_at=event_at,
            **{"class": kind},
        )

    def send(self, changes: Sequence[Change], rings: bool = False) -> None:
        """Append changes as a producer does; with `rings` the doorbell, too."""
        self.append(self.packed(changes), rings=rings)

    def packed(self, changes: Sequence[Change]) -> list[Addressed]:
        """Changes as envelopes of at most 500."""
        return [
            Addressed.of(
                Changes(id=f"e{next(self._envelopes)}", changes=list(changes[i : i + 500])), 0
            )
            for i in range(0, len(changes), 500)
        ]

    def append(self, envelopes: Sequence[Addressed], rings: bool = False) -> None:
        """Append; repeating it appends nothing twice."""
        if rings:
            self._producer.append(envelopes)
        else:
            self._producer._inbox.append(envelopes)

    def put(self, user: str, **values: Any) -> None:
        """Append one envelope of changes of one user."""
        self.send([self.change(user, name, value) for name, value in values.items()])

    def put_raw(self, fields: dict[str, Any]) -> str:
        """Append an entry that no producer of ours would, counted as accepted if it says so."""
        if str(fields.get("n", "")).isdecimal():
            self.client.hincrby(ledger_key(0), "accepted", int(fields["n"]))
        return str(self.client.xadd(inbox_key(0), fields).decode())

    # --- working it off

    def is_idle(self) -> bool:
        """Nothing in the inbox, nobody ready, held, due or in flight."""
        looks = self.client.pipeline(transaction=True)
        looks.xlen(inbox_key(0))
        for name in ("rt:ready", "rt:held", "bt:held", "claims"):
            looks.zcard(key(0, name))
        looks.zcount(key(0, "bt:ready"), "-inf", time.time() * 1000)
        return not any(looks.execute())

    def is_delivered(self) -> bool:
        """Idle, and nobody waits for a boundary either."""
        return self.is_idle() and not self.client.zcard(key(0, "bt:ready"))

    def drain(self, worker: Worker, within: float = 10.0, batched: bool = False) -> None:
        """Work until idle; with `batched` also what waits for its boundary."""

        def is_done() -> bool:
            worker.step()
            return self.is_delivered() if batched else self.is_idle()

        eventually(is_done, within, "idleness")

    @contextmanager
    def threads(self, *work: Callable[[], Any]) -> Iterator[None]:
        """Each of `work` again and again in a thread of its own, as long as the block lasts."""
        is_over = threading.Event()
        problems: list[BaseException] = []

        def loop(once: Callable[[], Any]) -> None:
            try:
                while not is_over.is_set():
                    once()
                    is_over.wait(0.005)
            except BaseException as error:  # noqa: BLE001 - told to the test below
                problems.append(error)

        running = [threading.Thread(target=loop, args=(once,), daemon=True) for once in work]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            is_over.set()
            for thread in running:
                thread.join(20)
        assert not problems, problems
        assert not any(thread.is_alive() for thread in running)

    # --- what must hold

    def ledger(self) -> dict[str, int]:
        """The counters; those that are absent are 0."""
        found = {k.decode(): int(v) for k, v in self.client.hgetall(ledger_key(0)).items()}
        return Counter(found)

    def open_changes(self) -> int:
        """Changes that have had no end, counted in the users and in the claims on them."""
        users = {}
        for name in self.client.scan_iter(key(0, "u:*")):
            raw = self.client.hgetall(name)
            user = name.decode().removeprefix(key(0, "u:"))
            users[user] = {k.decode(): _flags(v) for k, v in raw.items() if k != b"."}
        found = sum(flags & 1 for fields in users.values() for flags in fields.values())
        for raw in self.client.hvals(key(0, "claim")):
            for item in msgpack.unpackb(raw):
                if item:
                    user, values = item
                    for id_, *_, is_open, _arrived in values:
                        if is_open and not users[user][id_] & 2:
                            found += 1
        return found

    def unknown_values(self) -> Counter[str]:
        """By key, how many values were in requests of which nobody knows the end, as far back as
        the journal goes: Braze may have got each of them once more than was acknowledged."""
        names = {k.decode(): v.decode() for k, v in self.client.hgetall(key(0, "names")).items()}
        found: Counter[str] = Counter()
        for _, fields in self.client.xrange(key(0, "journal")):
            if fields[b"k"] == b"settle":
                _, _, ended = msgpack.unpackb(fields[b"b"])
                for _, verdict, _, values in ended:
                    if verdict == "u":
                        found.update(names[value[0]] for value in values)
        return found

    def assert_balanced(self) -> None:
        """Rule 12: accepted = the sum of the ends + what is open + what is in the inbox."""
        ledger = self.ledger()
        waiting = sum(int(fields.get(b"n", 0)) for _, fields in self.client.xrange(inbox_key(0)))
        # Of an entry whose script failed midway, some changes have had their ends already.
        for torn in self.client.hvals(key(0, "torn")):
            waiting -= int(torn.decode().rpartition(":")[2])
        ended = {name: ledger[name] for name in ENDS}
        assert ledger["accepted"] == sum(ended.values()) + self.open_changes() + waiting, (
            ended,
            self.open_changes(),
            waiting,
            ledger["accepted"],
        )

    def assert_right(self) -> None:
        """Every profile holds what was said last; an exit may be written as null."""
        profiles = self.sandbox.profiles()
        wrong = {
            user: (values, profiles.get(user))
            for user, values in self.meant.items()
            if any(
                profiles.get(user, {}).get(name)
                != (None if name == "gone_is_null" and value is False else value)
                for name, value in values.items()
            )
        }
        assert not wrong, (
            f"{len(wrong)} of {len(self.meant)} wrong: {dict(list(wrong.items())[:5])}"
        )

    def assert_well_behaved(self) -> None:
        """No rule broken that Braze suffers from."""
        report = self.sandbox.report()
        broken = {k: v for k, v in report["violations"].items() if k not in self.breaks_allowed}
        assert not broken, report["violation_samples"][:5]


def _flags(raw: bytes) -> int:
    fields = msgpack.unpackb(raw)
    return int(fields[7]) if len(fields) > 7 else 0


class Part:
    """A process of the deployment: a Celery worker or the beat. Ended by its id only."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "worker.celery_app", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @classmethod
    def worker(
        cls, deployment: Deployment, name: str, threads: int = 8, **changes: str | None
    ) -> Self:
        """A Celery worker with the threads pool."""
        arguments = [
            *("worker", "-P", "threads", "-c", str(threads), "-n", f"{name}@%h"),
            *("--without-gossip", "--without-mingle"),
        ]
        return cls(arguments, deployment.environment(**changes), deployment.folder / f"{name}.log")

    @classmethod
    def beat(cls, deployment: Deployment) -> Self:
        """The beat."""
        schedule = deployment.folder / f"schedule-{time.monotonic_ns()}"
        arguments = ["beat", "--schedule", str(schedule), "--pidfile="]
        return cls(arguments, deployment.environment(), deployment.folder / "beat.log")

    @property
    def is_running(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it ended."""
        return self._process.poll()

    def said(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(errors="replace")

    def send_signal(self, how: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, how)

    def end(self, how: signal.Signals = signal.SIGTERM, within: float = 15.0) -> None:
        """Send a signal, and wait until the process has gone."""
        self.send_signal(how)
        self._process.wait(within)

    def stop(self) -> None:
        """End it for good, whatever it is at, be it frozen."""
        self.send_signal(signal.SIGCONT)
        try:
            self.end(within=10)
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)


class Traffic:
    """A producer that goes on saying things about the same users, in both lanes, until stopped.

    It repeats what was not taken, as a producer does, so that the server may be away.
    `of_whom` draws a user and an audience; `every`: seconds between two envelopes.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        users: int = 400,
        size: int = 60,
        of_whom: Callable[[Random], tuple[str, str]] | None = None,
        every: float = 0.02,
    ) -> None:
        self._deployment = deployment
        self._chance = Random(17)
        self._of_whom = of_whom or (
            lambda chance: (f"u{chance.randrange(users)}", chance.choice(USUAL_KEYS))
        )
        self._size = size
        self._every = every
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self.problem: BaseException | None = None
        self.refusals = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.problem is None, self.problem

    def _go_on(self) -> None:
        try:
            while not self._is_over.wait(self._every):
                self._say_something()
        except BaseException as error:  # noqa: BLE001 - told to the test above
            self.problem = error

    def _say_something(self) -> None:
        chance = self._chance
        envelopes = self._deployment.packed(
            [
                self._deployment.change(*self._of_whom(chance), chance.random() < 0.5)
                for _ in range(self._size)
            ]
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self._deployment.append(envelopes, rings=True)
                return
            except ProducerRefused:
                self.refusals += 1
                assert time.monotonic() < deadline, "the server stayed away"
                self._is_over.wait(0.05)
