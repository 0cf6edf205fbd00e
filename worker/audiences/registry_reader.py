"""The nodes of audiences.yaml become values, and all that is wrong with them becomes faults."""

import re
from collections.abc import Iterator

from worker.audiences.cadence import Cycle, KnownKind, Lane, Policy, order_references
from worker.audiences.query.errors import QueryError
from worker.audiences.query.parse import parse_audience, parse_trait
from worker.audiences.query.tree import Kind, Query
from worker.audiences.registry_entries import BatchedLane, Entry, Lanes, RealtimeLane
from worker.audiences.registry_faults import Faults, Place
from worker.audiences.registry_fields import Fields
from worker.audiences.registry_yaml import Mapping, Node, Scalar
from worker.contract import ATTRIBUTE_MAX_BYTES, RESERVED_ATTRIBUTES

MAX_ENTRIES = 2_000
"""Audiences and traits of one file. Segment allows a space a few hundred."""

ROOT_FIELDS = ("policy", "lanes", "audiences", "traits")
AUDIENCE_FIELDS = (
    "key", "query", "type", "cadence", "batched", "attribute", "on_exit", "enabled",
)  # fmt: skip
TRAIT_FIELDS = (
    "key", "kind", "query", "type", "cadence", "batched", "attribute", "iso_timestamps", "enabled",
)  # fmt: skip

_KINDS = {
    "computed": KnownKind.COMPUTED_TRAIT,
    "sql": KnownKind.SQL_TRAIT,
    "custom": KnownKind.CUSTOM,
}
_OTHER_FIELDS = {
    "name": "key",
    "every": "batched: {every: 8h}",
    "lane": "cadence",
    "definition": "query",
    "iso_values": "iso_timestamps",
    "computecadence": "cadence",
    "audiencetype": "type",
}
_OTHER_LANES = {"batch": "batched", "real-time": "realtime"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def wrong_name(name: str) -> str | None:
    """Why a name cannot be a Braze attribute, or None. The door refuses the same names."""
    if name in RESERVED_ATTRIBUTES:
        return f"{name!r} is a Braze profile field; choose another name."
    if name.startswith("$") or name != name.strip() or _CONTROL.search(name):
        return "may not begin with $, have spaces at its edges, or control characters."
    if len(name.encode()) > ATTRIBUTE_MAX_BYTES:
        return f"is longer than {ATTRIBUTE_MAX_BYTES} bytes."
    return None


class Reader:
    """Reads one document. What could not be read is left out, and among the faults; `doubtful`
    are the keys of entries in which something is wrong."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._query_places: dict[str, Place] = {}
        self.policy = Policy.PERSONAS
        self.lanes = Lanes()
        self.audiences: tuple[Entry, ...] = ()
        self.traits: tuple[Entry, ...] = ()
        self.doubtful: set[str] = set()

    def read(self, root: Node | None, may_be_empty: bool = False) -> None:
        """Read all of it. A file that says nothing is wrong: nobody means by it that all audiences
        become realtime. Who does says so with an empty list. `may_be_empty`: for who fills it."""
        if root is None or (isinstance(root, Scalar) and root.tag == "null"):
            if may_be_empty:
                return
            said = "The file says nothing. If nothing is to be declared, write `audiences: []`."
            self._faults.add(None if root is None else root.place, said)
            return
        if not isinstance(root, Mapping):
            known = ", ".join(ROOT_FIELDS)
            self._faults.add(root.place, f"The file must be a mapping with {known}.")
            return
        fields = Fields(root, "", ROOT_FIELDS, self._faults)
        for group in ("audiences", "traits"):
            if fields.is_null(group) and not may_be_empty:
                said = f"is empty. If there are none, write `{group}: []`."
                fields.wrong(fields.place(group), group, said)
        policy = fields.choice("policy", tuple(Policy))
        self.policy = Policy(policy) if policy else Policy.PERSONAS
        self._lanes(fields)
        listed = [
            *((node, "audiences") for node in fields.items("audiences")),
            *((node, "traits") for node in fields.items("traits")),
        ]
        if len(listed) > MAX_ENTRIES:
            said = f"There are {len(listed):,} audiences and traits; {MAX_ENTRIES:,} is the most."
            self._faults.add(listed[MAX_ENTRIES][0].place, said)
            return
        entries = list(self._entries(listed))
        self.audiences = tuple(one for one in entries if one.kind is KnownKind.AUDIENCE)
        self.traits = tuple(one for one in entries if one.kind is not KnownKind.AUDIENCE)
        self._cycles(entries)

    def _lanes(self, root: Fields) -> None:
        lanes = root.section("lanes", ("realtime", "batched"))
        if lanes is None:
            return
        realtime, batched = RealtimeLane(), BatchedLane()
        if (given := lanes.section("realtime", ("linger", "max_wait"))) is not None:
            linger, max_wait = given.duration("linger"), given.duration("max_wait")
            realtime = RealtimeLane(
                realtime.linger if linger is None else linger,
                realtime.max_wait if max_wait is None else max_wait,
            )
        if (given := lanes.section("batched", ("every",))) is not None:
            batched = BatchedLane(given.interval("every") or batched.every)
        self.lanes = Lanes(realtime, batched)

    def _entries(self, listed: list[tuple[Node, str]]) -> Iterator[Entry]:
        keys: dict[str, Place] = {}
        attributes: dict[str, tuple[str, Place]] = {}
        numbers = {"audiences": 0, "traits": 0}
        for node, group in listed:
            numbers[group] += 1
            if not isinstance(node, Mapping):
                said = f"{group}, item {numbers[group]}: write `- key: ...`, then its fields."
                self._faults.add(node.place, said)
                continue
            name = _name(node) or f"{group}, item {numbers[group]}"
            noted = len(self._faults)
            entry, fields = self._entry(node, name, group == "audiences")
            if len(self._faults) > noted:
                self.doubtful.add(name)
            if entry is None:
                continue
            at = fields.place("key")
            if (before := keys.get(entry.key)) is not None:
                fields.wrong(at, "key", f"is declared a second time; first in line {before.line}.")
                self.doubtful.add(entry.key)
                continue
            keys[entry.key] = at
            at = fields.place("attribute" if fields.has("attribute") else "key")
            if entry.is_synced and entry.attribute in attributes:
                other, before = attributes[entry.attribute]
                said = f"{entry.attribute!r} is the attribute of {other!r} already"
                fields.wrong(at, "attribute", f"{said}, in line {before.line}.")
                self.doubtful |= {entry.key, other}
                continue
            if entry.is_synced:
                attributes[entry.attribute] = entry.key, at
            yield entry

    def _entry(self, node: Mapping, name: str, is_audience: bool) -> tuple[Entry | None, Fields]:
        known = AUDIENCE_FIELDS if is_audience else TRAIT_FIELDS
        fields = Fields(node, name, known, self._faults, _OTHER_FIELDS)
        kind = KnownKind.AUDIENCE
        if not is_audience:
            word = fields.choice("kind", tuple(_KINDS))
            kind = _KINDS[word] if word else KnownKind.COMPUTED_TRAIT
            if kind is not KnownKind.COMPUTED_TRAIT:
                self._must_not_have(fields, kind)
        every = None
        if (batched := fields.section("batched", ("every",))) is not None:
            every = batched.interval("every")
        cadence = fields.choice("cadence", tuple(Lane), _OTHER_LANES)
        enabled = fields.flag("enabled")
        iso_values = None if is_audience else fields.flag("iso_timestamps")
        removes = is_audience and self._on_exit(fields)
        query = self._query(fields, kind)
        key = self._checked_name(fields, "key")
        if not fields.has("key"):
            fields.wrong(node.place, "", "has no `key`.")
        attribute = self._checked_name(fields, "attribute") if fields.has("attribute") else key
        if key is None or attribute is None:
            return None, fields
        if query is not None:
            self._query_places[key] = fields.place("query")
        entry = Entry(
            key=key,
            attribute=attribute,
            kind=kind,
            query=query,
            declared=Lane(cadence) if cadence else None,
            every=every,
            removes_on_exit=removes,
            is_enabled=enabled is not False,
            iso_values=iso_values,
        )
        return entry, fields

    def _must_not_have(self, fields: Fields, kind: KnownKind) -> None:
        unfit: tuple[str, ...] = ("query", "type")
        if kind is KnownKind.SQL_TRAIT:
            why = "an SQL trait is computed in the warehouse."
        else:
            unfit = ("query", "type", "cadence", "batched", "attribute", "enabled")
            why = "a custom trait is not synced; it is here only for `iso_timestamps`."
        for field in unfit:
            if fields.has(field):
                fields.wrong(fields.place(field), field, f"has no place here: {why}")

    def _on_exit(self, fields: Fields) -> bool:
        pair = fields.node.pair("on_exit")
        if pair is None:
            return False
        value = pair.value
        if isinstance(value, Scalar) and (value.tag == "null" or value.text == "null"):
            return True
        if not (isinstance(value, Scalar) and value.tag == "bool" and _is_no(value)):
            fields.wrong(value.place, "on_exit", "must be false, or null to remove the attribute.")
        return False

    def _query(self, fields: Fields, kind: KnownKind) -> Query | None:
        word = None
        if fields.has("type"):
            word = fields.choice("type", tuple(Kind))
            if not fields.has("query"):
                said = "says how to read a query, and there is none. Write `cadence` instead."
                fields.wrong(fields.place("type"), "type", said)
        if kind not in (KnownKind.AUDIENCE, KnownKind.COMPUTED_TRAIT):
            return None
        text = fields.text("query")
        if text is None or (fields.has("type") and word is None):
            return None
        parse = parse_audience if kind is KnownKind.AUDIENCE else parse_trait
        try:
            return parse(text, Kind(word) if word else Kind.USERS)
        except QueryError as error:
            place = self._place_inside(fields, error)
            at = f"line {error.line}, column {error.column}"
            self._faults.add(place, f"{fields.name}: query: {at}: {error.message}", error)
            return None

    @staticmethod
    def _place_inside(fields: Fields, error: QueryError) -> Place:
        """The line of the file, as far as YAML keeps the lines of a text."""
        pair = fields.node.pair("query")
        assert pair is not None
        place = pair.value.place
        if isinstance(pair.value, Scalar) and pair.value.style == "|":
            return place._replace(line=place.line + error.line)
        return place

    def _checked_name(self, fields: Fields, field: str) -> str | None:
        name = fields.text(field)
        if name is None:
            return None
        reason = wrong_name(name)
        if reason is not None:
            fields.wrong(fields.place(field), field, reason)
            return None
        return name

    def _cycles(self, entries: list[Entry]) -> None:
        queries = {one.key: one.query for one in entries if one.query is not None}
        while isinstance(found := order_references(queries), Cycle):
            said = f"{found.keys[0]}: query: these refer to each other in a ring: {found}"
            self._faults.add(self._query_places[found.keys[0]], said)
            self.doubtful.update(found.keys)
            for key in found.keys:
                del queries[key]


def _name(node: Mapping) -> str | None:
    pair = node.pair("key")
    if pair is None or not isinstance(pair.value, Scalar):
        return None
    text = pair.value.text
    return text if text and text.isprintable() and len(text) <= 255 else None


def _is_no(value: Scalar) -> bool:
    return value.text.lower() in ("no", "false", "off")
