"""Why a server that answers does not do what it is told: the same words for `check` and for every
command that meets it."""

from redis.exceptions import (
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

NEWER = "Use Redis 7.0 or later, Valkey, or the embedded server (`persona-sync up`)."
# What a server says that does not know our scripts, or commands of theirs.
_TOO_OLD = ("unknown command", "error compiling script")


def refused(error: RedisError, *, is_replica: bool = False) -> tuple[str, str] | None:
    """What the server said, in words, and what to do; None if that is nothing we know."""
    if isinstance(error, ReadOnlyError):
        role = "a read-only replica" if is_replica else "read-only"
        return f"the server is {role}", "Let PERSONA_SYNC_REDIS_URL name the primary server."
    if isinstance(error, OutOfMemoryError):
        return "its memory is full", "Give the server more memory (`maxmemory`)."
    said = str(error)
    if isinstance(error, NoPermissionError):
        return "its user may not do that", "`persona-sync check` says which rights are missing."
    if said.startswith("NOREPLICAS"):
        return (
            "too few replicas are connected, so that it takes no writes",
            "Bring the replicas back, or lower `min-replicas-to-write`.",
        )
    if said.startswith("MISCONF"):
        return (
            "it cannot write to its disk, so that it takes no writes",
            "See the server's log, and whether its disk is full.",
        )
    if isinstance(error, ResponseError) and any(word in said.lower() for word in _TOO_OLD):
        return "it does not know what is asked of it: it is too old", NEWER
    return None


def refusal_said(error: RedisError) -> str | None:
    """The same as sentences, for a command that ends with it."""
    found = refused(error)
    if found is None:
        return None
    why, todo = found
    return f"The Redis server does not do what is asked of it: {why}. {todo}"
