"""The producer's connection to the inbox's server, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from producer.refusals import MemoryFull, ProducerRefused, ServerAway, WrongServer

CONNECT_TIMEOUT = 5.0
# An append waits for the disk (`appendfsync always`): a slow disk is no reason to give up early.
ANSWER_TIMEOUT = 15.0

MEMORY_FULL = (
    "The server's memory is nearly full, nothing more is accepted. Let the workers catch up, "
    "or raise its maxmemory; then send again."
)
_NOT_NOW = (AuthorizationError, BusyLoadingError, ClusterDownError)
_CANNOT_WRITE = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "TRYAGAIN")


def connect(
    url: str, *, answer_timeout: float = ANSWER_TIMEOUT, connect_timeout: float = CONNECT_TIMEOUT
) -> Redis:
    """A client that asks once: who repeats is the caller's decision. Connects when first used."""
    return Redis.from_url(
        url,
        socket_connect_timeout=connect_timeout,
        socket_timeout=answer_timeout,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        client_name="persona-sync-producer",
    )


@contextmanager
def errors_said() -> Iterator[None]:
    """Turn the client's errors into the producer's; their text never reaches the message."""
    try:
        yield
    except RedisError as error:
        raise _said(error) from error


def _said(error: RedisError) -> ProducerRefused:
    if isinstance(error, (AuthenticationError, NoPermissionError)):
        return WrongServer(
            "The server refuses the credentials. Check the user and password in "
            "PERSONA_SYNC_REDIS_URL, and that the user may read and write the keys ps1:*."
        )
    if isinstance(error, OutOfMemoryError):
        return MemoryFull(MEMORY_FULL)
    if isinstance(error, ReadOnlyError):
        # Repeating helps after a failover: the same address may lead to the new primary then.
        return ServerAway(
            "The server is read-only, so it did not take the last messages. Let "
            "PERSONA_SYNC_REDIS_URL name the primary server, then send again."
        )
    if isinstance(error, ResponseError) and not isinstance(error, _NOT_NOW):
        word = str(error).split(" ", 1)[0]
        if word not in _CANNOT_WRITE:
            return WrongServer(
                f"The server does not do what is asked of it ({word}). It must be Redis or "
                "Valkey, 7.0 or later."
            )
        return ServerAway(
            f"The server cannot write at the moment ({word}): look at its log and its disk, "
            "then send again."
        )
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, *_NOT_NOW)):
        kind = "did not answer in time" if isinstance(error, RedisTimeoutError) else "is away"
    else:
        kind = f"is not usable ({type(error).__name__})"
    return ServerAway(
        f"The server {kind}. It is not certain that the last messages arrived: send them again, "
        "nothing is taken twice."
    )
