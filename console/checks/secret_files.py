"""Files of secrets that everybody on this machine may read: they work, and are none for long."""

import stat
from collections.abc import Iterator
from pathlib import Path

from console.checks.finding import Finding, good
from worker.settings import Settings

# Where a container is handed its secrets, with the mode that they have outside: nobody else is in.
_HANDED_IN = Path("/run/secrets")


def readable_by_all(settings: Settings) -> Iterator[Finding]:
    """A warning for each file that holds a secret and that any other user can open."""
    for name in type(settings).model_fields:
        file: Path | None = getattr(settings, f"{name}_file", None)
        if file is not None and _is_open_to_all(file):
            yield good(
                "settings",
                f"PERSONA_SYNC_{name.upper()}_FILE: every user of this machine may read {file}",
                f"Let only the user read it under whom this runs: `chmod 600 {file}`.",
            )


def _is_open_to_all(file: Path) -> bool:
    """True if anybody may read it, and enter each folder on the way there."""
    try:
        found = file.resolve(strict=True)
        if found.is_relative_to(_HANDED_IN) or not found.stat().st_mode & stat.S_IROTH:
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in found.parents)
    except OSError:
        return False  # one that cannot be read is told elsewhere
