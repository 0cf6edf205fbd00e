"""`python -m sandbox` as a user starts and stops it."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

Run = Callable[..., "subprocess.Popen[str]"]


def hello(process: "subprocess.Popen[str]") -> dict[str, object]:
    assert process.stdout is not None
    line: dict[str, object] = json.loads(process.stdout.readline())
    return line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_within_a_second(run_sandbox: Run, number: signal.Signals) -> None:
    """A signal ends it at once with exit code 0, even while a client waits for an answer."""
    process = run_sandbox()
    url = hello(process)["url"]
    fault = {"kind": "hang", "seconds": 60, "times": None}
    requests.post(f"{url}/sandbox/faults", json=fault, timeout=5)
    with pytest.raises(requests.Timeout):
        requests.post(f"{url}/users/track", json={}, timeout=(5, 0.05))
    begin = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=5)
    assert time.monotonic() - begin < 1
    assert (process.returncode, output, errors) == (0, "", "")


def test_says_where_it_is(run_sandbox: Run, tmp_path: Path) -> None:
    """The start line and the address file say the same, and the keys given are the keys."""
    file = tmp_path / "address"
    process = run_sandbox(
        *(
            "--address-file",
            str(file),
            "--api-key",
            "key-number-one",
            "--api-key",
            "key-number-two",
        ),
        *("--requests-per-second", "7"),
    )
    said = hello(process)
    assert said["pid"] == process.pid
    assert json.loads(file.read_text()) == said
    for key, status in [("key-number-one", 400), ("key-number-two", 400), ("sandbox-key", 401)]:
        reply = requests.post(
            f"{said['url']}/users/track",
            json={"attributes": []},
            headers={"Authorization": f"Bearer {key}"},
            timeout=5,
        )
        assert reply.status_code == status
    config = requests.get(f"{said['url']}/sandbox/config", timeout=5).json()
    assert config["rate_limit"] == {"limit": 7, "window_s": 1.0, "header_form": "epoch"}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_listens_on_loopback_only(run_sandbox: Run, host: str) -> None:
    """Another address than loopback is refused, with the reason and the way out."""
    process = run_sandbox("--host", host)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "--allow-remote" in errors


def test_bad_key_is_refused(run_sandbox: Run) -> None:
    """A key that could not be masked safely is refused at the start."""
    process = run_sandbox("--api-key", "short")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "8 to 200" in errors


def test_state_survives(run_sandbox: Run, tmp_path: Path) -> None:
    """With a state file the custom attributes are there again after a restart."""
    file = tmp_path / "state.json"
    first = run_sandbox("--state-file", str(file))
    url = hello(first)["url"]
    requests.put(f"{url}/sandbox/profiles", json={"u": {"vip": True}}, timeout=5)
    first.terminate()
    first.communicate(timeout=5)
    url = hello(run_sandbox("--state-file", str(file)))["url"]
    shown = requests.get(f"{url}/sandbox/profiles", timeout=5).json()
    assert shown["profiles"] == {"u": {"vip": True}}
