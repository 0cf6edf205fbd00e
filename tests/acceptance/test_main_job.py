"""The main job as a user does it on one machine: `demo`; then `up`, `import`, `status`, `trace`.

Behind a proxy that is down, in a folder whose name has spaces.
"""

import gzip
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(240)

# Short times, so that what a killed worker held is sent again soon.
QUICK = {
    "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT": "3s",
    "PERSONA_SYNC_CLAIM_LEASE": "5s",
    "PERSONA_SYNC_AMBIGUOUS_HOLD": "3s",
    "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "500ms",
    "PERSONA_SYNC_INBOX_TAKEOVER": "3s",
}


@pytest.fixture(autouse=True, scope="module")
def _behind_a_dead_proxy(tools: Any, doors: Any) -> None:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    doors.environment.update(dict.fromkeys(names, tools.dead_proxy))


def identify(user: str, key: str, value: Any) -> dict[str, Any]:
    """A message as Engage sends it."""
    personas = {"computation_class": "audience", "computation_key": key}
    return {
        "type": "identify",
        "userId": user,
        "context": {"personas": personas},
        "traits": {key: value},
        "timestamp": "2026-01-02T03:04:05.678Z",
    }


def write_lines(path: Path, lines: list[Any]) -> Path:
    """NDJSON; a line given as text stays as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


class TestDemo:
    """`persona-sync demo --json`, in one folder: to its end, interrupted, to its end again."""

    def play(self, doors: Any) -> dict[str, Any]:
        """A whole demo; its facts."""
        done = doors.persona_sync("demo", "--json", within=150)
        assert done.returncode == 0, done.stdout + done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def check(self, facts: dict[str, Any]) -> None:
        """Its facts say that all is right, and agree with each other."""
        assert facts["as_meant"] is True
        assert facts["profiles_right"] > 1000
        assert facts["profiles_wrong"] == facts["values_wrong"] == facts["pending"] == 0
        assert facts["accepted"] == sum(facts["ends"].values()) > 10_000
        assert facts["ends"]["superseded"] > 0
        assert facts["ends"]["unchanged"] > 0
        assert all(facts["refused"].values())
        assert facts["skipped"]["no_user_id"] > 0
        assert facts["violations"] == {}
        assert facts["limited_429"] > 0
        assert 0 < facts["freshness_p50_s"] <= facts["freshness_p95_s"]
        assert facts["requests"] > facts["objects"] / 75
        assert 1 < facts["mean_fill"] <= 75
        lanes = {found["key"]: found["lane"] for found in facts["lanes"]}
        assert (lanes["vip"], lanes["beta_tester"], lanes["lapsed_30d"]) == (
            "realtime", "realtime", "batched",
        )  # fmt: skip

    def test_it_delivers_everything_and_leaves_nothing_running(
        self, tools: Any, doors: Any
    ) -> None:
        """Exit 0, one JSON document of facts, every profile right, no process left."""
        self.check(self.play(doors))
        assert not tools.processes_of(doors.folder)

    def test_interrupted_in_the_middle_it_leaves_nothing_behind(
        self, tools: Any, doors: Any
    ) -> None:
        """Ctrl-C while it delivers: exit 130, no process left, and the next run is right."""
        demo = doors.start("demo", [str(tools.bin / "persona-sync"), "demo", "--json"])
        tools.until(lambda: "3/4" in demo.said or not demo.is_running(), within=90)
        assert demo.is_running(), demo.said
        assert demo.interrupt(within=40) == 130
        tools.until(lambda: not tools.processes_of(doors.folder), within=10)
        self.check(self.play(doors))
        assert not tools.processes_of(doors.folder)


class System:
    """`persona-sync up` against a sandbox, and the commands beside it."""

    def __init__(self, tools: Any, doors: Any, folder: Path) -> None:
        self.tools, self.doors, self.folder = tools, doors, folder
        self.data = folder / "data"
        self.sandbox = ""
        self.up: Any = None

    def start(self) -> None:
        """Sandbox first, then `up`; returns when a worker is alive."""
        address = self.folder / "sandbox address.json"
        self.doors.start(
            "sandbox",
            [str(self.tools.bin / "python"), "-m", "sandbox", "--address-file", str(address)],
        )
        self.tools.until(address.exists)
        self.sandbox = json.loads(address.read_text())["url"]
        shutil.copy(self.tools.root / "sandbox" / "engage" / "audiences.yaml", self.folder)
        key = self.folder / "braze key"
        key.write_text("sandbox-key\n")
        self.doors.environment.update(
            {
                **QUICK,
                "PERSONA_SYNC_DATA_DIR": str(self.data),
                "PERSONA_SYNC_AUDIENCES": str(self.folder / "audiences.yaml"),
                "PERSONA_SYNC_BRAZE_ENDPOINT": self.sandbox,
                "PERSONA_SYNC_BRAZE_API_KEY_FILE": str(key),
            }
        )
        self.up = self.doors.start("up", [str(self.tools.bin / "persona-sync"), "up"])
        self.tools.until(lambda: self.workers() == 1 or not self.up.is_running())
        assert self.up.is_running(), self.up.said

    def workers(self) -> int:
        """How many `status` says are alive; 0 while it cannot say."""
        return int(self.doors.status().get("workers", 0))

    def wait_until_empty(self, within: float = 90) -> dict[str, Any]:
        """Ask `status` until nothing waits."""

        def empty() -> dict[str, Any] | None:
            status = self.doors.status()
            return status if self.tools.is_empty(status) else None

        found: dict[str, Any] = self.tools.until(empty, within)
        return found

    def profile(self, user: str) -> Any:
        """What the sandbox holds of a user."""
        reply = self.tools.http(f"{self.sandbox}/sandbox/profiles/{user}")
        return reply.document["attributes"] if reply.status == 200 else None


@pytest.fixture(scope="module")
def system(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One `up` for the tests below."""
    doors = tools.doors(tmp_path_factory.mktemp("a system of one's own"))
    doors.environment.update(HTTP_PROXY=tools.dead_proxy, HTTPS_PROXY=tools.dead_proxy)
    made = System(tools, doors, doors.folder)
    try:
        made.start()
        yield made
    finally:
        doors.close()


class TestUp:
    """In this order: it takes in, tells, is helped, is hurt, stops."""

    def test_good_lines_are_delivered_and_broken_ones_named(self, system: System) -> None:
        """Exit 1 with counts by code; refused lines beside the file; the others reach Braze."""
        lines = write_lines(
            system.folder / "some messages.ndjson",
            [
                identify("ada", "vip", True),
                "{ this is no JSON",
                identify("ada", "trial_user", "yes"),
                "[1, 2]",
                identify("bo", "vip", False),
                {**identify("x", "vip", True), "userId": None},
                '{"type": "identify", "userId": "' + "x" * 40_000 + '"}',
            ],
        )
        done = system.doors.persona_sync("import", str(lines), "--json")
        assert done.returncode == 1, done.stderr
        counts = json.loads(done.stdout)
        assert (counts["read"], counts["accepted"]) == (7, 2)
        assert counts["refused"] == {
            "broken_json": 1,
            "membership_not_boolean": 1,
            "not_an_object": 1,
            "line_too_long": 1,
        }
        assert counts["skipped"] == {"no_user_id": 1}
        refused_file = lines.with_name(f"{lines.name}.refused.ndjson")
        refused = [json.loads(line) for line in refused_file.read_text().splitlines()]
        assert {line["line"] for line in refused} == {2, 3, 4, 7}
        assert {line["code"] for line in refused} == set(counts["refused"])
        assert all(line["reason"] for line in refused)
        status = system.wait_until_empty()
        assert status["ends"]["delivered"] == status["accepted"] == 2
        assert system.profile("ada") == {"vip": True}
        assert system.profile("bo") == {"vip": False}

    def test_trace_tells_of_a_known_user(self, system: System) -> None:
        """Desired, acknowledged, lane, and the facts on the way."""
        done = system.doors.persona_sync("trace", "ada", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        vip = told["attributes"]["vip"]
        assert told["user_id"] == "ada"
        assert vip["desired"] is vip["acknowledged"] is True
        assert vip["desired_at"] == "2026-01-02T03:04:05.678Z"
        assert vip["acknowledged_at"].endswith("Z")
        assert (vip["lane"], vip["due_at"]) == ("realtime", None)
        assert told["journal"]
        assert all(entry["at"] and entry["fact"] for entry in told["journal"])

    def test_trace_of_an_unknown_user_is_bad_news(self, system: System) -> None:
        """Exit 1, and still one JSON document."""
        done = system.doors.persona_sync("trace", "nobody", "--json")
        assert done.returncode == 1
        said = json.loads(done.stdout)
        assert (said["user_id"], said["attributes"], said["journal"]) == ("nobody", {}, [])
        assert said["deletion"] is None

    def test_a_worker_started_by_hand_joins_and_leaves(self, system: System) -> None:
        """`celery -A worker.celery_app worker` finds the data folder's server by itself."""
        command = ["celery", "-A", "worker.celery_app", "worker", "-P", "threads", "-c", "4"]
        node = "--hostname=byhand@%h"
        extra = system.doors.start(
            "byhand", [str(system.tools.bin / command[0]), *command[1:], node]
        )
        system.tools.until(lambda: system.workers() == 2)
        assert extra.stop(within=25) == 0, extra.said[-2000:]
        assert system.workers() == 1

    def test_a_killed_worker_is_started_again_and_nothing_is_lost(self, system: System) -> None:
        """SIGKILL in the middle of a delivery: `up` says so, restarts it, profiles end right."""
        example = system.folder / "messages.ndjson.gz"
        shutil.copy(system.tools.root / "sandbox" / "engage" / example.name, example)
        reset = system.tools.http(f"{system.sandbox}/sandbox/reset", body={}, method="POST")
        assert reset.status == 200
        slow = {"latency": [0.1, 0.3]}
        system.tools.http(f"{system.sandbox}/sandbox/config", body=slow, method="PUT")
        importing = system.doors.start(
            "import", [str(system.tools.bin / "persona-sync"), "import", str(example), "--json"]
        )
        report = f"{system.sandbox}/sandbox/report"
        system.tools.until(lambda: system.tools.http(report).document["requests"] > 3)
        signal_worker(system, signal.SIGKILL)
        assert importing.process.wait(90) == 1
        system.tools.until(lambda: "stopped: killed by SIGKILL" in system.up.said)
        status = system.wait_until_empty(within=120)
        assert status["accepted"] == sum(status["ends"].values())
        # The one that was killed counts as alive until its silence is noticed.
        system.tools.until(lambda: system.workers() == 1, 30)
        oracle = [str(system.tools.bin / "python"), "-m", "sandbox.engage.oracle"]
        asked = [*oracle, "--input", str(example), "--braze", system.sandbox, "--json"]
        found = system.doors.run(asked)
        assert found.returncode == 0, found.stdout + found.stderr

    def test_a_second_up_in_the_same_folder_is_refused(self, system: System) -> None:
        """Exit 2, one sentence; the first goes on."""
        done = system.doors.persona_sync("up")
        assert done.returncode == 2
        assert "already runs" in done.stderr
        assert system.up.is_running()

    def test_sigterm_stops_it_within_20_s_and_the_data_stays(self, system: System) -> None:
        """Exit 0, no process left, commands say plainly that nothing runs; then it goes on."""
        assert system.up.stop(within=20) == 0, system.up.said[-2000:]
        assert not [
            line
            for line in system.tools.processes_of(system.data).values()
            if " -m sandbox " not in line
        ]
        done = system.doors.persona_sync("status", "--json")
        assert done.returncode == 1
        assert "persona-sync up" in done.stderr

    def test_what_was_accepted_while_nobody_delivered_is_delivered_later(
        self, system: System
    ) -> None:
        """`import` alone keeps changes on disk; the next `up` sends them."""
        lines = system.folder / "later.ndjson.gz"
        lines.write_bytes(gzip.compress(json.dumps(identify("cy", "vip", True)).encode()))
        done = system.doors.persona_sync("import", str(lines), "--json")
        assert done.returncode == 0, done.stderr
        assert system.profile("cy") is None
        up = system.doors.start("up again", [str(system.tools.bin / "persona-sync"), "up"])
        system.tools.until(lambda: system.profile("cy") == {"vip": True})
        assert up.stop(within=20, how=signal.SIGINT) == 0


def signal_worker(system: System, how: signal.Signals) -> None:
    """Send a signal to the worker that `up` supervises."""
    [pid] = [
        number
        for number, line in system.tools.processes_of(system.data).items()
        if " worker " in line and "worker1@" in line
    ]
    os.kill(pid, how)
