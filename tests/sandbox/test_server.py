"""HTTP as such: connections, bodies of all kinds, and bytes that are no HTTP."""

import json
import random
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

Wait = Callable[[Callable[[], Any]], Any]


def read_replies(connection: Any, count: int) -> bytes:
    received = b""
    while received.count(b'"message"') < count:
        part = connection.recv(65_536)
        if not part:
            break
        received += part
    return received


class TestConnections:
    def test_kept_alive(self, remote: Any) -> None:
        """Many requests go over one connection."""
        with remote.connect() as connection:
            for n in range(5):
                connection.sendall(remote.request_bytes(f"u{n}"))
                assert b" 201 " in read_replies(connection, 1)

    def test_pipelined_in_order(self, remote: Any) -> None:
        """Requests sent ahead are answered in order, also when the first is slow."""
        fault = {"kind": "latency", "seconds": 0.03}
        remote.control("PUT", "faults", [fault])
        with remote.connect() as connection:
            connection.sendall(remote.request_bytes("a") + remote.request_bytes("b", "c"))
            replies = read_replies(connection, 2)
        assert replies.index(b'"attributes_processed":1') < replies.index(
            b'"attributes_processed":2'
        )

    def test_close_when_asked(self, remote: Any) -> None:
        """Connection: close is honoured."""
        with remote.connect() as connection:
            message = remote.request_bytes("u").replace(b"Host: x", b"Connection: close")
            connection.sendall(message)
            received = b""
            while part := connection.recv(65_536):
                received += part
        assert b"Connection: close" in received

    def test_byte_by_byte(self, remote: Any) -> None:
        """A request may arrive in any pieces."""
        with remote.connect() as connection:
            for byte in remote.request_bytes("u"):
                connection.sendall(bytes([byte]))
            assert b" 201 " in read_replies(connection, 1)

    def test_concurrent_users_are_seen(self, remote: Any, eventually: Wait) -> None:
        """Two requests for one user on two connections at once are reported as an overlap."""
        remote.control("PUT", "faults", [{"kind": "latency", "seconds": 0.5}])
        slow = threading.Thread(target=remote.track, args=("u",))
        slow.start()
        eventually(lambda: remote.control("GET", "report")["requests"] == 1)
        remote.track("u")
        slow.join()
        report = remote.control("GET", "report")
        assert report["violations"] == {"overlap": 1}
        assert report["max_in_flight"] == 2

    def test_client_gone_in_the_middle(self, remote: Any, eventually: Wait) -> None:
        """A client that leaves before its body is complete leaves nothing behind."""
        with remote.connect() as connection:
            connection.sendall(remote.request_bytes("u")[:-5])
            eventually(lambda: remote.control("GET", "report")["in_flight"] == 1)
        eventually(lambda: remote.control("GET", "report")["in_flight"] == 0)
        assert remote.control("GET", "report")["requests"] == 0


class TestBodies:
    def test_chunked(self, remote: Any) -> None:
        """A body in chunks is the same as one of known length."""
        body = json.dumps({"attributes": [{"external_id": "u", "vip": True}]}).encode()
        reply = requests.post(
            f"{remote.url}/users/track",
            data=iter([body[:10], body[10:]]),
            headers={"Authorization": "Bearer sandbox-key", "Content-Type": "application/json"},
            timeout=5,
        )
        assert reply.status_code == 201

    def test_too_large(self, remote: Any) -> None:
        """A body over the limit is 413, and the connection goes on."""
        remote.control("PUT", "config", {"max_bytes": 200})
        with remote.connect() as connection:
            connection.sendall(remote.request_bytes(*map(str, range(60))))
            assert b" 413 " in read_replies(connection, 1)
            connection.sendall(remote.request_bytes("u"))
            assert b" 201 " in read_replies(connection, 1)

    def test_large_default(self, remote: Any) -> None:
        """The documented 4 MB are the default."""
        reply = requests.post(
            f"{remote.url}/users/track",
            data=b" " * 4_000_001,
            headers={"Authorization": "Bearer sandbox-key", "Content-Type": "application/json"},
            timeout=5,
        )
        assert reply.status_code == 413

    def test_expect_continue(self, remote: Any) -> None:
        """A client that waits for permission to send its body gets it."""
        message = remote.request_bytes("u").replace(b"Host: x", b"Expect: 100-continue")
        head, _, body = message.partition(b"\r\n\r\n")
        with remote.connect() as connection:
            connection.sendall(head + b"\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
            connection.sendall(body)
            assert b" 201 " in read_replies(connection, 1)


class TestNoise:
    @pytest.mark.parametrize(
        "noise",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"HELLO\r\n\r\n",
            b"POST /users/track HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
            random.Random(1).randbytes(2000),
        ],
    )
    def test_garbage_is_refused(self, remote: Any, noise: bytes) -> None:
        """Bytes that make no request get a 4xx and a closed connection; the rest goes on."""
        with remote.connect() as connection:
            connection.sendall(noise)
            received = b""
            try:
                while part := connection.recv(65_536):
                    received += part
            except ConnectionResetError:
                pass
        assert received.startswith(b"HTTP/1.1 4")
        assert remote.track("u").status_code == 201

    @pytest.mark.parametrize("body", [b"\x00", b"[" * 5000, b'{"attributes":[[[]]]}', b"1e999"])
    def test_odd_json(self, remote: Any, body: bytes) -> None:
        """Odd JSON is a 400, never a 500."""
        reply = requests.post(
            f"{remote.url}/users/track",
            data=body,
            headers={"Authorization": "Bearer sandbox-key", "Content-Type": "application/json"},
            timeout=5,
        )
        assert reply.status_code == 400


def test_date_follows_the_skew(remote: Any) -> None:
    """The Date header is always there and follows the sandbox's own clock."""
    before = parsedate_to_datetime(remote.track("u").headers["Date"])
    remote.control("PUT", "config", {"clock_skew_s": -3600})
    after = parsedate_to_datetime(remote.track("u").headers["Date"])
    assert -3602 < (after - before).total_seconds() <= -3598
