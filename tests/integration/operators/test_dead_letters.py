"""`dead-letters`: what is listed, replayed, dropped, exported; the books balance after each."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from redis import Redis

from console.dead_letters import envelope_of
from tests.integration.flow.support import ROOT, Deployment, Sandbox, Worker, eventually
from tests.integration.operators.conftest import Command
from worker.contract import inbox_key, key
from worker.stores.operators import InboxIsFull, Operators


@pytest.fixture
def worker(deployment: Deployment) -> Worker:
    """The first worker of the deployment."""
    return deployment.worker()


def operators(deployment: Deployment) -> Operators:
    """What operators do, without the command."""
    settings = deployment.settings()
    return Operators(deployment.client, settings.same_attribute_gap, settings.journal_bytes)


def refuse(deployment: Deployment, *users: str) -> None:
    """Braze refuses these users from now on, by name."""
    for user in users:
        deployment.sandbox.fault("poison", match_user=user, named=True, times=None)


def bury(client: Redis, count: int, at_ms: int | None = None, **fields: Any) -> None:
    """Write letters of users who are not in the engine's state."""
    pipeline = client.pipeline()
    for n in range(count):
        values = msgpack.packb([("vip", "true", 1_000 + n, 2_000, 3, 4)])
        letter = {
            "kind": "object", "reason": "too old", "user": f"u{n}", "request": "r1",
            "values": values, **fields,
        }  # fmt: skip
        pipeline.xadd(key(0, "dead"), letter, id=f"{at_ms + n}-0" if at_ms else "*")
    pipeline.execute()


class TestList:
    def test_the_shape_of_a_letter(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """User, attributes, values, ranks, reason, request and instant, as they were sent."""
        refuse(deployment, "u")
        deployment.put("u", vip=True, spend=4.5)
        deployment.drain(worker)
        report = command("dead-letters", "list", "--json").json
        (letter,) = report["letters"]
        assert (report["total"], report["more"]) == (1, False)
        assert (letter["kind"], letter["user"], letter["partition"]) == ("object", "u", 0)
        assert letter["values"] == {"vip": True, "spend": 4.5}
        assert sorted(letter["attributes"]) == ["spend", "vip"]
        assert set(letter["ranks"]["vip"]) == {
            "event_at", "arrived_at", "arrived_sequence", "place",
        }  # fmt: skip
        assert letter["at"].endswith("Z")
        assert letter["reason"]
        assert letter["request"]

    def test_filters(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """By text of the reason, attribute, user and age; all that are given must fit."""
        now = int(time.time() * 1000)
        bury(client, 2, at_ms=now - 7_200_000)
        bury(client, 1, user="young", reason="Bad EMAIL")
        bury(client, 1, values=msgpack.packb([("spend", "4", 1, 2, 3, 4)]), user="rich")

        def users(*arguments: str) -> list[str]:
            letters = command("dead-letters", "list", "--json", *arguments).json["letters"]
            return [letter["user"] for letter in letters]

        assert users("--reason", "email") == ["young"]
        assert users("--attribute", "spend") == ["rich"]
        assert users("--user", "u1") == ["u1"]
        assert users("--older-than", "1h") == ["u0", "u1"]
        assert users("--newer-than", "1h") == ["young", "rich"]
        assert users("--older-than", "1h", "--user", "young") == []
        assert users("--limit", "3") == ["u0", "u1", "young"]

    def test_an_attribute_is_found_by_its_braze_name(
        self, deployment: Deployment, command: Command, client: Redis
    ) -> None:
        """Who looks into Braze knows the attribute, not the audience's key."""
        text = "audiences: [{key: vip, cadence: realtime, attribute: seg_vip}]"
        (deployment.folder / "audiences.yaml").write_text(text)
        bury(client, 1)
        found = command("dead-letters", "list", "--attribute", "seg_vip", "--json").json
        assert len(found["letters"]) == 1

    def test_bounded(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """Fifty are shown unless more are asked for, and it says that there are more."""
        bury(client, 1_200)
        report = command("dead-letters", "list", "--json").json
        assert (len(report["letters"]), report["more"], report["total"]) == (50, True, 1_200)
        assert "1,200 dead letters" in command("dead-letters", "list").out

    def test_summary(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """Counted by reason, whatever their number, the most frequent first."""
        bury(client, 1_100)
        bury(client, 2, reason="odd")
        groups = command("dead-letters", "list", "--summary", "--json").json["groups"]
        assert [(group["reason"], group["letters"]) for group in groups] == [
            ("too old", 1_100),
            ("odd", 2),
        ]

    def test_wrong_use(self, deployment: Deployment, command: Command) -> None:
        """A span that is none ends with 2, and says how one is written."""
        done = command("dead-letters", "list", "--older-than", "soon")
        assert done.code == 2
        assert "15m" in done.err

    def test_no_server(self, deployment: Deployment, command: Command) -> None:
        """Without a server it is bad news in a sentence."""
        assert command("dead-letters", "list", redis_url="redis://127.0.0.1:1/0").code == 1


class TestReplayOfObjects:
    def test_newest_value_is_sent(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """The mark is lifted and the value goes out: a re-send, not a new acceptance."""
        refuse(deployment, "u", "v")
        deployment.put("u", vip=True)
        deployment.put("v", vip=True)
        deployment.drain(worker)
        deployment.sandbox.no_faults()
        report = command("dead-letters", "replay", "--user", "u", "--by", "ann", "--json").json
        assert (report["replayed"], report["values_due"]) == (1, 1)
        deployment.drain(worker)
        assert deployment.sandbox.attributes("u") == {"vip": True}
        assert deployment.sandbox.attributes("v") == {}
        ledger = deployment.ledger()
        assert (ledger["accepted"], ledger["dead"], ledger["delivered"]) == (2, 2, 0)
        assert (ledger["resent"], ledger["replayed"]) == (1, 1)
        left = command("dead-letters", "list", "--json").json["letters"]
        assert [letter["user"] for letter in left] == ["v"]

    def test_newer_state_is_respected(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """A letter that a newer change has outdated sends nothing, and goes away."""
        refuse(deployment, "u")
        deployment.put("u", vip=True)
        deployment.drain(worker)
        deployment.sandbox.no_faults()
        deployment.put("u", vip=False)
        deployment.drain(worker)
        report = command("dead-letters", "replay", "--json").json
        assert (report["replayed"], report["values_due"]) == (1, 0)
        deployment.drain(worker)
        assert deployment.sandbox.values("u", "vip")[-1:] == [False]
        assert deployment.ledger()["resent"] == 0

    def test_many_letters_of_one_user_send_once(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Two refused versions are two letters; their replay sends the newest, once."""
        refuse(deployment, "u")
        for value in (True, False):
            deployment.put("u", vip=value)
            deployment.drain(worker)
        deployment.sandbox.no_faults()
        report = command("dead-letters", "replay", "--json").json
        assert (report["replayed"], report["values_due"]) == (2, 1)
        deployment.drain(worker)
        assert deployment.sandbox.attributes("u") == {"vip": False}
        assert (deployment.ledger()["resent"], deployment.ledger()["dead"]) == (1, 2)

    def test_a_user_in_flight_is_left_to_the_claim(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """While another value of the user is being sent, a replay waits for that to be settled."""
        refuse(deployment, "u")
        deployment.put("u", vip=True)
        deployment.drain(worker)
        deployment.sandbox.no_faults()
        deployment.put("u", gold=True)
        worker.accept()
        braze = worker.tools.braze

        class ReplaysMeanwhile:
            probe = braze.probe

            def track(self, body: bytes, **options: Any) -> Any:
                if json.loads(body)["attributes"] == [{"external_id": "u", "gold": True}]:
                    command("dead-letters", "replay")
                    waiting = deployment.client.zscore(key(0, "rt:ready"), "u")
                    assert waiting is None
                return braze.track(body, **options)

        worker.change_tools(braze=ReplaysMeanwhile())
        deployment.drain(worker)
        assert deployment.sandbox.attributes("u") == {"vip": True, "gold": True}

    def test_dry_run_changes_nothing(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """It says how many of which kind, and leaves them."""
        refuse(deployment, "u")
        deployment.put("u", vip=True)
        deployment.drain(worker)
        before = deployment.client.xrange(key(0, "dead"))
        report = command("dead-letters", "replay", "--dry-run", "--json").json
        assert (report["matched"], report["kinds"]["object"]) == (1, 1)
        assert deployment.client.xrange(key(0, "dead")) == before
        assert worker.flush().requests == 0

    def test_paused(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """A replay while paused says that nothing is sent yet."""
        bury(client, 1)
        command("pause", "--by", "ann")
        done = command("dead-letters", "replay")
        assert (done.code, "paused" in done.out) == (0, True)

    def test_limit_and_pages(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """The oldest first, across pages; the others stay."""
        bury(client, 1_300)
        report = command("dead-letters", "replay", "--limit", "1100", "--json").json
        assert report["replayed"] == 1_100
        assert client.xlen(key(0, "dead")) == 200

    def test_it_is_written_down_with_its_users(
        self, deployment: Deployment, command: Command, client: Redis
    ) -> None:
        """Who replayed what can be told later."""
        bury(client, 1)
        command("dead-letters", "replay", "--by", "ann")
        (action,) = operators(deployment).actions()
        assert (action.by, action.what) == ("ann", "replay")
        assert [user for _, user in action.letters] == ["u0"]
        (entry,) = command("trace", "u0", "--json").json["journal"]
        assert (entry["fact"], entry["by"]) == ("replay of a dead letter", "ann")


class TestInterrupted:
    @pytest.mark.parametrize(
        ("arguments", "name", "verb"),
        [(["replay"], "replayed", "Replayed"), (["drop", "--yes"], "dropped", "Dropped")],
    )
    def test_it_says_exactly_what_was_done(
        self, deployment: Deployment, command: Command, client: Redis, tmp_path: Path,
        arguments: list[str], name: str, verb: str,
    ) -> None:  # fmt: skip
        """Ctrl-C midway: 130, the counts in both forms, and the same command does the rest."""
        bury(client, 12_000)
        process = subprocess.Popen(
            [sys.executable, "-m", "console.cli", "dead-letters", *arguments, "--json"],
            env={**deployment.environment(), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: client.xlen(key(0, "dead")) < 12_000)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        left = client.xlen(key(0, "dead"))
        assert process.returncode == 130, err
        assert 0 < left < 12_000
        report = json.loads(out)
        assert (report["finished"], report[name]) == (False, 12_000 - left)
        assert report["error"]["code"] == "interrupted"
        assert f"Interrupted. {verb} {12_000 - left:,} dead letters" in err
        assert "call it again" in err
        done = command("dead-letters", *arguments, "--json").json
        assert (done["finished"], done[name], client.xlen(key(0, "dead"))) == (True, left, 0)


class TestReplayOfChanges:
    def test_accepted_anew(
        self, deployment: Deployment, command: Command, sandbox: Sandbox
    ) -> None:
        """Changes over the limit of undeclared audiences find their way once there is room."""
        small = deployment.worker(undeclared_limit=1)
        deployment.put("u", one=True, two=True, three="text")
        deployment.drain(small)
        assert deployment.ledger()["dead"] == 2
        roomy = deployment.worker()
        report = command("dead-letters", "replay", "--json").json
        assert (report["replayed"], report["accepted_anew"], report["no_room"]) == (2, 2, 0)
        deployment.assert_balanced()
        deployment.drain(roomy)
        deployment.assert_right()
        ledger = deployment.ledger()
        assert (ledger["accepted"], ledger["dead"], ledger["delivered"]) == (5, 2, 3)

    def test_rank_is_kept(self, deployment: Deployment, command: Command) -> None:
        """A replayed change is as old as it was: what came later wins."""
        small = deployment.worker(undeclared_limit=1)
        deployment.put("u", one=True, two=True)
        deployment.drain(small)
        roomy = deployment.worker()
        deployment.put("u", two=False)
        deployment.drain(roomy)
        command("dead-letters", "replay")
        deployment.drain(roomy)
        deployment.assert_right()
        assert deployment.ledger()["superseded"] == 1

    def test_still_no_room(self, deployment: Deployment, command: Command) -> None:
        """What would die again stays as it is, and it is said why, of which keys, what to do."""
        small = deployment.worker(undeclared_limit=1)
        deployment.put("u", one=True, two=True)
        deployment.drain(small)
        would = command("dead-letters", "replay", "--dry-run", "--json").json
        assert (would["matched"], would["no_room"], would["no_room_for"]) == (0, 1, ["two"])
        done = command("dead-letters", "replay")
        assert done.code == 1
        assert "1 dead letter stays: the limit of 1 undeclared audiences" in done.out
        assert "(such as two)" in done.out
        assert "PERSONA_SYNC_UNDECLARED_LIMIT" in done.out
        deployment.drain(small)
        assert len(command("dead-letters", "list", "--json").json["letters"]) == 1
        assert (deployment.ledger()["accepted"], deployment.ledger()["dead"]) == (2, 1)

    def test_as_many_as_there_is_room_for(self, deployment: Deployment, command: Command) -> None:
        """New keys up to the limit, and any change of a key that is known by now."""
        deployment.drain(deployment.worker(undeclared_limit=1))
        deployment.put("u", one=True, two=True, three=True)
        deployment.put("v", two=True, three=True)
        deployment.drain(deployment.worker(undeclared_limit=1))
        larger = deployment.worker(undeclared_limit=2)
        report = command("dead-letters", "replay", "--json").json
        assert (report["replayed"], report["no_room"]) == (2, 2)
        assert len(report["no_room_for"]) == 1
        deployment.drain(larger)
        assert deployment.ledger()["dead"] == 4
        deployment.assert_balanced()
        deployment.meant.clear()

    def test_what_dies_again_is_a_new_letter(self, deployment: Deployment) -> None:
        """Room may be gone again before the change is applied; nothing is lost by that."""
        small = deployment.worker(undeclared_limit=1)
        deployment.put("u", one=True, two=True)
        deployment.drain(small)
        (letter,) = small.stores.dead_letters.read(0)
        envelope = envelope_of([letter]).model_dump_json(by_alias=True).encode()
        ours = operators(deployment)
        assert ours.requeue(0, [letter.id], "ann", envelope=envelope, changes=1, high_water=10)
        deployment.drain(small)
        (again,) = small.stores.dead_letters.read(0)
        assert again.values == letter.values
        assert (deployment.ledger()["accepted"], deployment.ledger()["dead"]) == (3, 2)
        deployment.meant.clear()

    def test_nothing_is_accepted_twice(self, deployment: Deployment) -> None:
        """A letter is gone with its first replay; with one of them gone nothing is appended."""
        deployment.drain(deployment.worker(undeclared_limit=0))
        deployment.put("u", one=True, two=True)
        deployment.drain(deployment.worker(undeclared_limit=0))
        ids = [id_.decode() for id_, _ in deployment.client.xrange(key(0, "dead"))]
        ours = operators(deployment)
        assert ours.requeue(0, ids[:1], "ann", envelope=b"{}", changes=1, high_water=10)
        assert not ours.requeue(0, ids, "ann", envelope=b"{}", changes=2, high_water=10)
        assert deployment.client.xlen(inbox_key(0)) == 1
        deployment.assert_balanced()


class TestReplayOfEnvelopes:
    def test_accepted_anew(self, deployment: Deployment, command: Command) -> None:
        """An envelope that could not be applied goes back whole; the books balance."""
        worker = deployment.worker()
        deployment.put_raw({"e": b"not json", "n": 3})
        deployment.drain(worker)
        assert deployment.ledger()["dead"] == 3
        report = command("dead-letters", "replay", "--json").json
        assert (report["replayed"], report["accepted_anew"]) == (1, 3)
        deployment.assert_balanced()
        deployment.drain(worker)
        assert (deployment.ledger()["accepted"], deployment.ledger()["dead"]) == (6, 6)

    def test_full_inbox(self, deployment: Deployment, command: Command) -> None:
        """A full inbox takes no more: it is said, exits 1, and the letter is kept."""
        worker = deployment.worker()
        deployment.put_raw({"e": b"not json", "n": 3})
        deployment.drain(worker)
        deployment.put("u", vip=True)
        done = command("dead-letters", "replay", "--json", inbox_high_water="1")
        assert (done.code, done.json["replayed"], done.json["inbox_full"]) == (1, 0, True)
        assert deployment.client.xlen(key(0, "dead")) == 1
        with pytest.raises(InboxIsFull):
            operators(deployment).requeue(0, ["1-1"], "ann", high_water=1)


class TestDrop:
    def test_asks_first(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """With nobody to ask it wants --yes, and nothing is gone."""
        bury(client, 2)
        done = command("dead-letters", "drop")
        assert (done.code, "--yes" in done.err) == (2, True)
        assert client.xlen(key(0, "dead")) == 2

    def test_drops_what_fits(self, deployment: Deployment, command: Command, client: Redis) -> None:
        """Says how many went; the others stay; who did it is written down."""
        bury(client, 700)
        bury(client, 3, reason="odd")
        arguments = ("dead-letters", "drop", "--reason", "old", "--json")
        assert command(*arguments, "--dry-run").json["matched"] == 700
        assert client.xlen(key(0, "dead")) == 703
        report = command(*arguments, "--yes", "--by", "ann").json
        assert report == {"dry_run": False, "finished": True, "matched": 700, "dropped": 700}
        assert client.xlen(key(0, "dead")) == 3
        assert deployment.ledger()["dropped"] == 700
        assert {it.what for it in operators(deployment).actions()} == {"drop"}

    def test_a_dropped_refusal_stays_unsent(
        self, deployment: Deployment, worker: Worker, command: Command
    ) -> None:
        """Dropping forgets the letter, not that Braze refused this version."""
        refuse(deployment, "u")
        deployment.put("u", vip=True)
        deployment.drain(worker)
        deployment.sandbox.no_faults()
        command("dead-letters", "drop", "--yes")
        deployment.drain(worker)
        assert deployment.sandbox.attributes("u") == {}


class TestExport:
    def test_one_line_for_each(
        self, deployment: Deployment, command: Command, client: Redis, tmp_path: Path
    ) -> None:
        """Every letter whole, an envelope with its text; nothing is removed."""
        bury(client, 600)
        client.xadd(
            key(0, "dead"),
            {"kind": "envelope", "reason": "x", "entry": "1-1", "envelope": b"{", "changes": 2},
        )
        file = tmp_path / "dead.ndjson"
        done = command("dead-letters", "export", str(file), "--json")
        assert done.json == {"dry_run": False, "matched": 601, "exported": 601}
        letters = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(letters) == client.xlen(key(0, "dead")) == 601
        assert letters[0]["ranks"]["vip"]["arrived_sequence"] == 3
        assert (letters[-1]["envelope"], letters[-1]["changes"]) == ("{", 2)
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600

    def test_to_standard_output(
        self, deployment: Deployment, command: Command, client: Redis
    ) -> None:
        """Only letters on standard output; what is said goes to standard error."""
        bury(client, 3)
        done = command("dead-letters", "export", "-", "--user", "u1")
        assert [json.loads(line)["user"] for line in done.out.splitlines()] == ["u1"]
        assert "Exported 1" in done.err

    @pytest.mark.parametrize(
        ("file", "said"), [(".", "is a folder"), ("/tmp", "is a folder"), ("/dev/null", "no file")]
    )
    @pytest.mark.parametrize("force", [[], ["--force"]])
    def test_only_a_file_is_written(
        self, deployment: Deployment, command: Command, file: str, said: str, force: list[str]
    ) -> None:
        """A folder or a device is refused in words, and --force changes nothing about that."""
        done = command("dead-letters", "export", file, *force)
        assert done.code == 2
        assert said in done.err
        assert "give --force" not in done.err

    def test_a_file_is_not_written_over(
        self, deployment: Deployment, command: Command, client: Redis, tmp_path: Path
    ) -> None:
        """What is there stays there, unless --force is given."""
        bury(client, 1)
        file = tmp_path / "dead.ndjson"
        file.write_text("mine")
        assert command("dead-letters", "export", str(file)).code == 2
        assert file.read_text() == "mine"
        assert command("dead-letters", "export", str(file), "--force").code == 0
        assert command("dead-letters", "export", str(tmp_path / "no" / "where")).code == 2
