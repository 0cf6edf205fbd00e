"""`persona-sync audiences disable|enable|retire`: what an operator orders of one audience.

An order outlives every audiences.yaml. The tick has all workers go by it within a second or two.
"""

import time
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer

from console.asking import asked
from console.audience_standing import is_trait, registry_of
from console.costs import Cost, count, rows_of
from console.deployment import Deployment, opened
from console.instants import iso
from console.many_users import Under, counting, dry_run_over, shown_with
from console.obstacles import refuse_retired, why_not_sent
from console.options import AsJson, By, DryRun, Key, Wait, Why, Yes
from console.paper import for_people, many
from console.refused import Refused
from console.who import one_line, this_operator
from worker.pipeline.rules import Order, Work
from worker.stores.audience_books import AudienceBook

_TAKEN_UP_SECONDS = 5.0


class Value(StrEnum):
    """Where a key can retire."""

    FALSE = "false"
    NULL = "null"


def disable_command(key: Key, why: Why = "", by: By = None, as_json: AsJson = False) -> None:
    """Send nothing of an audience until `enable`. Its changes are recorded all the same.

    That holds whatever audiences.yaml says meanwhile. Requests that are under way come to their
    end. A key that is disabled already keeps its reason, unless --why gives another. Exits 1 if
    it is not in force yet.
    """
    with opened() as deployment:
        book, who, told = deployment.named(key), this_operator(by), one_line(why)
        refuse_retired(book)
        before = book.order
        stays = before if before and not told else None
        if stays is None:
            deployment.stores.publication.disable(key, who, told)
            deployment.operators.note(who, f"disable {key}", told)
        report = {
            "audience": key,
            "disabled": True,
            "already": before is not None,
            "by": stays.by if stays else who,
            "why": (stays.why if stays else told) or None,
            "instead_of": None if stays else _ordered(before),
            "users": book.pending,
            "in_force": _is_taken_up(deployment),
        }
        said = _already_said(key, before, told) if before else f"{key} is disabled"
        said += ": its changes are recorded, and nothing of it is sent until "
        said += f"`persona-sync audiences enable {key}`. {many(book.pending, 'user')} wait now."
        _say(report, f"{said}{_not_yet(report)}", as_json)
    if not report["in_force"]:
        raise typer.Exit(1)


def enable_command(key: Key, why: Why = "", by: By = None, as_json: AsJson = False) -> None:
    """Take a disabling back: whatever Braze does not hold is sent.

    Exits 1 if audiences.yaml disables it, too, or if it is not in force yet.
    """
    with opened() as deployment:
        book, who, told = deployment.named(key), this_operator(by), one_line(why)
        refuse_retired(book)
        was = book.order
        if was:
            deployment.stores.publication.enable(key)
            deployment.operators.note(who, f"enable {key}", told)
        declared = deployment.stores.publication.read().declared.rule(key)
        report = {
            "audience": key,
            "enabled": bool(declared.enabled),
            "by": who,
            "why": told or None,
            "was": _ordered(was),
            "users": book.pending,
            "in_force": _is_taken_up(deployment) if was else True,
        }
        _say(report, f"{_enabled_said(book, report)}{_not_yet(report)}", as_json)
    if not (report["enabled"] and report["in_force"]):
        raise typer.Exit(1)


def retire_command(
    key: Key,
    value: Annotated[
        Value, typer.Option("--set", help="What every user of it keeps: false, or nothing at all.")
    ],
    why: Why = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Close a key for good, with one last value for every user.

    Later changes are skipped. It says first what that costs, and asks; without a terminal it stops
    there, unless --yes is given. Called again, it shows how far it is. Exits 1 if something stands
    in the way of sending.
    """
    with opened() as deployment:
        book = deployment.named(key)
        if book.order and book.order.retired:
            code = _go_on(deployment, book, book.order, value, wait, as_json)
            raise typer.Exit(code)
        _refuse_false_of_a_trait(deployment, key, value)
        if (not_sent := why_not_sent(book)) is not None and not as_json:
            typer.echo(f"{not_sent.sentence} {_last_value_said(deployment, book)}", err=True)
        with counting(as_json) as show:
            cost = count(deployment, Work.RETIRE, book, value=value.value, show=show)
        report: dict[str, Any] = {
            "audience": key,
            "value": value.value,
            "members": book.members,
            "former_members": book.known - book.members,
            "cost": cost.as_json(),
        }
        _show_cost(deployment, book, value, cost, as_json)
        if dry_run or not asked("Retire it? This cannot be taken back.", yes):
            dry_run_over(report, "Nothing was done. To do it, add --yes.", as_json)
            return
        who, told, begun_ms = this_operator(by), one_line(why), deployment.now_ms()
        deployment.stores.publication.retire(key, value.value, who, told)
        deployment.operators.note(who, f"retire {key} at {value.value}", told)
        report |= {"by": who, "why": told or None, "in_force": _is_taken_up(deployment)}
        _say_what_to_remove(deployment, key, as_json)
        under = Under(deployment, Work.RETIRE, key, begun_ms)
        raise typer.Exit(under.go_on(report, wait, as_json))


def _go_on(
    deployment: Deployment,
    book: AudienceBook,
    order: Order,
    value: Value,
    wait: bool,
    as_json: bool,
) -> int:
    """Show how far a retiring is that was ordered before."""
    if order.retired != value.value:
        said = (
            f"{book.key} was retired at {order.retired} by {order.by}, for good; "
            f"it cannot be set to {value.value} any more."
        )
        raise Refused(1, "retired", said, value=order.retired)
    if not as_json:
        at = iso(order.at_ms)
        typer.echo(f"{book.key} was retired at {order.retired} by {order.by}, {at}.")
    report = {
        "audience": book.key,
        "value": order.retired,
        "members": book.members,
        "former_members": book.known - book.members,
        "by": order.by,
        "why": order.why or None,
    }
    return Under(deployment, Work.RETIRE, book.key, order.at_ms).go_on(report, wait, as_json)


def _show_cost(
    deployment: Deployment, book: AudienceBook, value: Value, cost: Cost, as_json: bool
) -> None:
    former = book.known - book.members
    what = "loses the attribute" if value is Value.NULL else "gets false"
    rows = [("members", f"{book.members:,}"), ("former", f"{former:,}")]
    rows += [("to be sent" if name == "users" else name, said)
             for name, said in rows_of(cost, deployment.now_ms())]  # fmt: skip
    shown_with(f"retiring {book.key}: everybody who ever was in it {what}", rows, as_json)


def _last_value_said(deployment: Deployment, book: AudienceBook) -> str:
    """What becomes of the last value of a key of which nothing is sent now. What is declared
    keeps its name before what is retired; see worker/pipeline/rules.py."""
    writer = book.rule.shadowed
    if writer in deployment.stores.publication.read().declared.of:
        return f"Its last value waits until {writer} has another attribute, or is gone."
    return "Its last value is sent all the same."


def _say_what_to_remove(deployment: Deployment, key: str, as_json: bool) -> None:
    if key in deployment.stores.publication.read().declared.of and not as_json:
        typer.echo(f"Remove {key} from audiences.yaml: a changed file that names it is refused.")


def _refuse_false_of_a_trait(deployment: Deployment, key: str, value: Value) -> None:
    """A trait is a number or a text: false would be a value that it never had."""
    registry = registry_of(deployment.stores.publication.read())
    if value is Value.FALSE and registry is not None and is_trait(registry, key):
        said = f"The trait {key} is no membership, so it retires at null: give --set null."
        raise Refused(1, "trait", said)


def _already_said(key: str, before: Order, told: str) -> str:
    was = f"{key} was disabled already, by {before.by}"
    was += f" ({before.why})" if before.why else ""
    return f"{was}, {iso(before.at_ms)}" + ("; now the reason is yours" if told else "")


def _ordered(order: Order | None) -> dict[str, Any] | None:
    if order is None:
        return None
    return {"by": order.by, "why": order.why or None, "at": iso(order.at_ms)}


def _is_taken_up(deployment: Deployment) -> bool:
    """Wait a little until all partitions go by what was ordered; True if they do."""
    deadline = time.monotonic() + _TAKEN_UP_SECONDS
    while not deployment.has_taken_up(deployment.stores.publication.version()):
        if not deployment.stores.workers.alive() or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _not_yet(report: dict[str, Any]) -> str:
    if report["in_force"]:
        return ""
    return "\nIt is not in force yet: a worker and the beat must be at work, see `status`."


def _enabled_said(book: AudienceBook, report: dict[str, Any]) -> str:
    key = book.key
    if not report["enabled"]:
        said = f"{key} is disabled by audiences.yaml: remove `enabled: false` there."
        return f"No operator disables it any more, but {said}" if report["was"] else said
    if not report["was"]:
        return f"There was nothing to enable: no operator has disabled {key}."
    if not book.pending:
        return f"{key} is enabled; Braze holds what it should."
    said = f"{key} is enabled: {many(book.pending, 'user')} differ from what Braze holds, and "
    if book.rule.lane == "b":
        return f"{said}are sent at its boundary; `persona-sync flush {key}` sends them now."
    return f"{said}are sent now."


def _say(report: dict[str, Any], said: str, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(report).decode())
    else:
        for_people().print(said, soft_wrap=True)
