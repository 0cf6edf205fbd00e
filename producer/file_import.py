"""Imports a file of Segment messages: NDJSON, optionally gzip, `-` for standard input.

Lines go in groups: read, append, write the refused ones, note how far it came. A group is
appended under ids made of its run and its lines, so an import that was killed at any moment
and started again appends the same envelopes, and its counts are those of one that was not.
"""

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from producer.envelopes import Counts, Parcel, clean_name
from producer.import_state import Envelope, FileMark, ImportState
from producer.lines import Group, Input, LineReader, open_input
from producer.messages import Refused, read
from producer.patience import Patience
from producer.publish import Producer
from producer.refused_lines import RefusedLines

LINES_PER_GROUP = 2_000
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an import stands; `waiting` says why it does not go on, if it does not."""

    counts: Counts
    position: int
    size: int | None
    waiting: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A whole import, resumed parts included; `read` counts lines that are not empty."""

    read: int
    accepted: int
    refused: dict[str, int]
    skipped: dict[str, int]
    seconds: float
    refused_file: Path | None


def import_file(
    path: str | Path,
    producer: Producer,
    *,
    source: str = "import",
    acknowledged: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
    patience: timedelta = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    stdin: io.BufferedReader | None = None,
) -> Imported:
    """Import every line; returning means that all accepted ones are durable.

    `acknowledged`: Braze holds what the file says already, so nothing of it need be sent.
    If the inbox is full or the server away it waits, up to `patience`. Raises OSError for a
    file that cannot be opened, BrokenInput for one that breaks off, GaveUp, WrongServer. After
    any of these, or a kill, the same call goes on behind the last acknowledged line.
    """
    with open_input(path, stdin) as opened:
        running = _Import(opened, producer, clean_name(source, 255), on_progress, acknowledged)
        running.patience = Patience(patience, sleep, clock, running.show)
        started = clock()
        try:
            running.begin(say)
            running.run()
        finally:
            running.refused_lines.close()
        return running.result(clock() - started)


class _Import:
    def __init__(
        self,
        opened: Input,
        producer: Producer,
        source: str,
        on_progress: Callable[[Progress], None],
        acknowledged: bool,
    ) -> None:
        self._opened = opened
        self._producer = producer
        self._source = source
        self._on_progress = on_progress
        self._acknowledged = acknowledged
        beside = _writable(opened.path) if opened.path else Path("stdin")
        self._state_file = _named(beside, ".import-state.json") if opened.path else None
        self._refused_file = _named(beside, ".refused.ndjson")
        self._state = ImportState()
        self._counts = Counts()
        self.patience: Patience
        self.refused_lines: RefusedLines

    def begin(self, say: Callable[[str], None]) -> None:
        """Take up the stored state if it is of this file and this server, or start anew."""
        if self._opened.path and self._state_file:
            mark = FileMark.of(self._opened.path)
            found = ImportState.read(self._state_file)
            if found is not None and self._fits(found, mark, say):
                self._state = found
                self._counts = found.counts
                say(f"Going on behind line {found.line:,}.")
            self._state.file = mark
            self._state.acknowledged = self._acknowledged
        self.refused_lines = RefusedLines(self._refused_file, keep=self._state.refused_bytes)
        self._save()

    def run(self) -> None:
        """Import group after group; at the end the state file goes."""
        self.show(None)
        state = self._state
        reader = LineReader(self._opened.text, after_line=state.line, offset=state.offset)
        for group in reader.groups(LINES_PER_GROUP):
            self._take(group)
            self.show(None)
        if self._state_file:
            self._state_file.unlink(missing_ok=True)

    def show(self, waiting: str | None) -> None:
        """Tell the caller where the import stands."""
        opened = self._opened
        self._on_progress(Progress(self._counts, opened.position(), opened.size, waiting))

    def result(self, seconds: float) -> Imported:
        """The counts of the whole import."""
        counts = self._counts
        return Imported(
            read=counts.accepted + counts.refused.total() + counts.skipped.total(),
            accepted=counts.accepted,
            refused=dict(counts.refused),
            skipped=dict(counts.skipped),
            seconds=round(seconds, 3),
            refused_file=self._refused_file if counts.refused else None,
        )

    def _take(self, group: Group) -> None:
        """The order matters: what is not acknowledged is done again, with the same effect."""
        parcel = Parcel(
            partitions=self._producer.partitions,
            source=self._source,
            acknowledged=self._acknowledged,
        )
        refusals = []
        for number, line in group.lines:
            reading = read(line, source=self._source, place=number)
            parcel.add(reading, number)
            if isinstance(reading, Refused):
                refusals.append((number, reading, line))
        envelopes = parcel.packed(f"import:{self._state.run}:{group.first}-{group.last}")
        if envelopes:
            self.patience.keep_trying(lambda: self._producer.append(envelopes))
            last = envelopes[-1]
            self._state.last = Envelope(partition=last.partition, envelope_id=last.envelope_id)
        self._counts.add(parcel.counts)
        self.refused_lines.write(refusals)
        self._state.line = group.last
        self._state.offset = group.offset
        self._save()

    def _save(self) -> None:
        if self._state_file is None:
            return
        self._state.count(self._counts)
        self._state.refused_bytes = self.refused_lines.bytes_written
        self._state.write(self._state_file)

    def _fits(self, found: ImportState, mark: FileMark, say: Callable[[str], None]) -> bool:
        if found.file != mark:
            say("The file has changed since the import that was interrupted: starting anew.")
            return False
        if found.acknowledged != self._acknowledged:
            said = "as" if found.acknowledged else "not as"
            say(f"The interrupted import was {said} acknowledged: starting anew.")
            return False
        last = found.last
        if last is not None and not self.patience.keep_trying(
            lambda: self._producer.remembers(last.partition, last.envelope_id)
        ):
            say("This server does not remember the import that was interrupted: starting anew.")
            return False
        return True


def _writable(path: Path) -> Path:
    """Beside the file, or in the current folder if its own cannot be written."""
    return path if os.access(path.parent, os.W_OK) else Path(path.name)


def _named(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
