"""`persona-sync trace USER`: what we know of one user, and what happened to them lately."""

from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from console.deletions_shown import deletion_of, deletion_said
from console.paper import for_people, plain
from console.standing import iso, partitions_of
from worker.bootstrap import Stores, make_stores
from worker.contract import partition_of
from worker.settings import Settings


def trace_command(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a user's desired and acknowledged values, when each is due, and their journal."""
    if not user_id:
        raise typer.BadParameter("a user id is never empty", param_hint="USER")
    settings = Settings.load()
    stores = make_stores(settings)
    with stores.client:
        partition = partition_of(user_id, partitions_of(stores, settings))
        report = read_trace(stores, user_id, partition)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        _show(report)
    if not report["attributes"] and not report["journal"] and not report["deletion"]:
        raise typer.Exit(1)


def read_trace(stores: Stores, user_id: str, partition: int) -> dict[str, Any]:
    """Everything known of a user: state, and what the journal still holds."""
    attributes = {
        found.attribute: {
            "desired": orjson.loads(found.desired),
            "desired_at": iso(found.desired_at_ms),
            "acknowledged": (
                "unknown" if found.acknowledged is None else orjson.loads(found.acknowledged)
            ),
            "acknowledged_at": (
                None if found.acknowledged_at_ms is None else iso(found.acknowledged_at_ms)
            ),
            "lane": found.lane.value,
            "due_at": None if found.due_at_ms is None else iso(found.due_at_ms),
            "in_flight": found.in_flight,
            "refused": found.is_refused,
        }
        for found in stores.memberships.trace(partition, user_id)
    }
    return {
        "user_id": user_id,
        "deletion": deletion_of(stores, partition, user_id),
        "attributes": attributes,
        "journal": [_entry(item) for item in stores.journal.of_user(partition, user_id)],
    }


def _entry(item: dict[str, Any]) -> dict[str, Any]:
    said = {"at": iso(item["at_ms"]), "fact": item["fact"]}
    for name, value in item.items():
        if name == "event_ms":
            said["event_at"] = iso(value)
        elif name == "value":
            said["value"] = orjson.loads(value)
        elif name == "values":
            said["values"] = {key: orjson.loads(text) for key, text in value.items()}
        elif name not in ("at_ms", "fact"):
            said[name] = value
    return said


def _show(report: dict[str, Any]) -> None:
    out, user = for_people(), plain(report["user_id"])
    if report["deletion"]:
        out.print(deletion_said(user, report["deletion"]), soft_wrap=True)
        if not report["attributes"] and not report["journal"]:
            return
    elif not report["attributes"] and not report["journal"]:
        out.print(f"Nothing is known of user {user!r}: no change was ever accepted.")
        return
    table = Table(title=f"user {user}", title_justify="left", box=None, pad_edge=False)
    for heading in ("attribute", "desired", "since", "acknowledged", "at", "lane", "next"):
        table.add_column(heading, overflow="fold")
    for name, found in report["attributes"].items():
        if found["refused"]:
            coming = "refused by Braze"
        elif found["in_flight"]:
            coming = "in flight"
        else:
            coming = found["due_at"] or "nothing to send"
        table.add_row(
            name,
            orjson.dumps(found["desired"]).decode(),
            found["desired_at"],
            orjson.dumps(found["acknowledged"]).decode(),
            found["acknowledged_at"] or "",
            found["lane"],
            coming,
        )
    if report["attributes"]:
        out.print(table)
    out.print("\njournal (what it still holds):")
    for entry in report["journal"]:
        rest = {k: v for k, v in entry.items() if k not in ("at", "fact")}
        line = f"  {entry['at']}  {entry['fact']:<10} {orjson.dumps(rest).decode()}"
        out.print(line, soft_wrap=True)
