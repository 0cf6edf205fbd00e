"""Writes the pages of the documentation that the code knows best.

python docs/generate.py            writes settings.md, refusals.md, metrics.md and
                                   contract.schema.json
python docs/generate.py --check    writes nothing; exits 1 if one of them is not up to date
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from producer.http.metrics import METRICS as OF_PRODUCER
from worker.contract import ENVELOPE, REASONS, Refusal, Skip
from worker.durations import format_duration
from worker.metric import Label, Layer, Metric
from worker.observe.metrics import METRICS
from worker.settings import Settings

HERE = Path(__file__).parent
NOTICE = "<!-- Written by docs/generate.py from {source}. Do not edit. -->"
_GROUP = re.compile(r"^    # --- (.+)$")
_FIELD = re.compile(r"^    (\w+): ")


def settings_page() -> str:
    """Every setting, in the groups of the Settings class."""
    lines = [
        NOTICE.format(source="worker/settings.py"),
        "# Settings",
        "",
        "All settings are environment variables. Every process of one deployment, workers and",
        "producers alike, gets the same values. Durations are written `200ms`, `2s`, `15m`, `8h`,",
        "`1d`. A secret has a form that ends in `_FILE` and names a file; if both are set, the",
        "file counts. The file with the Braze key is read again for every request, so a key is",
        "replaced without a restart; so are the HTTP producer's secrets, within a second. All",
        "other settings are read when a process starts. What the settings for Prometheus serve is",
        "in [metrics](metrics.md).",
    ]
    for title, names in _groups():
        lines += ["", f"## {title[:1].upper()}{title[1:]}", ""]
        lines += ["variable | default | kind | what it is, and why", "-|-|-|-"]
        lines += [_row(name, Settings.model_fields[name]) for name in names]
    return "\n".join(lines) + "\n"


def _groups() -> Iterator[tuple[str, list[str]]]:
    """The class's own sections, with their fields in order."""
    title = ""
    names: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if group := _GROUP.match(line):
            if names:
                yield title, names
            title, names = group[1], []
        elif (found := _FIELD.match(line)) and found[1] in Settings.model_fields:
            names.append(found[1])
    yield title, names


def _row(name: str, field: FieldInfo) -> str:
    reason = (field.description or "").replace("|", r"\|")
    return f"`PERSONA_SYNC_{name.upper()}` | {_default(field)} | {_kind(name, field)} | {reason}"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "not set"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def _kind(name: str, field: FieldInfo) -> str:
    kinds = list(get_args(field.annotation) or (field.annotation,))
    if SecretStr in kinds:
        return "**secret**"
    if name.endswith("_file") and name.removesuffix("_file") in Settings.model_fields:
        return "path of a secret's file"
    if Path in kinds:
        return "path"
    if timedelta in kinds:
        return "duration"
    if bool in kinds:
        return "true or false"
    if int in kinds:
        return f"whole number{_bounds(field)}"
    if float in kinds:
        return f"number{_bounds(field)}"
    return "text"


def _bounds(field: FieldInfo) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = [
        f"{said} {bound:g}" if isinstance(bound, float) else f"{said} {bound:,}"
        for mark in field.metadata
        for attribute, said in words.items()
        if (bound := getattr(mark, attribute, None)) is not None
    ]
    return ", " + ", ".join(found) if found else ""


def refusals_page() -> str:
    """Every code that a producer gives a message it does not take."""
    lines = [
        NOTICE.format(source="worker/contract.py"),
        "# Refused and skipped messages",
        "",
        "A producer takes a message, refuses it, or skips it. What it does not take never enters",
        "the inbox; it is counted by code, and nothing is dropped without a count. The first check",
        "that fails names the message, so the same message always gets the same code.",
        "",
        "- `persona-sync import` writes refused lines with line number, code and reason to",
        "  `FILE.refused.ndjson`, and exits 1 if there are any.",
        "- `persona-sync send` prints the reason and exits 1.",
        "- The [HTTP producer](http.md) answers with index, code and reason of each.",
        "- `producer.publish.publish(...)` returns the counts and one entry for each refusal.",
        "- `persona-sync status --json` has the counts since the first start.",
        "",
        "## Refused",
        "",
        "The message says something, but not what it must. Mend the sender, then send it again.",
        "",
        *_codes(Refusal),
        "",
        "## Skipped",
        "",
        "Nothing is wrong with the message, and nothing is to be done.",
        "",
        *_codes(Skip),
    ]
    return "\n".join(lines) + "\n"


def _codes(codes: type[Refusal] | type[Skip]) -> list[str]:
    return ["code | what was found, or what would have been right", "-|-"] + [
        f"`{code}` | {REASONS[code]}" for code in codes
    ]


def metrics_page() -> str:
    """How Prometheus reads a worker, and every metric."""
    lines = [
        NOTICE.format(source="worker/observe/metrics.py"),
        "# Metrics",
        "",
        "Set `PERSONA_SYNC_METRICS_BIND`, and each worker process serves Prometheus at",
        "`http://HOST:PORT/metrics`. Without it nothing is served.",
        "",
        "- On a machine of its own: `127.0.0.1:9464`. In a container: `0.0.0.0:9464`, with the",
        "  port open to Prometheus' network only. There is no password: keep it internal.",
        "- No metric holds a user, a value of one, or a secret. The `audience` of some is its key,",
        "  as `audiences.yaml` declares it.",
        "- Several workers on one machine: the first has the port, the others say so once",
        "  (`metrics_not_served`) and take over when it is free. Give each a port of its own to",
        "  see the figures of each process.",
        "- `python_*` and `process_*` come beside these: memory, CPU, open files of the process.",
        "- A label's value that this version does not know is `other`.",
        "",
        "```yaml",
        "scrape_configs:",
        "  - job_name: persona-sync",
        "    dns_sd_configs: [{names: [worker], type: A, port: 9464}]",
        "```",
        "",
        "## From the server",
        "",
        "Exact, read from the server at each scrape, and the same from every worker. With several",
        "workers scraped, take one of them and do not add them up:",
        "",
        "```promql",
        "max without (instance) (persona_sync_changes_pending)",
        "max without (instance) (rate(persona_sync_changes_accepted_total[5m]))",
        "histogram_quantile(0.95,",
        "  max by (le, lane) (rate(persona_sync_freshness_seconds_bucket[5m])))",
        "```",
        "",
        "A counter starts anew only if the server's data does. If the server is away, a scrape",
        "still answers, within seconds, with `persona_sync_server_up 0` and what follows below.",
        "",
        *_metrics(Layer.SERVER),
        "",
        "## From the process",
        "",
        "What one worker process has seen since it began; add them up over workers.",
        "",
        *_metrics(Layer.PROCESS),
        "",
        "## From the HTTP producer",
        "",
        "Served at `PERSONA_SYNC_PRODUCER_METRICS_BIND`, the sum of all processes of one producer;",
        "a counter goes on when one of them is replaced. Add them up over producers.",
        "",
        *_metrics(Layer.PRODUCER),
    ]
    return "\n".join(lines) + "\n"


def _metrics(layer: Layer) -> list[str]:
    rows = [_metric(metric) for metric in (*METRICS, *OF_PRODUCER) if metric.layer is layer]
    return ["metric | type, unit | labels | what it is | when it looks bad", "-|-|-|-|-", *rows]


def _metric(metric: Metric) -> str:
    labels = "; ".join(_label(label) for label in metric.labels)
    kind = f"{metric.kind}, {metric.unit}"
    return f"`{metric.name}` | {kind} | {labels} | {metric.meaning} | {metric.todo}"


def _label(label: Label) -> str:
    return f"`{label.name}`: " + (label.said or ", ".join(f"`{value}`" for value in label.values))


def contract_schema() -> str:
    """The JSON Schema of an envelope."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An envelope in the inbox of persona-sync",
        **ENVELOPE.json_schema(),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "refusals.md": refusals_page,
    "metrics.md": metrics_page,
    "contract.schema.json": contract_schema,
}


def stale(folder: Path = HERE) -> list[str]:
    """The pages that are missing or are not what the code says now."""
    return [name for name, page in PAGES.items() if _read(folder / name) != page()]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: list[str]) -> int:
    """Write the pages, or check them. Returns the exit code."""
    if arguments == ["--check"]:
        behind = stale()
        if behind:
            sys.stderr.write(f"Not up to date: {', '.join(behind)}. Run docs/generate.py.\n")
        return 1 if behind else 0
    if arguments:
        sys.stderr.write(f"{__doc__}")
        return 2
    for name in stale():
        (HERE / name).write_text(PAGES[name](), encoding="utf-8")
        sys.stderr.write(f"Wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
