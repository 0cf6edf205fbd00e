"""One post to a webhook: Slack's format, in time, without telling the address."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from worker.observe.webhook import Webhook, body_of, is_webhook_url

PATH = "/services/T0/s3cr3t?x=1"
Serve = Callable[[bytes], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves one connection: reads a request, says these bytes, and stays silent then."""
    over, threads, got = threading.Event(), [], []

    def start(says: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with listener:
                connection, _ = listener.accept()
            with connection:
                asked = b""
                while b"}" not in asked:
                    asked += connection.recv(65_536)
                got.append(asked)
                for byte in says:
                    connection.send(bytes([byte]))
                    if says.startswith(b"drip") and over.wait(0.02):
                        return
                if not says.endswith(b"\r\n\r\n"):
                    over.wait(10)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    start.got = got  # type: ignore[attr-defined]
    yield start
    over.set()
    for thread in threads:
        thread.join(5)


def post(port: int, timeout: float = 2.0) -> str:
    return Webhook(lambda: f"http://127.0.0.1:{port}{PATH}", timeout).post("Hello <all> & more")


def test_it_is_posted_in_slacks_format(serve: Serve) -> None:
    """A POST of JSON with one field, to the path and query of the address."""
    port = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert post(port) == ""
    head, _, body = serve.got[0].partition(b"\r\n\r\n")  # type: ignore[attr-defined]
    assert head.startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"text": "Hello &lt;all&gt; &amp; more"}


@pytest.mark.parametrize("status", [301, 400, 404, 410, 429, 500])
def test_any_other_status_is_a_reason(serve: Serve, status: int) -> None:
    """Nothing but a 2xx is taken; a redirect is not followed."""
    said = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    assert post(serve(said.encode())) == f"status_{status}"


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200", b"drip" * 200])
def test_it_ends_in_time(serve: Serve, says: bytes) -> None:
    """Silence, half a reply, a reply in drips: over at the time-out, with a short reason."""
    began = time.monotonic()
    reason = post(serve(says), timeout=0.3)
    assert reason.isidentifier()
    assert time.monotonic() - began < 2


def test_reasons_do_not_tell_the_address(serve: Serve) -> None:
    """A connection that fails, and an answer that is none, name no part of the address."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for reason in (post(port), post(serve(b"s3cr3t is no HTTP\r\n\r\n"))):
        assert reason.isidentifier()
        assert "s3cr3t" not in reason


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T/B/x",
        "https://10.0.0.1:8443/",
        "http://127.0.0.1:8080/x",
        "http://localhost/x",
        "http://[::1]:9/x",
        "http://127.8.9.1/",
    ],
)
def test_addresses_that_are_good(url: str) -> None:
    """https anywhere; http on this machine only."""
    assert is_webhook_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.slack.com/x",
        "http://hooks.slack.com/x",
        "http://192.168.0.1/x",
        "http://localhost.example.com/",
        "https://",
        "https://host:99999/",
        "https://host/a b",
        "https://host/\nx",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_not(url: str) -> None:
    """Anything else is not posted to."""
    assert not is_webhook_url(url)
    assert Webhook(lambda: url).post("x") == "wrong_address"


def test_texts_are_plain_and_bounded() -> None:
    """Line ends and marks of Slack lose their meaning; a very long text is cut."""
    assert json.loads(body_of("a\nb\x00<!channel>")) == {"text": "a b &lt;!channel&gt;"}
    text = json.loads(body_of("x" * 10_000))["text"]
    assert len(text) == 2_000
    assert text.endswith("...")
