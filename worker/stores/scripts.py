"""Loads the Lua scripts and runs them; a script is atomic, and its author says what it checks.

Scripts are sent by digest and loaded when the server does not know them. Nothing is sent
twice: the client has no retries, because a late reply would be asked for again.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from redis.commands.core import Script
from redis.exceptions import ResponseError

from worker.stores.server import Server

# The server ran a script and refused it; what it had not written it will not write.
ScriptFailed = ResponseError

# Draining must go on when memory is full: what drains makes room (server 7.0 or later).
_FLAGS = "#!lua flags=allow-oom\n"


@cache
def _source(name: str) -> str:
    return (files("worker.stores") / "lua" / f"{name}.lua").read_text()


class Scripts:
    """Scripts bound to one client."""

    def __init__(self, client: Server) -> None:
        self._client = client
        self._known: dict[str, Script] = {}
        # Read now: files that an upgrade replaces must not meet a process that is still running.
        for file in (files("worker.stores") / "lua").iterdir():
            _source(file.name.removesuffix(".lua"))

    def on_partition(self, name: str, prefix: str, now: int | None, *args: Any) -> Any:
        """Run a script of one partition, with the shared state functions in front of it."""
        script = self._known.get(name)
        if script is None:
            script = self._client.register_script(_FLAGS + _source("state") + _source(name))
            self._known[name] = script
        clock = "" if now is None else now
        return script(keys=[f"{prefix}ledger"], args=[prefix, clock, *args])

    def alone(self, name: str, keys: list[str], *args: Any) -> Any:
        """Run a script that stands by itself."""
        script = self._known.get(name)
        if script is None:
            script = self._client.register_script(_FLAGS + _source(name))
            self._known[name] = script
        return script(keys=keys, args=list(args))
