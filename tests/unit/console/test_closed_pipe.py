"""A reader that goes before the end changes nothing for the command."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.closed_pipe import _surviving, is_read
from console.part_output import Printer


@pytest.fixture
def unread() -> Iterator[io.TextIOWrapper]:
    """The end of a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w", closefd=False) as out:
        yield out
    os.close(theirs)


class TestSurviving:
    def test_what_nobody_reads_is_dropped(self, unread: io.TextIOWrapper) -> None:
        """Writing goes on without an error, and it is known that it is for nobody."""
        out = _surviving(unread)
        assert is_read(out)
        for _ in range(2):
            print("lost", file=out, flush=True)
            out.buffer.write(b"lost, too\n")
            out.flush()
        assert not is_read(out)

    def test_what_is_read_arrives(self) -> None:
        """Text and bytes, in their order."""
        ours, theirs = os.pipe()
        with os.fdopen(theirs, "w") as plain, os.fdopen(ours, "rb") as reader:
            out = _surviving(plain)
            print("grüße", file=out, flush=True)
            out.buffer.write(b"bytes\n")
            out.flush()
            assert reader.readline() + reader.readline() == "grüße\nbytes\n".encode(plain.encoding)
            assert is_read(out)

    def test_what_is_no_pipe_stays(self) -> None:
        """A file, or what a test captures, has no reader that could go."""
        for out in (io.StringIO(), io.TextIOWrapper(io.BytesIO())):
            assert _surviving(out) is out
            assert is_read(out)

    def test_up_notices(self, unread: io.TextIOWrapper) -> None:
        """Who runs until it is stopped learns that nobody reads any more."""
        printer = Printer(_surviving(unread), 6)
        printer.line("worker", "lost")
        assert printer.broken


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--version",), 0), (("--help",), 0), (("audiences", "list", "--json"), 0), (("check",), 1)],
    ids=["version", "help", "list", "check"],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_exit_codes_are_about_the_work(
    unread: io.TextIOWrapper, tmp_path: Path, arguments: tuple[str, ...], code: int, stream: str
) -> None:
    """Every command exits as if all had been read, and says nothing of it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PERSONA_SYNC_")}
    done = subprocess.run(
        [sys.executable, "-m", "console", *arguments],
        env={**kept, "PERSONA_SYNC_DATA_DIR": str(tmp_path)},
        stdout=unread if stream == "stdout" else subprocess.PIPE,
        stderr=unread if stream == "stderr" else subprocess.PIPE,
        check=False,
        timeout=60,
    )
    assert done.returncode == code
    assert not done.stderr
