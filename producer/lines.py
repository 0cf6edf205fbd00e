"""Lines of a file or of standard input, plain or gzip, in groups and within bounded memory."""

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from producer.json_text import MESSAGE_MAX_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STANDARD_INPUT = "-"
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
# Room for a line end and a byte order mark: what is cut here is too long in any case.
_KEPT_BYTES = MESSAGE_MAX_BYTES + 6
_NEWLINE = ord(b"\n")
_BUFFER = 1 << 20


class BrokenInput(Exception):
    """The input ended in the middle, or cannot be read on. The lines before it were given."""


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive lines that are acknowledged together; empty ones are counted, not kept."""

    first: int
    last: int
    lines: list[tuple[int, bytes]]
    offset: int  # where the next line begins, in the unpacked text


@dataclass(frozen=True, slots=True)
class Input:
    """An open input. `path` is None for one that cannot be read twice, such as a pipe."""

    path: Path | None
    size: int | None
    raw: io.BufferedReader
    text: io.BufferedReader

    def position(self) -> int:
        """Bytes read so far, packed as they are; 0 for a pipe."""
        return self.raw.tell() if self.path else 0


@contextmanager
def open_input(path: str | Path, stdin: io.BufferedReader | None = None) -> Iterator[Input]:
    """Open a file, or `-` for standard input. Raises OSError as `open` does."""
    if str(path) == STANDARD_INPUT:
        standard = stdin or _standard_input()
        yield Input(None, None, standard, _unpacked(standard))
        return
    with cast(io.BufferedReader, open(path, "rb", buffering=_BUFFER)) as raw:
        status = os.fstat(raw.fileno())
        if stat.S_ISREG(status.st_mode):
            yield Input(Path(path), status.st_size, raw, _unpacked(raw))
        else:
            yield Input(None, None, raw, _unpacked(raw))


class LineReader:
    """Reads lines from behind a known one. `number` and `offset` say how far it came."""

    def __init__(self, text: io.BufferedReader, *, after_line: int = 0, offset: int = 0) -> None:
        self.number = after_line
        self.offset = offset
        self._text = text
        self._is_placed = offset == 0

    def groups(self, size: int) -> Iterator[Group]:
        """Groups of `size` lines; the same start gives the same groups.

        Raises BrokenInput behind the last whole line of an input that breaks off.
        """
        broken: Exception | None = None
        while broken is None:
            first = self.number + 1
            lines: list[tuple[int, bytes]] = []
            try:
                lines.extend(line for line in self._read(size) if line[1].strip())
            except (EOFError, zlib.error, OSError) as error:
                broken = error
            if self.number >= first:
                yield Group(first, self.number, lines, self.offset)
            elif broken is None:
                return
        raise BrokenInput(_said(self.number, broken)) from broken

    def _read(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Up to `count` lines without their ends; of one that is too long, the beginning."""
        if not self._is_placed:
            self._text.seek(self.offset)
            self._is_placed = True
        for _ in range(count):
            line = self._text.readline(_KEPT_BYTES)
            if not line:
                return
            length = len(line)
            if line[-1] == _NEWLINE:
                line = line[:-2] if line[-2:] == b"\r\n" else line[:-1]
            elif length == _KEPT_BYTES:
                length += self._pass_over_rest()
            self.number += 1
            self.offset += length
            yield self.number, line.removeprefix(_BOM) if self.number == 1 else line

    def _pass_over_rest(self) -> int:
        passed = 0
        while part := self._text.readline(_BUFFER):
            passed += len(part)
            if part[-1] == _NEWLINE:
                break
        return passed


class _Unpacked(io.RawIOBase):
    """Gzip data in small reads, so that damage costs no line in front of it.

    Under a buffer it also reads lines faster than GzipFile, whose `readline` is Python.
    """

    def __init__(self, packed: io.BufferedReader) -> None:
        self._gzip = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        part = self._gzip.read1(len(view))
        view[: len(part)] = part
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._gzip.seek(offset, whence)

    def tell(self) -> int:
        return self._gzip.tell()


def _unpacked(raw: io.BufferedReader) -> io.BufferedReader:
    if raw.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
        return raw
    return cast(io.BufferedReader, io.BufferedReader(_Unpacked(raw), _BUFFER))


def _standard_input() -> io.BufferedReader:
    standard = sys.stdin.buffer
    if isinstance(standard, io.BufferedReader):
        return standard
    return cast(io.BufferedReader, io.BufferedReader(cast(io.RawIOBase, standard)))


def _said(line: int, error: Exception) -> str:
    what = "ends in the middle of its gzip data" if isinstance(error, EOFError) else "is damaged"
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        what = f"cannot be read on ({error.strerror or type(error).__name__})"
    return (
        f"The input {what} behind line {line:,}. The lines up to there were imported; get the "
        "whole file and import it again."
    )
