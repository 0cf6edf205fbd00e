"""What a child process is told before it runs, and what its end means."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def why_it_ended(returncode: int) -> str:
    """`exit code 3` or `killed by SIGKILL`, from what `Popen.returncode` holds."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send SIGTERM to the child when its parent is gone.

    Linux only, None elsewhere. The kernel means the *thread* that started the child: start
    children from one that lasts. It survives exec; grandchildren do not inherit it.
    """
    if sys.platform != "linux":
        return None
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the line above
            os._exit(1)

    return in_child
