"""`persona-sync dead-letters list|replay|drop|export`: what Braze refused for good."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from console.dead_letters import Chosen, Replay, Wanted, drop, shown, summary
from console.paper import for_people, many
from console.standing import destination_state, partitions_of
from console.who import this_operator
from worker.audiences.registry import load_registry
from worker.durations import parse_duration
from worker.pipeline.notices import in_words
from worker.settings import Settings
from worker.stored import Stores, make_fit_stores
from worker.stores.dead_letters import KINDS
from worker.stores.operators import Operators

app = typer.Typer(
    help="See what Braze refused for good; replay, drop or export it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
LISTED = 50
_SAID_EVERY = 10_000  # letters, where there is no terminal to draw a bar on

Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only with this text in the reason.")
]
Attribute = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only with this audience's key or attribute.")
]
User = Annotated[str | None, typer.Option(metavar="ID", help="Only of this user.")]
OlderThan = Annotated[
    str | None, typer.Option(metavar="SPAN", help="Only those dead for longer: 30m, 1h, 7d.")
]
NewerThan = Annotated[
    str | None, typer.Option(metavar="SPAN", help="Only those dead for less: 30m, 1h, 7d.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="At most so many, the oldest first.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who does this; without it LOGIN@MACHINE."),
]


@app.command("list")
def list_command(
    reason: Reason = None,
    attribute: Attribute = None,
    user: User = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    by_reason: Annotated[
        bool, typer.Option("--summary", help="Count them by reason instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show dead letters, the oldest first (50, unless --limit says otherwise)."""
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    if by_reason:
        with _opened(wanted) as opened, _progress("read", opened.chosen.total) as seen:
            groups = summary(opened.chosen.pages(seen))
        matched = sum(group["letters"] for group in groups)
        report = {"total": opened.chosen.total, "matched": matched, "groups": groups}
        _say(report, as_json, _show_groups)
        return
    most = limit or LISTED
    one_more = _wanted(reason, attribute, user, older_than, newer_than, most + 1)
    with _opened(one_more) as opened:
        found = [letter for page in opened.chosen.pages() for letter in page]
    report = {
        "total": opened.chosen.total,
        "more": len(found) > most,
        "letters": [shown(letter) for letter in found[:most]],
    }
    _say(report, as_json, _show_letters)


@app.command("replay")
def replay_command(
    reason: Reason = None,
    attribute: Attribute = None,
    user: User = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Try them again. What is sent is the newest value, whatever the letter says.

    Changes and envelopes that were never applied are accepted anew; of a deletion, Braze is asked
    again. Exits 1 if the inbox was too full for all of them: call it again later.
    """
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    with _opened(wanted) as opened:
        chosen, settings = opened.chosen, opened.settings
        report: dict[str, Any] = {"dry_run": dry_run}
        if dry_run:
            kinds = dict.fromkeys(KINDS, 0)
            with _progress("read", chosen.total) as seen:
                for letter in (letter for page in chosen.pages(seen) for letter in page):
                    kinds[letter.kind] += 1
            report |= {"matched": sum(kinds.values()), "kinds": kinds}
        else:
            replay = Replay(
                opened.stores.dead_letters,
                opened.operators,
                this_operator(by),
                settings.inbox_high_water,
            )
            with _progress("read", chosen.total) as seen:
                done = replay.run(chosen.pages(seen))
            report |= {
                "replayed": done.letters,
                "values_due": done.due,
                "accepted_anew": done.accepted,
                "deletions_due": done.deletions,
                "gone": done.gone,
                "inbox_full": done.inbox_is_full,
            }
        allowance = opened.stores.allowance
        state, why, _ = destination_state(allowance.destination(), allowance.now_ms())
        report["destination"] = {"state": state, "reason": why}
    _say(report, as_json, _show_replay)
    if report.get("inbox_full"):
        raise typer.Exit(1)


@app.command("drop")
def drop_command(
    reason: Reason = None,
    attribute: Attribute = None,
    user: User = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Throw them away for good. What Braze refused stays unsent until it changes."""
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    with _opened(wanted) as opened:
        chosen = opened.chosen
        with _progress("read", chosen.total) as seen:
            matched = sum(len(page) for page in chosen.pages(seen))
        dropped = 0
        if matched and not dry_run:
            if not yes:
                _ask(f"Drop {_letters(matched)} for good?")
            with _progress("dropped", matched) as done:
                dropped = drop(opened.operators, chosen.pages(), this_operator(by), done)
    report = {"dry_run": dry_run, "matched": matched, "dropped": dropped}
    _say(report, as_json, _show_drop)


@app.command("export")
def export_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file; - for standard output.")],
    reason: Reason = None,
    attribute: Attribute = None,
    user: User = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write them as NDJSON, one letter a line with everything in it; none is removed."""
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    count = 0
    with (
        _opened(wanted) as opened,
        _lines_of(file, force, dry_run) as write,
        _progress("read", opened.chosen.total) as seen,
    ):
        for page in opened.chosen.pages(seen):
            count += len(page)
            write(b"".join(orjson.dumps(shown(it, whole=True)) + b"\n" for it in page))
    report = {"dry_run": dry_run, "matched": count, "exported": 0 if dry_run else count}
    said = f"{'Would export' if dry_run else 'Exported'} {_letters(count)}."
    to_error = file == "-" and not dry_run
    typer.echo(orjson.dumps(report).decode() if as_json else said, err=to_error)


# --- what they have in common


@dataclass(frozen=True, slots=True)
class _Opened:
    settings: Settings
    stores: Stores
    operators: Operators
    chosen: Chosen


@contextmanager
def _opened(wanted: Wanted) -> Iterator[_Opened]:
    settings = Settings.load()
    registry = load_registry(settings.registry_file())
    stores = make_fit_stores(settings)
    named = Wanted(
        wanted.reason, wanted.attribute, wanted.user, wanted.older_than, wanted.newer_than,
        wanted.limit, registry.attributes(),
    )  # fmt: skip
    with stores.client:
        yield _Opened(
            settings,
            stores,
            Operators(stores.client, settings.same_attribute_gap, settings.journal_bytes),
            Chosen.of(
                stores.dead_letters,
                named,
                partitions_of(stores, settings),
                stores.allowance.now_ms(),
            ),
        )


def _wanted(
    reason: str | None,
    attribute: str | None,
    user: str | None,
    older_than: str | None,
    newer_than: str | None,
    limit: int | None,
) -> Wanted:
    return Wanted(
        reason,
        attribute,
        user,
        _span(older_than, "--older-than"),
        _span(newer_than, "--newer-than"),
        limit,
    )


def _span(text: str | None, option: str) -> timedelta | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked; give --yes", param_hint="--yes")
    typer.confirm(question, abort=True, err=True)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Tells on standard error how far it is: a bar, or a line now and then."""
    out = Console(stderr=True)
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


@contextmanager
def _lines_of(file: str, force: bool, dry_run: bool) -> Iterator[Callable[[bytes], object]]:
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


# --- for people


def _say(report: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        show(report)


def _letters(count: int) -> str:
    return many(count, "dead letter")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _show_letters(report: dict[str, Any]) -> None:
    out = for_people()
    if not report["letters"]:
        out.print(f"None fits; there are {_letters(report['total'])}.")
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
    out.print(f"{len(report['letters'])} of {_letters(report['total'])}{more}.")


def _content(letter: dict[str, Any]) -> str:
    """What a letter without values of its own holds."""
    return "the profile" if letter["kind"] == "deletion" else many(letter["changes"], "change")


def _show_groups(report: dict[str, Any]) -> None:
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
    out.print(f"{report['matched']:,} of {_letters(report['total'])} fit.")


def _show_replay(report: dict[str, Any]) -> None:
    if report["dry_run"]:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in report["kinds"].items() if n)
        said = f"Would replay {_letters(report['matched'])}" + (f" ({kinds})." if kinds else ".")
    else:
        said = (
            f"Replayed {_letters(report['replayed'])}; due again: "
            f"{many(report['values_due'], 'value')}, accepted anew: "
            f"{many(report['accepted_anew'], 'change')}."
        )
        if report["deletions_due"]:
            said += f"\nBraze is asked again to delete {many(report['deletions_due'], 'profile')}."
        if report["gone"]:
            said += f"\n{_letters(report['gone'])} had gone meanwhile."
        if report["inbox_full"]:
            said += "\nThe inbox is full; the others are kept. Replay them when it has drained."
    typer.echo(said)
    destination = report["destination"]
    if destination["state"] == "paused":
        why = in_words(destination["reason"] or "")
        typer.echo(f"Braze is paused ({why}): nothing is sent until it resumes.")


def _show_drop(report: dict[str, Any]) -> None:
    verb = "Would drop" if report["dry_run"] else "Dropped"
    count = report["matched"] if report["dry_run"] else report["dropped"]
    typer.echo(f"{verb} {_letters(count)}.")
