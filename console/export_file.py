"""Where an export goes: a new file, or standard output."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer


@contextmanager
def lines_of(file: str, force: bool, dry_run: bool) -> Iterator[Callable[[bytes], object]]:
    """Where an export goes. A file appears when it is whole; only its owner may read it."""
    if dry_run:
        yield lambda _: None
        return
    if file == "-":
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    target = Path(file)
    if target.is_dir():
        raise typer.BadParameter(f"{file or '.'} is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise typer.BadParameter(f"{file} is no file; - is standard output")
    if target.exists() and not force:
        raise typer.BadParameter(f"{file} exists; give --force, or another name")
    draft = target.with_name(f"{target.name}.part")
    try:
        out = os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}") from None
    try:
        with out:
            yield out.write
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
