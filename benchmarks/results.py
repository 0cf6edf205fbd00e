"""Keeps results as JSON, one file for each day and commit, and shows the newest in README.md.

Measures may be run one by one: a figure stands with the conditions under which it was taken, and
a later run of the same measure replaces it.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.measures import MEASURES
from benchmarks.standards import FLOORS, PEERS

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- results: written by `make bench ARGS=--write` -->", "<!-- end of results -->"


def kept(result: dict[str, Any]) -> Path:
    """Write a result down; measures of the same day and commit join those that are there."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{result['at'][:10]}-{result['commit'][:8]}.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    file.write_text(json.dumps({"runs": [*runs, result]}, indent=2) + "\n")
    return file


def newest() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """For each measure its newest figures, with the run that they are of."""
    runs = [run for file in RESULTS.glob("*.json") for run in json.loads(file.read_text())["runs"]]
    found = {}
    for run in sorted(runs, key=lambda run: str(run["at"])):
        for name, figures in run["measures"].items():
            found[name] = (figures, run)
    return found


def rows(measured: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Lines of a table: measure, figure, value, floor, aim, peers."""
    lines: list[tuple[str, ...]] = []
    for name, figures in measured.items():
        spread = figures.get("spread", {})
        told = {figure: value for figure, value in figures.items() if figure != "spread"}
        for place, (figure, value) in enumerate(told.items()):
            floor, aim = FLOORS.get(name, {}).get(figure, ("", ""))
            peers = PEERS.get(name, {}).get(figure, "")
            lines.append(
                (
                    name if place == 0 else "",
                    figure,
                    _said_with(value, spread.get(figure)),
                    _said(floor),
                    _said(aim),
                    peers,
                )
            )
    return lines


def shown_in_readme() -> None:
    """Put the newest figures of every measure into README.md, between the two marks."""
    kept_ones = newest()
    found = {name: kept_ones[name] for name in MEASURES if name in kept_ones}
    parts = ["measure | figure | value | floor | aim | peers", "-|-|-|-|-|-"]
    parts += [
        " | ".join(row) for row in rows({name: figures for name, (figures, _) in found.items()})
    ]
    runs = {run["at"]: run for _, run in found.values()}
    parts += ["", "Taken"]
    parts += [
        f"- {at}, commit {run['commit'][:8]}, {run['machine']['cpu']}, "
        f"{run['machine']['cores']} cores, Python {run['machine']['python']}, load before the run "
        f"{run['machine']['load_at_start']}, fixed loop {_said_pace(run)} ms, "
        f"{_said_runs(run['repeat'])}"
        for at, run in sorted(runs.items())
    ]
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text("\n".join([f"{before}{BEGIN}", "", *parts, "", END]) + after)


def _said_pace(run: dict[str, Any]) -> str:
    least, middle, most = run["machine"]["pace_ms"]
    return f"{middle:.0f} ({least:.0f} to {most:.0f})"


def _said_runs(repeat: int) -> str:
    return "one run each" if repeat == 1 else f"medians of {repeat}"


def _said_with(value: object, spread: list[float] | None) -> str:
    if not spread:
        return _said(value)
    least, most = spread
    return f"{_said(value)} ({_said(least)} to {_said(most)})"


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(number)}" for name, number in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)
