"""Output that nobody reads to its end, as in `check | head -1`: what is left of it is dropped.

A command then goes on, and exits as if all had been read: its exit code is about its work.
"""

import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Pipe(io.FileIO):
    """A pipe whose reader may go."""

    is_read = True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Takes all of it where nobody reads any more."""
        if self.is_read:
            try:
                return super().write(data)
            except BrokenPipeError:
                self.is_read = False
        return memoryview(data).nbytes


def survive_closed_pipes() -> None:
    """From now on standard output and error survive that their reader goes."""
    sys.stdout, sys.stderr = _surviving(sys.stdout), _surviving(sys.stderr)


def _surviving(out: TextIO) -> TextIO:
    """The same, if it is no pipe: a terminal or a file has no reader that could go."""
    if not isinstance(out, io.TextIOWrapper) or not _leads_to_a_pipe(out):
        return out
    out.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(out.fileno(), "wb", closefd=False)),
        encoding=out.encoding,
        errors=out.errors,
        line_buffering=out.line_buffering or out.write_through,
    )


def _leads_to_a_pipe(out: TextIO) -> bool:
    try:
        mode = os.fstat(out.fileno()).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def is_read(out: TextIO) -> bool:
    """False once it is known that nobody reads it any more."""
    raw = getattr(getattr(out, "buffer", None), "raw", None)
    return raw.is_read if isinstance(raw, _Pipe) else True
