"""Every audience and trait with its lane and why, in short; and those that nobody declared."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from worker.audiences.cadence import Code, Decision, KnownKind, Lane, Reason
from worker.audiences.registry import Registry
from worker.bootstrap import Stores
from worker.durations import format_duration
from worker.stores.keys import key as key_of

SHORT = {
    Code.REALTIME_BY_DEFAULT: "realtime by default",
    Code.DECLARED: "declared",
    Code.EVENT_WITHIN: "time window",
    Code.EVENT_BETWEEN: "past time window",
    Code.NOT_DONE_WITHIN: "not done within a time",
    Code.RELATIVE_DATE: "date against today",
    Code.TRAIT_VALUES_NOT_ISO: "dates not ISO",
    Code.DATE_NOT_ISO: "date not ISO",
    Code.FUNNEL: "funnel",
    Code.DYNAMIC_PROPERTY: "dynamic property",
    Code.ACCOUNT_LEVEL: "accounts",
    Code.LINKED_ENTITY: "linked entity",
    Code.BATCHED_AUDIENCE: "batched audience",
    Code.BATCHED_TRAIT: "batched trait",
    Code.SQL_TRAIT: "SQL trait",
    Code.SLIDING_WINDOW: "sliding window",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One key. `lane` is None for a custom trait, which is not synced.

    `reads_as` is the lane that its query has by itself; None if there is no query. `members` is
    None while no server says it.
    """

    key: str
    kind: str
    attribute: str | None
    lane: Lane | None
    every: str | None
    reasons: tuple[Code, ...]
    why: str
    declared: Lane | None
    reads_as: Lane | None
    disagrees: bool
    enabled: bool
    members: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a server knows: how many users are in each audience, for every key that arrived."""

    members: dict[str, int]


def read_seen(stores: Stores, partitions: int) -> Seen:
    """Ask the server; two reads for each partition. Raises redis' errors."""
    members: dict[str, int] = {}
    for partition in range(partitions):
        counts = stores.client.hgetall(key_of(partition, "members"))
        for id_, name in stores.client.hgetall(key_of(partition, "names")).items():
            key = name.decode("utf-8", "replace")
            members[key] = members.get(key, 0) + int(counts.get(id_, 0))
    return Seen(members)


def rows(registry: Registry, seen: Seen | None = None) -> list[Row]:
    """One for each declared key, in the order of the file."""
    found = []
    for entry in registry.entries:
        decided = registry.decisions[entry.key]
        is_batched = entry.is_synced and decided.lane is Lane.BATCHED
        reading = decided.reading
        found.append(
            Row(
                key=entry.key,
                kind=entry.kind.value,
                attribute=entry.attribute if entry.is_synced else None,
                lane=decided.lane if entry.is_synced else None,
                every=format_duration(registry.every(entry)) if is_batched else None,
                reasons=tuple(dict.fromkeys(one.code for one in decided.reasons)),
                why=why(decided) if entry.is_synced else "custom trait: not synced",
                declared=decided.declared,
                reads_as=reading.lane if reading else None,
                disagrees=decided.disagrees,
                enabled=entry.is_enabled,
                members=_members(entry.key, entry.kind, seen),
            )
        )
    return found


def undeclared(registry: Registry, seen: Seen) -> list[Row]:
    """Those that arrived and are not in the file: realtime, under their own keys."""
    known = {entry.key for entry in registry.entries}
    return [
        Row(
            key=key,
            kind="undeclared",
            attribute=key,
            lane=Lane.REALTIME,
            every=None,
            reasons=(Code.REALTIME_BY_DEFAULT,),
            why="not declared: realtime by default",
            declared=None,
            reads_as=None,
            disagrees=False,
            enabled=True,
            members=members,
        )
        for key, members in sorted(seen.members.items())
        if key not in known
    ]


def why(decided: Decision) -> str:
    """The reasons of a decision, each once, in a few words."""
    if not decided.disagrees:
        if decided.reading is None and decided.declared is not None:
            return SHORT[Code.DECLARED]
        return _short(decided.reasons)
    assert decided.reading is not None
    return f"declared; its query reads as {decided.reading.lane}: {_short(decided.reading.reasons)}"


def as_json(row: Row) -> dict[str, Any]:
    """The row as a document."""
    return asdict(row)


def table_of(found: Iterable[Row]) -> Table:
    """The rows for people; columns that would be empty are left out."""
    found = list(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns: dict[str, list[str | None]] = {
        "audience": [one.key for one in found],
        "attribute": [one.attribute if one.attribute != one.key else "" for one in found],
        "lane": [one.lane or "-" for one in found],
        "every": [one.every or "" for one in found],
        "members": ["" if one.members is None else f"{one.members:,}" for one in found],
        "why": [_remarks(one) for one in found],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    for name in kept:
        table.add_column(
            name,
            no_wrap=name in ("lane", "every", "members"),
            justify="right" if name == "members" else "left",
            overflow="fold",
        )
    for cells in zip(*kept.values(), strict=True):
        table.add_row(*(cell or "" for cell in cells))
    return table


def _remarks(row: Row) -> str:
    return row.why if row.enabled else f"{row.why}; disabled: nothing is sent"


def _short(reasons: Iterable[Reason]) -> str:
    words = (f"{SHORT[one.code]} {one.via[0]}" if one.via else SHORT[one.code] for one in reasons)
    return ", ".join(dict.fromkeys(words))


def _members(key: str, kind: KnownKind, seen: Seen | None) -> int | None:
    return seen.members.get(key) if seen and kind is KnownKind.AUDIENCE else None
