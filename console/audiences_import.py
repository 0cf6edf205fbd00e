"""What Segment says of its audiences is written into audiences.yaml; nothing is deleted."""

import difflib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from worker.audiences.cadence import Lane
from worker.audiences.query.errors import QueryError
from worker.audiences.query.parse import parse_audience
from worker.audiences.query.tree import AudienceQuery, Kind
from worker.audiences.registry import Entry, Registry, WrongRegistry, read_registry
from worker.audiences.registry_edit import Change, edited
from worker.audiences.registry_reader import wrong_name
from worker.audiences.segment_api import Stated

Fate = Literal["added", "updated", "unchanged", "left_out"]


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one audience, and what somebody should know about it."""

    key: str
    fate: Fate
    notes: tuple[str, ...] = ()
    change: Change | None = None
    entry: Entry | None = None


class CannotEdit(Exception):
    """The file has a form that cannot be edited in place. The message says what to do."""


def plan(registry: Registry, stated: Iterable[Stated]) -> list[Step]:
    """What is to be done, audience by audience."""
    attributes = {entry.attribute: entry.key for entry in registry.entries if entry.is_synced}
    done: set[str] = set()
    steps = []
    for one in stated:
        problem = _problem(registry, attributes, done, one)
        if one.key is None or problem is not None:
            steps.append(Step(one.shown, "left_out", (problem or "it has no key",)))
            continue
        done.add(one.key)
        step = _step(registry.entry(one.key), one, one.key)
        if step.entry is not None:
            attributes[step.entry.attribute] = one.key
        steps.append(step)
    return steps


def _problem(
    registry: Registry, attributes: dict[str, str], done: set[str], one: Stated
) -> str | None:
    if one.key is None:
        return "it has no key"
    if (reason := wrong_name(one.key)) is not None:
        return f"its key cannot be a Braze attribute: {reason.rstrip('.')}"
    if one.key in done:
        return "it is there a second time"
    if one.key in (entry.key for entry in registry.traits):
        return "the file has a trait of this key"
    if registry.entry(one.key) is None and one.key in attributes:
        return f"its key is the attribute of {attributes[one.key]!r} in the file"
    return None


def _step(entry: Entry | None, one: Stated, key: str) -> Step:
    query, notes = _query(one)
    cadence = one.cadence
    if cadence is None and query is None and one.type in ("ACCOUNTS", "LINKED"):
        cadence = Lane.BATCHED
        notes.append(f"an audience of type {one.type} runs on a schedule: batched")
    if one.odd_cadence:
        notes.append(f"its cadence {one.odd_cadence!r} is not known here and was passed over")
    fields: dict[str, str | bool] = {}
    before = entry or Entry(key, key)
    after = before
    if query is not None and query != before.query:
        after = replace(after, query=query)
        fields["query"] = query.text
        if query.kind is not (before.query.kind if before.query else Kind.USERS):
            fields["type"] = query.kind.value
    if cadence is not None and cadence is not before.declared:
        after = replace(after, declared=cadence)
        fields["cadence"] = cadence.value
    if entry is None and one.is_enabled is False:
        after = replace(after, is_enabled=False)
        fields["enabled"] = False
        notes.append("it is disabled in Segment: enabled: false")
    elif entry is not None and one.is_enabled is not None and one.is_enabled != entry.is_enabled:
        states = {True: "enabled", False: "disabled"}
        notes.append(
            f"it is {states[one.is_enabled]} in Segment and {states[entry.is_enabled]} here; "
            "that was left as it is"
        )
    if entry is not None and not fields:
        return Step(key, "unchanged", tuple(notes))
    remark = one.name if entry is None and one.name != key else ""
    fate: Fate = "added" if entry is None else "updated"
    return Step(key, fate, tuple(notes), Change(key, fields, remark), after)


def _query(one: Stated) -> tuple[AudienceQuery | None, list[str]]:
    if one.type == "LINKED":
        return None, ["a Linked Audience: kept with its cadence only"]
    if one.query is None:
        return None, ["Segment gave no query: kept with its cadence only"]
    if one.type not in (None, *Kind):
        return None, [f"its type {one.type!r} is not known here: kept with its cadence only"]
    try:
        return parse_audience(one.query, Kind(one.type or "USERS")), []
    except QueryError as error:
        return None, [f"its query cannot be read ({error}): kept with its cadence only"]


def written(text: str, registry: Registry, steps: Iterable[Step], where: str) -> str:
    """The file's new text. Raises WrongRegistry or CannotEdit, and then nothing is to be written.

    It is read again and compared: what was not to change has not.
    """
    steps = [step for step in steps if step.change is not None and step.entry is not None]
    if not steps:
        return text
    result = edited(text, [step.change for step in steps if step.change])
    wanted = {entry.key: entry for entry in registry.audiences}
    wanted |= {step.key: step.entry for step in steps if step.entry}
    try:
        found = read_registry(result, where, may_be_empty=True)
    except WrongRegistry as error:
        if any("refer to each other" in fault.message for fault in error.faults):
            raise
        raise CannotEdit(_CANNOT.format(where=where)) from None
    if (
        {entry.key: entry for entry in found.audiences} != wanted
        or found.traits != registry.traits
        or (found.policy, found.lanes) != (registry.policy, registry.lanes)
    ):
        raise CannotEdit(_CANNOT.format(where=where))
    return result


_CANNOT = (
    "{where} has a form that cannot be edited in place (anchors and aliases, for example). Give "
    "--output with the name of a new file, and take over from it what you want."
)


def difference(before: str, after: str, where: str) -> str:
    """What would change, as `diff -u` shows it."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), where, f"{where} (new)", lineterm=""
    )
    return "\n".join(lines)


def put(path: Path, text: str) -> None:
    """Replace the file as a whole, or create it; its permissions stay. Raises OSError."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(mode)
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
