"""`persona-sync check`: is everything as it should be, and if not, what is to be done."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

import orjson
import typer
from rich.table import Table

from console.checks.everything import check_everything
from console.checks.finding import Finding
from console.options import AsJson
from console.paper import for_people


def check_command(as_json: AsJson = False) -> None:
    """Look at settings, server, Braze and workers. Changes nothing; exits 1 if something is bad.

    In JSON `ok` is true, false, or null for what could not be looked at; true with a `todo` is
    a warning.
    """
    findings = check_everything()
    if as_json:
        typer.echo(orjson.dumps([asdict(finding) for finding in findings]).decode())
    else:
        _show(findings)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    out = for_people()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    # What could not be looked at for one and the same reason is one line.
    for (mark, reason), alike in groupby(
        findings, lambda it: (_mark(it), it.ok is None and it.detail)
    ):
        ours = list(alike)
        if reason and len(ours) > 1:
            table.add_row(
                mark, f"{len(ours)} more", f"{', '.join(it.check for it in ours)}: {reason}"
            )
            continue
        for finding in ours:
            detail = finding.detail + (f"\n-> {finding.todo}" if finding.todo else "")
            table.add_row(mark, finding.check, detail)
    out.print(table)
    out.print(_summary(findings))


def _mark(finding: Finding) -> str:
    if finding.ok is None:
        return "?"
    if not finding.ok:
        return "BAD"
    return "look" if finding.todo else "ok"


def _summary(findings: Sequence[Finding]) -> str:
    counts = dict.fromkeys(("BAD", "look", "?", "ok"), 0)
    for finding in findings:
        counts[_mark(finding)] += 1
    said = [
        f"{counts[mark]} {words}"
        for mark, words in (
            ("BAD", "to be mended"),
            ("look", "worth a look"),
            ("?", "could not be looked at"),
        )
        if counts[mark]
    ]
    return ", ".join(said) + "." if said else f"All {counts['ok']} checks are fine."
