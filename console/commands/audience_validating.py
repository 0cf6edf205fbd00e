"""`persona-sync audiences validate`: is a file right, and what would taking it up do?"""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from console.deployment import Deployment, read_beside
from console.lane_reasons import why
from console.options import AsJson
from console.paper import many
from console.refused import Refused
from console.registry_change import Change, change_of
from console.registry_shown import registry_shown, still_said
from worker.audiences.cadence import Lane
from worker.audiences.registry import Registry, WrongRegistry, read_registry, registry_text
from worker.settings import Settings

_FAULTS_SHOWN = 100


def validate_command(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="Else the configured file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the file as a worker would. Exits 1 with all that is wrong, each with its line.

    Beside a running deployment it also says what taking the file up would do, and cost.
    """
    where = file or str(Settings.load().audiences)
    try:
        registry = read_registry(_text_of(where), where)
    except WrongRegistry as error:
        _say_wrong(where, error, as_json)
        raise typer.Exit(1) from None
    change, server_fault = read_beside(lambda deployment: change_of(deployment, registry))
    closed = change.closed if change else ()
    lanes = [registry.decisions[one.key].lane for one in registry.entries if one.is_synced]
    disagreeing = [key for key, one in registry.decisions.items() if one.disagrees]
    report: dict[str, Any] = {
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
        "server_fault": server_fault,
        "change": change.as_json() if change else None,
    }
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        _say_valid(where, registry, report, change)
    if closed:
        raise typer.Exit(1)


def _say_wrong(where: str, error: WrongRegistry, as_json: bool) -> None:
    """Every mistake, and what the workers go by meanwhile."""
    published, server_fault = read_beside(_published)
    if as_json:
        report = {"file": where, "ok": False, "faults": _faults(error), "registry": published}
        typer.echo(orjson.dumps({**report, "server_fault": server_fault}).decode())
        return
    typer.echo(str(error), err=True)
    if published:
        typer.echo(still_said(published), err=True)


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
        typer.echo(f"  {key}: {why(registry.decisions[key])}")
    for line in change.lines() if change else ():
        typer.echo(line)


def _published(deployment: Deployment) -> dict[str, Any] | None:
    return registry_shown(deployment.stores.publication.read())


def _text_of(where: str) -> str:
    if where == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        return registry_text(Path(where))
    except FileNotFoundError:
        raise Refused(2, "no_file", f"{where} does not exist.") from None


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
