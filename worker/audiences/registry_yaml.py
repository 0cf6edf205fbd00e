"""YAML as nodes that know where they stand. Bounded, and nothing in it is built or run.

Aliases and merge keys (`<<`) mean what YAML says; the same node may then stand in two places. Tags
mean nothing here. What is odd becomes a fault, and reading goes on; what is no YAML ends it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.resolver import Resolver

from worker.audiences.registry_faults import Faults, Place, quoted

MAX_BYTES = 5_000_000
"""Size of the file. A thousand audiences with long queries have a tenth of it."""

MAX_NODES = 200_000
"""Words, lists and mappings in the file, and what merge keys add to them."""

MAX_DEPTH = 20
"""Levels inside each other; the registry needs five."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = "tag:yaml.org,2002:"
_BLOCK = ("|", ">")
_resolver: Any = Resolver()


@dataclass(frozen=True, eq=False, slots=True)
class Scalar:
    """A word or a text. `tag` is what YAML takes it for: str, bool, null, int, float, ..."""

    place: Place
    text: str
    tag: str
    style: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """`key: value`. `at` is where the value is written: for an alias, the alias."""

    key: Scalar
    value: "Node"
    at: Place


@dataclass(frozen=True, eq=False, slots=True)
class Mapping:
    """Pairs, no key twice; own ones first, then those that were merged in.

    `last` is the value that is written last, and where; None if there is none.
    """

    place: Place
    pairs: tuple[Pair, ...]
    last: tuple["Node", Place] | None
    is_flow: bool

    def pair(self, name: str) -> Pair | None:
        """The pair of that key."""
        return next((pair for pair in self.pairs if pair.key.text == name), None)


@dataclass(frozen=True, eq=False, slots=True)
class Sequence:
    """Items in order, and the places where they are written."""

    place: Place
    items: tuple["Node", ...]
    at: tuple[Place, ...]
    is_flow: bool


Node = Scalar | Mapping | Sequence


class NoYaml(Exception):
    """Reading cannot go on. The last fault says why."""


def read_yaml(text: str, faults: Faults) -> Node | None:
    """The one document in the text; None if it is empty. Raises NoYaml, and nothing else."""
    if len(text) > MAX_BYTES:
        faults.add(None, f"The file is larger than {MAX_BYTES // 1_000_000} MB.")
        raise NoYaml
    builder = _Builder(faults)
    try:
        for event in yaml.parse(text, _LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        faults.add(_place(mark, mark) if mark else None, f"This is not YAML: {said}.")
        raise NoYaml from None
    except (yaml.YAMLError, UnicodeError) as error:
        faults.add(None, f"This is not YAML: {_first_line(error)}.")
        raise NoYaml from None
    return builder.root


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    start: Any
    nodes: list[Node] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


class _Builder:
    """Makes nodes of the parser's events, without recursion. (The stubs of events are not used:
    they leave out most of what an event has.)"""

    def __init__(self, faults: Faults) -> None:
        self.root: Node | None = None
        self._faults = faults
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        self._nodes = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._close(event, self._scalar(event), _place(event.start_mark, event.end_mark))
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._count(1, event)
                self._open.append(_Open(event))
                if len(self._open) > MAX_DEPTH:
                    self._give_up(event, f"This is nested more than {MAX_DEPTH} levels deep.")
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                place = _place(done.start.start_mark, event.end_mark)
                self._close(done.start, self._collection(done, place), place)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._give_up(event, "Here begins a second document; write all in one.")

    def _close(self, event: Any, node: Node, place: Place) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node, place)

    def _add(self, node: Node, place: Place) -> None:
        if self._open:
            self._open[-1].nodes.append(node)
            self._open[-1].places.append(place)
        else:
            self.root = node

    def _alias(self, event: Any) -> None:
        self._count(1, event)
        place = _place(event.start_mark, event.end_mark)
        node = self._anchors.get(event.anchor)
        if node is None:
            said = f"`*{event.anchor[:60]}` is not defined before this place."
            self._faults.add(place, said)
            node = Scalar(place, "", "unknown")
        self._add(node, place)

    def _scalar(self, event: Any) -> Scalar:
        self._count(1, event)
        place = _place(event.start_mark, event.end_mark)
        tag = event.tag
        if tag is None:
            is_plain = event.implicit[0]
            tag = _resolver.resolve(yaml.ScalarNode, event.value, (is_plain, not is_plain))
        elif not tag.startswith(_TAGS):
            self._no_tag(event, place)
        return Scalar(place, event.value, tag.removeprefix(_TAGS), event.style)

    def _collection(self, done: _Open, place: Place) -> Node:
        start, nodes, places = done.start, done.nodes, done.places
        if start.tag is not None:
            self._no_tag(start, place)
        is_flow = bool(start.flow_style)
        if isinstance(start, yaml.SequenceStartEvent):
            return Sequence(place, tuple(nodes), tuple(places), is_flow)
        own: dict[str, Pair] = {}
        merged: list[Node] = []
        for key, value, key_at, at in zip(
            nodes[::2], nodes[1::2], places[::2], places[1::2], strict=True
        ):
            if not isinstance(key, Scalar):
                self._faults.add(key_at, "A key must be a single word.")
            elif key.text == "<<" and not key.style:
                merged.append(value)
            elif (before := own.get(key.text)) is not None:
                first = f"the first is in line {before.key.place.line}"
                self._faults.add(key_at, f"`{key.text[:60]}` stands here a second time; {first}.")
            else:
                own[key.text] = Pair(key, value, at)
        for pair in self._merged(merged, start):
            own.setdefault(pair.key.text, pair)
        last = (nodes[-1], places[-1]) if nodes else None
        return Mapping(place, tuple(own.values()), last, is_flow)

    def _merged(self, nodes: list[Node], start: Any) -> Iterator[Pair]:
        for node in nodes:
            for one in node.items if isinstance(node, Sequence) else (node,):
                if isinstance(one, Mapping):
                    self._count(len(one.pairs) + 1, start)
                    yield from one.pairs
                else:
                    self._faults.add(one.place, "`<<` takes a mapping.")

    def _no_tag(self, event: Any, place: Place) -> None:
        self._faults.add(place, f"Tags are not used here; remove {quoted(event.tag)}.")

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._give_up(event, f"There is too much in this file: more than {MAX_NODES:,} words.")

    def _give_up(self, event: Any, message: str) -> None:
        self._faults.add(_place(event.start_mark, event.end_mark), message)
        raise NoYaml


def last_end(node: Node, at: Place, text: str) -> int:
    """The character after the last one of a node, without the blank lines that follow it."""
    if at.start != node.place.start:
        return at.end  # an alias
    if isinstance(node, Scalar):
        return _trimmed(node.place, text) if node.style in _BLOCK else node.place.end
    if node.is_flow:
        return node.place.end
    if isinstance(node, Mapping):
        return last_end(*node.last, text) if node.last else node.place.end
    return last_end(node.items[-1], node.at[-1], text) if node.items else node.place.end


def _trimmed(place: Place, text: str) -> int:
    return place.start + len(text[place.start : place.end].rstrip())


def _place(start: Any, end: Any) -> Place:
    return Place(start.line + 1, start.column + 1, start.index, end.index)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
