"""Tells the workers that an inbox has something: one Celery message, without data.

Written through kombu in Celery's message protocol 2, so that a producer need not carry Celery.
A doorbell that is lost costs a moment: the workers' tick rings again.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer as Publisher
from redis import Redis
from redis.exceptions import RedisError

from worker.contract import BELL_LIFE_MS, BROKER_KEY_PREFIX, QUEUE_OF_TASK, TaskName, bell_key
from worker.settings import WrongSettings

_log = logging.getLogger(__name__)
_NO_CALLBACKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
# After a failure: a broker that takes long to fail must not hold up every append.
QUIET_SECONDS = 10.0
_TRANSPORT = {
    "global_keyprefix": BROKER_KEY_PREFIX,
    "visibility_timeout": 60,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "max_retries": 0,  # or kombu waits for a broker that is away, for ever
}
# kombu is only partly typed.
_connect: Any = Connection
_publisher: Any = Publisher


class Doorbell:
    """Rings the accept lane of a partition, unless a bell is on its way already."""

    def __init__(
        self, client: Redis, broker_url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects when first rung. Raises WrongSettings for a URL that names no broker."""
        self._client = client
        self._clock = clock
        self._quiet_until = 0.0
        try:
            self._connection = _connect(broker_url, transport_options=dict(_TRANSPORT))
            errors = self._connection.connection_errors + self._connection.channel_errors
        except (KeyError, ImportError):
            raise WrongSettings(
                "PERSONA_SYNC_BROKER_URL names no broker that Celery knows: write redis://..., "
                "rediss://... or sentinel://..."
            ) from None
        self._errors: tuple[type[Exception], ...] = (OSError, OperationalError, *errors)

    def ring(self, partition: int) -> bool:
        """True if a message went out. Never raises for trouble on the way: it logs a warning."""
        if self._clock() < self._quiet_until:
            return False
        bell = bell_key(partition, TaskName.ACCEPT)
        try:
            if not self._client.set(bell, "1", nx=True, px=BELL_LIFE_MS):
                return False
        except RedisError as error:
            _warn(partition, error)
            return False
        try:
            self._publish_once_more(partition)
        except self._errors as error:
            self.close()
            self._quiet_until = self._clock() + QUIET_SECONDS
            self._lift(bell)
            _warn(partition, error)
            return False
        return True

    def close(self) -> None:
        """Drop the connection; the next ring opens another."""
        self._connection.release()

    def _publish_once_more(self, partition: int) -> None:
        """On a new connection if the one in use fails: it may have died while it was idle."""
        was_connected = bool(self._connection.connected)
        try:
            self._publish(partition)
        except self._errors:
            if not was_connected:
                raise
            self._connection.release()
            self._publish(partition)

    def _publish(self, partition: int) -> None:
        headers, body = task_message(TaskName.ACCEPT, [partition])
        publisher = _publisher(self._connection.default_channel, auto_declare=False)
        publisher.publish(
            body,
            exchange="",
            routing_key=QUEUE_OF_TASK[TaskName.ACCEPT],
            serializer="json",
            delivery_mode=2,
            retry=False,
            headers=headers,
            correlation_id=headers["id"],
            reply_to="",
        )

    def _lift(self, bell: str) -> None:
        try:
            self._client.delete(bell)
        except RedisError:
            _log.debug("the bell stays until its life is over")


def task_message(task: str, arguments: list[int]) -> tuple[dict[str, Any], list[Any]]:
    """Headers and body of a Celery task message, protocol 2."""
    task_id = str(uuid4())
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": repr(tuple(arguments)),
        "kwargsrepr": "{}",
        "origin": f"producer{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    return headers, [arguments, {}, dict(_NO_CALLBACKS)]


def _warn(partition: int, error: Exception) -> None:
    _log.warning(
        "no doorbell for partition %d (%s); the workers' tick rings within %d s",
        partition,
        type(error).__name__,
        BELL_LIFE_MS // 1_000,
    )
