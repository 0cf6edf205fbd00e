"""A sign of life for whoever watches the process: a file whose age says how it is."""

from contextlib import suppress
from pathlib import Path


class AliveFile:
    """A file that exists and is young while all is well. One that an earlier process left is
    removed first, so that nobody takes it for ours. Raises OSError if it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        path.unlink()

    def touch(self) -> None:
        """All is well now. A file that cannot be written grows old, which is what it is for."""
        with suppress(OSError):
            self._path.touch()
