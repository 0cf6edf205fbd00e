"""The supervisor, over small real processes: restarts, giving up, stopping, no orphans."""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from console.local_server import is_ready
from console.restarts import RestartPolicy
from console.stack import server_part
from console.supervisor import Part, Supervisor
from tests.integration.conftest import RealServer
from worker.contract import PARTITIONS_KEY
from worker.settings import Settings
from worker.stores.workers import Workers

QUICK = RestartPolicy(first_wait=timedelta(milliseconds=1), longest_wait=timedelta(milliseconds=5))

# Children end by themselves after a while, so that a failing test leaves nothing behind.
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


def python(name: str, code: str, *, stage: int = 0, grace: float = 10.0) -> Part:
    return Part(name, [sys.executable, "-c", code], stage=stage, grace=timedelta(seconds=grace))


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """True if the process is no more, or a zombie that its new parent has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True


class Running:
    """A supervisor in a thread of this process, stopped at the end of the block."""

    def __init__(self, parts: Sequence[Part], policy: RestartPolicy = QUICK) -> None:
        self.out = io.StringIO()
        self.ready = threading.Event()
        self.code: int | None = None
        self.supervisor = Supervisor(parts, policy=policy, out=self.out, on_ready=self.ready.set)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.code = self.supervisor.run(handle_signals=False)

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop_soon()
        self.join()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


class TestOutput:
    def test_each_line_carries_its_parts_name(self) -> None:
        """Lines of several parts can be told apart; a last one without an end is not lost."""
        talker = "import sys; print('one'); print('two', file=sys.stderr); print('three', end='')"
        with Running([python("a", talker), python("longer", SLEEPS)]) as running:
            said = {"a      | one", "a      | two", "a      | three", "longer | up"}
            wait_until(lambda: said <= set(running.lines()))

    def test_bytes_that_are_no_text_are_borne(self) -> None:
        """A part may write anything, even a line without end."""
        code = "import os; os.write(1, b'\\xff' * 200_000 + b'\\nafter\\n'); " + SLEEPS
        with Running([python("a", code)]) as running:
            wait_until(lambda: "a | after" in running.lines())

    def test_its_own_lines_are_stamped(self) -> None:
        """Parts say themselves when they spoke; the supervisor is told how to."""
        out = io.StringIO()
        supervisor = Supervisor([python("a", SLEEPS)], out=out, stamp=lambda: "at noon: ")
        supervisor.say("hello")
        assert out.getvalue() == "at noon: hello\n"

    def test_nobody_reading_it_stops_the_parts(self) -> None:
        """`persona-sync up | head` ends, and ends its parts."""
        code = (
            "import sys; from console.supervisor import *\n"
            "chatty = Part('a', [sys.executable, '-c', 'while True: print(1)'])\n"
            "sys.exit(Supervisor([chatty]).run())"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as up:
            assert up.stdout is not None
            up.stdout.readline()
            up.stdout.close()
            assert up.wait(20) != 0


class TestRestart:
    def test_a_part_that_dies_is_started_again(self, tmp_path: Path) -> None:
        """It says which part stopped, why, and when it will be back."""
        code = (
            f"import pathlib; mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
            "if not mark.exists(): mark.touch(); raise SystemExit(3)\n" + SLEEPS
        )
        with Running([python("a", code)]) as running:
            wait_until(lambda: "a | up" in running.lines())
        assert "a stopped: exit code 3. It is started again in 0.001 s." in running.lines()
        assert running.code == 0

    def test_a_killed_part_is_named_with_its_signal(self) -> None:
        """Whoever reads it learns that it was killed, not that it failed."""
        code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        with Running([python("a", code)]) as running:
            wait_until(lambda: any("killed by SIGKILL" in line for line in running.lines()))

    def test_what_a_dead_part_left_running_is_ended(self) -> None:
        """A restart does not pile up the children of the dead."""
        code = (
            "import subprocess, sys\n"
            "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(p.pid, flush=True)"
        )
        with Running([python("a", code)], RestartPolicy(deaths=1)) as running:
            running.join()
        pid = int(running.lines()[0].removeprefix("a | "))
        wait_until(lambda: gone(pid))


class TestGivingUp:
    def test_stops_everything_and_says_where_to_look(self) -> None:
        """Five deaths end the whole with 1; the others are stopped."""
        failing = replace(python("bad", "raise SystemExit(7)"), look_at="see bad.log")
        with Running([python("good", SLEEPS), failing]) as running:
            running.join()
        assert running.code == 1
        assert sum(line.startswith("bad stopped: exit code 7") for line in running.lines()) == 5
        assert "given up; see bad.log." in running.lines()[-1]

    def test_asks_where_to_look_when_it_is_so_far(self) -> None:
        """What is wrong may be known only then."""
        failing = replace(python("bad", "raise SystemExit(7)"), look_at=lambda: "make room")
        with Running([failing]) as running:
            running.join()
        assert "given up; make room." in running.lines()[-1]

    def test_of_a_command_that_is_missing(self) -> None:
        """What cannot even be started counts as dying."""
        with Running([Part("a", ["/nowhere/at/all"])]) as running:
            running.join()
        assert running.code == 1
        assert "cannot be started (No such file or directory)" in running.lines()[0]

    def test_at_once_of_what_only_a_person_can_mend(self) -> None:
        """A part that says so by its exit code is not tried again: its words stand once."""
        code = "print('set X'); raise SystemExit(78)"
        helpless = replace(python("bad", code), helpless_code=78)
        with Running([python("good", SLEEPS), helpless]) as running:
            running.join()
        assert running.code == 1
        assert [line for line in running.lines() if line.startswith("bad")] == [
            "bad  | set X",
            "bad cannot start: its last lines are above.",
        ]

    def test_of_a_part_that_is_not_essential_leaves_the_others(self) -> None:
        """The rest goes on without it."""
        extra = replace(python("extra", "raise SystemExit(7)"), essential=False)
        with Running([extra, python("good", SLEEPS)]) as running:
            wait_until(lambda: any("given up" in line for line in running.lines()))
            wait_until(lambda: "good  | up" in running.lines())
        assert running.code == 0


class TestStart:
    def test_waits_until_a_part_is_ready(self) -> None:
        """A part is started after the one before it is ready; then all are said to be."""
        gate = threading.Event()
        first = replace(python("first", SLEEPS), ready=gate.is_set)
        with Running([first, python("second", SLEEPS)]) as running:
            wait_until(lambda: "first  | up" in running.lines())
            assert not running.ready.is_set()
            assert not any("second" in line for line in running.lines())
            gate.set()
            wait_until(lambda: "second | up" in running.lines())
            assert running.ready.wait(20)

    def test_does_not_wait_for_ever(self) -> None:
        """A part that never answers is named, and the next one is tried."""
        never = timedelta(0)
        first = replace(python("first", SLEEPS), ready=lambda: False, ready_within=never)
        with Running([first, python("second", SLEEPS)]) as running:
            wait_until(lambda: "second | up" in running.lines())
        assert "first runs, but has not answered within 0 s" in running.lines()


class TestStop:
    def test_goes_by_stages_from_the_top(self) -> None:
        """What needs others is stopped before them; one stage together."""
        code = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
            "print('up', flush=True); time.sleep(60)"
        )
        parts = [python(name, code, stage=stage) for stage, name in enumerate(("a", "b", "c"))]
        with Running(parts) as running:
            wait_until(lambda: {"a | up", "b | up", "c | up"} <= set(running.lines()))
        assert [line[0] for line in running.lines() if line.endswith("bye")] == ["c", "b", "a"]
        assert running.code == 0

    def test_kills_what_does_not_listen(self) -> None:
        """After its grace a part is killed, and that is said."""
        with Running([python("a", STUBBORN, grace=0.05)]) as running:
            wait_until(lambda: "a | up" in running.lines())
        assert running.lines()[-1] == "a did not stop within 0.05 s and is killed"

    def test_hurries_when_asked_twice(self) -> None:
        """A second Ctrl-C does not wait for the grace to pass."""
        with Running([python("a", STUBBORN, grace=60)]) as running:
            wait_until(lambda: "a | up" in running.lines())
            running.supervisor.stop_soon()
        assert running.lines()[-1] == "a did not stop within 1 s and is killed"


# Whoever runs the tests may have chosen to live through a closed terminal, as nohup does.
UP = """
import signal, sys
from console.supervisor import *
signal.signal(signal.SIGHUP, signal.SIG_DFL)
code = sys.argv[1]
sys.exit(Supervisor([Part(n, [sys.executable, "-c", code]) for n in ("a", "b")]).run())
"""
SAYS_ITS_PID = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def _up() -> tuple["subprocess.Popen[str]", list[int]]:
    """A supervisor in a process of its own, and the processes of its two parts."""
    up = subprocess.Popen(
        [sys.executable, "-c", UP, SAYS_ITS_PID], stdout=subprocess.PIPE, text=True
    )
    assert up.stdout is not None
    return up, [int(up.stdout.readline().partition("| ")[2]) for _ in range(2)]


class TestProcess:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_stops_it_cleanly(self, number: signal.Signals) -> None:
        """Ctrl-C, SIGTERM and a closed terminal end everything, with 0."""
        up, pids = _up()
        with up:
            up.send_signal(number)
            assert up.wait(20) == 0
        assert all(gone(pid) for pid in pids)

    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
    def test_its_parts_do_not_outlive_it(self) -> None:
        """SIGKILL of the supervisor leaves no orphans."""
        up, pids = _up()
        with up:
            up.kill()
        wait_until(lambda: all(gone(pid) for pid in pids))


def test_a_killed_server_comes_back_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded server as a part: killed, it is restarted at the same address."""
    monkeypatch.delenv("PERSONA_SYNC_REDIS_URL", raising=False)
    monkeypatch.setenv("PERSONA_SYNC_DATA_DIR", str(tmp_path / "data dir"))
    settings = Settings.load()
    with Running([server_part(settings)]) as running:
        assert running.ready.wait(20)
        url = settings.server_url()
        pid = running.supervisor.pids()["server"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: running.supervisor.pids().get("server", pid) != pid)
        wait_until(lambda: is_ready(settings.data_dir))
        assert settings.server_url() == url
    assert not is_ready(settings.data_dir)


class TestUp:
    """`persona-sync up` itself: the real server, worker and beat, against a Braze that is away."""

    @staticmethod
    def _start(folder: Path, **env: str) -> "subprocess.Popen[str]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
        registry = folder.parent / f"{folder.name}-audiences.yaml"
        registry.write_text("audiences: []\n")
        ours = {
            "PERSONA_SYNC_DATA_DIR": str(folder),
            "PERSONA_SYNC_AUDIENCES": str(registry),
            "PERSONA_SYNC_BRAZE_ENDPOINT": "http://127.0.0.1:9",
            "PERSONA_SYNC_BRAZE_API_KEY": "hush",
            **env,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "console.cli", "up", "--concurrency", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**kept, **ours},
        )

    @staticmethod
    def _read_until(up: "subprocess.Popen[str]", text: str) -> list[str]:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if text in line:
                return said
        raise AssertionError(f"it never said {text!r}: {said}")

    def test_survives_a_killed_server_and_stops(self, tmp_path: Path) -> None:
        """Ready, the server killed and back, then Ctrl-C: 0 within 20 s, and nothing is left."""
        folder = tmp_path / "data dir"
        with self._start(folder) as up:
            said = self._read_until(up, "stop     Ctrl-C")
            address = json.loads((folder / "server.json").read_text())
            os.kill(address["pid"], signal.SIGKILL)
            said += self._read_until(up, "server  | serving")
            wait_until(lambda: is_ready(folder))
            assert json.loads((folder / "server.json").read_text())["url"] == address["url"]
            asked = time.monotonic()
            up.send_signal(signal.SIGINT)
            rest, _ = up.communicate(timeout=30)
            assert time.monotonic() - asked < 20
        everything = "".join(said) + rest
        assert up.returncode == 0, everything
        assert "server stopped: killed by SIGKILL" in everything
        assert "hush" not in everything
        assert address["url"].partition("//:")[2].partition("@")[0] not in everything
        assert not (folder / "server.json").exists()

    def test_is_alone_in_its_folder(self, tmp_path: Path) -> None:
        """A second one there is refused, and says so."""
        with (tmp_path / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._start(tmp_path) as up:
                said, _ = up.communicate(timeout=30)
        assert up.returncode == 2
        assert "already runs" in said

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("PERSONA_SYNC_BRAZE_ENDPOINT", "US-99", "EU-01"),
            ("PERSONA_SYNC_BRAZE_ENDPOINT", "", "PERSONA_SYNC_BRAZE_ENDPOINT"),
            ("PERSONA_SYNC_BRAZE_API_KEY", "", "PERSONA_SYNC_BRAZE_API_KEY"),
            ("PERSONA_SYNC_REDIS_URL", "redis://:hush/hush@host", "not a URL"),
        ],
    )
    def test_says_what_is_missing(self, tmp_path: Path, name: str, value: str, said: str) -> None:
        """A wrong setting is named before anything is started, without its secrets."""
        with self._start(tmp_path, **{name: value}) as up:
            out, _ = up.communicate(timeout=30)
        assert up.returncode == 2, out
        assert said in out
        assert "hush" not in out
        assert "Traceback" not in out
        assert list(tmp_path.iterdir()) == []

    def test_ends_at_once_if_a_worker_refuses_to_start(
        self, tmp_path: Path, server: RealServer, client: Redis
    ) -> None:
        """What only a person can mend is said once, not five times: exit code 1."""
        client.set(PARTITIONS_KEY, 3)
        with self._start(tmp_path, PERSONA_SYNC_REDIS_URL=server.url) as up:
            out, _ = up.communicate(timeout=60)
        assert up.returncode == 1, out
        assert out.count("PERSONA_SYNC_PARTITIONS says 1") == 1
        assert "worker1 cannot start" in out
        assert "started again" not in out
        assert "Traceback" not in out

    def test_is_ready_when_everything_runs_and_warns_of_a_forgetful_server(
        self, tmp_path: Path
    ) -> None:
        """A server that evicts and keeps no file is named, before the start and with `Ready`, which
        is said only when the beat's first tick was worked off."""
        (tmp_path / "server").mkdir()
        server = RealServer(tmp_path / "server")
        server.start()
        try:
            with server.client() as client:
                client.config_set("maxmemory-policy", "allkeys-lru")
                client.config_set("appendonly", "no")
                with self._start(tmp_path, PERSONA_SYNC_REDIS_URL=server.url) as up:
                    said = self._read_until(up, "stop     Ctrl-C")
                    assert Workers(client).tick_age_ms() is not None
                    said += self._read_until(up, "allkeys-lru")
                    up.send_signal(signal.SIGINT)
                    up.communicate(timeout=30)
        finally:
            server.end()
        everything = "".join(said)
        assert everything.count("DANGER: appendonly is off") == 2
        assert everything.count("DANGER: maxmemory-policy is allkeys-lru") == 2
        assert "Set `maxmemory-policy noeviction`" in everything

    def test_names_variables_that_have_no_effect(self, tmp_path: Path) -> None:
        """A mistyped setting is named with what was perhaps meant, before anything is started."""
        typo = {"PERSONA_SYNC_BRAZE_ENDPONT": "US-01", "PERSONA_SYNC_BRAZE_ENDPOINT": "US-99"}
        with self._start(tmp_path, **typo) as up:
            out, _ = up.communicate(timeout=30)
        assert "PERSONA_SYNC_BRAZE_ENDPONT is no setting" in out
        assert "Did you mean PERSONA_SYNC_BRAZE_ENDPOINT?" in out

    def test_says_that_a_configured_server_does_not_answer(self, tmp_path: Path) -> None:
        """A Redis that is away ends it with 1 and one sentence."""
        with self._start(tmp_path, PERSONA_SYNC_REDIS_URL="redis://:hush@127.0.0.1:1/0") as up:
            out, _ = up.communicate(timeout=30)
        assert up.returncode == 1, out
        assert len(out.splitlines()) == 1
        assert "hush" not in out
