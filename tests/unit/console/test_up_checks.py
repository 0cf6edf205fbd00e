"""What `up` asks for before it starts anything, and what it says when it is ready."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr

from console.commands.up import _check, _door
from worker.settings import Settings, WrongSettings


def test_shadow_needs_neither_endpoint_nor_key() -> None:
    """A shadow sends nothing, so it needs no place to send to."""
    assert "nothing is sent" in _check(Settings(mode="shadow"))


def test_a_named_registry_must_be_there(tmp_path: Path) -> None:
    """A mistyped path would send what is disabled: it is refused."""
    settings = Settings(mode="shadow", audiences=tmp_path / "audience.yaml")
    with pytest.raises(WrongSettings, match=r"audience\.yaml"):
        _check(settings)


class _Producer(BaseHTTPRequestHandler):
    """Answers as ours does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Request-Id", "1")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def door() -> Iterator[str]:
    """Where a producer answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Producer) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


V1, WEBHOOK = "/v1 for Segment's libraries", "/webhooks/segment for its webhook"


@pytest.mark.parametrize(
    ("secrets", "ways"),
    [
        ({"write_keys": SecretStr("web:a-key")}, [V1]),
        ({"shared_secret": SecretStr("a-secret")}, [WEBHOOK]),
        (
            {"write_keys": SecretStr("web:a-key"), "shared_secret": SecretStr("a-secret")},
            [V1, WEBHOOK],
        ),
    ],
)
def test_only_ways_that_are_open_are_named(
    door: str, secrets: dict[str, SecretStr], ways: list[str]
) -> None:
    """Without a shared secret the webhook is closed, and is not promised; so with write keys."""
    settings = Settings(producer_bind=door, **secrets)
    assert _door(settings) == f"http://{door}: {', '.join(ways)}"
