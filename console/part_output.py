"""What the parts of the local system say, line by line, each with its name before it."""

import os
from typing import TextIO

from console.closed_pipe import is_read


class Printer:
    """Lines with the part's name before them; colored on a terminal."""

    def __init__(self, out: TextIO, width: int) -> None:
        self._out = out
        self._width = width
        self._colored = out.isatty() and not os.environ.get("NO_COLOR")
        self.broken = False  # nobody reads any more

    def line(self, name: str, text: str, color: int = 0) -> None:
        prefix = f"{name:<{self._width}} | " if name else ""
        if prefix and self._colored:
            prefix = f"\033[{color}m{prefix}\033[0m"
        encoding = self._out.encoding or "utf-8"
        shown = f"{prefix}{text}".encode(encoding, "backslashreplace").decode(encoding)
        try:
            print(shown, file=self._out, flush=True)
        except BrokenPipeError:
            self.broken = True
        self.broken = self.broken or not is_read(self._out)
