"""Celery's side: queues, delivery options, the beat's schedule.

`celery -A worker.celery_app worker -P threads -c 64` finds `app` here. It is made when first
asked for, so that importing this module connects to nothing and needs no settings.

No data travels in messages: Celery's Redis transport loses a message when a worker is killed
between taking it and noting it, so a message only says "there is work".
"""

import sys
import warnings
from functools import cache
from typing import Any

from billiard.exceptions import RestartFreqExceeded
from celery import Celery, Task
from celery.beat import SchedulingError
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import celeryd_after_setup
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel
from kombu.utils.scheduling import priority_cycle
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as ConnectionSlow

from worker.contract import (
    BROKER_KEY_PREFIX,
    CANNOT_START_CODE,
    QUEUE_OF_TASK,
    QUEUES,
    QueueName,
    TaskName,
)
from worker.observe.broker_away import tell_in_one_line
from worker.observe.logs import configure
from worker.settings import NothingRunning, Settings, WrongSettings

TICK_SECONDS = 1.0
_NO_CANCELLING = r"(?s).*worker_cancel_long_running_tasks_on_connection_loss"


def cannot_start(error: Exception) -> SystemExit:
    """What ends the process, with the error's sentence said. Its code tells what a person must
    mend (CANNOT_START_CODE) from a server that is away, which may come back: that is 1."""
    if isinstance(error, NothingRunning):
        return SystemExit(f"persona-sync: {error}")
    sys.stderr.write(f"persona-sync: {error}\n")
    return SystemExit(CANNOT_START_CODE)


# A broker that is away, is full, or takes nothing since it was made a replica.
BROKER_TROUBLE = (
    ConnectionLost, ConnectionSlow, OperationalError, OSError, ReadOnlyError, OutOfMemoryError,
    RestartFreqExceeded,
)  # fmt: skip


class MostUrgentFirst(priority_cycle):
    """The order in which the transport asks the queues; it hands them in as a set, unordered."""

    def consume(self, n: int) -> list[str]:
        """The first `n` queues to ask."""
        return sorted(self.items, key=_urgency)[:n]


def _urgency(queue: str) -> int:
    return QUEUES.index(queue) if queue in QUEUES else len(QUEUES)


def _let_workers_live_through_a_lost_broker() -> None:
    """Kombu 5.7 acknowledges and restores on a channel whose connection is gone already; that is
    an AttributeError, which ends the worker, unless it is told as what it is."""
    parameters = Channel._connparams
    if parameters.__name__ == "or_lost":
        return

    def or_lost(self: Any, *args: Any, **options: Any) -> Any:
        if self.connection.client is None:
            raise ConnectionLost("The connection of this channel is closed")
        return parameters(self, *args, **options)

    Channel._connparams = or_lost  # type: ignore[method-assign]


class _Quiet(Task):  # type: ignore[misc]
    """The beat's message: not sent while one is still waiting, so that no worker means no pile."""

    abstract = True

    def apply_async(self, *args: Any, **options: Any) -> Any:
        if self.name == TaskName.TICK and _waiting(self.app, QueueName.CONTROL):
            return None
        return super().apply_async(*args, **options)


def _waiting(app: Celery, queue: str) -> int:
    with app.connection_for_write() as connection:
        declared = Queue(queue)(connection.default_channel).queue_declare()
        return int(declared.message_count)


@celeryd_after_setup.connect
def _say_nothing_of_what_is_decided(**_: Any) -> None:
    # Each loss of the broker brings ten lines about a setting that is made here on purpose.
    # Celery asks for all its warnings while it sets up logging, so this comes later.
    warnings.filterwarnings("ignore", _NO_CANCELLING, category=CPendingDeprecationWarning)


def _queues() -> dict[str, Any]:
    return {
        "task_queues": [Queue(name, routing_key=name) for name in QUEUES],
        "task_routes": {task: {"queue": queue} for task, queue in QUEUE_OF_TASK.items()},
        "task_default_queue": QueueName.CONTROL,
        "task_create_missing_queues": False,
    }


# Tasks are idempotent: better twice than not at all.
_DELIVERY: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "result_backend": None,
}
_BROKER: dict[str, Any] = {
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # A broker that is made a replica is an error of the channel, which would end the worker.
    "broker_channel_error_retry": True,
    "broker_transport_options": {
        "global_keyprefix": BROKER_KEY_PREFIX,
        # Longer than any drain; a doorbell that was lost is rung again long before.
        "visibility_timeout": 60,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "queue_order_strategy": "worker.celery_app:MostUrgentFirst",
    },
}
_PROCESSES: dict[str, Any] = {
    "imports": ("worker.tasks",),
    "worker_send_task_events": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_soft_shutdown_timeout": 8,
    "worker_enable_soft_shutdown_on_idle": False,
    # Facts are written as they are; only Celery's own lines go through its logger.
    "worker_redirect_stdouts": False,
    "timezone": "UTC",
    "beat_schedule": {
        "tick": {
            "task": TaskName.TICK,
            "schedule": TICK_SECONDS,
            "options": {"expires": 10, "queue": QueueName.CONTROL},
        }
    },
}


@cache
def make_app() -> Celery:
    """The Celery application, configured from the environment.

    Exits with a plain sentence if a setting is wrong or no server is there.
    """
    try:
        settings = Settings.load()
        broker = settings.celery_broker_url()
    except (WrongSettings, NothingRunning) as error:
        raise cannot_start(error) from None
    configure(settings.log_level, settings.log_format)
    # What it warns of, a worker of root that reads pickles, cannot be: JSON is all we accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    tell_in_one_line(BROKER_TROUBLE, (SchedulingError,))
    _let_workers_live_through_a_lost_broker()
    made = Celery("persona_sync", broker=broker, task_cls=_Quiet, set_as_current=False)
    made.conf.update(**_queues(), **_DELIVERY, **_BROKER, **_PROCESSES)
    return made


def __getattr__(name: str) -> Any:
    if name in ("app", "celery"):
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
