"""The client that stores are given, the server's clock (the only one that workers share), and which
of the server's answers pass by themselves."""

from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as ServerAway
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as ServerSlow

# A `redis.Redis` whose replies are bytes. redis-py's own annotations say "bytes or str, or a
# coroutine" of every reply, so that checking against them would only add casts.
Server = Any
# Stands in for the server's clock in tests: ms since 1970.
Clock = Callable[[], int]

# Answers that mean no more than "not now". redis-py knows some of the codes, and cuts them off.
_NOT_NOW = (ServerAway, ServerSlow, ReadOnlyError, OutOfMemoryError)
_NOT_NOW_CODES = (
    "BUSY ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ", "OOM ",
    "READONLY ", "TRYAGAIN ",
)  # fmt: skip


def now_ms(client: Server, clock: Clock | None = None) -> int:
    """What the server's clock says, or the one in its place. The server's costs a round trip."""
    if clock:
        return clock()
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def passes(error: RedisError) -> bool:
    """True if whoever asks again later may be answered: the server is away, hangs, is no primary
    (yet), has no room or no disk."""
    return isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_CODES)
