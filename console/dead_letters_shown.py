"""Dead letters for people: lists, counts by reason, what was done; and how far it is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from console.destination import state_said
from console.paper import for_bars, for_people, many

_SAID_EVERY = 10_000  # letters, where there is no terminal to draw a bar on


def counted(count: int) -> str:
    """`1 dead letter`, `2 dead letters`."""
    return many(count, "dead letter")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def show_letters(report: dict[str, Any]) -> None:
    """A page of letters."""
    out = for_people()
    if not report["letters"]:
        out.print(f"None fits; there are {counted(report['total'])}.")
        return
    table = _table("at", "user", "values", "reason", "request")
    for letter in report["letters"]:
        values = ", ".join(
            f"{name}={orjson.dumps(value).decode()}" for name, value in letter["values"].items()
        )
        table.add_row(
            letter["at"],
            letter["user"] or f"(envelope {letter['entry']})",
            values or _content(letter),
            letter["reason"],
            letter["request"] or "",
        )
    out.print(table)
    more = "; there are more that fit" if report["more"] else ""
    out.print(f"{len(report['letters'])} of {counted(report['total'])}{more}.")


def _content(letter: dict[str, Any]) -> str:
    """What a letter without values of its own holds."""
    return "the profile" if letter["kind"] == "deletion" else many(letter["changes"], "change")


def show_groups(report: dict[str, Any]) -> None:
    """How many there are for each reason."""
    out = for_people()
    table = _table("letters", "changes", "kind", "reason", "first", "last")
    for group in report["groups"]:
        table.add_row(
            f"{group['letters']:,}",
            f"{group['changes']:,}",
            group["kind"],
            group["reason"],
            group["first_at"],
            group["last_at"],
        )
    if report["groups"]:
        out.print(table)
    out.print(f"{report['matched']:,} of {counted(report['total'])} fit.")


def show_replay(report: dict[str, Any]) -> None:
    """What was replayed, or would be, and whether Braze takes it now."""
    if report["dry_run"]:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in report["kinds"].items() if n)
        said = f"Would replay {counted(report['matched'])}" + (f" ({kinds})." if kinds else ".")
    else:
        said = (
            f"Replayed {counted(report['replayed'])}; due again: "
            f"{many(report['values_due'], 'value')}, accepted anew: "
            f"{many(report['accepted_anew'], 'change')}."
        )
        if report["deletions_due"]:
            said += f"\nBraze is asked again to delete {many(report['deletions_due'], 'profile')}."
        if report["gone"]:
            said += f"\n{counted(report['gone'])} had gone meanwhile."
        if report["inbox_full"]:
            said += "\nThe inbox is full; the others are kept. Replay them when it has drained."
    if report["no_room"]:
        said += f"\n{_no_room_said(report)}"
    typer.echo(said)
    destination = report["destination"]
    if destination["state"] == "paused":
        typer.echo(f"Braze is {state_said(**destination)}. Nothing is sent until it resumes.")


def _no_room_said(report: dict[str, Any]) -> str:
    """Of letters that stay, for the change in them would die again."""
    keys = ", ".join(report["no_room_for"])
    stay = "stays" if report["no_room"] == 1 else "stay"
    return (
        f"{counted(report['no_room'])} {stay}: the limit of {report['undeclared_limit']:,} "
        f"undeclared audiences leaves no room for more (such as {keys}). Declare them in "
        "audiences.yaml, or raise PERSONA_SYNC_UNDECLARED_LIMIT and restart the workers; then "
        "call it again."
    )


def show_drop(report: dict[str, Any]) -> None:
    """What was dropped, or would be."""
    verb = "Would drop" if report["dry_run"] else "Dropped"
    count = report["matched"] if report["dry_run"] else report["dropped"]
    typer.echo(f"{verb} {counted(count)}.")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Tells on standard error how far it is: a bar, or a line now and then."""
    out = for_bars()
    if not (out.is_terminal and total):
        yield _said_now_and_then(what, total)
        return
    columns = (TextColumn(f"letters {what}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _said_now_and_then(what: str, total: int) -> Callable[[int], None]:
    so_far = 0

    def say(count: int) -> None:
        nonlocal so_far
        before, so_far = so_far, so_far + count
        if so_far // _SAID_EVERY > before // _SAID_EVERY:
            print(f"{so_far:,} of {total:,} letters {what}", file=sys.stderr, flush=True)

    return say
