"""The server away, frozen, full; a stop in the middle; a kill under load."""

import json
import os
import signal
import threading
import time
from base64 import b64encode
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from worker.contract import inbox_key

# Shorter than Segment's 5 s by far, with room for a busy machine.
QUICKLY = 3.0


def timed(ask: Any) -> tuple[Any, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


class Load(threading.Thread):
    """Sends single messages one after the other until it is told to stop; `taken` are the users
    whose message was answered with 200."""

    def __init__(self, door: Any, tools: Any, name: str) -> None:
        super().__init__(daemon=True)
        self.door, self.tools, self.prefix = door, tools, name
        self.taken: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.enough = threading.Event()

    def run(self) -> None:
        connection, number = None, 0
        login = "Basic " + b64encode(f"{self.tools.key}:".encode()).decode()
        headers = {"Authorization": login, "Content-Type": "application/json"}
        while not self.enough.is_set():
            user = f"{self.prefix}-{number}"
            number += 1
            try:
                connection = connection or HTTPConnection("127.0.0.1", self.door.port, timeout=20)
                connection.request(
                    "POST", "/v1/identify", json.dumps(self.tools.engage(user)), headers
                )
                answer = connection.getresponse()
                answer.read()
            except (OSError, HTTPException):
                if connection:
                    connection.close()
                connection = None
                self.enough.wait(0.02)
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.taken.append(user)
        if connection:
            connection.close()


class Crowd:
    """Several of them at once."""

    def __init__(self, door: Any, tools: Any, count: int = 6) -> None:
        self.loads = [Load(door, tools, f"c{number}") for number in range(count)]

    def __enter__(self) -> "Crowd":
        for load in self.loads:
            load.start()
        return self

    def __exit__(self, *_: object) -> None:
        for load in self.loads:
            load.enough.set()
        for load in self.loads:
            load.join(30)

    @property
    def taken(self) -> set[str]:
        return {user for load in self.loads for user in load.taken}

    @property
    def statuses(self) -> Counter[int]:
        return sum((load.statuses for load in self.loads), Counter())


class TestKilled:
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_rule_07_what_was_answered_outlives_the_producer(
        self, processes: str, open_door: Any, inbox: Any, tools: Any
    ) -> None:
        """SIGKILL under load: everything that was answered with 200 is in the inbox."""
        door = open_door(producer_processes=processes)
        with Crowd(door, tools) as crowd:
            tools.until(lambda: len(crowd.taken) > 300)
            for child in children_of(door.process.pid) or [door.process.pid]:
                signal_one(child, signal.SIGKILL)
            if processes == "2":
                before = len(crowd.taken)
                tools.until(lambda: len(crowd.taken) > before + 300)
        found = {change.user_id for change in inbox.changes()}
        assert crowd.taken <= found
        assert set(crowd.statuses) == {200}

    def test_dead_processes_are_replaced(self, open_door: Any, tools: Any) -> None:
        """Each time, and the log says how it ended; the parent goes on."""
        door = open_door(producer_processes="2")
        first = children_of(door.process.pid)
        signal_one(first[0], signal.SIGKILL)
        tools.until(lambda: len(set(children_of(door.process.pid)) - set(first)) == 1)
        tools.until(door.lives)
        assert any(line.get("how") == "killed by SIGKILL" for line in door.lines)
        assert door.stop() == 0
        assert not children_of(door.process.pid)

    def test_children_follow_their_parent(self, open_door: Any, tools: Any) -> None:
        """A parent that was killed leaves nobody behind at its port."""
        door = open_door(producer_processes="2")
        children = children_of(door.process.pid)
        assert len(children) == 2
        door.stop(signal.SIGKILL)
        tools.until(lambda: not any(Path(f"/proc/{child}/cwd").exists() for child in children))


class TestStopped:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_what_was_begun_is_answered(
        self, how: signal.Signals, open_door: Any, inbox: Any, tools: Any
    ) -> None:
        """Exit 0 soon, no request is answered with an error, and counts are exact."""
        door = open_door()
        skipped = [{"type": "page", "userId": "u"}] * 50
        with Crowd(door, tools) as crowd:
            tools.until(lambda: len(crowd.taken) > 200)
            assert door.send("/v1/batch", {"batch": skipped}).status == 200
            assert door.stop(how) == 0
        assert crowd.taken <= {change.user_id for change in inbox.changes()}
        assert set(crowd.statuses) == {200}
        assert inbox.counted() == {"page": 50}

    def test_a_body_on_its_way_is_waited_for(self, open_door: Any, inbox: Any, tools: Any) -> None:
        """A request whose headers were here when the stop came is still taken."""
        port = tools.free_port()
        door = open_door(producer_metrics_bind=f"127.0.0.1:{port}")
        body = json.dumps(tools.engage("late")).encode()
        login = b64encode(f"{tools.key}:".encode())
        with door.raw() as connection:
            connection.sendall(
                b"POST /v1/identify HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + login
                + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10]
            )  # fmt: skip
            tools.until(lambda: in_progress(port))
            door.process.send_signal(signal.SIGTERM)
            tools.until(lambda: not is_listening(door))
            connection.sendall(body[10:])
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert door.process.wait(15) == 0
        assert [change.user_id for change in inbox.changes()] == ["late"]

    def test_half_a_body_is_told_when_to_come_again(self, open_door: Any, tools: Any) -> None:
        """Whoever does not go on sending while it stops gets 503 and a time; the log has one line
        for it, in the form of all others."""
        port = tools.free_port()
        door = open_door(producer_metrics_bind=f"127.0.0.1:{port}")
        login = b64encode(f"{tools.key}:".encode())
        with door.raw() as connection:
            connection.sendall(
                b"POST /v1/identify HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + login
                + b"\r\nContent-Length: 100\r\n\r\n{"
            )  # fmt: skip
            tools.until(lambda: in_progress(port))
            door.process.send_signal(signal.SIGTERM)
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 2" in answer
        assert b'"code":"stopping"' in answer
        assert door.process.wait(15) == 0
        (line,) = [one for one in door.lines if one.get("route") == "identify"]
        assert (line["status"], line["code"]) == (503, "stopping")
        assert "Traceback" not in door.log.read_text()


class TestServerAway:
    def test_it_is_said_quickly_and_ends_by_itself(
        self, session_server: Any, server: Any, open_door: Any, inbox: Any, tools: Any
    ) -> None:
        """503 with Retry-After, also when nobody could be asked; 200 when it is back."""
        door = open_door()
        assert door.send("/v1/identify", tools.engage("before")).status == 200
        session_server.end(signal.SIGKILL)
        try:
            for _ in range(3):
                answer, seconds = timed(lambda: door.send("/v1/identify", tools.engage("during")))
                assert (answer.status, answer.document["code"]) == (503, "server_away")
                assert int(answer.headers["retry-after"]) > 0
                assert seconds < QUICKLY
            tools.until(lambda: door.get("/readyz").status == 503)
            assert door.get("/healthz").status == 200
            assert door.webhook(tools.engage("during")).status == 503
        finally:
            session_server.start()
        tools.until(lambda: door.get("/readyz").status == 200)
        assert door.send("/v1/identify", tools.engage("after")).status == 200
        assert [change.user_id for change in inbox.changes()] == ["before", "after"]

    def test_a_frozen_server_is_not_waited_for(
        self, session_server: Any, server: Any, open_door: Any, tools: Any
    ) -> None:
        """Time-outs are short, and after the first one everybody is answered at once."""
        door = open_door()
        assert door.send("/v1/identify", tools.engage("before")).status == 200
        session_server.process.send_signal(signal.SIGSTOP)
        try:
            _, first = timed(lambda: door.send("/v1/identify", tools.engage("during")))
            answer, second = timed(lambda: door.send("/v1/identify", tools.engage("during")))
            assert answer.status == 503
            assert first < QUICKLY
            assert second < 0.5
        finally:
            session_server.process.send_signal(signal.SIGCONT)
        tools.until(lambda: door.send("/v1/identify", tools.engage("after")).status == 200)

    def test_a_server_of_another_setup(self, open_door: Any, client: Any, tools: Any) -> None:
        """A wrong number of partitions is told in the log, not to the outside."""
        client.set("ps1:{a}:partitions", "7")
        door = open_door()
        answer = door.send("/v1/identify", tools.engage())
        assert answer.status == 503
        assert b"PARTITIONS" not in answer.body
        assert any("PERSONA_SYNC_PARTITIONS" in line.get("reason", "") for line in door.lines)


class TestFull:
    def test_rule_14_a_full_inbox_is_429(
        self, open_door: Any, client: Any, inbox: Any, tools: Any
    ) -> None:
        """With the seconds to wait; when workers have caught up it goes on."""
        door = open_door(inbox_high_water="3")
        for number in range(3):
            assert door.send("/v1/identify", tools.engage(f"u{number}")).status == 200
        for _ in range(2):
            answer = door.send("/v1/identify", tools.engage("too many"))
            assert (answer.status, answer.document["code"]) == (429, "too_many_requests")
            assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"] == "5"
        client.delete(inbox_key(0))
        tools.until(lambda: door.send("/v1/identify", tools.engage("later")).status == 200)
        assert [change.user_id for change in inbox.changes()] == ["later"]

    def test_rule_14_a_full_memory_is_429(self, open_door: Any, client: Any, tools: Any) -> None:
        """Above the mark nothing more is put into the server."""
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        try:
            door = open_door()
            assert door.send("/v1/identify", tools.engage()).status == 429
        finally:
            client.config_set("maxmemory", 0)
        tools.until(lambda: door.send("/v1/identify", tools.engage()).status == 200)


def children_of(pid: int) -> list[int]:
    """The processes that it started and that live."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def signal_one(pid: int, how: signal.Signals) -> None:
    os.kill(pid, how)


def in_progress(port: int) -> bool:
    """True while the producer works on a request, as its metrics say."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return "persona_sync_producer_requests_in_progress 1.0" in text


def is_listening(door: Any) -> bool:
    try:
        door.raw().close()
    except ConnectionRefusedError:
        return False
    return True
