"""What the embedded server keeps in its data folder, and who may have it.

In the folder: `redis/` (the append-only file), `server.json` (the address, read by every other
command), `login.json` (port and password, kept over restarts), `server.log`, and `lock`, which
the server process itself holds for as long as it lives, however its starter ended.
"""

import errno
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.settings import ADDRESS_FILE, WrongSettings

LOG_FILE = "server.log"
_LOCK_FILE = "lock"
_LOGIN_FILE = "login.json"
_REDIS_FOLDER = "redis"
_OLD_LOG_BYTES = 5_000_000

# Below the ports that systems give to outgoing connections: a client that retries while the
# server is away could otherwise be given the server's own port, and connect to itself.
_PORTS = range(20_000, 32_000)

# A limit of the process (EFBIG) is no room, too.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEAST_ROOM_BYTES = 100_000
_MAKE_ROOM = "make room there, then start again. What was accepted is kept."


class ServerFailed(Exception):
    """The embedded server cannot be started. The message says why and where its log is."""


@dataclass(frozen=True)
class Login:
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def config(self) -> bytes:
        """The server's configuration; it goes to its standard input, so `ps` shows no secret."""
        return "\n".join(
            (
                "bind 127.0.0.1",
                f"port {self.port}",
                f"requirepass {self.password}",
                "daemonize no",
                "dir .",
                'logfile ""',
                "appendonly yes",
                "appendfsync always",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            )
        ).encode()


@dataclass(frozen=True)
class Home:
    """The data folder: absolute, and only its owner may look into what is secret in it."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / _LOCK_FILE

    @property
    def log(self) -> Path:
        return self.folder / LOG_FILE

    @property
    def redis(self) -> Path:
        return self.folder / _REDIS_FOLDER

    def make(self) -> None:
        """Make the folders that are missing; a folder that was there keeps its mode."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.redis.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(self.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
            os.close(self._open_lock())
        except OSError as error:
            raise unusable(self.folder, error) from None

    def _open_lock(self) -> int:
        return os.open(self.lock, os.O_CREAT | os.O_RDWR, 0o600)

    def try_lock(self) -> int | None:
        """An open file that holds the folder's lock; None if another process holds it."""
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def wait_for_lock(self) -> int:
        """The same, waiting for as long as another process holds it."""
        lock = self._open_lock()
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def login(self) -> Login:
        """Port and password: those of the last time, so that clients find the server again.

        A new port only if a stranger has taken the old one.
        """
        try:
            kept = json.loads((self.folder / _LOGIN_FILE).read_text())
            port, password = int(kept["port"]), str(kept["password"])
        except (OSError, ValueError, KeyError, TypeError):
            port, password = 0, secrets.token_hex(24)
        if not _is_free(port):
            port = _free_port()
            _write_secret(self.folder / _LOGIN_FILE, {"port": port, "password": password})
        return Login(port, password)

    def write_address(self, url: str, pid: int) -> None:
        _write_secret(self.folder / ADDRESS_FILE, {"url": url, "pid": pid})

    def forget_address(self, pid: int) -> None:
        """Remove the address if it still names this process."""
        file = self.folder / ADDRESS_FILE
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(file.read_text())["pid"] == pid:
                file.unlink()

    def rotate_log(self) -> None:
        with suppress(OSError):
            if self.log.stat().st_size > _OLD_LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.old"))

    def said_since(self, offset: int) -> str:
        """The last of what the server wrote to its log from `offset` on, for an error."""
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = log.read(20_000).decode(errors="replace").splitlines()
        return " ".join(line.strip() for line in lines[-3:] if line.strip())


def _write_secret(file: Path, content: dict[str, object]) -> None:
    """Write a file that only its owner reads; a reader sees the old or the new one, whole.

    Raises WrongSettings if it cannot be written.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(content, out)
        draft.replace(file)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise unusable(file.parent, error) from None


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return port != 0


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        if _is_free(port):
            return port
    raise ServerFailed("No free port was found on 127.0.0.1.")


def unusable(folder: Path, error: OSError) -> WrongSettings:
    """Why nothing can be written in a data folder, and what to do."""
    if error.errno in _NO_ROOM:
        return WrongSettings(
            f"PERSONA_SYNC_DATA_DIR: there is no room in {folder} ({error.strerror}): {_MAKE_ROOM}"
        )
    return WrongSettings(
        f"PERSONA_SYNC_DATA_DIR: {folder} cannot be used: {error.strerror}. Set it to a folder on "
        "a local disk that you may write to."
    )


def where_to_look(data_dir: Path) -> str:
    """What to do about a server that does not stay up; a full disk cannot even be logged."""
    if is_full(data_dir):
        return f"the disk of {data_dir.absolute()} is full: {_MAKE_ROOM.rstrip('.')}"
    return f"see {data_dir / LOG_FILE}"


def is_full(folder: Path) -> bool:
    """True if next to nothing can be written on the folder's disk."""
    try:
        return shutil.disk_usage(folder).free < _LEAST_ROOM_BYTES
    except OSError:
        return False
