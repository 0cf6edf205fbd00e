"""Sends prepared requests to the HTTP producer over kept connections, and times the answers.

A process of its own, so that what it costs is not the producer's:

    python -m benchmarks.http_client --port N --key K --batch 1 --connections 32 --seconds 5
    ... --rate 500     at a steady rate; times count from when a request was due, not from when
                       a free connection was found for it
"""

import argparse
import asyncio
import base64
import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import uvloop

_MOST_REQUESTS = 500_000


class Connection(asyncio.Protocol):
    """One request at a time; `finished(connection, status)` when its answer is there."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._answer = b""
        self.due = 0.0

    def connection_made(self, transport: Any) -> None:
        """Keep it."""
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Begin a request that was due at that time."""
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer of the producer is short, and has a Content-Length."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.partition(b"content-length: ")[2].split()[0]):
            status, self._answer = int(head[9:12]), b""
            self._load.finished(self, status)

    def connection_lost(self, error: Exception | None) -> None:
        """Only at the end, or it is a failure."""
        self._load.lost(self)


class Load:
    """Requests until the time is over: as fast as they are answered, or at a rate."""

    def __init__(self, requests: list[bytes], seconds: float, rate: float | None) -> None:
        self._requests = requests
        self._rate = rate
        self._seconds = seconds
        self._sent = 0
        self._free: list[Connection] = []
        self._late: list[float] = []  # due times without a free connection
        self._under_way = 0
        self.times: list[float] = []
        self.statuses: dict[int, int] = {}
        self.broken = 0
        self.done = asyncio.Event()

    async def run(self, connections: list[Connection]) -> float:
        """Returns how long it took."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._until = self._began + self._seconds
        if self._rate is None:
            for connection in connections:
                self._send(connection, loop.time())
        else:
            self._free = list(connections)
            await self._pace(loop)
        await self.done.wait()
        return loop.time() - self._began

    async def _pace(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._rate
        for number in range(int(self._rate * self._seconds)):
            due = self._began + number / self._rate
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if self._free:
                self._send(self._free.pop(), due)
            else:
                self._late.append(due)
        self._until = 0.0
        self._end_if_idle()

    def _send(self, connection: Connection, due: float) -> None:
        self._under_way += 1
        connection.send(self._requests[self._sent % len(self._requests)], due)
        self._sent += 1

    def finished(self, connection: Connection, status: int) -> None:
        """Note the answer, and go on."""
        now = asyncio.get_running_loop().time()
        self._under_way -= 1
        self.times.append(now - connection.due)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self._rate is None:
            if now < self._until and self._sent < _MOST_REQUESTS:
                self._send(connection, now)
        elif self._late:
            self._send(connection, self._late.pop(0))
        else:
            self._free.append(connection)
        self._end_if_idle()

    def lost(self, connection: Connection) -> None:
        """A connection that broke in the middle counts as a failure."""
        if not self.done.is_set():
            self.broken += 1
            self._under_way -= 1
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._under_way and not self._late and now >= self._until:
            self.done.set()


def messages(count: int, chance: random.Random) -> list[dict[str, object]]:
    """Identify messages as Engage makes them, of 20,000 users and three audiences."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = []
    for _ in range(count):
        key = f"audience_{chance.randrange(3)}"
        about = {
            "computation_class": "audience", "computation_id": "aud_1", "computation_key": key,
            "namespace": "spa_1", "space_id": "spa_1",
        }  # fmt: skip
        found.append(
            {
                "type": "identify",
                "messageId": f"personas_{chance.getrandbits(128):032x}",
                "userId": f"user-{chance.randrange(20_000):023d}",
                "timestamp": now,
                "context": {"personas": about, "library": {"name": "bench", "version": "1"}},
                "integrations": {"All": False, "Braze": True},
                "traits": {key: chance.random() < 0.5},
            }
        )
    return found


def prepared(batch: int, key: str, kinds: int = 200) -> list[bytes]:
    """Whole requests, ready to be written."""
    chance = random.Random(1)
    login = base64.b64encode(f"{key}:".encode()).decode()
    path = "/v1/identify" if batch == 1 else "/v1/batch"
    out = []
    for _ in range(kinds):
        some = messages(batch, chance)
        body = json.dumps(some[0] if batch == 1 else {"batch": some}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {login}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        out.append(head.encode() + body)
    return out


async def measure(given: argparse.Namespace) -> dict[str, object]:
    """Open the connections, send, and sum up."""
    loop = asyncio.get_running_loop()
    load = Load(prepared(given.batch, given.key), given.seconds, given.rate)
    connections = []
    for _ in range(given.connections):
        _, connection = await loop.create_connection(
            lambda: Connection(load), "127.0.0.1", given.port
        )
        connections.append(connection)
    seconds = await load.run(connections)
    times = sorted(load.times) or [0.0]
    return {
        "requests": len(load.times),
        "seconds": seconds,
        "statuses": load.statuses,
        "broken": load.broken,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "client_cpu": time.process_time(),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float)
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
