"""Clients that are slow, stuck, too many or endless are cut off, and nobody else suffers."""

import gzip
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from producer.http.limits import HEALTH_CONNECTIONS

SHORT = {"producer_body_timeout": "300ms", "producer_idle_connection": "1s"}


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST /v1/batch HTTP/1.1", "Host: x", *lines, "", "")).encode()


def all_of(connection: socket.socket) -> bytes:
    """What comes until it is closed."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def short(open_door: Any) -> Any:
    """A producer with little patience."""
    return open_door(**SHORT)


class TestSlow:
    @pytest.mark.parametrize(
        "begun",
        [b"", b"\r\n", b"POST /v1/ba", head()[:-2], b"POST /v1/batch HTTP/1.1\r\nX: " + b"y" * 100],
        ids=["nothing", "an empty line", "a part of a line", "no end", "a part of a header"],
    )
    def test_headers_that_never_come(self, begun: bytes, short: Any) -> None:
        """The connection is closed; others are served meanwhile."""
        with short.raw() as connection:
            connection.sendall(begun)
            assert short.get("/healthz").status == 200
            assert all_of(connection) == b""

    def test_a_body_that_stops(self, short: Any, tools: Any) -> None:
        """408, and the connection is closed."""
        with short.raw() as connection:
            lines = (f"Authorization: {authorization(tools)}", "Content-Length: 100")
            connection.sendall(head(*lines) + b"{")
            answer = all_of(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer

    def test_a_body_that_trickles_without_a_key(self, short: Any) -> None:
        """The answer is given at once; who goes on sending is cut off."""
        with short.raw() as connection:
            connection.sendall(
                head("X-A: b", "Content-Length: 1000000", "Authorization: Basic eDo=")
            )
            assert b" 401 " in answer_of(connection)
            connection.sendall(b"x")
            assert all_of(connection) == b""

    def test_an_idle_connection(self, short: Any) -> None:
        """Kept for the time that is set, then closed."""
        with short.raw() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in answer_of(connection)
            assert all_of(connection) == b""


class TestLarge:
    def test_huge_headers(self, door: Any) -> None:
        """431 for too long or too many ones that end; cut off if they do not."""
        with door.raw() as connection:
            connection.sendall(head("X-Long: " + "y" * 20_000, "Connection: close"))
            assert b" 431 " in all_of(connection)
        with door.raw() as connection:
            connection.sendall(head(*(f"X-{n}: y" for n in range(150)), "Connection: close"))
            assert b" 431 " in all_of(connection)
        with door.raw() as connection:
            connection.sendall(b"POST /v1/batch HTTP/1.1\r\n")
            goes_on_until_cut_off(connection, b"X-A: " + b"y" * 1_000 + b"\r\n")

    def test_endless_chunks(self, door: Any, tools: Any) -> None:
        """413 at the limit; what still comes is thrown away for a while, then cut off."""
        lines = (f"Authorization: {authorization(tools)}", "Transfer-Encoding: chunked")
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        with door.raw() as connection:
            connection.sendall(head(*lines) + 20 * chunk)
            assert b" 413 " in answer_of(connection)
            goes_on_until_cut_off(connection, chunk)

    def test_a_long_body_reads_why(self, door: Any, tools: Any) -> None:
        """A client that sends first and reads then gets its answer."""
        answer = door.send("/v1/batch", b" " * 900_000)
        assert (answer.status, answer.document["code"]) == (413, "body_too_large")

    def test_malformed_requests(self, door: Any) -> None:
        """400 in the form of every answer, with its line in the log, and the process goes on."""
        with door.raw() as connection:
            connection.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            answer = parsed(all_of(connection))
        assert (answer.status, answer.document["code"]) == (400, "malformed_request")
        assert_dressed(answer)
        assert any(line.get("request") == answer.headers["x-request-id"] for line in door.lines)
        assert door.get("/healthz").status == 200

    def test_too_many_connections(self, open_door: Any, tools: Any) -> None:
        """503 with a time to come again for those beyond the limit, in the form of every answer;
        health checks are answered, so that nobody takes the process for dead."""
        door = open_door(producer_connections="3")
        opened = [door.raw() for _ in range(3)]
        try:
            for connection in opened:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 200 " in answer_of(connection)
            for _ in range(3):
                assert door.get("/healthz").status == 200
            answer = door.send("/v1/identify", tools.engage())
            assert (answer.status, answer.document["code"]) == (503, "busy")
            assert answer.headers["retry-after"] == "1"
            assert_dressed(answer)
            opened += [door.raw() for _ in range(HEALTH_CONNECTIONS + 1)]
            answer = parsed(all_of(opened[-1]))
            assert (answer.status, answer.document["code"]) == (503, "busy")
            assert_dressed(answer)
            tools.until(lambda: serves(door))  # who says nothing on a spare one is cut off soon
        finally:
            for connection in opened:
                connection.close()


class TestStrangers:
    def test_bombs_hold_up_nobody(self, door: Any, tools: Any) -> None:
        """A webhook's gzip is refused unread: eighty at once cost a good one nothing."""
        bomb = gzip.compress(b" " * 15_900_000)
        headers = {"Content_Encoding": "gzip", "X_Signature": "0" * 40}
        statuses: list[int] = []

        def throw() -> None:
            answer = door.send("/webhooks/segment", bomb, None, **headers)
            statuses.append(answer.status)

        threads = [threading.Thread(target=throw) for _ in range(80)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        assert door.webhook(tools.engage()).status == 200
        assert time.monotonic() - began < 3
        for thread in threads:
            thread.join(20)
        assert statuses == [415] * 80


class TestUpgrade:
    @pytest.mark.parametrize("framing", ["length", "chunks"])
    @pytest.mark.parametrize("pieces", [1, 2, 40])
    def test_it_is_passed_over(self, framing: str, pieces: int, door: Any, tools: Any) -> None:
        """Java's client and curl offer h2c with a POST: the body is read as if they had not, and
        the connection goes on."""
        body = json.dumps(tools.engage("up")).encode()
        if framing == "length":
            told, sent = f"Content-Length: {len(body)}", body
        else:
            told, sent = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        request = head(
            f"Authorization: {authorization(tools)}",
            "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", told,
        ).replace(b"/v1/batch", b"/v1/identify") + sent  # fmt: skip
        with door.raw() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(2):
                size = -(-len(request) // pieces)
                for start in range(0, len(request), size):
                    connection.sendall(request[start : start + size])
                answer = answer_of(connection)
                assert b" 200 " in answer
                assert b'"accepted":1' in answer
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in answer_of(connection)

    def test_without_a_body_too(self, door: Any) -> None:
        """Also twice in one piece."""
        asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        closing = asked.replace(b"Upgrade\r\n", b"Upgrade, close\r\n", 1)
        with door.raw() as connection:
            connection.sendall(asked + closing)
            assert all_of(connection).count(b" 200 ") == 2


class TestHeaders:
    @pytest.mark.parametrize("name", ["Authorization", "X-Signature"])
    def test_two_of_one_are_refused(self, name: str, door: Any, tools: Any) -> None:
        """What stands in front may have looked at the other one."""
        right = {"Authorization": authorization(tools), "X-Signature": "0" * 40}[name]
        with door.raw() as connection:
            connection.sendall(
                head(
                    f"{name}: {right}", f"{name}: {right}", "Content-Length: 0", "Connection: close"
                )
            )
            answer = parsed(all_of(connection))
        assert (answer.status, answer.document["code"]) == (400, "doubled_header")

    def test_health_by_head(self, door: Any) -> None:
        """As GET, without a body; elsewhere it is another method."""
        for path in ("/healthz", "/readyz"):
            answer = door.ask("HEAD", path, None)
            assert (answer.status, answer.body) == (200, b"")
        answer = door.ask("HEAD", "/v1/identify", None)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


@dataclass
class Parsed:
    status: int
    headers: dict[str, str]
    document: Any


def parsed(answer: bytes) -> Parsed:
    """The last answer of a connection that was closed."""
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    return Parsed(int(first.split(" ")[1]), headers, json.loads(body))


def assert_dressed(answer: Any) -> None:
    """It has the headers that every answer has."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


def serves(door: Any) -> bool:
    try:
        return bool(door.get("/healthz").status == 200)
    except OSError:
        return False


def authorization(tools: Any) -> str:
    from base64 import b64encode

    return "Basic " + b64encode(f"{tools.key}:".encode()).decode()


def answer_of(connection: socket.socket) -> bytes:
    """One whole answer of a connection that stays open."""
    found = b""
    while b"}" not in found:
        piece = connection.recv(65_536)
        assert piece, "it was closed before it answered"
        found += piece
    return found


def goes_on_until_cut_off(connection: socket.socket, more: bytes) -> None:
    """Send on and on until the other side hangs up. Fails after 20 MB."""
    try:
        for _ in range(20_000_000 // len(more)):
            connection.sendall(more)
    except (BrokenPipeError, ConnectionResetError):
        return
    pytest.fail("nobody hung up")
