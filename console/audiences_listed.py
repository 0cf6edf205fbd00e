"""Every audience and trait with its lane and why, in short; and those that nobody declared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from console.audience_standing import FIGURES, WIDE, AudienceStanding, figures_of, stacked
from console.lane_reasons import SHORT, why
from worker.audiences.cadence import Code, KnownKind, Lane
from worker.audiences.registry import Registry
from worker.durations import format_duration
from worker.stored import Stores
from worker.stores.keys import key as key_of

__all__ = [
    "SHORT",
    "Row",
    "Seen",
    "as_json",
    "read_seen",
    "rows",
    "standing_table_of",
    "table_of",
    "undeclared",
    "why",
]


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


def as_json(row: Row, standing: AudienceStanding | None = None) -> dict[str, Any]:
    """The row as a document; with how it stands, if a server says so."""
    return asdict(row) | (standing.as_json() if standing else {})


def table_of(found: Iterable[Row]) -> Table:
    """The rows for people; columns that would be empty are left out."""
    found = list(found)
    columns: dict[str, list[str | None]] = {
        "audience": [one.key for one in found],
        "attribute": [one.attribute if one.attribute != one.key else "" for one in found],
        "lane": [one.lane or "-" for one in found],
        "every": [one.every or "" for one in found],
        "members": ["" if one.members is None else f"{one.members:,}" for one in found],
        "why": [_remarks(one) for one in found],
    }
    return _table({name: cells for name, cells in columns.items() if any(cells)})


def standing_table_of(
    found: Iterable[Row], standings: Mapping[str, AudienceStanding], width: int
) -> Table:
    """The rows with how they stand. `width`: columns of the terminal."""
    found, is_wide = list(found), width >= WIDE
    stands = [standings.get(row.key) for row in found]
    figures = [figures_of(one) if one else {} for one in stands]
    columns: dict[str, Sequence[str | Text]] = {"audience": [_named(row, is_wide) for row in found]}
    if is_wide:
        columns["attribute"] = [_renamed(row) for row in found]
    columns["lane"] = [_lane(row) for row in found]
    if is_wide:
        columns["why"] = [row.why for row in found]
    columns["members"] = ["" if row.members is None else f"{row.members:,}" for row in found]
    if is_wide:
        columns |= {name: [of.get(name, "") for of in figures] for name in FIGURES}
    said = [one.said if one else "" for one in stands]
    columns["how it stands"] = (
        said
        if is_wide
        else [
            stacked(first, row.why, of, width)
            for first, row, of in zip(said, found, figures, strict=True)
        ]
    )
    return _table({name: cells for name, cells in columns.items() if any(cells)})


def _named(row: Row, is_wide: bool) -> str:
    return row.key if is_wide or not _renamed(row) else f"{row.key}\n  as {row.attribute}"


def _renamed(row: Row) -> str:
    return row.attribute if row.attribute and row.attribute != row.key else ""


def _lane(row: Row) -> str:
    return " ".join(word for word in (row.lane, row.every) if word) or "-"


def _table(columns: Mapping[str, Sequence[str | Text | None]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name,
            no_wrap=name in ("lane", "every", "members", *FIGURES),
            justify="right" if name in ("members", "sent", "saved") else "left",
            overflow="fold",
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(cell or "" for cell in cells))
    return table


def _remarks(row: Row) -> str:
    return row.why if row.enabled else f"{row.why}; disabled: nothing is sent"


def _members(key: str, kind: KnownKind, seen: Seen | None) -> int | None:
    return seen.members.get(key) if seen and kind is KnownKind.AUDIENCE else None
