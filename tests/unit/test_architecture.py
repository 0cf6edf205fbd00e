"""The shape of the house: directions of imports, purity, scripts, queues."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from worker.celery_app import QUEUES
from worker.contract import QUEUE_OF_TASK, QueueName, TaskName
from worker.stores.sources import needs

ROOT = Path(__file__).resolve().parents[2]
PURE = sorted(
    path for name in ("pipeline", "audiences") for path in (ROOT / "worker" / name).rglob("*.py")
)
LUA = ROOT / "worker" / "stores" / "lua"
SCRIPTS = sorted(LUA.glob("*.lua"))
PARTS = sorted(LUA.glob("parts/*.lua"))
PACKAGES = sorted((ROOT / "worker").rglob("__init__.py"))

CLOCKS_AND_DICE = {"time", "random", "secrets", "uuid"}
ASKS_THE_CLOCK = {"now", "utcnow", "today"}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def opening(path: Path) -> str:
    """The comment that a Lua file begins with."""
    return " ".join(takewhile(lambda line: line.startswith("--"), path.read_text().splitlines()))


def names_of(holder: type) -> set[str]:
    return {value for name, value in vars(holder).items() if not name.startswith("_")}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


class TestDirections:
    def test_imports_point_inward(self) -> None:
        """Every contract of import-linter in pyproject.toml is kept."""
        program = "from importlinter.cli import lint_imports_command as run; run()"
        done = subprocess.run(
            [sys.executable, "-c", program, "--no-cache", "--no-logo"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("path", PACKAGES, ids=shown)
    def test_packages_import_nothing(self, path: Path) -> None:
        """A producer can import the contract without loading the engine."""
        assert list(imports(ast.parse(path.read_text()))) == []


class TestPurity:
    @pytest.mark.parametrize("path", PURE, ids=shown)
    def test_no_clock_and_no_dice(self, path: Path) -> None:
        """Decisions are given time and chance; they never take them."""
        tree = ast.parse(path.read_text())
        taken = {name.partition(".")[0] for name in imports(tree)} & CLOCKS_AND_DICE
        asked = {
            node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        } & ASKS_THE_CLOCK
        assert taken | asked == set()


class TestScripts:
    def test_there_are_scripts(self) -> None:
        """The folders are where this test looks for them."""
        assert min(len(SCRIPTS), len(PARTS)) > 5

    @pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
    def test_each_states_its_calling_convention(self, path: Path) -> None:
        """A script begins with a comment that says what it does and what ARGV holds."""
        assert "ARGV" in opening(path)

    @pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
    def test_each_part_says_what_it_promises(self, path: Path) -> None:
        """A part begins with a comment about its subject, after what it needs."""
        said = opening(path).removeprefix(f"-- needs: {', '.join(needs(path.read_text()))}")
        assert len(said.split()) > 10

    def test_a_users_state_is_written_in_one_place(self) -> None:
        """Only `save` writes attributes: with them goes the note of who differs."""
        texts = {path.name: path.read_text() for path in SCRIPTS + PARTS}
        writes = {name: text.count("'HSET', P .. 'u:'") for name, text in texts.items()}
        assert {name: times for name, times in writes.items() if times} == {"state.lua": 1}


class TestQueues:
    def test_every_queue_is_consumed(self) -> None:
        """No message can be sent to a queue that no worker listens to."""
        assert set(QUEUES) == names_of(QueueName)

    def test_every_queue_has_a_task(self) -> None:
        """No worker listens to a queue that nothing is ever sent to."""
        assert set(QUEUE_OF_TASK.values()) == names_of(QueueName)

    def test_every_task_has_a_queue(self) -> None:
        """A task never falls into Celery's default queue by omission."""
        assert set(QUEUE_OF_TASK) == names_of(TaskName)
