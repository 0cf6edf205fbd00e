"""What is printed for people, and what a terminal must not obey."""

import os
import subprocess
import sys

from console.paper import for_people, plain


def test_terminal_commands_are_written_out() -> None:
    """A user id from outside cannot colour, clear or rename the terminal."""
    assert plain("a\x1b[31mb\x07") == "a\\x1b[31mb\\x07"
    assert plain("Zoë 7") == "Zoë 7"


def test_what_is_piped_is_not_broken() -> None:
    """Where no terminal reads, a line stays a line."""
    assert for_people().width >= 200


def test_an_argument_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 end in a sentence, not in a traceback."""
    command = [sys.executable, "-m", "console", "trace", b"\xff\xfe"]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
