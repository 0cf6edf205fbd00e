"""What is printed for people: tables as wide as the terminal, whole lines where there is none."""

import os
import re
import sys
from typing import IO, Any, cast

from rich.console import Console

from worker.pipeline.notices import many

__all__ = ["for_bars", "for_people", "many", "plain", "without_login"]

_WIDE = 10_000  # columns: nothing is broken that a file or another program reads


def for_people(*, stderr: bool = False) -> Console:
    """A console on standard output, or error, that takes data as it is: no markup, no
    highlighting."""
    out = sys.stderr if stderr else sys.stdout
    if out.isatty():
        return _on_terminal(stderr=stderr)
    trimmed = cast("IO[str]", _Trimmed(out))
    return Console(highlight=False, markup=False, width=_WIDE, soft_wrap=True, file=trimmed)


def for_bars() -> Console:
    """A console on standard error that bars are drawn on, if it is a terminal."""
    return _on_terminal(stderr=True)


def _on_terminal(*, stderr: bool) -> Console:
    if os.environ.get("NO_COLOR"):
        # To rich that is about colors alone: bold, and the moves of bars, are escape codes, too.
        return Console(
            highlight=False, markup=False, stderr=stderr, force_terminal=False, color_system=None
        )
    return Console(highlight=False, markup=False, stderr=stderr)


def plain(text: str) -> str:
    """Text from outside, with what a terminal would obey written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def without_login(text: str) -> str:
    """The text without the user and password of URLs in it, and without its full stop."""
    return re.sub(r"://[^/@\s]*@", "://", text).rstrip(". ")


class _Trimmed:
    """A stream without the spaces with which a table fills its lines up."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def write(self, text: str) -> int:
        self._out.write("\n".join(line.rstrip(" ") for line in text.split("\n")))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)
