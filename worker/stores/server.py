"""The type of the client that stores are given."""

from typing import Any

# A `redis.Redis` whose replies are bytes. redis-py's own annotations say "bytes or str, or a
# coroutine" of every reply, so that checking against them would only add casts.
Server = Any
