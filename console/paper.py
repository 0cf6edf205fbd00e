"""What is printed for people: tables as wide as the terminal, whole lines where there is none."""

import sys

from rich.console import Console

_WIDE = 240  # columns: nothing is broken that a file or another program reads


def for_people() -> Console:
    """A console on standard output that takes data as it is: no markup, no highlighting."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(highlight=False, markup=False, width=width, soft_wrap=not sys.stdout.isatty())


def plain(text: str) -> str:
    """Text from outside, with what a terminal would obey written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
