"""What is printed for people, and what a terminal must not obey."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from console.cli import app
from console.paper import for_people, many, plain


def test_terminal_commands_are_written_out() -> None:
    """A user id from outside cannot colour, clear or rename the terminal."""
    assert plain("a\x1b[31mb\x07") == "a\\x1b[31mb\\x07"
    assert plain("Zoë 7") == "Zoë 7"


def test_what_is_piped_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no terminal reads, a line stays a line, and has no spaces at its end."""
    table = Table(box=None, show_header=False, pad_edge=False)
    long = "a word " * 500 + "end"
    table.add_row("short", "cell")
    table.add_row("long", long)
    for_people().print(table)
    assert capsys.readouterr().out == f"short  cell\nlong   {long}\n"


@pytest.mark.parametrize(
    "program",
    [
        "from console.cli import main; main()",
        "from console.paper import for_bars; b = for_bars(); b.print('bars', style='bold');"
        "print(b.is_terminal)",
    ],
    ids=["check", "bars"],
)
def test_no_color_means_no_escape_code(program: str, tmp_path: Path) -> None:
    """On a terminal, too: neither a color nor bold, nor a bar that moves the cursor."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PERSONA_SYNC_", "NO_COLOR"))}
    ours = {"NO_COLOR": "1", "TERM": "xterm-256color", "PERSONA_SYNC_DATA_DIR": str(tmp_path)}
    said = on_terminal(["-c", program, "check"], {**kept, **ours})
    assert b"\x1b" not in said
    assert b"BAD" in said or b"bars\r\nFalse" in said
    del ours["NO_COLOR"]
    assert b"\x1b" in on_terminal(["-c", program, "check"], {**kept, **ours})


def on_terminal(arguments: list[str], environment: dict[str, str]) -> bytes:
    """What Python says on a terminal of its own."""
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=theirs, stderr=theirs
        ):
            os.close(theirs)
            said = b""
            # A terminal that its last program has left fails to be read.
            with suppress(OSError):
                while part := os.read(ours, 65_536):
                    said += part
    finally:
        os.close(ours)
    return said


@pytest.mark.parametrize("command", [["check"], ["audiences", "list"]])
def test_commands_do_not_break_lines_for_a_pipe(command: list[str], tmp_path: Path) -> None:
    """However narrow somebody's terminal is, a pipe has no width."""
    keys = [f"audience_{'x' * 100}_{n}" for n in range(2)]
    declared = "audiences:\n" + "".join(f"  - key: {key}\n" for key in keys)
    (tmp_path / "audiences.yaml").write_text(declared)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
    ours = {
        "COLUMNS": "40",
        "PERSONA_SYNC_AUDIENCES": str(tmp_path / "audiences.yaml"),
        "PERSONA_SYNC_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "console", *command],
        env={**kept, **ours},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert all(line == line.rstrip() for line in lines)
    assert max(map(len, lines)) > 90


def test_one_is_not_many() -> None:
    """Counts are said as people say them."""
    assert [many(n, "user") for n in (0, 1, 1_200)] == ["0 users", "1 user", "1,200 users"]


def test_a_user_without_an_id_is_nobody() -> None:
    """`trace ""` is wrong use, and says so, before any server is asked."""
    done = CliRunner().invoke(app, ["trace", ""])
    assert done.exit_code == 2
    assert "never empty" in done.stderr


def test_an_argument_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 end in a sentence, not in a traceback."""
    command = [sys.executable, "-m", "console", "trace", b"\xff\xfe"]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
