"""`persona-sync demo`: the main job in one command, checked to the last profile."""

import json as json_module
import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from console.audiences_listed import Row, table_of
from console.demo import Demo, DemoFailed
from console.options import AsJson
from console.paper import for_people
from console.refused import Refused
from console.standing import Standing
from worker.settings import Settings

_LIMIT_SECONDS = 90.0


def demo_command(
    as_json: AsJson = False,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep everything running afterwards, to look around.")
    ] = False,
) -> None:
    """Sync example data to a pretended Braze on this machine, and check every profile.

    Exits 1 if a profile is wrong. Needs no Redis, no Segment and no Braze.
    """
    out = for_people(stderr=as_json)
    started = time.monotonic()
    demo = Demo(_folder(), out.print)
    try:
        out.print("1/4  Starting the embedded server, a worker, the beat, a pretended Braze ...")
        with demo.stage():
            out.print("2/4  Importing 40,000 messages as Engage would send them ...")
            imported = demo.take_in()
            out.print("3/4  Delivering; realtime at once, batched at the next 10 s boundary ...")
            standing = demo.wait_until_idle(_shower(out), _LIMIT_SECONDS)
            out.print("4/4  Comparing every profile with what the generator meant ...")
            lanes = demo.lanes()
            facts = _facts(demo, imported, standing, lanes, time.monotonic() - started)
            if as_json:
                typer.echo(json_module.dumps(facts))
            else:
                _show(out, facts, lanes)
                _say_what_next(out, demo, stay)
            if stay:
                _wait_for_interrupt()
    except DemoFailed as error:
        raise Refused(1, "demo_failed", str(error)) from None
    except KeyboardInterrupt:
        raise Refused(130, "interrupted", "Stopped; nothing is left running.") from None
    raise typer.Exit(0 if facts["as_meant"] else 1)


def _folder() -> Path:
    return (Settings.load().data_dir / "demo").absolute()


def _shower(out: Console) -> Callable[[Standing], None]:
    """Shows progress about once a second, only when something changed."""
    last_at, last_line = 0.0, ""

    def show(standing: Standing) -> None:
        nonlocal last_at, last_line
        report = standing.report
        realtime, batched = report["lanes"]["realtime"], report["lanes"]["batched"]
        waiting = realtime["ready"] + realtime["held"] + realtime["in_flight"]
        line = (
            f"     inbox {report['inbox']:>4}   realtime {waiting:>6} users   "
            f"batched {batched['pending'] + batched['due'] + batched['held']:>6} users   "
            f"ended {sum(report['ends'].values()):>6,} of {report['accepted']:,}"
        )
        if report["destination"]["state"] != "connected":
            line += f"   Braze {report['destination']['state']}: {report['destination']['reason']}"
        if line != last_line and time.monotonic() - last_at > 1.0:
            out.print(line)
            last_at, last_line = time.monotonic(), line

    return show


def _facts(
    demo: Demo, imported: dict[str, Any], standing: Standing, lanes: list[Row], seconds: float
) -> dict[str, Any]:
    sandbox, oracle, meant = demo.sandbox_report(), demo.ask_oracle(), demo.meant()
    p50, p95 = demo.freshness()
    ends = standing.report["ends"]
    door = {name: imported[name] for name in ("accepted", "refused", "skipped")}
    door_is_right = (
        imported["accepted"] == meant["accepted"]
        and imported["refused"] == meant["refused_by_reason"]
        and imported["skipped"] == meant["skipped_by_reason"]
    )
    by_status = sandbox["by_status"]
    return {
        **door,
        "ends": ends,
        "pending": standing.report["pending"],
        "objects": sandbox["objects"],
        "data_points": standing.report["data_points"],
        "unchanged_values_sent": sandbox["values_unchanged"],
        "requests": sandbox["requests"],
        "mean_fill": round(sandbox["mean_fill"], 1),
        "limited_429": by_status.get("429", 0),
        "failed_5xx": sum(n for status, n in by_status.items() if status.startswith("5")),
        "violations": sandbox["violations"],
        "freshness_p50_s": round(p50, 2),
        "freshness_p95_s": round(p95, 2),
        "profiles_right": oracle["profiles_right"],
        "profiles_wrong": oracle["profiles_wrong"] + oracle["missing"] + oracle["unexpected"],
        "values_right": oracle["values_right"],
        "values_wrong": oracle["values_wrong"],
        "samples": oracle["samples"],
        "lanes": [{"key": it.key, "lane": it.lane, "reasons": it.reasons} for it in lanes],
        "seconds": round(seconds, 1),
        "as_meant": bool(
            door_is_right
            and not standing.report["pending"]
            and not oracle["values_wrong"]
            and not oracle["missing"]
            and not oracle["unexpected"]
            and not sandbox["violations"]
        ),
    }


def _show(out: Console, facts: dict[str, Any], lanes: list[Row]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    rows: list[tuple[str, Any, str]] = [
        ("accepted", facts["accepted"], "changes, durable in the inbox"),
        *(("refused", n, code) for code, n in sorted(facts["refused"].items())),
        *(("skipped", n, code) for code, n in sorted(facts["skipped"].items())),
        ("superseded", facts["ends"]["superseded"], "a newer change of the same value came"),
        ("unchanged", facts["ends"]["unchanged"], "nothing to send: data points saved"),
        ("delivered", facts["ends"]["delivered"], "changes that Braze acknowledged"),
        ("objects", facts["objects"], "user objects sent"),
        ("requests", facts["requests"], f"to /users/track, mean fill {facts['mean_fill']} of 75"),
        ("429s met", facts["limited_429"], "on purpose; all workers waited together"),
        ("5xx met", facts["failed_5xx"], "on purpose; sent again with the newest values"),
        ("freshness", f"{facts['freshness_p50_s']:.2f} s", "p50, inbox to Braze, realtime lane"),
        ("", f"{facts['freshness_p95_s']:.2f} s", "p95, waiting for a 429's end included"),
        ("profiles right", facts["profiles_right"], f"{facts['values_right']:,} values"),
        ("profiles wrong", facts["profiles_wrong"], f"{facts['values_wrong']:,} values"),
    ]
    for name, value, remark in rows:
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value), remark)
    out.print()
    out.print(table)
    out.print("\nWhich lane, and why (persona-sync audiences explain KEY says it in full)\n")
    out.print(table_of(sorted(lanes, key=lambda it: it.lane != "realtime")))
    for sample in facts["samples"]:
        out.print(f"  wrong: {json_module.dumps(sample)}")
    verdict = (
        "Every profile is right." if facts["as_meant"] else "Something is NOT as it was meant."
    )
    out.print(f"\n{verdict} It took {facts['seconds']:.0f} s.")


def _say_what_next(out: Console, demo: Demo, stay: bool) -> None:
    command = "persona-sync" if which("persona-sync") else str(Path(sys.argv[0]))
    where = f"PERSONA_SYNC_DATA_DIR='{demo.folder}'"
    audiences = f"PERSONA_SYNC_AUDIENCES='{demo.folder}/audiences.yaml'"
    out.print("\nWhat to look at next")
    if stay:
        out.print(f"  in another terminal:   {where} {command} status")
        out.print(f"                         {where} {command} trace u17")
        out.print(f"                         {audiences} {command} audiences explain lapsed_30d")
        out.print("  Ctrl-C here ends it all.")
    else:
        out.print(f"  {command} demo --stay   the same, and it goes on running for you to look at")
        out.print(f"  {audiences} {command} audiences explain lapsed_30d")
        out.print(
            f"  {demo.folder}/messages.ndjson.gz.refused.ndjson   refused lines, with reasons"
        )
    out.print("  README.md                  how to point it at your Segment and your Braze")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
