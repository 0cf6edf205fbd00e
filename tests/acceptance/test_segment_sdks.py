"""Segment's own libraries, unmodified, with nothing but their `host` changed.

`persona-sync up` runs it all; thousands of messages out of order go in, and every profile in the
pretended Braze is compared with what they meant.
"""

import hashlib
import hmac
import json
import os
import random
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(240)

SDKS = Path(__file__).parent / "sdks"
WRITE_KEY, SHARED_SECRET = "w-31c7f2a9", "x-88e0b1d4"
NODE_VERSION = 20
MESSAGES, USERS = 3_000, 400


@dataclass
class Plan:
    """What is sent, in the order in which it is sent, and what it means."""

    prefix: str
    messages: list[dict[str, Any]]

    @classmethod
    def make(cls, prefix: str) -> "Plan":
        """Memberships and traits of some hundred users, seconds apart and shuffled, some of them
        twice, with plain events among them."""
        chance = random.Random(prefix)
        start = datetime.now(UTC) - timedelta(days=1)
        messages: list[dict[str, Any]] = []
        for number in range(MESSAGES):
            key = chance.choice(["vip", "trial_user", "spend_180"])
            is_trait = key == "spend_180"
            value: Any = round(chance.uniform(1, 900), 2) if is_trait else chance.random() < 0.5
            messages.append(
                {
                    "how": chance.choice(["identify", "identify", "track", "plain"]),
                    "user": f"{prefix}-{chance.randrange(USERS)}",
                    "class": "computed_trait" if is_trait else "audience",
                    "key": key,
                    "value": value,
                    "at": (start + timedelta(seconds=20 * number)).isoformat(),
                }
            )
        messages += chance.sample(messages, 200)
        chance.shuffle(messages)
        return cls(prefix, messages)

    def write(self, folder: Path) -> Path:
        """One message a line."""
        path = folder / f"{self.prefix}.ndjson"
        path.write_text("\n".join(json.dumps(one) for one in self.messages) + "\n")
        return path

    def meaning(self) -> dict[str, dict[str, Any]]:
        """The profiles that Braze should have: of each attribute the latest."""
        profiles: dict[str, dict[str, Any]] = {}
        for one in sorted(self.messages, key=lambda one: one["at"]):
            if one["how"] != "plain":
                profiles.setdefault(one["user"], {})[one["key"]] = one["value"]
        return profiles

    @property
    def plain(self) -> int:
        return sum(one["how"] == "plain" for one in self.messages)


class System:
    """`persona-sync up` before a sandbox, with the door for Segment open."""

    def __init__(self, tools: Any, doors: Any) -> None:
        self.tools, self.doors, self.folder = tools, doors, doors.folder
        self.port = tools.free_port()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        python = str(self.tools.bin / "python")
        address = self.folder / "sandbox address.json"
        self.doors.start("sandbox", [python, "-m", "sandbox", "--address-file", str(address)])
        self.tools.until(address.exists)
        self.sandbox = json.loads(address.read_text())["url"]
        self.doors.environment.update(
            {
                "PERSONA_SYNC_DATA_DIR": str(self.folder / "data"),
                "PERSONA_SYNC_BRAZE_ENDPOINT": self.sandbox,
                "PERSONA_SYNC_BRAZE_API_KEY": "sandbox-key",
                "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "300ms",
                "PERSONA_SYNC_WRITE_KEYS": f"app:{WRITE_KEY}",
                "PERSONA_SYNC_SHARED_SECRET": SHARED_SECRET,
                "PERSONA_SYNC_PRODUCER_BIND": f"127.0.0.1:{self.port}",
            }
        )
        self.up = self.doors.start("up", [str(self.tools.bin / "persona-sync"), "up"])
        self.tools.until(lambda: "Ready." in self.up.said or not self.up.is_running())
        assert self.up.is_running(), self.up.said

    def profiles(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Every profile in the sandbox whose user begins so."""
        found: dict[str, dict[str, Any]] = {}
        query = "?limit=1000"
        while True:
            page = self.tools.http(f"{self.sandbox}/sandbox/profiles{query}").document
            found |= page["profiles"]
            if page["next"] is None:
                return {user: held for user, held in found.items() if user.startswith(f"{prefix}-")}
            query = f"?limit=1000&after={page['next']}"

    def wait_until_empty(self) -> dict[str, Any]:
        """Until everything was delivered."""

        def empty() -> dict[str, Any] | None:
            status = self.doors.status()
            return status if self.tools.is_empty(status) else None

        found: dict[str, Any] = self.tools.until(empty, 90)
        return found


@pytest.fixture(scope="module")
def system(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for all libraries."""
    doors = tools.doors(tmp_path_factory.mktemp("segment libraries"))
    made = System(tools, doors)
    try:
        made.start()
        yield made
    finally:
        doors.close()


def check(system: System, plan: Plan, before: dict[str, Any]) -> None:
    """Every profile is what the plan means; what is not our business was counted."""
    status = system.wait_until_empty()
    assert system.profiles(plan.prefix) == plan.meaning()
    accepted = status["accepted"] - before.get("accepted", 0)
    assert accepted == len(plan.messages) - plan.plain
    assert status["accepted"] == sum(status["ends"].values())

    def skipped() -> bool:
        now, then = system.doors.status(), before.get("skipped", {})
        by = now["skipped"].get("plain_track", 0) - then.get("plain_track", 0)
        return bool(by == plan.plain)

    system.tools.until(skipped)


class TestPython:
    @pytest.mark.parametrize("options", [[], ["gzip"]], ids=["plain", "gzip"])
    def test_every_profile_is_right(self, options: list[str], system: System) -> None:
        """segment-analytics-python: identify and track, in its own batches."""
        plan = Plan.make(f"python{''.join(options)}")
        before = system.wait_until_empty()
        path = plan.write(system.folder)
        command = [str(system.tools.bin / "python"), str(SDKS / "send.py")]
        sent = system.doors.run([*command, system.host, WRITE_KEY, str(path), *options])
        assert sent.returncode == 0, sent.stdout + sent.stderr
        check(system, plan, before)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that sends with the Node library, installed by npm for this run."""
    found = shutil.which("node")
    if not found or not shutil.which("npm"):
        pytest.skip("there is no Node here (node and npm, 20 or later)")
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < NODE_VERSION:
        pytest.skip(f"this Node is {version.strip()}; the library needs 20 or later")
    folder = tmp_path_factory.mktemp("node")
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", "."]
    done = subprocess.run(
        [*install, "@segment/analytics-node@3"],
        cwd=folder, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip("npm could not install @segment/analytics-node")
    assert done.returncode == 0, done.stderr
    shutil.copy(SDKS / "send.mjs", folder)
    return [found, str(folder / "send.mjs")]


class TestNode:
    def test_every_profile_is_right(self, node: list[str], system: System) -> None:
        """@segment/analytics-node: identify and track, in its own batches."""
        plan = Plan.make("node")
        before = system.wait_until_empty()
        path = plan.write(system.folder)
        sent = system.doors.run([*node, system.host, WRITE_KEY, str(path)])
        assert sent.returncode == 0, sent.stdout + sent.stderr
        check(system, plan, before)


class TestWebhook:
    """What Segment's webhook sends, one message at a time, signed."""

    def send(self, system: System, message: dict[str, Any]) -> int:
        """The status of the answer."""
        body = json.dumps(message, separators=(",", ":")).encode()
        signature = hmac.new(SHARED_SECRET.encode(), body, hashlib.sha1).hexdigest()
        url = f"{system.host}/webhooks/segment"
        headers = {"X-Signature": signature, "Content-Type": "application/json"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, body, headers), timeout=10) as reply:
            return int(reply.status)

    def member(self, user: str, value: bool, at: str) -> dict[str, Any]:
        personas = {"computation_class": "audience", "computation_key": "vip"}
        return {
            "type": "identify",
            "userId": user,
            "context": {"personas": personas},
            "traits": {"vip": value},
            "timestamp": f"2026-01-02T03:04:{at}Z",
            "receivedAt": f"2026-01-02T03:04:{at}Z",
        }

    def test_the_latest_event_counts_and_a_deletion_forgets(self, system: System) -> None:
        """Out of order it comes out right; after a deletion the user's changes are skipped."""
        assert self.send(system, self.member("hook-ada", False, "09.000")) == 200
        assert self.send(system, self.member("hook-ada", True, "05.000")) == 200
        assert self.send(system, self.member("hook-bo", True, "05.000")) == 200
        system.wait_until_empty()
        assert system.profiles("hook") == {"hook-ada": {"vip": False}, "hook-bo": {"vip": True}}
        before = system.doors.status()["ends"]["skipped"]
        assert self.send(system, {"type": "delete", "userId": "hook-bo"}) == 200
        assert self.send(system, self.member("hook-bo", False, "07.000")) == 200
        system.wait_until_empty()
        assert system.doors.status()["ends"]["skipped"] == before + 1
        assert system.profiles("hook")["hook-bo"] == {"vip": True}


class TestUp:
    """After the others, since the last of these stops it."""

    def test_ready_says_where_segment_may_send(self, system: System) -> None:
        """The address, once everything runs."""
        assert f"segment  {system.host}: /v1" in system.up.said

    def test_rule_24_no_secret_is_in_any_output_of_the_run(self, system: System) -> None:
        """Neither in what the processes wrote nor on their command lines."""
        shown = [child.said for child in system.doors.children]
        shown += system.tools.processes_of(system.folder / "data").values()
        for secret in (WRITE_KEY, SHARED_SECRET, "sandbox-key"):
            assert not [text[:200] for text in shown if secret in text]

    def test_it_all_stops_within_20_s(self, system: System) -> None:
        """The producer included, and nothing is left."""
        assert system.up.stop(within=20) == 0, system.up.said[-2000:]
        left = system.tools.processes_of(system.folder / "data").values()
        assert not [line for line in left if " -m sandbox " not in line]
