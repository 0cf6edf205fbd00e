"""The command: what it lists, and what it says when something is wrong."""

import subprocess
import sys

import pytest
import redis
from kombu.exceptions import OperationalError

from console.cli import SUBCOMMANDS, expected_trouble
from console.local_server import ServerFailed
from worker.audiences.registry import WrongRegistry
from worker.bootstrap import UnfitServer
from worker.braze.instances import UnknownInstance
from worker.settings import NothingRunning, WrongSettings


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

    def test_a_defect_is_not_hidden(self) -> None:
        """An error that nobody expected keeps its traceback."""
        assert expected_trouble(ValueError("a defect")) is None


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

    def test_version_is_printed(self) -> None:
        """`--version` says which version this is."""
        done = _run("--version")
        assert (done.returncode, done.stdout[:13]) == (0, "persona-sync ")

    def test_a_typing_error_is_wrong_use(self) -> None:
        """An unknown subcommand ends with 2 and says what was perhaps meant."""
        done = _run("stat")
        assert done.returncode == 2
        assert "status" in done.stderr
