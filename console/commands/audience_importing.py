"""`persona-sync audiences import`: what Segment says of its audiences, into audiences.yaml."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from console.audiences_import import CannotEdit, Step, difference, plan, put, written
from console.options import AsJson, DryRun
from console.refused import Refused
from worker.audiences.registry import read_registry, registry_text
from worker.audiences.segment_api import NotAudiences, Page, read_page
from worker.settings import Settings

MAX_IMPORT_BYTES = 100_000_000


def import_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON as Segment's Public API returns it.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Else the configured file.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write Segment's audiences into audiences.yaml.

    That is their queries, and the cadence that Segment says. Comments and order stay, nothing is
    deleted, and once more changes nothing. Exits 1 if an audience had to be left out.
    """
    page = _page(file)
    path = output or Settings.load().audiences
    try:
        before = registry_text(path)
    except FileNotFoundError:
        before = ""
    registry = read_registry(before, str(path), may_be_empty=True)
    steps = plan(registry, page.audiences)
    try:
        after = written(before, registry, steps, str(path))
        if after != before and not dry_run:
            put(path, after)
    except CannotEdit as error:
        raise Refused(1, "cannot_edit", str(error)) from None
    except OSError as error:
        raise Refused(1, "cannot_write", f"{path} cannot be written: {error}") from None
    if as_json:
        typer.echo(orjson.dumps(_import_report(path, page, steps, dry_run)).decode())
    else:
        if dry_run and after != before:
            typer.echo(difference(before, after, str(path)))
        _say_imported(path, page, steps, dry_run)
    if any(step.fate == "left_out" for step in steps):
        raise typer.Exit(1)


def _page(file: str) -> Page:
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_IMPORT_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_IMPORT_BYTES + 1)
        if len(content) > MAX_IMPORT_BYTES:
            most = f"{MAX_IMPORT_BYTES // 1_000_000} MB"
            raise Refused(2, "too_large", f"{file} is larger than {most}.")
        return read_page(orjson.loads(content))
    except OSError as error:
        raise Refused(2, "cannot_read", f"{file} cannot be read: {error}") from None
    except orjson.JSONDecodeError as error:
        raise Refused(2, "not_json", f"{file} is not JSON: {error}") from None
    except NotAudiences as error:
        raise Refused(2, "not_audiences", str(error)) from None


def _import_report(path: Path, page: Page, steps: list[Step], dry_run: bool) -> dict[str, Any]:
    return {
        "file": str(path),
        "dry_run": dry_run,
        "has_more": page.has_more,
        "audiences": [
            {"key": step.key, "fate": step.fate, "notes": list(step.notes)} for step in steps
        ],
    }


def _say_imported(path: Path, page: Page, steps: list[Step], dry_run: bool) -> None:
    counts = dict.fromkeys(("added", "updated", "unchanged", "left_out"), 0)
    for step in steps:
        counts[step.fate] += 1
        for note in step.notes:
            what = "left out: " if step.fate == "left_out" else ""
            typer.echo(f"  {step.key}: {what}{note}", err=True)
    if page.has_more:
        typer.echo("  This is one page of a list; import the other pages too.", err=True)
    said = ", ".join(f"{count} {fate.replace('_', ' ')}" for fate, count in counts.items())
    typer.echo(f"{path}: {said}{' (nothing was written)' if dry_run else ''}.", err=dry_run)
