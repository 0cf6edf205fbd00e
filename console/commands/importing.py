"""`persona-sync import FILE`: a file of Segment messages into the inbox, with a progress bar."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from console.options import AsJson
from console.paper import for_bars, for_people, many
from console.refused import Refused
from producer.file_import import PATIENCE, Imported, Progress, import_file
from producer.lines import STANDARD_INPUT, BrokenInput
from producer.patience import GaveUp
from producer.publish import Producer
from worker.contract import REASONS
from worker.durations import format_duration, parse_duration
from worker.settings import Settings, read_address


def import_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="NDJSON, plain or gzip; - for standard input.")
    ],
    as_json: AsJson = False,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="The name by which these messages are shown later.")
    ] = "import",
    as_acknowledged: Annotated[
        bool,
        typer.Option("--as-acknowledged", help="Braze holds what the file says; do not send it."),
    ] = False,
    patience: Annotated[
        str, typer.Option(metavar="SPAN", help="How long to wait while the inbox takes nothing.")
    ] = format_duration(PATIENCE),
) -> None:
    """Take in a file of Segment messages. Started again after a kill, it goes on.

    Refused lines are written to FILE.refused.ndjson. Exits 1 if there are any, or if it had to
    stop; it says how to go on.

    With --as-acknowledged nothing is sent for a value of which nothing else is known, so that an
    existing audience does not cost a data point for each member. What Braze has acknowledged to
    us, and newer changes, count for more than the file.
    """
    from console.local_server import server_for

    _check(file)
    try:
        limit = parse_duration(patience)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--patience") from None
    settings = Settings.load()
    is_alone = settings.is_embedded and read_address(settings.data_dir) is None
    try:
        with (
            server_for(settings) as served,
            Producer.from_settings(served) as producer,
            _bar() as (show, say),
        ):
            imported = import_file(
                file,
                producer,
                source=source,
                acknowledged=as_acknowledged,
                on_progress=show,
                say=say,
                patience=limit,
            )
    except KeyboardInterrupt:
        said = f"Interrupted. {_how_to_resume(file, as_acknowledged)}"
        raise Refused(130, "interrupted", said) from None
    except (BrokenInput, GaveUp) as error:
        code = "gave_up" if isinstance(error, GaveUp) else "broken_input"
        said = f"{error} {_how_to_resume(file, as_acknowledged)}"
        raise Refused(1, code, said) from None
    except OSError as error:
        raise Refused(1, "cannot_go_on", str(error)) from None
    if as_json:
        print(_as_json(imported))
    else:
        _print_table(imported, is_alone=is_alone, as_acknowledged=as_acknowledged)
    raise typer.Exit(1 if imported.refused else 0)


def _check(file: str) -> None:
    if file == STANDARD_INPUT:
        return
    path = Path(file)
    if not path.exists():
        raise Refused(2, "no_file", f"There is no file {file}.")
    if path.is_dir() or not os.access(path, os.R_OK):
        raise Refused(2, "cannot_read", f"{file} is a folder or cannot be read.")


def _how_to_resume(file: str, as_acknowledged: bool) -> str:
    if file == STANDARD_INPUT:
        return "Standard input cannot be resumed: save it as a file, and import that."
    option = " --as-acknowledged" if as_acknowledged else ""
    return f"To go on where it stopped: persona-sync import {shlex.quote(file)}{option}"


@contextmanager
def _bar() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """A bar on standard error; without a terminal only what happens is said, line by line."""
    console = for_bars()
    bars = Bars(
        BarColumn(bar_width=16),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[counts]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    task = bars.add_task("", total=None, counts="")
    was_waiting: str | None = None
    resumed_at: int | None = None

    def show(progress: Progress) -> None:
        nonlocal was_waiting, resumed_at
        if progress.waiting and progress.waiting != was_waiting:
            console.print(f"Waiting. {progress.waiting}", soft_wrap=True)
        elif was_waiting and not progress.waiting:
            console.print("Going on.")
        was_waiting = progress.waiting
        counts = progress.counts
        done = counts.accepted + counts.refused.total() + counts.skipped.total()
        resumed_at = done if resumed_at is None else resumed_at
        elapsed = bars.tasks[0].elapsed or 0.0
        rate = (done - resumed_at) / elapsed if elapsed > 0.1 else 0.0
        bars.update(
            task,
            completed=progress.position,
            total=progress.size,
            counts=_in_words(progress, rate),
        )

    with bars:
        yield show, lambda text: console.print(text, soft_wrap=True)


def _in_words(progress: Progress, rate: float) -> str:
    counts = progress.counts
    words = (
        f"{rate:,.0f}/s {counts.accepted:,} accepted, {counts.refused.total():,} refused, "
        f"{counts.skipped.total():,} skipped"
    )
    return f"waiting {words}" if progress.waiting else words


def _as_json(imported: Imported) -> str:
    return json.dumps(
        {
            "read": imported.read,
            "accepted": imported.accepted,
            "refused": imported.refused,
            "skipped": imported.skipped,
            "seconds": imported.seconds,
        }
    )


def _print_table(imported: Imported, *, is_alone: bool, as_acknowledged: bool) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row(f"{imported.read:,}", "read", f"in {imported.seconds:,.1f} s")
    table.add_row(f"{imported.accepted:,}", "accepted", "")
    for title, outcomes in (("refused", imported.refused), ("skipped", imported.skipped)):
        for code, count in sorted(outcomes.items(), key=lambda item: -item[1]):
            table.add_row(f"{count:,}", title, f"{code}: {REASONS[code]}")
    console = for_people()
    console.print(table)
    if imported.refused_file:
        console.print(f"Refused lines: {imported.refused_file}", soft_wrap=True)
    if as_acknowledged and imported.accepted:
        points = many(imported.accepted, "data point")
        console.print(
            "Taken as what Braze holds already: nothing is sent for them, which saves up to "
            f"{points}. Values that Braze acknowledged to us, and newer "
            "changes, are not touched by this.",
            soft_wrap=True,
        )
    if is_alone and imported.accepted:
        console.print(
            "No workers are running here. The changes wait in the inbox, safe on disk; "
            f"`persona-sync up` {'applies' if as_acknowledged else 'delivers'} them.",
            soft_wrap=True,
        )
