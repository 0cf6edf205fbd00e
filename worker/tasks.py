"""Celery entry points: decode, call one function of the flow, return a short summary.

Flower shows names, arguments (a partition's number) and summaries; none holds personal data.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from typing import Any

from celery.signals import (
    heartbeat_sent,
    task_postrun,
    worker_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from redis.exceptions import ConnectionError as ServerAway
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as ServerSlow

from worker.bootstrap import CANNOT_START, Engine, boot_seconds, load_engine
from worker.celery_app import cannot_start, make_app
from worker.contract import QUEUE_OF_TASK, TaskName
from worker.observe.heartbeat import Heartbeat
from worker.observe.process_metrics import DrainEnded
from worker.pipeline.schedule import Lane
from worker.stores.server import passes
from worker.stores.workers import this_process

app = make_app()
NAME = this_process()


def _ring(task: str, partition: int) -> None:
    app.send_task(
        task, args=[partition], queue=QUEUE_OF_TASK[task], argsrepr=f"({partition},)", retry=False
    )


@cache
def _engine_once() -> Engine:
    return load_engine(_ring)


_lock = threading.Lock()


def engine() -> Engine:
    """This process's engine, made at the first call."""
    with _lock:
        return _engine_once()


class Seats:
    """How many threads the drains of one kind may hold: accept and batched a quarter each, so
    that half are left for realtime; realtime all but an eighth, so that accept and the tick find
    one even while Braze is slow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._most: dict[str, int] = {}
        self._busy: Counter[str] = Counter()
        self._turned_away: set[tuple[str, int]] = set()

    def set_up(self, threads: int) -> None:
        """Called once, before the first task."""
        quarter = max(1, threads // 4)
        self._most = {
            TaskName.ACCEPT: quarter,
            TaskName.FLUSH_BATCHED: quarter,
            TaskName.FORWARD_DELETES: 1,
            TaskName.SWEEP: 1,
            TaskName.FLUSH_REALTIME: max(1, threads - max(1, threads // 8)),
        }

    @contextmanager
    def one(self, task: str, partition: int) -> Iterator[bool]:
        """Yields False if all are taken: the next of them that is free is rung for."""
        with self._lock:
            taken = self._busy[task] < self._most.get(task, 1)
            if taken:
                self._busy[task] += 1
            else:
                self._turned_away.add((task, partition))
        try:
            yield taken
        finally:
            if taken:
                self._leave(task)

    def _leave(self, task: str) -> None:
        with self._lock:
            self._busy[task] -= 1
            waiting = {bell for bell in self._turned_away if bell[0] == task}
            self._turned_away -= waiting
        for bell in waiting:
            engine().flow.ring_again(*bell)


seats = Seats()


@contextmanager
def _server_may_be_away() -> Iterator[dict[str, Any]]:
    """A server that is away, or takes nothing now, is not the task's failure: the tick rings
    again."""
    summary: dict[str, Any] = {}
    try:
        yield summary
    except RedisError as error:
        if not passes(error):
            raise
        summary["server_away"] = type(error).__name__


def _drain(task: str, partition: int, work: Callable[[], Any]) -> dict[str, Any]:
    """Do a drain's work if there is a seat for it; the summary says if there was none."""
    with _server_may_be_away() as summary, seats.one(task, partition) as taken:
        if taken:
            summary.update(_short(work()))
        else:
            summary["seats"] = "taken"
    return summary


@app.task(name=TaskName.ACCEPT)
def accept(partition: int) -> dict[str, Any]:
    """Apply what is in the inbox."""
    return _drain(TaskName.ACCEPT, partition, lambda: engine().flow.accept(partition))


@app.task(name=TaskName.FLUSH_REALTIME)
def flush_realtime(partition: int) -> dict[str, Any]:
    """Deliver realtime changes that are due."""
    return _drain(TaskName.FLUSH_REALTIME, partition, lambda: _flush(partition, Lane.REALTIME))


@app.task(name=TaskName.FLUSH_BATCHED)
def flush_batched(partition: int) -> dict[str, Any]:
    """Deliver batched changes whose boundary has passed."""
    return _drain(TaskName.FLUSH_BATCHED, partition, lambda: _flush(partition, Lane.BATCHED))


@app.task(name=TaskName.FORWARD_DELETES)
def forward_deletes(partition: int) -> dict[str, Any]:
    """Have Braze delete the profiles of deleted users."""
    flow = engine().flow
    return _drain(TaskName.FORWARD_DELETES, partition, lambda: flow.forward_deletes(partition))


@app.task(name=TaskName.SWEEP)
def sweep(partition: int) -> dict[str, Any]:
    """Do what concerns many users: a resync, a flush, a change of the rules."""
    return _drain(TaskName.SWEEP, partition, lambda: engine().flow.sweep(partition))


def _flush(partition: int, lane: Lane) -> Any:
    return engine().flow.flush(partition, lane)


@app.task(name=TaskName.TICK)
def tick() -> dict[str, Any]:
    """Once a second: end what lost workers left, ring for what waits."""
    with _server_may_be_away() as summary:
        engine().stores.workers.ticked()
        summary.update(_short(engine().flow.recover()))
    return summary


def _short(tally: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(tally).items() if value}


@task_postrun.connect
def _say_ended(task: Any = None, retval: Any = None, **_: Any) -> None:
    engine().record(DrainEnded(task=task.name, ended=_end_of(retval)))


def _end_of(summary: Any) -> str:
    """Why a drain ended, from its summary; a task that failed has an exception instead."""
    if not isinstance(summary, dict):
        return "failed"
    if "server_away" in summary:
        return "server_away"
    return "seats_taken" if "seats" in summary else str(summary.get("ended", "done"))


# --- the life of a worker process


@worker_init.connect
def _start(sender: Any, **_: Any) -> None:
    # Every drain is a line otherwise; what matters is logged as a fact.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    seats.set_up(int(getattr(sender, "concurrency", None) or 1))
    try:
        running = engine()
    except CANNOT_START as error:
        raise cannot_start(error) from None
    except (ServerAway, ServerSlow):
        raise SystemExit("persona-sync: the server cannot be reached; is it running?") from None
    except RedisError as error:
        raise SystemExit(
            f"persona-sync: the server does not do what a worker needs: {error}. "
            "`persona-sync check` says more; start the worker again when that is mended."
        ) from None
    if running.endpoint:
        running.endpoint.start()


@worker_ready.connect
def _say_alive(**_: Any) -> None:
    running = engine()

    def beat() -> None:
        running.stores.workers.beat(NAME)
        running.flow.recollect()

    heartbeat = Heartbeat(beat, running.record, running.stop.wait, boot_seconds)
    threading.Thread(target=heartbeat.run, name="heartbeat", daemon=True).start()


@heartbeat_sent.connect
def _show_alive(**_: Any) -> None:
    # Celery's own heartbeat: its main loop has turned, and the broker took what it said.
    if alive := engine().alive:
        alive.touch()


@worker_shutting_down.connect
def _make_drains_end(**_: Any) -> None:
    engine().stop.set()


@worker_shutdown.connect
def _leave(**_: Any) -> None:
    running = engine()
    try:
        with _server_may_be_away():
            running.flow.recollect()
            running.stores.workers.leave(NAME)
    finally:
        running.close()
