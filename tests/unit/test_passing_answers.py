"""Which of the server's answers mean no more than "not now"."""

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as ServerAway
from redis.exceptions import TimeoutError as ServerSlow

from worker.stores.server import passes


@pytest.mark.parametrize(
    "error",
    [
        ServerAway("Error 111 connecting to 127.0.0.1:1."),
        ServerSlow("Timeout reading from socket"),
        BusyLoadingError("Redis is loading the dataset in memory"),
        ReadOnlyError("You can't write against a read only replica."),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("MISCONF Errors writing to the AOF file"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("MASTERDOWN Link with MASTER is down"),
        ResponseError("BUSY Redis is busy running a script."),
        AuthenticationError("WRONGPASS invalid username-password pair"),
    ],
    ids=lambda error: str(error).partition(" ")[0],
)
def test_these_pass(error: RedisError) -> None:
    """Whoever asks again later may be answered; a password can be mended, too."""
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        NoScriptError("No matching script."),
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("user_script:12: attempt to index a nil value"),
    ],
    ids=lambda error: str(error).partition(" ")[0],
)
def test_these_are_faults(error: RedisError) -> None:
    """They are to be seen, with all that there is to see."""
    assert not passes(error)
