"""`persona-sync status`: is it working, what waits, and why."""

from collections.abc import Iterator
from typing import Any

import orjson
import typer
from rich.table import Table

from console.audience_standing import (
    AudienceStanding,
    read_audiences,
    shadow_said,
    short_table_of,
)
from console.budget_shown import spent_said
from console.deletions_shown import deletion_rows
from console.deployment import opened
from console.destination import state_said
from console.options import AsJson
from console.paper import for_people, many
from console.registry_shown import registry_rows, registry_shown
from console.standing import read_standing
from console.sweeps_shown import SweepShown
from worker.audiences.registry import load_registry

_MODES = {
    "shadow": "SHADOW - everything is computed and counted, nothing is sent to Braze",
    "forgetting": "going live: what shadow acknowledged is being made unknown",
}
_HELD_SHOWN = 5
_NOTICES_SHOWN = 3
_AUDIENCES_SHOWN = 10


def status_command(as_json: AsJson = False) -> None:
    """Show workers, inbox, lanes, how Braze is, how every change ended, how audiences stand.

    Exits 0 whatever the news; `persona-sync check` judges them.
    """
    with opened() as deployment:
        stores, partitions = deployment.stores, deployment.partitions
        audiences = read_audiences(stores, partitions, deployment.now_ms())
        # A broken file must not keep anybody from seeing how things stand.
        registry = audiences.registry or load_registry(deployment.settings.registry_file())
        report = read_standing(stores, registry, partitions).report
    stalest = audiences.stalest_first()
    report["registry"] = registry_shown(audiences.published)
    report["audiences"] = [one.as_json() for one in stalest]
    report["sweeps"] = [one.as_json() for one in audiences.sweeps]
    if as_json:
        typer.echo(orjson.dumps(report).decode())
        return
    _show(report, [one for one in audiences.sweeps if one.done_ms is None])
    _show_audiences(stalest, report["mode"])


def _show(report: dict[str, Any], sweeps: list[SweepShown]) -> None:
    out = for_people()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    realtime, batched = report["lanes"]["realtime"], report["lanes"]["batched"]
    age = realtime["oldest_age_s"]
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
    table.add_row("Braze", state_said(**report["destination"]))
    table.add_row("dead letters", str(report["dead_letters"]))
    accepted = many(report["accepted"], "change")
    table.add_row("accepted", f"{accepted}, {report['pending']:,} still pending")
    table.add_row("ended", ", ".join(f"{n:,} {end}" for end, n in report["ends"].items()))
    points = f"{report['data_points']:,} taken by Braze"
    if report["shadow_data_points"]:
        points += f"; {report['shadow_data_points']:,} counted in shadow, never sent"
    table.add_row("data points", points)
    for row in (
        *registry_rows(report["registry"]),
        *(("under way", str(sweep)) for sweep in sweeps),
        *deletion_rows(report["deletions"]),
        *_budget_rows(report["budget"]),
        *_notice_rows(report["notices"]),
    ):
        table.add_row(*row)
    out.print(table)


def _show_audiences(stalest: list[AudienceStanding], mode: str) -> None:
    """The stalest; who waits for a boundary, and until when, is the first question."""
    if not stalest:
        return
    out, shown = for_people(), stalest[:_AUDIENCES_SHOWN]
    out.print()
    out.print(short_table_of(shown, out.width))
    if more := stalest[_AUDIENCES_SHOWN:]:
        current = sum(one.state == "up_to_date" for one in more)
        out.print(
            f"and {len(more):,} more, {current:,} of them up to date: `persona-sync audiences list`"
        )
    if said := shadow_said(mode):
        out.print(said)


def _budget_rows(budget: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The budget, if there is one or somebody is still held for it."""
    if budget["per_day"] or budget["per_audience"]:
        yield "budget", spent_said(budget, budget["today"])
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
