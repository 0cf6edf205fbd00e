"""The command: what it lists, and what it says when something is wrong."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from typer.testing import CliRunner

from console.cli import SUBCOMMANDS, _load, app
from console.data_folder import ServerFailed
from console.trouble import expected_trouble
from console.up_lock import LOCK_FILE
from worker.audiences.registry import WrongRegistry
from worker.braze.instances import UnknownInstance
from worker.settings import NothingRunning, WrongSettings
from worker.stored import UnfitServer


class TestTrouble:
    @pytest.mark.parametrize(
        "error", [WrongSettings("set X"), UnknownInstance("set X"), WrongRegistry("set X")]
    )
    def test_wrong_settings_are_wrong_use(self, error: Exception) -> None:
        """What the user must set ends with 2, in the error's own words."""
        assert expected_trouble(error) == (2, "set X")

    @pytest.mark.parametrize(
        "error", [NothingRunning("start it"), ServerFailed("start it"), UnfitServer("start it")]
    )
    def test_no_server_is_bad_news(self, error: Exception) -> None:
        """A missing server ends with 1, in the error's own words."""
        assert expected_trouble(error) == (1, "start it")

    @pytest.mark.parametrize(
        "error",
        [
            redis.exceptions.ConnectionError("redis://:hush@host:1 refused."),
            redis.exceptions.TimeoutError("redis://user:hush@host:1 was late"),
            redis.exceptions.AuthenticationError("invalid password"),
            OperationalError("redis://:hush@host:1"),
        ],
    )
    def test_a_silent_server_is_one_sentence_without_its_password(self, error: Exception) -> None:
        """The user learns that Redis does not answer, and nobody learns its password."""
        trouble = expected_trouble(error)
        assert trouble is not None
        assert trouble[0] == 1
        assert "hush" not in trouble[1]
        assert "\n" not in trouble[1]

    @pytest.mark.parametrize(
        ("error", "todo"),
        [
            (redis.exceptions.ReadOnlyError("READONLY hush"), "name the primary server"),
            (redis.exceptions.OutOfMemoryError("OOM hush"), "`maxmemory`"),
            (redis.exceptions.NoPermissionError("NOPERM hush"), "`persona-sync check`"),
            (redis.exceptions.ResponseError("unknown command `hush`"), "Redis 7.0 or later"),
            (redis.exceptions.ResponseError("MISCONF hush"), "disk"),
            (redis.exceptions.ResponseError("NOREPLICAS hush"), "replicas"),
        ],
    )
    def test_what_a_server_refuses_says_what_to_do(self, error: Exception, todo: str) -> None:
        """A refusal is as expected as silence, and not repeated word by word."""
        code, said = expected_trouble(error) or (0, "")
        assert code == 1
        assert todo in said
        assert "hush" not in said

    def test_a_script_that_fails_is_a_defect(self) -> None:
        """An error that no state of the server explains keeps its traceback."""
        assert expected_trouble(redis.exceptions.ResponseError("ERR user_script:7: nil")) is None

    def test_a_server_that_up_is_starting_is_waited_for(self, tmp_path: Path) -> None:
        """While `up` lives nobody is told to start another; once it is gone, they are."""
        error = NothingRunning("start it", tmp_path)
        with (tmp_path / LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            code, said = expected_trouble(error) or (0, "")
        assert (code, "Try again in a few seconds" in said) == (1, True)
        assert expected_trouble(error) == (1, "start it")

    def test_a_defect_is_not_hidden(self) -> None:
        """An error that nobody expected keeps its traceback."""
        assert expected_trouble(ValueError("a defect")) is None


def _inside(name: str, subcommand: Any) -> list[str]:
    """The commands of a group; none for a command that stands alone."""
    return list(getattr(_load(name, subcommand), "commands", {}))


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


class TestCommand:
    def test_help_lists_every_subcommand(self) -> None:
        """`--help` names all of them and succeeds."""
        done = _run("--help")
        assert done.returncode == 0
        assert all(f"\n  {name} " in done.stdout for name in SUBCOMMANDS)

    @pytest.mark.parametrize("group", [(), ("audiences",), ("dead-letters",)])
    def test_a_list_of_commands_is_whole(self, group: tuple[str, ...]) -> None:
        """Each is said in a line that fits, also where a terminal has 80 columns."""
        said = CliRunner().invoke(app, [*group, "--help"], terminal_width=80).stdout
        assert "Commands:" in said
        assert "..." not in said.partition("Commands:")[2]

    def test_help_imports_no_subcommand(self) -> None:
        """A listing must not pay for what the subcommands need."""
        code = (
            "import sys\n"
            "from console.cli import app\n"
            "app(['--help'], standalone_mode=False)\n"
            "print(sorted({'celery', 'redis', 'kombu', 'pydantic_settings'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.endswith("[]\n"), done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("dead-letters", "list", "--limit", "x"), "it must be a whole number."),
            (("up", "--workers", "0"), "it must be at least 1."),
            (("up", "--workers", "65"), "it must be at most 64."),
            (("send", "u", "k", "v", "--class", "x"), "'x' is not one of 'audience',"),
        ],
    )
    def test_a_wrong_value_is_refused_in_words(self, arguments: tuple[str, ...], said: str) -> None:
        """What would have been right, without a library's own terms."""
        done = _run(*arguments)
        assert done.returncode == 2
        assert f"{arguments[-2]}': {said}" in done.stderr

    def test_arguments_and_options_are_named_alike(self) -> None:
        """What is to be filled in is a word in capitals, in every help text."""
        commands = [
            [name, *inner]
            for name, subcommand in SUBCOMMANDS.items()
            for inner in ([[one] for one in _inside(name, subcommand)] or [[]])
        ]
        for command in commands:
            told = CliRunner().invoke(app, [*command, "--help"]).stdout
            assert "Options:" in told, command
            assert not re.findall(r"--\S+ <(?:str|int|float|path)[ >]", told), command
            assert not re.findall(r"^  \[?[a-z_]+\]? +<", told, re.MULTILINE), command

    def test_version_is_printed(self) -> None:
        """`--version` says which version this is."""
        done = _run("--version")
        assert (done.returncode, done.stdout[:13]) == (0, "persona-sync ")

    def test_a_typing_error_is_wrong_use(self) -> None:
        """An unknown subcommand ends with 2 and says what was perhaps meant."""
        done = _run("stat")
        assert done.returncode == 2
        assert "status" in done.stderr


def test_up_names_all_that_it_starts() -> None:
    """The HTTP producer, too: whoever looks for it finds it in `--help`."""
    assert "HTTP producer" in SUBCOMMANDS["up"].help
