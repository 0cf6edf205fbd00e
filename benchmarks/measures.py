"""What is measured, one function each: a system is started, loaded, and its figures returned."""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.http_load import http_load
from benchmarks.stack import LIFTED, Shape, Stack, envelope, user_id, wait_for
from producer.envelopes import Addressed
from producer.publish import Producer
from worker.pipeline.schedule import Lane

Figures = dict[str, Any]
CHANGES, USERS, IN_ENVELOPE = 100_000, 20_000, 500
DEFAULTS = {"PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND": "100"}


@contextmanager
def _stack(shape: Shape) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="persona-sync-bench-") as folder,
        Stack(Path(folder), shape).running() as stack,
    ):
        yield stack


def _load(changes: int, users: int, seed: int = 1) -> list[Addressed]:
    """Envelopes of 500 over random users and three audiences."""
    chance = random.Random(seed)
    start = int(time.time() * 1000) - 3_600_000
    return [
        envelope(
            number,
            [
                (user_id(chance.randrange(users)), f"audience_{chance.randrange(3)}",
                 chance.random() < 0.5)
                for _ in range(IN_ENVELOPE)
            ],
            start + number * IN_ENVELOPE,
        )
        for number in range(changes // IN_ENVELOPE)
    ]  # fmt: skip


def throughput(shape: Shape, changes: int = CHANGES, users: int = USERS) -> Figures:
    """Changes accepted and delivered per second, from the first append to the last settle."""
    load = _load(changes, users)
    with _stack(shape) as stack, stack.producer() as producer:
        before, started = stack.cost(), time.monotonic()
        for start in range(0, len(load), 8):
            producer.append(load[start : start + 8])
        stack.wait_until_idle(180)
        seconds, after = time.monotonic() - started, stack.cost()
        report = stack.report()
        balance = stack.stores.ledger.balance(1)
        engine = after.worker - before.worker + after.server - before.server
        return {
            "changes_per_second": round(changes / seconds),
            "cpu_us_per_change": round(engine / changes * 1e6, 1),
            "cpu_us_worker": round((after.worker - before.worker) / changes * 1e6, 1),
            "cpu_us_server": round((after.server - before.server) / changes * 1e6, 1),
            "requests": report["requests"],
            "objects": report["objects"],
            "mean_fill": round(report["mean_fill"], 2),
            "unchanged_values_sent": report["values_unchanged"],
            "values_sent": report["values"],
            "objects_per_change": round(report["objects"] / changes, 3),
            "ends": balance.ends,
            "seconds": round(seconds, 2),
        }


def at_the_defaults() -> Figures:
    """The same load at 100 requests a second and a 5 s gap, beside the computed ideal."""
    shape = Shape(settings=dict(DEFAULTS), latency=(0.05, 0.15))
    figures = throughput(shape)
    # Every dirty user once, in full requests, at 100 requests a second.
    return {**figures, "ideal_seconds": round(USERS / 75 / 100, 1)}


def freshness(rate: int = 500, seconds: int = 40, users: int = 100_000) -> Figures:
    """Event arrival to Braze's acknowledgement at a steady rate, realtime lane."""
    shape = Shape(settings={"PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND": "100"}, latency=(0.05, 0.15))
    chance = random.Random(7)
    per_envelope = 10
    with _stack(shape) as stack, stack.producer() as producer:
        began = time.monotonic()
        for number in range(rate * seconds // per_envelope):
            wait = began + number * per_envelope / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            changes = [
                (user_id(chance.randrange(users)), f"audience_{chance.randrange(3)}",
                 chance.random() < 0.5)
                for _ in range(per_envelope)
            ]  # fmt: skip
            producer.append([envelope(number, changes, int(time.time() * 1000))])
        stack.wait_until_idle(60)
        p50, p95, p99 = stack.stores.ledger.freshness(1, Lane.REALTIME, (0.5, 0.95, 0.99))
        report = stack.report()
        return {
            "p50_ms": round(p50 * 1000),
            "p95_ms": round(p95 * 1000),
            "p99_ms": round(p99 * 1000),
            "changes_per_second": rate,
            "users": users,
            "requests": report["requests"],
            "mean_fill": round(report["mean_fill"], 1),
            "unchanged_values_sent": report["values_unchanged"],
        }


def requests_per_second(
    objects: int, users: int, threads: int = 128, seconds: float = 8
) -> Figures:
    """Requests that one worker process keeps going against a Braze that takes 100 ms."""
    load = _load(users, users, seed=3)
    settings = {**LIFTED, "PERSONA_SYNC_BRAZE_OBJECTS_PER_REQUEST": str(objects)}
    shape = Shape(threads=threads, latency=(0.1, 0.1), settings=settings)
    with _stack(shape) as stack, stack.producer() as producer:
        stack.stores.allowance.stop("operator")
        for start in range(0, len(load), 8):
            producer.append(load[start : start + 8])
        wait_for(lambda: stack.stores.inbox.size(0) == 0, 120)
        stack.stores.allowance.resume()
        wait_for(lambda: stack.report()["requests"] > 20, 60)
        peaks = []
        last, at = stack.report()["requests"], time.monotonic()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            now, moment = stack.report()["requests"], time.monotonic()
            peaks.append((now - last) / (moment - at))
            last, at = now, moment
            if not stack.stores.memberships.waiting(0, Lane.REALTIME, 0).ready:
                break
        busy = [rate for rate in peaks if rate > max(peaks) / 2]
        return {
            "requests_per_second": round(statistics.median(busy)),
            "best_half_second": round(max(peaks)),
            "users_per_second": round(statistics.median(busy) * objects),
            "objects_per_request": objects,
            "threads": threads,
        }


def memory(users: int = 1_000_000) -> Figures:
    """Server memory of a user with three audiences, journal apart."""
    settings = {
        "PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND": "10000",
        "PERSONA_SYNC_BRAZE_BURST": "10000",
        "PERSONA_SYNC_SAME_ATTRIBUTE_GAP": "0ms",
        "PERSONA_SYNC_JOURNAL_BYTES": "100000",
    }
    start = int(time.time() * 1000) - 3_600_000
    with _stack(Shape(workers=2, threads=32, settings=settings)) as stack:
        before = stack.stores.client.info("memory")["used_memory"]
        with stack.producer() as producer:
            for number in range(0, users * 3, IN_ENVELOPE):
                changes = [
                    (user_id((number + i) // 3), f"audience_{(number + i) % 3}", True)
                    for i in range(IN_ENVELOPE)
                ]
                while stack.stores.inbox.size(0) > 2_000:
                    time.sleep(0.05)
                producer.append([envelope(number, changes, start)])
            stack.wait_until_idle(400)
        after = stack.stores.client.info("memory")["used_memory"]
        appended = _append_memory(stack)
        return {
            "bytes_per_user": round((after - before - appended) / users),
            "users": users,
            "append_ids_bytes": appended,
        }


def _append_memory(stack: Stack) -> int:
    """What the remembered envelope ids take: they expire, and are no user's."""
    client = stack.stores.client
    keys = list(client.scan_iter("ps1:{0}:append:*", count=1000))
    return sum(int(client.memory_usage(key) or 0) for key in keys[:200]) * max(
        1, len(keys) // max(1, min(200, len(keys)))
    )


def starvation(batched: int = 1_000_000, rate: int = 500, seconds: int = 20) -> Figures:
    """Realtime freshness while very many batched users are due at once, beside its quiet value."""
    audiences = "lanes: {batched: {every: 30s}}\naudiences:\n  - {key: slow, cadence: batched}\n"
    settings = {"PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND": "100"}
    shape = Shape(settings=settings, latency=(0.05, 0.15), audiences=audiences)
    start = int(time.time() * 1000) - 3_600_000
    with _stack(shape) as stack, stack.producer() as producer:
        _steady(producer, rate, seconds, seed=4)
        stack.wait_until_idle(30)
        quiet = _realtime_freshness(stack)
        # Filled while nothing may be sent, so that all of them are due when it may.
        stack.stores.allowance.stop("operator")
        for number in range(0, batched, IN_ENVELOPE):
            changes = [(user_id(number + i), "slow", True) for i in range(IN_ENVELOPE)]
            while stack.stores.inbox.size(0) > 2_000:
                time.sleep(0.05)
            producer.append([envelope(number, changes, start)])
        wait_for(lambda: _due(stack) == batched, 240)
        stack.stores.client.delete("ps1:{0}:fresh")
        stack.stores.allowance.resume()
        wait_for(lambda: stack.stores.memberships.in_flight(0)[Lane.BATCHED] > 0, 60)
        _steady(producer, rate, seconds, seed=5)
        busy = _realtime_freshness(stack)
        return {
            "p95_beside_quiet": round(busy[1] / quiet[1], 2),
            "p50_ms": round(busy[0] * 1000),
            "p95_ms": round(busy[1] * 1000),
            "p99_ms": round(busy[2] * 1000),
            "quiet_p95_ms": round(quiet[1] * 1000),
            "batched_users_due": batched,
            "batched_users_still_due": _due(stack),
        }


def _steady(producer: Producer, rate: int, seconds: int, seed: int) -> None:
    """Realtime changes at a steady rate, ten in an envelope, of 100,000 users."""
    chance, began = random.Random(seed), time.monotonic()
    for number in range(rate * seconds // 10):
        wait = began + number * 10 / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        changes = [
            (f"rt-{chance.randrange(100_000)}", "fast", chance.random() < 0.5) for _ in range(10)
        ]
        producer.append([envelope(seed * 10_000_000 + number, changes, int(time.time() * 1000))])


def _realtime_freshness(stack: Stack) -> tuple[float, ...]:
    """p50, p95 and p99 in seconds, of what was delivered since the counts were begun."""
    return tuple(stack.stores.ledger.freshness(1, Lane.REALTIME, (0.5, 0.95, 0.99)))


def _due(stack: Stack) -> int:
    now = stack.stores.allowance.now_ms()
    return stack.stores.memberships.waiting(0, Lane.BATCHED, now).due


MEASURES: dict[str, Callable[[], Figures]] = {
    "throughput, 0 ms Braze, 1 worker": lambda: throughput(Shape()),
    "throughput, 0 ms Braze, 2 workers": lambda: throughput(Shape(workers=2, threads=32)),
    "throughput, 0 ms Braze, 4 workers": lambda: throughput(Shape(workers=4, threads=16)),
    "throughput, 50-150 ms Braze, 1 worker": lambda: throughput(Shape(latency=(0.05, 0.15))),
    "throughput, 50-150 ms Braze, 2 workers": lambda: throughput(
        Shape(workers=2, threads=32, latency=(0.05, 0.15))
    ),
    "at the defaults (100 requests/s, gap 5 s)": at_the_defaults,
    "freshness, 500 changes/s": freshness,
    "requests per second, one process, 100 ms Braze": lambda: requests_per_second(10, 100_000),
    "the same with 75 users a request": lambda: requests_per_second(75, 200_000),
    "realtime beside 1,000,000 batched users due": starvation,
    "memory, 1,000,000 users": memory,
    "http, single messages, 1 process": lambda: http_load(1, processes=1, connections=32),
    "http, single messages, 2 processes": lambda: http_load(1, processes=2, connections=32),
    "http, batches of 100, 1 process": lambda: http_load(100, processes=1, connections=8),
    "http, batches of 100, 2 processes": lambda: http_load(100, processes=2, connections=8),
}
