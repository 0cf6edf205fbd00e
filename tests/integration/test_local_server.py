"""The embedded server: durable, alone in its folder, private, and gone when it should be."""

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from console.data_folder import unusable, where_to_look
from console.local_server import LocalServer, is_ready, running, server_for
from worker.settings import NothingRunning, Settings, WrongSettings, read_address

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")

# Becomes another command that may not write a byte into any file.
NO_ROOM = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def gone(pid: int) -> bool:
    """True if the process is no more, or a zombie that its new parent has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name is as awkward as names get."""
    return tmp_path / 'a folder, ünï\'cödé "quoted"'


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[], LocalServer]]:
    """Starts servers of the folder; all are stopped at the end."""
    with ExitStack() as stack:

        def starter() -> LocalServer:
            server = LocalServer(folder)
            server.start()
            stack.callback(server.stop)
            return server

        yield starter


Start = Callable[[], LocalServer]


class TestDurability:
    def test_a_killed_server_has_forgotten_nothing(self, start: Start) -> None:
        """What was answered survives SIGKILL, and clients find it under the same address."""
        first = start()
        with client(first.url) as redis_client:
            redis_client.set("said", "kept")
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not first.alive)
        second = start()
        with client(second.url) as redis_client:
            assert redis_client.get("said") == "kept"
        assert second.url == first.url

    def test_it_writes_before_it_answers(self, start: Start) -> None:
        """The settings that make `accepted` mean durable are on."""
        with client(start().url) as redis_client:
            config = redis_client.config_get("*")
        assert config["appendonly"] == "yes"
        assert config["appendfsync"] == "always"
        assert config["save"] == ""
        assert config["maxmemory-policy"] == "noeviction"

    def test_a_stopped_server_keeps_its_data(self, start: Start) -> None:
        """A clean stop loses as little as a kill."""
        first = start()
        with client(first.url) as redis_client:
            redis_client.set("said", "kept")
        first.stop()
        with client(start().url) as redis_client:
            assert redis_client.get("said") == "kept"


class TestAddress:
    def test_leads_to_the_server(self, start: Start, folder: Path) -> None:
        """Other commands read it from the folder."""
        server = start()
        assert read_address(folder) == server.url == running(folder)
        assert is_ready(folder)

    def test_is_stale_after_a_kill(self, start: Start, folder: Path) -> None:
        """An address whose server is gone is none."""
        server = start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.alive)
        assert read_address(folder) is None

    def test_of_a_number_given_to_another_is_stale(self, start: Start, folder: Path) -> None:
        """A living process that is not the server does not make the address good."""
        server = start()
        url = server.url
        server.stop()
        (folder / "server.json").write_text(json.dumps({"url": url, "pid": os.getpid()}))
        assert running(folder) is None
        assert start().pid is not None

    def test_is_removed_by_stop(self, start: Start, folder: Path) -> None:
        """A stopped server leaves no address behind."""
        start().stop()
        assert not (folder / "server.json").exists()

    def test_of_another_is_left_alone_by_stop(self, start: Start, folder: Path) -> None:
        """Only its own address is a server's to remove."""
        server = start()
        other = json.dumps({"url": "redis://other", "pid": 1})
        (folder / "server.json").write_text(other)
        server.stop()
        assert (folder / "server.json").read_text() == other

    def test_moves_when_a_stranger_has_its_port(self, start: Start, folder: Path) -> None:
        """A taken port does not keep the server from starting."""
        first = start()
        url = first.url
        first.stop()
        login = json.loads((folder / "login.json").read_text())
        with socket.create_server(("127.0.0.1", login["port"])):
            assert start().url != url


class TestOnePerFolder:
    def test_a_second_starter_uses_the_first_ones(self, start: Start) -> None:
        """There is one server per folder, and who found it running does not stop it."""
        first, second = start(), start()
        assert second.url == first.url
        assert (second.pid, second.alive) == (None, True)
        second.stop()
        assert first.alive

    def test_starters_at_the_same_moment_agree(self, folder: Path) -> None:
        """Many processes starting at once end up with one server."""
        code = (
            "import sys; from pathlib import Path; from console.local_server import LocalServer\n"
            "server = LocalServer(Path(sys.argv[1])); server.start()\n"
            "print(server.url, server.pid, flush=True); sys.stdin.read(); server.stop()"
        )
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", code, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        said = []
        for starter in starters:
            assert starter.stdout is not None
            said.append(starter.stdout.readline().split())
        for starter in starters:
            starter.communicate()
        assert len({url for url, _ in said}) == 1
        assert [pid for _, pid in said].count("None") == 3

    def test_the_lock_is_the_servers_own(self, folder: Path) -> None:
        """While a server runs no other can start, even if its starter has forgotten it."""
        server = LocalServer(folder)
        server.start()
        assert server.pid is not None
        try:
            with (folder / "lock").open() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            server.stop()
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


class TestPrivacy:
    def test_a_password_is_needed(self, start: Start) -> None:
        """Who has only the port gets nothing."""
        port = start().url.rpartition(":")[2]
        with (
            client(f"redis://127.0.0.1:{port}") as redis_client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            redis_client.ping()

    @linux_only
    def test_the_password_is_on_no_command_line_and_ours_not_in_its_environment(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`ps` shows no password, and the server is not handed the Braze key."""
        monkeypatch.setenv("PERSONA_SYNC_BRAZE_API_KEY", "hush")
        server = start()
        password = server.url.partition("//:")[2].partition("@")[0]
        process = Path(f"/proc/{server.pid}")
        assert len(password) >= 32
        assert password.encode() not in (process / "cmdline").read_bytes()
        assert b"hush" not in (process / "environ").read_bytes()

    def test_only_the_owner_can_read_the_files(self, start: Start, folder: Path) -> None:
        """Folders are 0700, every file in them 0600."""
        start()
        for path in [folder, *folder.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, f"{path} has mode {mode:o}"

    def test_the_mode_of_a_folder_that_was_there_is_left_alone(
        self, start: Start, folder: Path
    ) -> None:
        """A folder of the user's is not closed to others; what is secret in it is."""
        folder.mkdir()
        folder.chmod(0o755)
        start()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
        assert stat.S_IMODE((folder / "server.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / "redis").stat().st_mode) == 0o700


class TestFolder:
    def test_that_cannot_be_made_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """The message names the setting, not a defect."""
        (tmp_path / "file").touch()
        with pytest.raises(WrongSettings, match="PERSONA_SYNC_DATA_DIR"):
            LocalServer(tmp_path / "file" / "below").start()

    def test_may_be_relative_and_very_deep(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A path too long for a Unix socket, seen from the working folder, and a proxy set."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        folder = Path(*["x" * 60] * 4)
        server = LocalServer(folder)
        server.start()
        try:
            assert running(folder) == server.url
        finally:
            server.stop()

    def test_with_broken_files_is_mended(self, start: Start, folder: Path) -> None:
        """A cut address or login of an earlier time is replaced."""
        folder.mkdir()
        for name in ("server.json", "login.json"):
            (folder / name).write_text("{")
        assert start().alive

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_without_room_says_so(self, tmp_path: Path, number: int) -> None:
        """A full disk is no wrong setting: what to do is to make room."""
        said = str(unusable(tmp_path, OSError(number, os.strerror(number))))
        assert f"no room in {tmp_path}" in said
        assert "make room" in said
        assert "local disk that you may write to" not in said

    @linux_only
    def test_that_takes_no_byte_ends_with_words(self, folder: Path) -> None:
        """A supervised server that cannot write its address says why, without a traceback, and
        leaves no draft behind."""
        done = subprocess.run(
            [
                *(sys.executable, "-c", NO_ROOM),
                *(sys.executable, "-m", "console.local_server", str(folder)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "there is no room in" in done.stderr
        assert "Traceback" not in done.stderr
        assert {path.name for path in folder.iterdir()} == {"lock", "redis", "server.log"}

    def test_where_to_look_is_its_log(self, folder: Path) -> None:
        """Unless the disk is full, the log says more."""
        folder.mkdir()
        assert where_to_look(folder) == f"see {folder / 'server.log'}"


class TestServerFor:
    @pytest.fixture
    def settings(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        for name in ("PERSONA_SYNC_REDIS_URL", "PERSONA_SYNC_REDIS_URL_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PERSONA_SYNC_DATA_DIR", str(folder))
        return Settings.load()

    def test_starts_one_and_stops_it(self, settings: Settings) -> None:
        """Within it there is a server, afterwards there is none."""
        with server_for(settings) as given, client(given.server_url()) as redis_client:
            assert redis_client.ping()
        with pytest.raises(NothingRunning):
            settings.server_url()

    def test_stops_it_after_an_error(self, settings: Settings) -> None:
        """A command that fails leaves no server behind."""
        with pytest.raises(KeyError), server_for(settings):
            raise KeyError
        assert running(settings.data_dir) is None

    def test_leaves_a_running_one_alone(self, settings: Settings, start: Start) -> None:
        """Who did not start it does not stop it."""
        server = start()
        with server_for(settings) as given:
            assert given.server_url() == server.url
        assert server.alive

    def test_does_nothing_for_a_configured_one(
        self, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a Redis URL nothing is started or written."""
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", "redis://elsewhere:6379/0")
        with server_for(Settings.load()) as given:
            assert given.server_url() == "redis://elsewhere:6379/0"
        assert not folder.exists()


@linux_only
def test_it_ends_with_a_killed_starter(folder: Path) -> None:
    """SIGKILL of the process that started it leaves no server behind."""
    code = (
        "import sys; from pathlib import Path; from console.local_server import LocalServer\n"
        "server = LocalServer(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert not gone(pid)
        starter.kill()
    wait_until(lambda: gone(pid))
    assert read_address(folder) is None or running(folder) is None
