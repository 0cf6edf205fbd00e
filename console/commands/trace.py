"""`persona-sync trace USER`: what we know of one user, and what happened to them lately."""

from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from console.deletions_shown import deletion_of, deletion_said
from console.deployment import opened
from console.destination import SHADOW, destination_shown, state_said
from console.instants import iso
from console.options import AsJson
from console.paper import for_people, plain
from worker.contract import partition_of
from worker.pipeline.rules import Order, Rule
from worker.stored import Stores


def trace_command(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user id.")],
    as_json: AsJson = False,
) -> None:
    """Show a user's desired and acknowledged values, when each is due, and their journal.

    Exits 1 if nothing is known of the user.
    """
    if not user_id:
        raise typer.BadParameter("a user id is never empty", param_hint="USER")
    with opened() as deployment:
        partition = partition_of(user_id, deployment.partitions)
        report = read_trace(deployment.stores, user_id, partition)
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        _show(report)
    if not report["attributes"] and not report["journal"] and not report["deletion"]:
        raise typer.Exit(1)


def read_trace(stores: Stores, user_id: str, partition: int) -> dict[str, Any]:
    """Everything known of a user: state, and what the journal still holds."""
    now_ms = stores.allowance.now_ms()
    orders, rules = stores.publication.orders(), stores.rulebook.read(partition).rules
    attributes = {
        found.attribute: {
            "desired": orjson.loads(found.desired),
            "desired_at": iso(found.desired_at_ms),
            # null is a value, too: the flag says whether anybody knows.
            "acknowledged": (
                None if found.acknowledged is None else orjson.loads(found.acknowledged)
            ),
            "acknowledged_known": found.acknowledged is not None,
            "acknowledged_at": (
                None if found.acknowledged_at_ms is None else iso(found.acknowledged_at_ms)
            ),
            "lane": found.lane.value,
            "due_at": None if found.due_at_ms is None else iso(found.due_at_ms),
            "is_due": found.due_at_ms is not None and found.due_at_ms <= now_ms,
            "in_flight": found.in_flight,
            "refused": found.is_refused,
            **_stopped(orders.get(found.attribute), rules.rule(found.attribute)),
        }
        for found in stores.memberships.trace(partition, user_id)
    }
    return {
        "user_id": user_id,
        "mode": stores.mode.read().mode or "live",
        "destination": destination_shown(stores),
        "deletion": deletion_of(stores, partition, user_id),
        "attributes": attributes,
        "journal": [_entry(item) for item in stores.journal.of_user(partition, user_id)],
    }


def _stopped(order: Order | None, rule: Rule) -> dict[str, Any]:
    """Whether its key is disabled, or retired: by whom (null: by audiences.yaml), and why; or
    which other key is sent under its name."""
    told = {"by": order.by, "why": order.why or None, "at": iso(order.at_ms)} if order else {}
    by_file = {"by": None, "why": None, "at": None}
    by_operator = bool(order and order.is_disabled)
    is_disabled = by_operator or not (rule.enabled or rule.shadowed)
    return {
        "shadowed_by": rule.shadowed or None,
        "disabled": (told or by_file) if is_disabled else None,
        "retired": {"value": order.retired, **told} if order and order.retired else None,
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
        out.print(
            f"Nothing is known of user {user!r}: no change was ever accepted. Of messages that the "
            "door refused or skipped only samples are kept; the answer to their sender names each, "
            "and so does FILE.refused.ndjson of an import.",
            soft_wrap=True,
        )
        return
    if report["mode"] == SHADOW:
        out.print(
            "This is a shadow: what it acknowledged and delivered was counted, and never reached "
            "Braze.",
            soft_wrap=True,
        )
    table = Table(title=f"user {user}", title_justify="left", box=None, pad_edge=False)
    for heading in ("attribute", "desired", "since", "acknowledged", "at", "lane", "next"):
        table.add_column(heading, overflow="fold")
    for name, found in report["attributes"].items():
        table.add_row(
            name,
            orjson.dumps(found["desired"]).decode(),
            found["desired_at"],
            (
                orjson.dumps(found["acknowledged"]).decode()
                if found["acknowledged_known"]
                else "unknown"
            ),
            found["acknowledged_at"] or "",
            found["lane"],
            _coming(found, report["destination"]),
        )
    if report["attributes"]:
        out.print(table)
    out.print("\njournal (what it still holds):")
    widest = max((len(entry["fact"]) for entry in report["journal"]), default=0)
    for entry in report["journal"]:
        rest = {k: v for k, v in entry.items() if k not in ("at", "fact")}
        line = f"  {entry['at']}  {entry['fact']:<{widest}}  {orjson.dumps(rest).decode()}"
        out.print(line, soft_wrap=True)


def _coming(found: dict[str, Any], destination: dict[str, Any]) -> str:
    """When a value is sent, or why it is not."""
    if found["refused"]:
        return "refused by Braze"
    if found["in_flight"]:
        return "in flight"
    if (disabled := found["disabled"]) is not None and not found["shadowed_by"]:
        why = f" ({disabled['why']})" if disabled["why"] else ""
        return f"disabled by {disabled['by'] or 'audiences.yaml'}{why}"
    shadowed = f"shadowed by {found['shadowed_by']}" if found["shadowed_by"] else ""
    coming = shadowed or _due(found, destination)
    return f"{coming}; retired by {found['retired']['by']}" if found["retired"] else coming


def _due(found: dict[str, Any], destination: dict[str, Any]) -> str:
    if found["is_due"]:
        stopped = destination["state"] in ("paused", "unreachable")
        return f"due; Braze is {state_said(**destination)}" if stopped else "due now"
    return found["due_at"] or "nothing to send"
