"""What `persona-sync check` says of the HTTP producer, asked of a real one."""

import signal
import socket
import threading
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from console.checks.finding import Finding
from console.checks.producer import look_at_producer
from worker.settings import Settings


def found_at(port: int, **more: Any) -> Finding:
    given = {"write_keys": SecretStr("web:k1"), **more}
    (finding,) = look_at_producer(Settings(producer_bind=f"127.0.0.1:{port}", **given))
    return finding


def test_one_that_takes_messages(door: Any) -> None:
    """Fine, and by which ways they come."""
    finding = found_at(door.port, shared_secret=SecretStr("s"))
    assert (finding.ok, finding.todo) == (True, None)
    assert "/v1" in finding.detail
    assert "/webhooks/segment" in finding.detail


def test_one_that_takes_nothing(
    session_server: Any, server: Any, open_door: Any, tools: Any
) -> None:
    """Bad, with the reason of /readyz."""
    door = open_door()
    session_server.end(signal.SIGKILL)
    try:
        tools.until(lambda: door.get("/readyz").status == 503)
        finding = found_at(door.port)
    finally:
        session_server.start()
    assert finding.ok is False
    assert "takes nothing" in finding.detail
    assert "store" in finding.detail


def test_none_there(tools: Any) -> None:
    """Bad, with the ways to start it; a program that is not ours is no producer."""
    finding = found_at(tools.free_port())
    assert finding.ok is False
    assert "persona-sync up" in (finding.todo or "")
    with socket.create_server(("127.0.0.1", 0)) as another:
        thread = threading.Thread(target=answer_once, args=(another,))
        thread.start()
        finding = found_at(another.getsockname()[1])
        thread.join(10)
    assert finding.ok is False
    assert "another program" in finding.detail
    assert "PERSONA_SYNC_PRODUCER_BIND" in (finding.todo or "")


def answer_once(server: socket.socket) -> None:
    """As some other web server would."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n{}")


def test_not_set_up() -> None:
    """Nobody sends over HTTP: nothing is wrong with that."""
    finding = found_at(1, write_keys=None)
    assert finding.ok is True
    assert "not set up" in finding.detail


def test_a_wrong_secret(tmp_path: Path) -> None:
    """The setting is named, the secret is not."""
    (tmp_path / "keys").write_text("hush-hush")
    finding = found_at(1, write_keys=None, write_keys_file=tmp_path / "keys")
    assert finding.ok is False
    assert "PERSONA_SYNC_WRITE_KEYS" in finding.detail
    assert "hush-hush" not in finding.detail
