"""`persona-sync resync`: forgets what Braze is believed to hold, and sends it again."""

from typing import Annotated, Any

import typer

from console.asking import asked
from console.costs import Cost, count, rows_of
from console.deployment import opened
from console.instants import instant_of, iso
from console.many_users import Under, counting, dry_run_over, shown_with
from console.obstacles import refuse_retired, why_not_sent
from console.options import AsJson, By, DryRun, Wait, Why, Yes
from console.who import one_line, this_operator
from worker.pipeline.rules import Work
from worker.stores.audience_books import AudienceBook


def resync_command(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="The audience's, or the trait's.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All audiences and traits.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            help="Only what Braze acknowledged since then: 2026-11-22T10:00Z, or 2h ago.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    why: Why = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Send the values of an audience again, for when Braze lost or changed them.

    It says first what that costs, and asks. Without a terminal it stops there, unless --yes is
    given. Exits 1 if something stands in the way of sending, such as a pause or a shadow: what was
    begun stands, and goes on by itself.
    """
    if (key is None) == (not everything):
        raise typer.BadParameter("give a KEY, or --all", param_hint="KEY")
    with opened() as deployment:
        book = deployment.named(key) if key is not None else None
        if book:
            _refuse_what_is_not_sent(book)
        since_ms = _since(since, deployment.now_ms())
        with counting(as_json) as show:
            cost = count(deployment, Work.RESYNC, book, since_ms=since_ms, show=show)
        report = _report(book, since_ms, cost)
        shown_with(_title(book), rows_of(cost, deployment.now_ms()), as_json)
        if not cost.users:
            dry_run_over(report, "Nothing to send again.", as_json)
            return
        if dry_run or not asked("Send them again?", yes):
            how = "--dry-run was given." if dry_run else ""
            dry_run_over(report, f"{how} To do it, add --yes.".strip(), as_json)
            return
        who, told = this_operator(by), one_line(why)
        begun_ms = deployment.now_ms()
        for partition in range(deployment.partitions):
            deployment.stores.sweeps.resync(partition, key, who, told, since_ms)
        under = Under(deployment, Work.RESYNC, key, begun_ms)
        raise typer.Exit(under.go_on({**report, "by": who, "why": told or None}, wait, as_json))


def _since(text: str | None, now_ms: int) -> int:
    if text is None:
        return 0
    try:
        since_ms = instant_of(text, now_ms)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    if since_ms > now_ms:
        said = f"{iso(since_ms)} is still to come; give a moment before now, {iso(now_ms)}"
        raise typer.BadParameter(said, param_hint="--since")
    return since_ms


def _refuse_what_is_not_sent(book: AudienceBook) -> None:
    refuse_retired(book)
    if (not_sent := why_not_sent(book)) is not None:
        raise not_sent.refused()


def _title(book: AudienceBook | None) -> str:
    return f"resync of {book.key if book else 'all audiences and traits'}"


def _report(book: AudienceBook | None, since_ms: int, cost: Cost) -> dict[str, Any]:
    return {
        "audience": book.key if book else None,
        "since": iso(since_ms) if since_ms else None,
        "cost": cost.as_json(),
    }
