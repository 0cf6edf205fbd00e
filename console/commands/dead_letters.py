"""`persona-sync dead-letters list|replay|drop|export`: what Braze refused for good."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

import orjson
import typer

from console.asking import insist
from console.audience_standing import registry_of
from console.dead_letters import Chosen, Drop, Replay, Room, Wanted, shown, summary
from console.dead_letters_shown import (
    counted,
    progress,
    show_drop,
    show_groups,
    show_letters,
    show_replay,
)
from console.deployment import Deployment, opened
from console.destination import destination_shown
from console.export_file import lines_of
from console.interrupting import between_steps
from console.options import AsJson, By, DryRun, Yes, plain_typer
from console.refused import Refused
from console.who import this_operator
from worker.audiences.registry import load_registry
from worker.durations import parse_duration
from worker.stores.dead_letters import KINDS
from worker.stores.undeclared import Undeclared

app = plain_typer(
    help="See what Braze refused for good; replay, drop or export it.", no_args_is_help=True
)
LISTED = 50
_NAMED = 5  # keys without room, in an answer

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
    """Show dead letters, the oldest first: 50, or --limit."""
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    if by_reason:
        with _opened(wanted) as read, progress("read", read.chosen.total) as seen:
            groups = summary(read.chosen.pages(seen))
        matched = sum(group["letters"] for group in groups)
        report = {"total": read.chosen.total, "matched": matched, "groups": groups}
        _say(report, as_json, show_groups)
        return
    most = limit or LISTED
    one_more = _wanted(reason, attribute, user, older_than, newer_than, most + 1)
    with _opened(one_more) as read:
        found = [letter for page in read.chosen.pages() for letter in page]
    report = {
        "total": read.chosen.total,
        "more": len(found) > most,
        "letters": [shown(letter) for letter in found[:most]],
    }
    _say(report, as_json, show_letters)


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
    """Try dead letters again. What is sent is the newest value, whatever the letter says.

    Changes and envelopes that were never applied are accepted anew; of a deletion, Braze is asked
    again. Exits 1 if the inbox was too full for all of them, or the limit of undeclared audiences
    leaves no room: call it again later. After Ctrl-C it says how far it came.
    """
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    with _opened(wanted) as read:
        chosen, deployment = read.chosen, read.deployment
        limit = int(deployment.number("undeclared_limit"))
        room = Room(Undeclared(deployment.stores.client), limit)
        report: dict[str, Any] = {"dry_run": dry_run}
        if dry_run:
            report |= _would_replay(chosen, room)
        else:
            replay = Replay(
                deployment.stores.dead_letters,
                deployment.operators,
                this_operator(by),
                deployment.settings.inbox_high_water,
                room,
            )
            report |= _replayed(replay, chosen)
        report |= {"no_room_for": sorted(room.lacking)[:_NAMED], "undeclared_limit": room.limit}
        report["destination"] = destination_shown(deployment.stores)
    if report.pop("interrupted", False):
        raise _interrupted(f"Replayed {counted(report['replayed'])}", report)
    _say(report, as_json, show_replay)
    if not dry_run and (report["inbox_full"] or report["no_room"]):
        raise typer.Exit(1)


def _would_replay(chosen: Chosen, room: Room) -> dict[str, Any]:
    """What a replay would do, in counts."""
    kinds, no_room = dict.fromkeys(KINDS, 0), 0
    with progress("read", chosen.total) as seen:
        for page in chosen.pages(seen):
            for letter in page:
                if letter.kind == "change" and not room.of(letter.partition, [letter]):
                    no_room += 1
                else:
                    kinds[letter.kind] += 1
    return {"matched": sum(kinds.values()), "kinds": kinds, "no_room": no_room}


def _replayed(replay: Replay, chosen: Chosen) -> dict[str, Any]:
    """Replay them, and what that did; it may have been interrupted."""
    interrupted = False
    try:
        with _steps("read", chosen.total) as seen:
            replay.run(chosen.pages(seen))
    except KeyboardInterrupt:
        interrupted = True
    done = replay.done
    return {
        "interrupted": interrupted,
        "finished": not (interrupted or done.inbox_is_full),
        "replayed": done.letters,
        "values_due": done.due,
        "accepted_anew": done.accepted,
        "deletions_due": done.deletions,
        "gone": done.gone,
        "inbox_full": done.inbox_is_full,
        "no_room": done.no_room,
    }


@app.command("drop")
def drop_command(
    reason: Reason = None,
    attribute: Attribute = None,
    user: User = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away for good. What Braze refused stays unsent until it changes.

    It asks first; without a terminal it needs --yes.
    """
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    with _opened(wanted) as read:
        chosen = read.chosen
        with progress("read", chosen.total) as seen:
            matched = sum(len(page) for page in chosen.pages(seen))
        drop = Drop(read.deployment.operators, this_operator(by))
        interrupted = False
        if matched and not dry_run:
            insist(f"Drop {counted(matched)} for good?", yes)
            try:
                with _steps("dropped", matched) as done:
                    drop.run(chosen.pages(), done)
            except KeyboardInterrupt:
                interrupted = True
    report = {
        "dry_run": dry_run,
        "finished": not interrupted,
        "matched": matched,
        "dropped": drop.dropped,
    }
    if interrupted:
        raise _interrupted(f"Dropped {counted(drop.dropped)}", report)
    _say(report, as_json, show_drop)


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
    """Write dead letters as NDJSON, one a line; none is removed."""
    wanted = _wanted(reason, attribute, user, older_than, newer_than, limit)
    count = 0
    with (
        _opened(wanted) as read,
        lines_of(file, force, dry_run) as write,
        progress("read", read.chosen.total) as seen,
    ):
        for page in read.chosen.pages(seen):
            count += len(page)
            write(b"".join(orjson.dumps(shown(it, whole=True)) + b"\n" for it in page))
    report = {"dry_run": dry_run, "matched": count, "exported": 0 if dry_run else count}
    said = f"{'Would export' if dry_run else 'Exported'} {counted(count)}."
    to_error = file == "-" and not dry_run
    typer.echo(orjson.dumps(report).decode() if as_json else said, err=to_error)


# --- what they have in common


@contextmanager
def _steps(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """`progress`; Ctrl-C is raised where it is told of a step, so that the counts are exact."""
    with between_steps() as stop_if_asked, progress(what, total) as say:

        def step(count: int) -> None:
            say(count)
            stop_if_asked()

        yield step


def _interrupted(done: str, report: dict[str, Any]) -> Refused:
    """After Ctrl-C: what was done stands."""
    said = f"Interrupted. {done}; the others are kept. To go on, call it again."
    return Refused(130, "interrupted", said).after(report)


@dataclass(frozen=True, slots=True)
class _Opened:
    deployment: Deployment
    chosen: Chosen


@contextmanager
def _opened(wanted: Wanted) -> Iterator[_Opened]:
    with opened() as deployment:
        stores = deployment.stores
        # A broken file must not keep anybody from seeing what died.
        registry = registry_of(stores.publication.read())
        if registry is None:
            registry = load_registry(deployment.settings.registry_file())
        named = replace(wanted, names=registry.attributes())
        letters, now_ms = stores.dead_letters, deployment.now_ms()
        yield _Opened(deployment, Chosen.of(letters, named, deployment.partitions, now_ms))


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


def _say(report: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        show(report)
