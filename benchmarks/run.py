"""`make bench`: runs the measures, prints a table, writes JSON with date, machine and commit."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measures import MEASURES, Figures

RESULTS = Path(__file__).parent / "results"
# What a measure must reach on two cores, and what it aims at; peers' figures in README.md.
FLOORS: dict[str, dict[str, tuple[float, float]]] = {
    "throughput, 0 ms Braze, 1 worker": {
        "changes_per_second": (15_000, 30_000),
        "cpu_us_per_change": (60, 40),
        "mean_fill": (74, 75),
        "unchanged_values_sent": (0, 0),
    },
    "throughput, 50-150 ms Braze, 1 worker": {"changes_per_second": (12_000, 25_000)},
    "freshness, 500 changes/s": {
        "p50_ms": (600, 350),
        "p95_ms": (1_200, 600),
        "p99_ms": (2_500, 1_000),
    },
    "requests per second, one process, 100 ms Braze": {"requests_per_second": (500, 1_000)},
    "memory, 1,000,000 users": {"bytes_per_user": (350, 200)},
}
SMALLER_IS_BETTER = {
    "cpu_us_per_change", "unchanged_values_sent", "p50_ms", "p95_ms", "p99_ms", "bytes_per_user",
}  # fmt: skip


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
    for name in chosen:
        out.print(f"{name} ...")
        started = time.monotonic()
        measured[name] = median([MEASURES[name]() for _ in range(given.repeat)])
        out.print(f"  {measured[name]}  ({time.monotonic() - started:.0f} s)")
    result = {**conditions(), "repeat": given.repeat, "measures": measured}
    missed = misses(measured)
    if given.write:
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{result['at'][:10]}-{result['commit'][:8]}.json"
        file.write_text(json.dumps(result, indent=2) + "\n")
        out.print(f"written to {file}")
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
    """Print the figures with their floors and aims."""
    table = Table("measure", "figure", "value", "floor", "aim")
    for name, figures in measured.items():
        for figure, value in figures.items():
            floor, aim = FLOORS.get(name, {}).get(figure, ("", ""))
            table.add_row(name, figure, str(value), str(floor), str(aim))
            name = ""
    out.print(table)


def conditions() -> dict[str, Any]:
    """When, on what and of what: a figure without these is worth nothing."""
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
            "load_at_start": round(os.getloadavg()[0], 2),
        },
    }


if __name__ == "__main__":
    sys.exit(main())
