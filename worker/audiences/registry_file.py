"""The file audiences.yaml as it changes: read again only when its content is another.

A process that sees the same content goes by what is published, whatever that is: so two workers
with different files, as during a rolling deployment, do not publish in turns.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from worker.audiences.registry import Registry, WrongRegistry, read_registry, registry_text

_Signature = tuple[int, int, int]
_GONE: _Signature = (0, 0, 0)
_UNREAD: _Signature = (-1, 0, 0)
_RESTS_NS = 3_000_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """A registry, and the text that says it."""

    registry: Registry
    text: str


class RegistryFile:
    """One process's file. `offset`: of all boundaries, which is a setting and not in the file.
    `clock`: ns; with one, a file has to rest before it is read, see `changed`."""

    def __init__(
        self,
        path: Path,
        offset: timedelta = timedelta(),
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._path = path
        self._offset = offset
        self._clock = clock
        self._signature: _Signature | None = None  # None: not looked at yet
        self._unsettled: _Signature | None = None
        self._digest: str | None = None
        self._was_there = False
        self._last: Reading | None = None

    @property
    def last(self) -> Reading | None:
        """What was read last and could be used."""
        return self._last

    def changed(self) -> Reading | None:
        """What the file says, if it says something else than at the last call; else None.

        A file that was never there says nothing. Raises WrongRegistry, once for each content; a
        file that is gone is wrong, too: nobody means that all audiences become realtime. A file
        that has just changed may still be written, and half of it may be a good one: it is read
        when it was the same in two calls and was last written 3 s ago.
        """
        signature = self._look()
        if signature == self._signature:
            return None
        if self._signature is not None and signature != self._unsettled:
            self._unsettled = signature
            return None
        if self._signature is not None and not self._rests(signature):
            return None
        self._signature = signature
        text = self._text(signature)
        if text is None:
            self._last = Reading(replace(Registry(), offset=self._offset), "")
            return self._last
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest == self._digest:
            return None
        self._digest = digest
        registry = replace(read_registry(text, str(self._path)), offset=self._offset)
        self._last = Reading(registry, text)
        return self._last

    def _rests(self, signature: _Signature) -> bool:
        # A time in the future is another machine's, and says nothing.
        return self._clock is None or not 0 <= self._clock() - signature[0] < _RESTS_NS

    def _look(self) -> _Signature:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return _GONE
        except OSError as error:
            self._forget()
            raise WrongRegistry(f"{self._path} cannot be read: {error.strerror}.") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _text(self, signature: _Signature) -> str | None:
        """What the file says; None for one that was never there."""
        if signature == _GONE:
            if not self._was_there:
                return None
            self._digest = None
            raise WrongRegistry(f"{self._path} is gone. Put it back; until then nothing changes.")
        self._was_there = True
        try:
            return registry_text(self._path)
        except FileNotFoundError:
            self._forget()
            raise WrongRegistry(
                f"{self._path} is gone. Put it back; until then nothing changes."
            ) from None
        except WrongRegistry:
            self._forget()
            raise

    def _forget(self) -> None:
        """What cannot be read now is read as soon as it can be, whatever it says then."""
        self._signature, self._digest = _UNREAD, None
