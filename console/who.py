"""Who an operator is: what they say, or their login and machine."""

import getpass
import os
import socket

_MOST_CHARS = 200


def this_operator(name: str | None = None) -> str:
    """The given name, or `login@machine`; a user without a name is a number."""
    if name and (said := one_line(name)):
        return said
    try:
        login = getpass.getuser()
    except (KeyError, OSError, ImportError):
        login = str(os.getuid())
    return one_line(f"{login}@{socket.gethostname()}")


def one_line(text: str) -> str:
    """Text as it may be shown anywhere: one line, printable, bounded."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(words)[:_MOST_CHARS]
