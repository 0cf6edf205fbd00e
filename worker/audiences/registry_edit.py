"""Audiences are added to the text of audiences.yaml, or some of their fields changed.

Everything else stays as it is, to the letter: comments, order, quotes, spaces. The caller reads the
result again and compares it with what was meant: forms that YAML allows and nobody writes (a list
that is an alias, say) may come out wrong.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from worker.audiences.registry_faults import Faults, WrongRegistry
from worker.audiences.registry_yaml import Mapping as MappingNode
from worker.audiences.registry_yaml import (
    Node,
    NoYaml,
    Pair,
    Scalar,
    Sequence,
    last_end,
    read_yaml,
)

# A field that is added stands after the last of those before it here.
ORDER = ("key", "type", "query", "cadence", "enabled")
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Change:
    """Fields of one audience. One that the file does not have is added, with the remark."""

    key: str
    fields: Mapping[str, str | bool]
    remark: str = ""


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


@dataclass(slots=True)
class _Editor:
    text: str
    edits: list[_Edit] = field(default_factory=list)

    def replace(self, start: int, end: int, text: str) -> None:
        self.edits.append(_Edit(start, end, text))

    def line_end(self, at: int) -> int:
        """The end of the line, before its line break."""
        ends = [end for end in (self.text.find("\n", at), self.text.find("\r", at)) if end >= 0]
        return min(ends, default=len(self.text))

    def done(self, line_break: str) -> str:
        """The text with all edits, which do not overlap."""
        parts, last = [], 0
        for edit in sorted(self.edits, key=lambda one: (one.start, one.end)):
            parts += [self.text[last : edit.start], edit.text.replace("\n", line_break)]
            last = edit.end
        return "".join(parts) + self.text[last:]


def edited(text: str, changes: Iterable[Change]) -> str:
    """The text with the changes made. Raises WrongRegistry if it is no YAML."""
    if text.startswith("\ufeff"):
        return "\ufeff" + edited(text[1:], changes)
    faults = Faults()
    try:
        root = read_yaml(text, faults)
    except NoYaml:
        raise WrongRegistry.of(faults.in_order(), "audiences.yaml") from None
    editor = _Editor(text)
    entries = dict(_entries(root))
    added = []
    for change in changes:
        node = entries.get(change.key)
        if node is None:
            added.append(change)
        else:
            _change(editor, node, change.fields)
    if added:
        _add(editor, root, added)
    return editor.done("\r\n" if "\r\n" in text else "\n")


def _audiences(root: Node | None) -> Pair | None:
    return root.pair("audiences") if isinstance(root, MappingNode) else None


def _entries(root: Node | None) -> Iterator[tuple[str, MappingNode]]:
    pair = _audiences(root)
    items = pair.value.items if pair and isinstance(pair.value, Sequence) else ()
    for item in items:
        key = item.pair("key") if isinstance(item, MappingNode) else None
        if isinstance(item, MappingNode) and key and isinstance(key.value, Scalar):
            yield key.value.text, item


def _change(editor: _Editor, node: MappingNode, fields: Mapping[str, str | bool]) -> None:
    written = {name: pair for name in ORDER if (pair := node.pair(name)) is not None}
    indent = node.place.column - 1
    for name in (name for name in ORDER if name in fields):
        pair = written.get(name)
        is_block = not node.is_flow
        if pair is not None:
            end = last_end(pair.value, pair.at, editor.text)
            value = _written(fields[name], indent if is_block else None)
            space = " " if pair.at.start == end else ""
            editor.replace(pair.at.start, end, space + value)
            continue
        before = [written[one] for one in ORDER[: ORDER.index(name)] if one in written][-1]
        end = last_end(before.value, before.at, editor.text)
        if is_block:
            line = f"\n{' ' * indent}{name}: {_written(fields[name], indent)}"
            at = editor.line_end(end)
            editor.replace(at, at, line)
        else:
            editor.replace(end, end, f", {name}: {_written(fields[name], None)}")


def _add(editor: _Editor, root: Node | None, added: list[Change]) -> None:
    text = editor.text
    pair = _audiences(root)
    if pair is None:
        before = "" if not text or text.endswith(("\n", "\r")) else "\n"
        block = _block(added, _INDENT).removeprefix("\n")
        editor.replace(len(text), len(text), f"{before}audiences:\n{block}\n")
        return
    value = pair.value
    end = last_end(value, pair.at, text)
    if isinstance(value, Sequence) and value.items and value.is_flow:
        inside = last_end(value.items[-1], value.at[-1], text)
        flows = "".join(f", {{{_flow(change)}}}" for change in added)
        editor.replace(inside, inside, flows)
        return
    indent = pair.key.place.column - 1 + _INDENT
    if isinstance(value, Sequence) and value.items:
        indent = value.place.column - 1
    elif end > pair.at.start:
        # `[]` or `null` makes room for the list.
        colon = text.rindex(":", 0, pair.at.start) + 1
        editor.replace(colon, end, "")
    at = editor.line_end(end)
    editor.replace(at, at, _block(added, indent))


def _block(added: list[Change], indent: int) -> str:
    lines = []
    for change in added:
        remark = f"  # {change.remark}" if change.remark else ""
        lines.append(f"\n{' ' * indent}- key: {_written(change.key, None)}{remark}")
        inner = indent + _INDENT
        for name in ORDER:
            if name in change.fields:
                value = _written(change.fields[name], inner)
                lines.append(f"\n{' ' * inner}{name}: {value}")
    return "".join(lines)


def _flow(change: Change) -> str:
    fields = {"key": change.key, **change.fields}
    return ", ".join(f"{name}: {_written(fields[name], None)}" for name in ORDER if name in fields)


def _written(value: str | bool, indent: int | None) -> str:
    """A value as YAML; `indent` is that of its field, None where only one line is possible."""
    if isinstance(value, bool):
        return "true" if value else "false"
    lines = value.split("\n")
    if indent is not None and len(lines) > 1 and _is_literal(lines):
        inner = " " * (indent + _INDENT)
        return "|-" + "".join(f"\n{inner}{line}" if line else "\n" for line in lines)
    if value.isascii() and value.replace("_", "a").isalnum() and _is_plain(value):
        return value
    return _quoted(value)


def _is_literal(lines: list[str]) -> bool:
    """Whether a `|-` block keeps the text as it is."""
    return (
        all(line.isprintable() and line == line.rstrip() for line in lines)
        and bool(lines[0])
        and bool(lines[-1])
        and lines[0][0] != " "
    )


def _is_plain(value: str) -> bool:
    """Whether YAML takes the bare word for a text."""
    return bool(yaml.safe_load(value) == value)


def _quoted(value: str) -> str:
    # Every line break and odd character becomes an escape; nothing is folded.
    dumped = yaml.safe_dump(value, default_style='"', width=float("inf"), allow_unicode=True)
    return str(dumped).rstrip("\n")
