"""The lock that a living `persona-sync up` holds on its data folder; gone when it is."""

import fcntl
import os
from pathlib import Path

from worker.settings import NothingRunning

LOCK_FILE = "up.lock"


def is_held(data_dir: Path) -> bool:
    """True if an `up` lives there. Holds the lock itself for an instant if none does."""
    try:
        lock = os.open(data_dir / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def nothing_running_said(error: NothingRunning) -> str:
    """Why there is no server: nobody started one, or `up` is about to."""
    if error.data_dir is not None and is_held(error.data_dir):
        return (
            f"The server in {error.data_dir} is just being started, or started again, by "
            "`persona-sync up`. Try again in a few seconds; what `up` prints says more."
        )
    return str(error)
