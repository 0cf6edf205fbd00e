"""`make bench`: runs the measures, prints a table, writes JSON with date, machine and commit."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measures import MEASURES, Figures
from benchmarks.results import kept, rows, shown_in_readme
from benchmarks.standards import FLOORS, SMALLER_IS_BETTER

_LOAD_AT_START = round(os.getloadavg()[0], 2)


def main() -> int:
    """Run what is asked for; 1 if a floor was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a part of a measure's name; repeatable")
    parser.add_argument("--repeat", type=int, default=1, help="medians over so many runs")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--write", action="store_true", help="keep the result in results/")
    given = parser.parse_args()
    chosen = [
        name for name in MEASURES if not given.only or any(part in name for part in given.only)
    ]
    if not chosen:
        parser.error(f"no measure has that in its name; there are: {', '.join(MEASURES)}")
    out = Console(stderr=True, highlight=False)
    measured: dict[str, Figures] = {}
    paces = []
    for name in chosen:
        out.print(f"{name} ...")
        started = time.monotonic()
        runs = []
        for _ in range(given.repeat):
            paces.append(pace_ms())
            runs.append(MEASURES[name]())
        measured[name] = {**median(runs), **spread(name, runs)}
        out.print(f"  {measured[name]}  ({time.monotonic() - started:.0f} s)")
    result = {**conditions(paces), "repeat": given.repeat, "measures": measured}
    missed = misses(measured)
    if given.write:
        out.print(f"written to {kept(result)}")
        shown_in_readme()
    if given.json:
        print(json.dumps(result))
    else:
        show(Console(highlight=False), measured)
    for line in missed:
        out.print(f"floor missed: {line}")
    return 1 if missed else 0


def median(runs: list[Figures]) -> Figures:
    """The run in the middle, by its first figure: its numbers belong together."""
    ordered = sorted(runs, key=lambda figures: next(iter(figures.values())))
    return ordered[len(ordered) // 2]


def spread(name: str, runs: list[Figures]) -> Figures:
    """Least and most of the figures that have a floor, where there was more than one run."""
    if len(runs) == 1:
        return {}
    found = {}
    for figure in FLOORS.get(name, {}):
        values = [run[figure] for run in runs]
        if min(values) < max(values):
            found[figure] = [min(values), max(values)]
    return {"spread": found} if found else {}


def misses(measured: dict[str, Figures]) -> list[str]:
    """Figures that are worse than their floor."""
    found = []
    for name, figures in measured.items():
        for figure, (floor, _) in FLOORS.get(name, {}).items():
            value = figures[figure]
            if value > floor if figure in SMALLER_IS_BETTER else value < floor:
                found.append(f"{name}: {figure} is {value}, must be {floor}")
    return found


def show(out: Console, measured: dict[str, Figures]) -> None:
    """Print the figures with their floors, their aims and what peers do."""
    table = Table("measure", "figure", "value", "floor", "aim", "peers")
    for row in rows(measured):
        table.add_row(*row)
    out.print(table)


def pace_ms() -> float:
    """CPU milliseconds that a fixed loop takes: on a shared machine the cores' own speed varies."""
    started, total = time.process_time(), 0
    for number in range(2_000_000):
        total += number
    return round((time.process_time() - started) * 1000, 1)


def conditions(paces: list[float]) -> dict[str, Any]:
    """When, on what and of what: a figure without these is worth nothing.

    `pace_ms` are the least, the middle and the most of what the fixed loop took, once before each
    run: a system measured while they were twice as long was measured at half the speed.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit or "unknown",
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_at_start": _LOAD_AT_START,
            "pace_ms": [min(paces), statistics.median(paces), max(paces)],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
