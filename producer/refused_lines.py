"""The file of refused lines, for people to mend: NDJSON, created only if a line was refused."""

import os
from pathlib import Path
from typing import IO

import orjson

from producer.messages import Refused

CONTENT_MAX_CHARS = 2_000


class RefusedLines:
    """Appends refused lines behind the first `keep` bytes; what an earlier run wrote goes."""

    def __init__(self, path: Path, *, keep: int) -> None:
        self.path = path
        self.bytes_written = keep
        self._file: IO[bytes] | None = None
        if keep == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            os.truncate(path, min(keep, path.stat().st_size))
            self.bytes_written = path.stat().st_size

    def write(self, refusals: list[tuple[int, Refused, bytes]]) -> None:
        """Write lines with their number, code and reason, out to the system."""
        if not refusals:
            return
        if self._file is None:
            self._file = self.path.open("ab")
        text = b"".join(
            orjson.dumps(
                {
                    "line": number,
                    "code": str(refused.code),
                    "reason": refused.reason,
                    # a character is at most four bytes
                    "content": line[: 4 * CONTENT_MAX_CHARS].decode(errors="replace")[
                        :CONTENT_MAX_CHARS
                    ],
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for number, refused, line in refusals
        )
        self._file.write(text)
        self._file.flush()
        self.bytes_written += len(text)

    def close(self) -> None:
        """Close the file if there is one."""
        if self._file is not None:
            self._file.close()
