"""How much the HTTP producer takes: the embedded server, the producer, a client process.

No workers run: what is measured ends when a message is on disk and its sender was told so.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.stack import cpu_seconds, wait_for
from console.local_server import LocalServer

KEY = "bench-key"
Figures = dict[str, Any]


@contextmanager
def _producer(processes: int) -> Iterator[tuple[int, int]]:
    """Port and process id of a running producer; its log lines go to a file, as they would."""
    with tempfile.TemporaryDirectory(prefix="persona-sync-bench-") as folder:
        server = LocalServer(Path(folder))
        server.start()
        port = _free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
        environment = {
            **kept,
            "PERSONA_SYNC_REDIS_URL": server.url,
            "PERSONA_SYNC_WRITE_KEYS": f"bench:{KEY}",
            "PERSONA_SYNC_PRODUCER_BIND": f"127.0.0.1:{port}",
            "PERSONA_SYNC_PRODUCER_PROCESSES": str(processes),
            "PERSONA_SYNC_INBOX_HIGH_WATER": "1000000",
            "PERSONA_SYNC_LOG_FORMAT": "json",
        }
        with (Path(folder) / "producer.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "producer"], env=environment, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: _is_ready(port), 20)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            server.stop()


def http_load(batch: int, processes: int, connections: int, seconds: float = 5.0) -> Figures:
    """As fast as it goes, then steadily at half of that."""
    with _producer(processes) as (port, pid):
        _client(port, batch, connections, 1.0)  # warm
        before = _cpu(pid)
        most = _client(port, batch, connections, seconds)
        cpu = _cpu(pid) - before
        steady = _client(port, batch, connections, seconds, most["requests"] / seconds / 2)
    asked = most["requests"]
    return {
        "messages_per_second": round(asked * batch / most["seconds"]),
        "requests_per_second": round(asked / most["seconds"]),
        "messages_per_cpu_second": round(asked * batch / cpu),
        "cpu_us_per_message": round(cpu / asked / batch * 1e6, 1),
        "p50_ms_at_most": round(most["p50_ms"], 1),
        "p99_ms_at_most": round(most["p99_ms"], 1),
        "p50_ms_at_half": round(steady["p50_ms"], 1),
        "p99_ms_at_half": round(steady["p99_ms"], 1),
        "not_200": _failures(most) + _failures(steady),
        "client_cpu_share": round(most["client_cpu"] / most["seconds"], 2),
    }  # fmt: skip


def _client(
    port: int, batch: int, connections: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.http_client", "--port", str(port), "--key", KEY]
    command += ["--batch", str(batch), "--connections", str(connections)]
    command += ["--seconds", str(seconds), *(["--rate", str(rate)] if rate else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _failures(found: dict[str, Any]) -> int:
    """Requests that were not answered with 200."""
    others = sum(count for status, count in found["statuses"].items() if status != "200")
    return int(others + found["broken"])


def _cpu(pid: int) -> float:
    """CPU seconds of the producer and its children that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children)


def _is_ready(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
