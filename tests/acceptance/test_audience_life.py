"""The life of an audience as its owner lives it: `up`, a file that changes, flush, disable, retire.

The pretended Braze is the judge.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(240)

BEFORE = """
lanes: {batched: {every: 12h}}
audiences:
  - {key: lapsed, cadence: batched}
  - {key: other, cadence: batched}
  - {key: vip}
"""
AFTER = BEFORE.replace("{key: vip}", "{key: vip, attribute: seg_vip}")
USERS = [f"u{n}" for n in range(30)]


class System:
    """`persona-sync up` against a sandbox; its boundaries are hours away."""

    def __init__(self, tools: Any, doors: Any) -> None:
        self.tools, self.doors, self.folder = tools, doors, doors.folder
        self.file = doors.folder / "audiences.yaml"
        self.sandbox = ""

    def start(self) -> None:
        """Sandbox first, then `up` with two workers; returns when both are alive."""
        python = str(self.tools.bin / "python")
        address = self.folder / "sandbox.json"
        self.doors.start("sandbox", [python, "-m", "sandbox", "--address-file", str(address)])
        self.tools.until(address.exists)
        self.sandbox = json.loads(address.read_text())["url"]
        self.file.write_text(BEFORE)
        key = self.folder / "braze.key"
        key.write_text("sandbox-key\n")
        self.doors.environment.update(
            {
                "PERSONA_SYNC_DATA_DIR": str(self.folder / "data"),
                "PERSONA_SYNC_AUDIENCES": str(self.file),
                "PERSONA_SYNC_BRAZE_ENDPOINT": self.sandbox,
                "PERSONA_SYNC_BRAZE_API_KEY_FILE": str(key),
                "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "200ms",
                "PERSONA_SYNC_BATCHED_OFFSET": "3h",
            }
        )
        up = [str(self.tools.bin / "persona-sync"), "up", "--workers", "2"]
        running = self.doors.start("up", up)
        self.tools.until(lambda: self.status().get("workers") == 2 or not running.is_running())
        assert running.is_running(), running.said

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        found: dict[str, Any] = self.doors.status()
        return found

    def audience(self, key: str) -> dict[str, Any]:
        """What `status` says of one audience."""
        (found,) = [one for one in self.status()["audiences"] if one["key"] == key]
        return dict(found)

    def call(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command with --json; its document."""
        done = self.doors.persona_sync(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def say(self, values: dict[str, bool], users: list[str], name: str) -> None:
        """Import these memberships of these users; later than all before."""
        lines = [
            json.dumps(
                {
                    "type": "identify",
                    "userId": user,
                    "context": {
                        "personas": {"computation_class": "audience", "computation_key": key}
                    },
                    "traits": {key: value},
                }
            )
            for user in users
            for key, value in values.items()
        ]
        path: Path = self.folder / f"{name}.ndjson"
        path.write_text("\n".join(lines) + "\n")
        done = self.doors.persona_sync("import", str(path))
        assert done.returncode == 0, done.stderr

    def profiles(self) -> dict[str, dict[str, Any]]:
        """What the sandbox holds, without what Braze keeps itself."""
        found = self.tools.http(f"{self.sandbox}/sandbox/profiles?limit=1000").document["profiles"]
        return dict(found)

    def everybody_has(self, **values: Any) -> bool:
        """True if every user's profile says exactly this."""
        found = self.profiles()
        return [found.get(user) for user in USERS] == [values] * len(USERS)


@pytest.fixture(scope="module")
def system(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One `up` for the tests below."""
    doors = tools.doors(tmp_path_factory.mktemp("the life of an audience"))
    try:
        made = System(tools, doors)
        made.start()
        yield made
    finally:
        doors.close()


class TestLife:
    """In this order, on the same users."""

    def test_before_a_campaign(self, system: System) -> None:
        """One batched audience is brought up to date; the other waits for its boundary."""
        system.say({"lapsed": True, "other": True, "vip": True}, USERS, "first")
        report = system.call("flush", "lapsed", "--wait")
        assert (report["up_to_date"], report["left"], report["dead"]) == (True, 0, 0)
        system.tools.until(lambda: system.everybody_has(lapsed=True, vip=True))
        lapsed, other = system.audience("lapsed"), system.audience("other")
        assert (lapsed["said"], lapsed["members"], lapsed["sent"]) == ("up to date", 30, 30)
        assert (other["pending"], other["members"], other["sent"]) == (30, 30, 0)
        assert other["next_flush_at"]

    def test_a_file_that_changes(self, system: System) -> None:
        """`validate` says what follows; both workers take it up; the new name has every value."""
        following = system.folder / "next.yaml"
        following.write_text(AFTER)
        report = system.call("audiences", "validate", str(following))
        (work,) = report["change"]["work"]
        assert (work["work"], work["users"], work["left_behind"]) == ("resync", 30, "vip")
        following.rename(system.file)
        system.tools.until(lambda: system.everybody_has(lapsed=True, vip=True, seg_vip=True))
        assert system.status()["registry"]["version"] != report["registry"]["version"]

    def test_a_broken_file_changes_nothing(self, system: System) -> None:
        """It is said in `status` and by `check`, and over when it is mended."""
        system.file.write_text(AFTER + "  - {kye: new}\n")
        system.tools.until(lambda: system.status()["registry"]["fault"])
        assert "kye" in system.status()["registry"]["fault"]["text"]
        assert system.doors.persona_sync("check").returncode == 1
        system.file.write_text(AFTER)
        system.tools.until(lambda: system.status()["registry"]["fault"] is None)

    def test_disabled_and_enabled(self, system: System) -> None:
        """Recorded and not sent; then sent. Nobody else waits for that."""
        report = system.call("audiences", "disable", "vip", "--by", "ann", "--why", "wrong query")
        assert report["in_force"] is True
        system.say({"vip": False}, USERS, "second")
        system.tools.until(lambda: system.audience("vip")["pending"] == 30)
        assert "disabled by ann (wrong query)" in system.audience("vip")["said"]
        assert system.everybody_has(lapsed=True, vip=True, seg_vip=True)
        assert system.call("flush", "vip", code=1)["error"]["code"] == "disabled"
        assert system.call("audiences", "enable", "vip", "--by", "bob")["users"] == 30
        system.tools.until(lambda: system.everybody_has(lapsed=True, vip=True, seg_vip=False))

    def test_sent_again(self, system: System) -> None:
        """A dry run first; then all of it, once."""
        cost = system.call("resync", "vip")["cost"]
        assert (cost["users"], cost["data_points"], cost["requests"]) == (30, 30, 1)
        report = system.call("resync", "vip", "--yes", "--wait")
        assert (report["done"], report["left"], report["sweep"]["changed"]) == (True, 0, 30)
        assert system.audience("vip")["sent"] == 120

    def test_retired_and_closed(self, system: System) -> None:
        """Every member loses the attribute; what Segment says later is skipped."""
        report = system.call("audiences", "retire", "other", "--set", "null")
        assert (report["begun"], report["members"], report["former_members"]) == (False, 30, 0)
        system.call("audiences", "retire", "other", "--set", "null", "--yes", "--by", "ann")
        system.call("flush", "other", "--wait")
        report = system.call("audiences", "retire", "other", "--set", "null", "--wait")
        assert (report["done"], report["by"]) == (True, "ann")
        system.say({"other": True}, USERS, "third")
        system.tools.until(lambda: system.audience("other")["skipped"] == 30)
        assert system.everybody_has(lapsed=True, vip=True, seg_vip=False)
        status = system.status()
        assert status["accepted"] == sum(status["ends"].values())
