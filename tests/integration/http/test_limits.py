"""Clients that are slow, stuck, too many or endless are cut off, and nobody else suffers."""

import socket
from typing import Any

import pytest

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
        """400, and the process goes on."""
        with door.raw() as connection:
            connection.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            assert b" 400 " in all_of(connection)
        assert door.get("/healthz").status == 200

    def test_too_many_connections(self, open_door: Any) -> None:
        """503 with a time to come again, for those beyond the limit."""
        door = open_door(producer_connections="3")
        opened = [door.raw() for _ in range(3)]
        try:
            for connection in opened:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 200 " in answer_of(connection)
            with door.raw() as connection:
                answer = all_of(connection)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer
        finally:
            for connection in opened:
                connection.close()


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
