"""`persona-sync audiences list`: every key, its lane, and how it stands."""

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson
import typer

from console import audiences_listed
from console.audience_standing import AudiencesRead, read_audiences, shadow_said
from console.audiences_listed import Row, Seen, standing_table_of, table_of
from console.deployment import Deployment, read_beside
from console.options import AsJson
from console.paper import for_people
from console.registry_shown import fault_said, registry_shown
from worker.audiences.registry import WrongRegistry, load_registry, read_registry, registry_text
from worker.settings import Settings


def list_command(as_json: AsJson = False) -> None:
    """Show every audience and trait: lane, interval, why. With a server, how each stands.

    That is the registry that the workers go by; without one, the file.
    """
    settings = Settings.load()
    beside, server_fault = read_beside(_read)
    read = beside.audiences if beside else None
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
            "server_fault": server_fault,
            "registry": published,
            "mode": read.mode if read else None,
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
    if beside and published:
        _say_what_differs(settings, beside, published)


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a deployment knows. `offset`: of the boundaries, as the workers have it."""

    audiences: AudiencesRead
    offset: timedelta


def _read(deployment: Deployment) -> _Beside:
    return _Beside(
        read_audiences(deployment.stores, deployment.partitions, deployment.now_ms()),
        deployment.span("batched_offset"),
    )


def _show_standings(rows: list[Row], read: AudiencesRead) -> None:
    out = for_people()
    out.print(standing_table_of(rows, read.standings, out.width))
    if said := shadow_said(read.mode):
        out.print(said)


def _say_what_differs(settings: Settings, beside: _Beside, published: dict[str, Any]) -> None:
    """A file that is refused, or that the workers do not go by (yet)."""
    if published["fault"]:
        print(fault_said(published), file=sys.stderr)
        return
    try:
        here = registry_text(settings.audiences)
    except (FileNotFoundError, WrongRegistry):
        return
    if here != beside.audiences.published.text and _differs(here, beside):
        print(
            f"{settings.audiences} says something else than what the workers go by, which is "
            "shown here; `persona-sync audiences validate` says what it would change.",
            file=sys.stderr,
        )


def _differs(text: str, beside: _Beside) -> bool:
    try:
        here = replace(read_registry(text), offset=beside.offset)
    except WrongRegistry:
        return True
    return here.version != beside.audiences.published.digest
