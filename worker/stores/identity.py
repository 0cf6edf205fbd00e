"""Which server this process is connected to, found out before a connection is used.

A server that was restarted, or a replica that took over, may have forgotten the last moments: an
entry that was applied, a claim, what Braze acknowledged. It has a `run_id` of its own, and whoever
was connected to the one before has to connect anew. So each new connection asks for it before
anything else, and if the server is another one, nobody claims for one HTTP total: that is set over
the same connection, before it may carry anything. No claim can get in between.

What this process should do about what it sent is somebody else's: `epoch` tells that it must.
"""

import re
import threading
from datetime import timedelta
from typing import Any

from redis.exceptions import ResponseError

from worker.durations import to_ms
from worker.stores.keys import SERVER, key
from worker.stores.sources import sources

_RUN_ID = re.compile(rb"run_id:(\w+)")
_NEVER_PROMOTED = re.compile(rb"master_replid2:0+\s")


class ServerIdentity:
    """One for each process and server; safe to use from many threads."""

    def __init__(self, partitions: int, quiet: timedelta) -> None:
        self._partitions = partitions
        self._quiet_ms = to_ms(quiet)
        self._known: bytes | None = None
        self._lock = threading.Lock()
        self._has_quieted = False
        self.epoch = 0
        """Grows when the server turned out to be another one. A value that was read under an
        earlier epoch may have been forgotten by now."""

    @property
    def quiet(self) -> timedelta:
        """For how long nobody claims after a change."""
        return timedelta(milliseconds=self._quiet_ms)

    def has_quieted(self) -> bool:
        """True once after this process had everybody wait."""
        with self._lock:
            found, self._has_quieted = self._has_quieted, False
        return found

    def introduce(self, connection: Any) -> None:
        """What redis-py calls to set up a new connection. It may not be used if this raises."""
        connection.on_connect()
        info = _ask(connection, "INFO", "server")
        found = _RUN_ID.search(info)
        run_id = found[1] if found else b""
        if run_id == self._known:
            return
        has_quieted = self._let_all_wait(connection, run_id)
        with self._lock:
            self._has_quieted = self._has_quieted or has_quieted
            if self._known is not None and self._known != run_id:
                self.epoch += 1
            self._known = run_id

    def _let_all_wait(self, connection: Any, run_id: bytes) -> bool:
        """Nobody claims for a while, unless somebody has seen to that for this server already.

        The key that says so is written last: who is killed midway has said nothing. A process
        that starts has sent nothing, so it need not have others wait for a server that keeps
        everything; nor does it say that they have.
        """
        stored = _ask(connection, "GET", SERVER)
        if stored == run_id:
            return False
        is_first = stored is None and self._known is None
        if not is_first:
            if self._known is None and _keeps_everything(connection):
                return False
            for partition in range(self._partitions):
                _run(connection, "quiet", key(partition, "quiet"), self._quiet_ms)
        _run(connection, "serves", SERVER, run_id)
        return not is_first


def _keeps_everything(connection: Any) -> bool:
    """True if the server was never a replica, and has each change on disk before it answers."""
    if not _NEVER_PROMOTED.search(_ask(connection, "INFO", "replication")):
        return False
    try:
        is_kept = _setting(connection, "appendonly") == b"yes"
        return is_kept and _setting(connection, "appendfsync") == b"always"
    except ResponseError:
        return False  # a managed server does not tell


def _setting(connection: Any, name: str) -> bytes:
    found = _ask(connection, "CONFIG", "GET", name)
    return bytes(found[name.encode()] if isinstance(found, dict) else found[1])


def _run(connection: Any, script: str, name: str, *args: object) -> Any:
    # By its text: a server that has just started knows no script.
    return _ask(connection, "EVAL", sources().alone(script), 1, name, *args)


def _ask(connection: Any, *command: object) -> Any:
    connection.send_command(*command)
    return connection.read_response()
