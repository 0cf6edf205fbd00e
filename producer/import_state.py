"""How far an import has come, kept beside its file so that a killed import can go on.

Written after each acknowledged group, in one step. `run` is part of the envelopes' ids: the
group that was under way when the import was killed is appended again under the same ids.
"""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError

from producer.envelopes import Counts

_HEAD_BYTES = 65_536


class FileMark(BaseModel):
    """What tells a file from a changed one, without reading it all."""

    size: int
    modified_ns: int
    head: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The mark of a file as it is now."""
        status = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        return cls(size=status.st_size, modified_ns=status.st_mtime_ns, head=head)


class Envelope(BaseModel):
    """The last envelope that the server acknowledged: it proves that it is the same server."""

    partition: int
    envelope_id: str


class ImportState(BaseModel):
    """The state file's content."""

    version: int = 1
    run: str = Field(default_factory=lambda: uuid4().hex)
    file: FileMark | None = None
    acknowledged: bool = False
    line: int = Field(default=0, ge=0)
    offset: int = Field(default=0, ge=0)
    accepted: int = 0
    refused: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    refused_bytes: int = Field(default=0, ge=0)
    last: Envelope | None = None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The stored state; None if there is none or it cannot be read."""
        try:
            state = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        return state if state.version == 1 else None

    def write(self, path: Path) -> None:
        """Replace the stored state in one step."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(self.model_dump_json())
        os.replace(beside, path)

    @property
    def counts(self) -> Counts:
        """The outcomes so far."""
        return Counts(self.accepted, Counter(self.refused), Counter(self.skipped))

    def count(self, counts: Counts) -> None:
        """Store the outcomes so far."""
        self.accepted = counts.accepted
        self.refused = dict(counts.refused)
        self.skipped = dict(counts.skipped)
