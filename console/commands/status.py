"""`persona-sync status`: is it working, what waits, and why."""

from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from console.deletions_shown import deletion_rows
from console.paper import for_people, many
from console.standing import partitions_of, read_standing, state_said
from worker.audiences.registry import load_registry
from worker.bootstrap import make_stores
from worker.settings import Settings

_MODES = {
    "shadow": "SHADOW - everything is computed and counted, nothing is sent to Braze",
    "forgetting": "going live: what shadow acknowledged is being made unknown",
}
_HELD_SHOWN = 5
_NOTICES_SHOWN = 3


def status_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show workers, inbox, lanes, destination and how every change ended."""
    settings = Settings.load()
    registry = load_registry(settings.registry_file())
    stores = make_stores(settings)
    with stores.client:
        report = read_standing(stores, registry, partitions_of(stores, settings)).report
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    out = for_people()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    realtime, batched = report["lanes"]["realtime"], report["lanes"]["batched"]
    age = realtime["oldest_age_s"]
    destination = report["destination"]
    workers = report["workers"]
    if report["mode"] != "live":
        table.add_row("mode", _MODES[report["mode"]])
    table.add_row("workers", str(workers) if workers else "0 - none is alive; start one")
    table.add_row("inbox", f"{many(report['inbox'], 'envelope')} not yet applied")
    table.add_row(
        "realtime",
        f"{many(realtime['ready'], 'user')} ready, {realtime['held']} held, "
        f"{realtime['in_flight']} in flight" + (f", oldest {age:.1f} s" if age is not None else ""),
    )
    table.add_row(
        "batched",
        f"{many(batched['pending'], 'user')} pending, {batched['due']} due, "
        f"{batched['held']} held, {batched['in_flight']} in flight; "
        f"next boundary {batched['next_boundary']}",
    )
    table.add_row("Braze", state_said(**destination))
    table.add_row("dead letters", str(report["dead_letters"]))
    accepted = many(report["accepted"], "change")
    table.add_row("accepted", f"{accepted}, {report['pending']:,} still pending")
    table.add_row("ended", ", ".join(f"{n:,} {end}" for end, n in report["ends"].items()))
    points = f"{report['data_points']:,} taken by Braze"
    if report["shadow_data_points"]:
        points += f"; {report['shadow_data_points']:,} counted in shadow, never sent"
    table.add_row("data points", points)
    for row in (
        *deletion_rows(report["deletions"]),
        *_budget_rows(report["budget"]),
        *_notice_rows(report["notices"]),
    ):
        table.add_row(*row)
    out.print(table)


def _budget_rows(budget: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The budget, if there is one or somebody is still held for it."""
    if budget["per_day"] or budget["per_audience"]:
        bounds = [f"{budget['per_day']:,} in all"] if budget["per_day"] else []
        bounds += [f"{budget['per_audience']:,} each"] if budget["per_audience"] else []
        yield "budget", f"{many(budget['today'], 'data point')} today, of {', '.join(bounds)}"
    held = sorted(budget["held"], key=lambda item: -item["users"])
    for item in held[:_HELD_SHOWN]:
        yield "held", f"{item['audience']}: {many(item['users'], 'user')}, until {budget['until']}"
    if held[_HELD_SHOWN:]:
        yield "held", f"and {len(held) - _HELD_SHOWN:,} more"


def _notice_rows(notices: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The latest, newest first."""
    for notice in notices[:_NOTICES_SHOWN]:
        yield "notice", f"{notice['at']}  {notice['text']}{_over(notice)}"


def _over(notice: dict[str, Any]) -> str:
    if not notice["over"]:
        return ""
    return f" - over since {notice['over_since']}" if notice["over_since"] else " - over"
