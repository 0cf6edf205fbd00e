"""The door from outside: what is taken is in the inbox, what is not is said and counted."""

import gzip
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from worker.contract import (
    BELL_LIFE_MS,
    BROKER_KEY_PREFIX,
    CANNOT_START_CODE,
    QUEUE_OF_TASK,
    Changes,
    Deletion,
    TaskName,
    ledger_key,
)

_RUNG = f"{BROKER_KEY_PREFIX}{QUEUE_OF_TASK[TaskName.ACCEPT]}"


class TestTracking:
    def test_rule_07_an_answer_means_it_is_in_the_inbox(
        self, door: Any, inbox: Any, client: Any, tools: Any
    ) -> None:
        """200 comes after the append; the ledger has it, and a doorbell is on its way."""
        answer = door.send("/v1/identify", tools.engage("u1"))
        assert (answer.status, answer.document["accepted"]) == (200, 1)
        assert [change.user_id for change in inbox.changes()] == ["u1"]
        assert client.hget(ledger_key(0), "accepted") == b"1"
        # A bell's key is set before its message goes out: the message is what the next test sees.
        assert tools.until(lambda: client.llen(_RUNG))

    def test_rule_19_many_requests_ring_one_doorbell(
        self, open_door: Any, client: Any, tools: Any
    ) -> None:
        """While a bell is on its way there is no second one, however much comes."""
        door = open_door()  # of its own: nobody rings for what came before
        began = time.monotonic()
        for number in range(30):
            assert door.send("/v1/identify", tools.engage(f"u{number}")).status == 200
        tools.until(lambda: client.llen(_RUNG))
        # Nobody takes the bell here, so on a slow machine its life may end before the requests do.
        lives = (time.monotonic() - began) * 1000 // BELL_LIFE_MS
        assert client.llen(_RUNG) <= 1 + lives

    @pytest.mark.parametrize("path", ["/v1/batch", "/v1/import"])
    def test_a_batch_with_gzip(self, path: str, door: Any, inbox: Any, tools: Any) -> None:
        """Taken in order, under the source of its key."""
        batch = {"batch": [tools.engage(f"u{number}") for number in range(1_200)]}
        body = gzip.compress(json.dumps(batch).encode())
        answer = door.send(path, body, Content_Encoding="gzip")
        assert answer.document["accepted"] == 1_200
        changes = inbox.changes()
        assert [change.user_id for change in changes] == [f"u{n}" for n in range(1_200)]
        assert [change.place for change in changes] == list(range(1_200))
        assert {change.source for change in changes} == {"web"}

    def test_what_is_not_taken_is_counted_soon(self, door: Any, inbox: Any, tools: Any) -> None:
        """Refused and skipped messages travel as an envelope of their own, soon."""
        plain = {"type": "track", "userId": "u", "event": "Seen"}
        batch = [plain, plain, tools.engage(value=1), {"type": "group", "userId": "u"}]
        assert door.send("/v1/batch", {"batch": batch}).status == 200
        expected = {"plain_track": 2, "membership_not_boolean": 1, "id_required": 1}
        tools.until(lambda: inbox.counted() == expected)

    def test_a_wrong_key_is_401(self, door: Any, inbox: Any, tools: Any) -> None:
        """And nothing is in the inbox."""
        for key in ("another", "", None):
            answer = door.send("/v1/batch", {"batch": [tools.engage()]}, key)
            assert (answer.status, answer.document["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Basic ")
        assert inbox.changes() == []

    def test_the_key_may_be_in_the_body(self, door: Any, inbox: Any, tools: Any) -> None:
        """As older libraries send it."""
        assert (
            door.send("/v1/identify", {**tools.engage(), "writeKey": tools.key}, None).status == 200
        )
        assert len(inbox.changes()) == 1


class TestWebhook:
    def test_one_message(self, door: Any, inbox: Any, tools: Any) -> None:
        """Signed over its bytes."""
        assert door.webhook(tools.engage("u1")).document["accepted"] == 1
        assert door.webhook(tools.engage("u2"), signed={}).status == 401
        assert [change.user_id for change in inbox.changes()] == ["u1"]

    def test_an_array_with_a_deletion(self, door: Any, inbox: Any, tools: Any) -> None:
        """With the token; the deletion lies between what was said before it and after it."""
        messages = [
            tools.engage("u1"),
            {"type": "delete", "userId": "u1", "timestamp": "2026-11-22T10:00:00Z"},
            tools.engage("u1", value=False),
        ]
        assert door.webhook(messages, signed=messages[0]).status == 401
        answer = door.webhook(messages, tools.token, signed=messages[0])
        assert answer.document["accepted"] == 3
        before, deletion, after = inbox.envelopes()
        assert isinstance(deletion, Deletion)
        assert deletion.user_id == "u1"
        assert isinstance(before, Changes)
        assert before.changes[0].value is True
        assert isinstance(after, Changes)
        assert after.changes[0].value is False

    def test_4000_messages_in_a_moment(self, door: Any, inbox: Any, tools: Any) -> None:
        """Segment waits five seconds; the largest batch takes far less."""
        messages = [tools.engage(f"u{number}") for number in range(4_000)]
        answer = door.webhook(messages, tools.token, signed=messages[0])
        assert answer.document["accepted"] == 4_000
        request = answer.headers["x-request-id"]
        (line,) = tools.until(lambda: [x for x in door.lines if x.get("request") == request])
        assert line["ms"] < 2_500
        assert len(inbox.changes()) == 4_000


class TestAround:
    def test_headers_that_a_scanner_asks_for(self, door: Any, tools: Any) -> None:
        """On every answer, good or bad; and no word of what it is made of."""
        answers = [
            door.send("/v1/identify", tools.engage()), door.send("/v1/batch", b"{"),
            door.get("/healthz"), door.get("/nothing"), door.get("/v1/batch"),
        ]  # fmt: skip
        assert [answer.status for answer in answers] == [200, 400, 200, 404, 405]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-request-id"]
            assert "server" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("path", ["/v1/identify", "/v1/batch", "/webhooks/segment"])
    def test_only_health_is_open(self, path: str, door: Any) -> None:
        """Without a key nothing else answers but 401."""
        assert door.ask("POST", path, b"{}").status == 401

    def test_the_document_asks_for_a_key(self, door: Any, tools: Any) -> None:
        """A write key or the webhook's token opens it."""
        assert door.get("/openapi.json").status == 401
        found = door.get("/openapi.json", Authorization=f"Bearer {tools.token}")
        assert found.document["openapi"] == "3.1.0"

    def test_metrics_are_not_on_this_port(self, door: Any) -> None:
        """They are bound apart, or nowhere."""
        assert door.get("/metrics").status == 404

    def test_metrics_are_where_they_are_bound(self, open_door: Any, tools: Any) -> None:
        """All processes' figures together; nothing else is there."""
        port = tools.free_port()
        bind = f"127.0.0.1:{port}"
        door = open_door(producer_metrics_bind=bind, producer_processes="2")
        for number in range(20):
            assert door.send("/v1/identify", tools.engage(f"u{number}")).status == 200
        door.port, main = port, door.port
        text = door.get("/metrics").body.decode()
        assert (
            'persona_sync_producer_messages_total{kind="identify",outcome="accepted"} 20.0' in text
        )
        assert "persona_sync_producer_taking 2.0" in text
        assert door.get("/v1/batch").status == 404
        door.port = main

    def test_keys_are_taken_up_while_it_runs(
        self, open_door: Any, tools: Any, tmp_path: Any
    ) -> None:
        """A changed file is enough; the old key is out then."""
        file = tmp_path / "keys"
        file.write_text("web:old\n")
        door = open_door(write_keys="", write_keys_file=str(file))
        assert door.send("/v1/identify", tools.engage(), "old").status == 200
        file.write_text("web:new\n")
        tools.until(lambda: door.send("/v1/identify", tools.engage(), "new").status == 200)
        assert door.send("/v1/identify", tools.engage(), "old").status == 401

    def test_the_webhooks_secret_is_replaced_without_a_window(
        self, open_door: Any, tools: Any, tmp_path: Any
    ) -> None:
        """Both hold while both are in the file; a file cut to nothing takes none away."""
        file = tmp_path / "secret"
        file.write_text(f"{tools.shared_secret}\n")
        door = open_door(shared_secret="", shared_secret_file=str(file))
        assert door.webhook(tools.engage()).status == 200
        file.write_text("")
        tools.until(lambda: door.webhook(tools.engage()).status == 200 and emptied(door))
        file.write_text(f"the-next-one\n{tools.shared_secret}\n")
        assert door.webhook(tools.engage()).status == 200
        file.write_text("the-next-one\n")
        tools.until(lambda: door.webhook(tools.engage()).status == 401)


def emptied(door: Any) -> bool:
    """True once the log says that a file of secrets is empty."""
    found = [line for line in door.lines if line["event"] == "secrets_not_taken_up"]
    return bool(found) and "SHARED_SECRET" in found[0]["reason"]


class TestStart:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"PERSONA_SYNC_WRITE_KEYS": ""}, "PERSONA_SYNC_WRITE_KEYS"),
            ({"PERSONA_SYNC_WRITE_KEYS": "hush-hush"}, "source:key"),
            ({"PERSONA_SYNC_WRITE_KEYS_FILE": "/nowhere"}, "/nowhere"),
            ({"PERSONA_SYNC_PRODUCER_BIND": "192.0.2.1:8000"}, "PERSONA_SYNC_PRODUCER_BIND"),
            ({"PERSONA_SYNC_PRODUCER_BIND": "8000"}, "HOST:PORT"),
            ({"PERSONA_SYNC_REDIS_URL": "http://hush-hush"}, "PERSONA_SYNC_REDIS_URL"),
        ],
    )
    def test_wrong_settings_are_said(
        self, settings: dict[str, str], said: str, tools: Any, server: Any
    ) -> None:
        """One sentence without the secret, and the code that says that only a person can help."""
        given = {
            "PERSONA_SYNC_REDIS_URL": server.url,
            "PERSONA_SYNC_WRITE_KEYS": "web:k1",
            "PERSONA_SYNC_PRODUCER_BIND": f"127.0.0.1:{tools.free_port()}",
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "-m", "producer"],
            cwd=tools.root, env=given, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == CANNOT_START_CODE
        assert said in done.stderr
        assert "hush-hush" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
