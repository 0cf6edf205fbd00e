"""Which parts make the local system: the embedded server, workers, the beat, the producer."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from console.checks.running import TICK_LATE_MS
from console.data_folder import where_to_look
from console.local_server import is_ready
from console.supervisor import Part
from worker.contract import CANNOT_START_CODE, QUEUES
from worker.settings import NothingRunning, Settings, split_address
from worker.stored import connect
from worker.stores.workers import Workers

_APP = "worker.celery_app"

# Together below 20 s: beat, then the workers and the producer, then the server.
_BEAT_GRACE = timedelta(seconds=1)
_WORKER_GRACE = timedelta(seconds=15)
_SERVER_GRACE = timedelta(seconds=3)
_ASK_SECONDS = 1.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def local_parts(
    settings: Settings, *, workers: int = 1, concurrency: int = 32, takes_http: bool = False
) -> list[Part]:
    """The parts in the order they are started: a server if none is configured, the HTTP producer
    if it is wanted, workers, beat."""
    names = [f"worker{number}" for number in range(1, workers + 1)]
    return [
        *([server_part(settings)] if settings.is_embedded else []),
        *([producer_part(settings)] if takes_http else []),
        *(worker_part(name, concurrency=concurrency) for name in names),
        beat_part(settings),
    ]


def server_part(settings: Settings) -> Part:
    """The embedded server. Restarted, it has the same port, password and data."""
    return Part(
        name="server",
        command=[sys.executable, "-m", "console.local_server", str(settings.data_dir)],
        env=_environment(),
        stage=0,
        grace=_SERVER_GRACE,
        ready=lambda: is_ready(settings.data_dir),
        look_at=lambda: where_to_look(settings.data_dir),
    )


def worker_part(name: str, *, concurrency: int = 32) -> Part:
    """One Celery worker on all queues; ready when it answers a ping."""
    return Part(
        name=name,
        command=[
            *(sys.executable, "-m", "celery", "--quiet", "-A", _APP, "worker"),
            *("-P", "threads", "-c", str(concurrency)),
            *("--without-gossip", "--without-mingle"),
            *("-n", f"{name}@%h"),
            *("-Q", ",".join(QUEUES)),
        ],
        env=_environment(),
        stage=1,
        grace=_WORKER_GRACE,
        ready=_answers_a_ping(name),
        helpless_code=CANNOT_START_CODE,
    )


def beat_part(settings: Settings) -> Part:
    """The one process that rings the periodic tick; ready when a worker has worked one off. It may
    be killed at any time."""
    return Part(
        name="beat",
        command=[
            *(sys.executable, "-m", "celery", "--quiet", "-A", _APP, "beat"),
            *("--schedule", str(settings.data_dir / "beat-schedule")),
            "--pidfile=",
        ],
        env=_environment(),
        stage=2,
        grace=_BEAT_GRACE,
        ready=lambda: beats(settings),
        helpless_code=CANNOT_START_CODE,
    )


def producer_part(settings: Settings) -> Part:
    """The HTTP producer. Without it, what was accepted is delivered all the same."""
    return Part(
        name="producer",
        command=[sys.executable, "-m", "producer"],
        env=_environment(),
        stage=1,
        grace=_WORKER_GRACE,
        essential=False,
        ready=lambda: producer_lives(settings),
        helpless_code=CANNOT_START_CODE,
    )


def shown_url(url: str) -> str:
    """A Redis URL as it may be printed: scheme, host, port and database, no login."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def producer_lives(settings: Settings) -> bool:
    """True if our producer answers at its address: `/healthz` says so in its words."""
    host, port = split_address(settings.producer_bind) or ("", 0)
    connection = HTTPConnection(_ANYWHERE.get(host, host), port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200 and answer.getheader("X-Request-Id") is not None
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def beats(settings: Settings) -> bool:
    """True if a tick was worked off lately: beat, broker and workers are at work, together."""
    try:
        with connect(settings.server_url(), _ASK_SECONDS, _ASK_SECONDS) as client:
            age = Workers(client).tick_age_ms()
    except (RedisError, NothingRunning):
        return False
    return age is not None and age <= TICK_LATE_MS


def _answers_a_ping(name: str) -> Callable[[], bool]:
    def answers() -> bool:
        from celery.app.utils import find_app
        from celery.utils.nodenames import gethostname
        from kombu.exceptions import OperationalError

        node = f"{name}@{gethostname()}"
        try:
            return bool(find_app(_APP).control.ping(destination=[node], timeout=0.5))
        except (OperationalError, SystemExit):  # the app exits if the server has just died
            return False

    return answers
