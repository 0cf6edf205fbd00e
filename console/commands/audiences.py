"""`persona-sync audiences validate|list|explain|import`: what is declared, and in which lane."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Never

import orjson
import typer
from redis.exceptions import RedisError

from console import audiences_explained, audiences_listed
from console.audience_standing import AudiencesRead, read_audiences
from console.audiences_explained import Explained
from console.audiences_import import CannotEdit, Step, difference, plan, put, written
from console.audiences_listed import Row, Seen, standing_table_of, table_of
from console.audiences_refused import Refused, not_declared, query_refused, registry_refused
from console.commands.audience_life import disable_command, enable_command, retire_command
from console.deployment import opened
from console.paper import for_people, many
from console.registry_change import Change, change_of
from console.registry_shown import fault_said, registry_shown, still_said
from console.standing import partitions_of
from worker.audiences.cadence import Lane, Policy, decide, read_cadence
from worker.audiences.query.errors import QueryError
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import Kind
from worker.audiences.registry import (
    Registry,
    WrongRegistry,
    load_registry,
    read_in_part,
    read_registry,
    registry_text,
)
from worker.audiences.segment_api import NotAudiences, Page, read_page
from worker.durations import to_ms
from worker.pipeline.rules import Order
from worker.settings import NothingRunning, Settings, WrongSettings
from worker.stored import make_stores

app = typer.Typer(
    help="See which audiences are realtime, which batched, and why; take them over from Segment; "
    "disable or retire one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MAX_IMPORT_BYTES = 100_000_000
_FAULTS_SHOWN = 100

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("validate")
def validate_command(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE|-]", help="Else the configured file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the file as a worker would. Exits 1 with all that is wrong, each with its line.

    Beside a running deployment it also says what taking the file up would do, and cost.
    """
    where = file or str(Settings.load().audiences)
    try:
        registry = read_registry(_text_of(where, as_json), where)
    except WrongRegistry as error:
        published = _published()
        report: dict[str, Any] = {"file": where, "ok": False, "faults": _faults(error)}
        report["registry"] = published
        if as_json:
            typer.echo(orjson.dumps(report).decode())
        else:
            typer.echo(str(error), err=True)
            if published:
                typer.echo(still_said(published), err=True)
        raise typer.Exit(1) from None
    change = _change(registry)
    closed = change.closed if change else ()
    lanes = [registry.decisions[one.key].lane for one in registry.entries if one.is_synced]
    disagreeing = [key for key, one in registry.decisions.items() if one.disagrees]
    report = {
        "file": where,
        "ok": not closed,
        "faults": [{"line": None, "column": None, "message": it, "query": None} for it in closed],
        "audiences": len(registry.audiences),
        "traits": len(registry.traits),
        "realtime": lanes.count(Lane.REALTIME),
        "batched": lanes.count(Lane.BATCHED),
        "not_synced": len(registry.entries) - len(lanes),
        "disagreeing": disagreeing,
        "registry": registry_shown(change.published) if change else None,
        "change": change.as_json() if change else None,
    }
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        _say_valid(where, registry, report, change)
    if closed:
        raise typer.Exit(1)


def _say_valid(
    where: str, registry: Registry, report: dict[str, Any], change: Change | None
) -> None:
    for said in change.closed if change else ():
        typer.echo(f"{where}: {said}", err=True)
    if change and change.closed:
        typer.echo(still_said(report["registry"]), err=True)
        return
    typer.echo(
        f"{where} is fine: {many(len(registry.audiences), 'audience')} and "
        f"{many(len(registry.traits), 'trait')}; {report['realtime']} realtime, "
        f"{report['batched']} batched"
        + (f", {report['not_synced']} not synced." if report["not_synced"] else ".")
    )
    for key in report["disagreeing"]:
        typer.echo(f"  {key}: {audiences_listed.why(registry.decisions[key])}")
    for line in change.lines() if change else ():
        typer.echo(line)


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show every audience and trait: lane, interval, why. With a server, how each stands.

    That is the registry that the workers go by; without one, the file.
    """
    settings = Settings.load()
    read = _read_server(settings)
    registry = read.registry if read else None
    if registry is None:
        registry = load_registry(settings.registry_file())
    standings = read.standings if read else {}
    seen = Seen({key: one.book.members for key, one in standings.items()}) if read else None
    declared = audiences_listed.rows(registry, seen)
    strangers = audiences_listed.undeclared(registry, seen) if seen else []
    published = registry_shown(read.published) if read else None
    if as_json:
        report = {
            "file": str(settings.audiences),
            "policy": registry.policy,
            "server": read is not None,
            "registry": published,
            "audiences": [
                audiences_listed.as_json(row, standings.get(row.key)) for row in declared
            ],
            "undeclared": [
                audiences_listed.as_json(row, standings.get(row.key)) for row in strangers
            ],
        }
        typer.echo(orjson.dumps(report).decode())
        return
    if not declared and not strangers:
        typer.echo(f"{settings.audiences} declares nothing: every audience is realtime.")
    elif read is None:
        for_people().print(table_of(declared))
    else:
        _show_standings([*declared, *strangers], read)
    _say_what_differs(settings, read, published)


@app.command("explain")
def explain_command(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="A declared key.")] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="TEXT", help="A query instead of a key.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--type", help="With --query: of users or of accounts.")
    ] = None,
    is_trait: Annotated[
        bool, typer.Option("--trait", help="The query is a computed trait's.")
    ] = False,
    policy: Annotated[
        Policy | None, typer.Option("--policy", help="Else the policy of the file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say why an audience, or a query, is realtime or batched. Needs no server.

    With one it also says what operators have ordered of the key: that it is disabled, or retired.
    Exits 2 for a query that is refused, with the place; 1 for a key that is not declared. With
    --json that is a document, too: `error`, with code, reason and position.
    """
    if (key is None) == (query is None):
        raise typer.BadParameter("give a KEY, or a query with --query", param_hint="KEY")
    if query is None and (kind is not None or is_trait):
        raise typer.BadParameter("this belongs to --query", param_hint="--type, --trait")
    try:
        if query is not None:
            found = _explain_query(query, kind or Kind.USERS, is_trait, policy)
        else:
            found = _explain_key(str(key), policy)
    except Refused as refused:
        if as_json:
            typer.echo(orjson.dumps(refused.as_json()).decode())
        else:
            print(refused, file=sys.stderr)
        raise typer.Exit(refused.exit_code) from None
    if as_json:
        typer.echo(orjson.dumps(audiences_explained.as_json(found)).decode())
    else:
        typer.echo(audiences_explained.as_text(found, for_people().width))


@app.command("import")
def import_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON as Segment's Public API returns it.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Else the configured file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write Segment's audiences into audiences.yaml: queries, and the cadence that Segment says.

    Comments and order stay, nothing is deleted, and once more changes nothing. Exits 1 if an
    audience had to be left out.
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
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{path} cannot be written: {error}", 1)
    if as_json:
        typer.echo(orjson.dumps(_import_report(path, page, steps, dry_run)).decode())
    else:
        if dry_run and after != before:
            typer.echo(difference(before, after, str(path)))
        _say_imported(path, page, steps, dry_run)
    if any(step.fate == "left_out" for step in steps):
        raise typer.Exit(1)


app.command("disable")(disable_command)
app.command("enable")(enable_command)
app.command("retire")(retire_command)


# --- explain


def _explain_key(key: str, policy: Policy | None) -> Explained:
    settings = Settings.load()
    registry = _registry_without_mistakes(settings.registry_file(), key)
    registry = registry.under(policy or registry.policy)
    entry, order = registry.entry(key), _order_of(settings, key)
    if entry is None or not entry.is_synced:
        if order is None:
            raise not_declared(key, registry, settings.audiences)
        decision = decide(None, None)
        found = Explained.at(
            _now_ms(), key, registry.policy, decision, None, registry.every(None), 0
        )
        return replace(found, order=order)
    found = Explained.at(
        _now_ms(),
        entry.key,
        registry.policy,
        registry.decisions[entry.key],
        entry.query,
        registry.every(entry),
        to_ms(settings.batched_offset),
    )
    return replace(found, order=order, is_enabled=entry.is_enabled)


def _order_of(settings: Settings, key: str) -> Order | None:
    """What operators have ordered of it; None if nothing, or if no server can say."""
    try:
        stores = make_stores(settings)
        with stores.client:
            return stores.publication.orders().get(key)
    except NothingRunning:
        return None
    except RedisError:
        print("The Redis server does not answer: this is the file alone.", file=sys.stderr)
        return None


def _explain_query(text: str, kind: Kind, is_trait: bool, policy: Policy | None) -> Explained:
    registry = _registry_if_right()
    registry = registry.under(policy or registry.policy)
    try:
        query = parse_trait(text, kind) if is_trait else parse_audience(text, kind)
    except QueryError as error:
        raise query_refused(error, kind, is_trait) from None
    decision = decide(read_cadence(query, registry.policy, registry.known), None)
    every, offset = registry.every(None), to_ms(Settings.load().batched_offset)
    return Explained.at(_now_ms(), None, registry.policy, decision, query, every, offset)


def _registry_if_right() -> Registry:
    """The configured registry; a broken one must not stop the mending of its queries."""
    path = Settings.load().audiences
    try:
        return load_registry(path)
    except WrongRegistry:
        print(
            f"{path} is not right (see `persona-sync audiences validate`): references to other "
            "audiences are not followed.",
            file=sys.stderr,
        )
        return Registry()


def _registry_without_mistakes(path: Path, key: str) -> Registry:
    """The registry; mistakes elsewhere in it do not stop the explaining of this key."""
    try:
        return load_registry(path)
    except WrongRegistry as error:
        try:
            registry, doubtful = read_in_part(registry_text(path), str(path))
        except (FileNotFoundError, WrongRegistry):
            raise registry_refused(error) from None
        if key in doubtful or registry.entry(key) is None:
            raise registry_refused(error) from None
        print(
            f"{path} has mistakes in other entries (see `persona-sync audiences validate`): "
            "references to those are not followed, and no worker starts with it.",
            file=sys.stderr,
        )
        return registry


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- list


def _read_server(settings: Settings) -> AudiencesRead | None:
    """What the server knows; None without one. A configured one that is silent is mentioned."""
    try:
        stores = make_stores(settings)
        with stores.client:
            partitions = partitions_of(stores, settings)
            return read_audiences(stores, partitions, stores.allowance.now_ms())
    except NothingRunning:
        return None
    except RedisError:
        print("The Redis server does not answer: this is the file alone.", file=sys.stderr)
        return None


def _show_standings(rows: list[Row], read: AudiencesRead) -> None:
    out = for_people()
    out.print(standing_table_of(rows, read.standings, out.width))


def _say_what_differs(
    settings: Settings, read: AudiencesRead | None, published: dict[str, Any] | None
) -> None:
    """A file that is refused, or that the workers do not go by (yet)."""
    if published is None or read is None:
        return
    if published["fault"]:
        print(fault_said(published), file=sys.stderr)
        return
    try:
        here = registry_text(settings.audiences)
    except (FileNotFoundError, WrongRegistry):
        return
    if here != read.published.text and _differs(here, settings, read):
        print(
            f"{settings.audiences} says something else than what the workers go by, which is "
            "shown here; `persona-sync audiences validate` says what it would change.",
            file=sys.stderr,
        )


def _differs(text: str, settings: Settings, read: AudiencesRead) -> bool:
    try:
        here = replace(read_registry(text), offset=settings.batched_offset)
    except WrongRegistry:
        return True
    return here.version != read.published.digest


# --- validate


def _change(registry: Registry) -> Change | None:
    """What taking it up would do; None without a server, or before the first start."""
    try:
        with opened() as deployment:
            return change_of(deployment, registry)
    except (NothingRunning, WrongSettings):
        return None
    except RedisError:
        print("The Redis server does not answer: this is the file alone.", file=sys.stderr)
        return None


def _published() -> dict[str, Any] | None:
    """What the workers go by; None if nobody can say."""
    try:
        with opened() as deployment:
            return registry_shown(deployment.stores.publication.read())
    except (NothingRunning, WrongSettings, RedisError):
        return None


def _text_of(where: str, as_json: bool) -> str:
    if where == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        return registry_text(Path(where))
    except FileNotFoundError:
        said = f"{where} does not exist."
        if as_json:
            typer.echo(orjson.dumps({"error": {"code": "no_file", "reason": said}}).decode())
        _fail(said, 2)


def _faults(error: WrongRegistry) -> list[dict[str, Any]]:
    return [
        {
            "line": fault.place.line if fault.place else None,
            "column": fault.place.column if fault.place else None,
            "message": fault.message,
            "query": {
                "line": fault.query.line,
                "column": fault.query.column,
                "message": fault.query.message,
                "suggestion": fault.query.suggestion,
            }
            if fault.query
            else None,
        }
        for fault in error.faults[:_FAULTS_SHOWN]
    ]


# --- import


def _page(file: str) -> Page:
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_IMPORT_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_IMPORT_BYTES + 1)
        if len(content) > MAX_IMPORT_BYTES:
            _fail(f"{file} is larger than {MAX_IMPORT_BYTES // 1_000_000} MB.", 2)
        return read_page(orjson.loads(content))
    except OSError as error:
        _fail(f"{file} cannot be read: {error}", 2)
    except orjson.JSONDecodeError as error:
        _fail(f"{file} is not JSON: {error}", 2)
    except NotAudiences as error:
        _fail(str(error), 2)


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


def _fail(message: str, code: int) -> Never:
    print(message, file=sys.stderr)
    raise typer.Exit(code)
