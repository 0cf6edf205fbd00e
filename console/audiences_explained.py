"""Why an audience is in its lane: as a document, and as a text with the reasons underlined."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.cells import cell_len

from console.instants import iso
from worker.audiences.cadence import Decision, Lane, Policy, Reason
from worker.audiences.query.tree import Query
from worker.durations import format_duration, to_ms
from worker.pipeline.rules import Order
from worker.pipeline.schedule import boundary_after

WIDTH = 96


@dataclass(frozen=True, slots=True)
class Explained:
    """One decision and what follows from it. `key` is None for a query that has none. `order`: an
    operator's; `is_enabled`: False if the file disables it; `shadowed_by`: the key that is sent
    under its name instead, '' if it is sent itself."""

    key: str | None
    policy: Policy
    decision: Decision
    query: Query | None
    every: timedelta
    next_flush_ms: int | None
    order: Order | None = None
    is_enabled: bool = True
    shadowed_by: str = ""

    @property
    def stopped(self) -> str:
        """Why nothing of it is sent, or no more than a last value; '' if it is sent."""
        ordered = self._ordered
        if not self.shadowed_by:
            return ordered
        shadowed = f"shadowed by {self.shadowed_by}, which is sent under its name"
        return f"{ordered}; {shadowed}" if ordered else shadowed

    @property
    def _ordered(self) -> str:
        """What an operator, or the file, says of it."""
        if (order := self.order) is not None:
            why = f" ({order.why})" if order.why else ""
            said = f"by {order.by}{why}, {iso(order.at_ms)}"
            return f"retired at {order.retired} {said}" if order.retired else f"disabled {said}"
        return "" if self.is_enabled else "disabled in audiences.yaml"

    @classmethod
    def at(
        cls,
        now_ms: int,
        key: str | None,
        policy: Policy,
        decision: Decision,
        query: Query | None,
        every: timedelta,
        offset_ms: int = 0,
    ) -> "Explained":
        """With the next boundary after that instant, if it is batched."""
        following = None
        if decision.lane is Lane.BATCHED:
            following = boundary_after(now_ms, to_ms(every), offset_ms)
        return cls(key, policy, decision, query, every, following)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it is in that lane."""
        return self.decision.reasons


def as_json(found: Explained) -> dict[str, Any]:
    """The document of `audiences explain --json`."""
    is_batched, order = found.next_flush_ms is not None, found.order
    next_ms = None if found.stopped else found.next_flush_ms
    told = {"by": order.by, "why": order.why or None, "at": iso(order.at_ms)} if order else None
    return {
        "key": found.key,
        "policy": found.policy.value,
        "lane": found.decision.lane.value,
        "reasons": [
            {
                "code": one.code.value,
                "fragment": one.fragment,
                "line": one.line,
                "column": one.column,
                "text": one.text + _overruled(found.decision),
                "via": list(one.via),
            }
            for one in found.reasons
        ],
        "next_flush_at": iso(next_ms) if next_ms is not None else None,
        "every": format_duration(found.every) if is_batched else None,
        "declared": found.decision.declared.value if found.decision.declared else None,
        "enabled": found.is_enabled and not (order and order.is_disabled),
        "disabled": told if order and order.is_disabled else None,
        "retired": {"value": order.retired, **(told or {})} if order and order.retired else None,
        "shadowed_by": found.shadowed_by or None,
    }


def as_text(found: Explained, width: int = WIDTH) -> str:
    """The same for people."""
    return "\n".join(_lines(found, max(40, width)))


def _lines(found: Explained, width: int) -> Iterator[str]:
    decision = found.decision
    yield f"{found.key or 'This query'}: {decision.lane.value}{_when(found)}"
    reading = decision.reading
    shown = reading.reasons if reading is not None else decision.reasons
    if found.query is not None:
        yield ""
        yield from _underlined(found.query.text, shown, width)
    yield ""
    if decision.disagrees:
        assert reading is not None
        yield f"The file declares it {decision.lane.value}, and that wins."
        yield f"Its query reads as {reading.lane.value} (policy {found.policy.value}):"
    elif decision.declared and reading is not None and found.query is not None:
        yield f"The file declares it {decision.lane.value}; its query reads the same:"
    is_marked = found.query is not None and len(shown) > 1
    for number, reason in enumerate(shown, 1):
        mark = f"[{number}] " if is_marked else ""
        yield f"{mark}{reason.text} ({reason.code.value})"
        if len(reason.via) > 1:
            yield f"{' ' * len(mark)}through {' -> '.join(reason.via)}"
    if found.query is not None and not decision.disagrees:
        yield f"Read under the policy {found.policy.value}."


def _when(found: Explained) -> str:
    if found.stopped:
        return f"; {found.stopped}"
    if found.next_flush_ms is None:
        return ", sent as it happens"
    return f", every {format_duration(found.every)}, next at {iso(found.next_flush_ms)}"


def _overruled(decision: Decision) -> str:
    if not decision.disagrees or decision.reading is None:
        return ""
    codes = ", ".join(dict.fromkeys(one.code.value for one in decision.reading.reasons))
    return f" Its query reads as {decision.reading.lane.value}: {codes}."


def _underlined(text: str, reasons: Sequence[Reason], width: int) -> Iterator[str]:
    """The query in pieces no wider than the screen; under each, the reasons that touch it."""
    is_batched = any(reason.code != "realtime_by_default" for reason in reasons)
    spans = [
        (number, *span)
        for number, reason in enumerate(reasons, 1)
        if is_batched and (span := _span(text, reason)) is not None
    ]
    for start, end in _pieces(text, width - 4):
        yield f"    {_visible(text[start:end])}".rstrip()
        for number, first, last in spans:
            if first >= end or last <= start:
                continue
            before = cell_len(_visible(text[start : max(first, start)]))
            under = cell_len(_visible(text[max(first, start) : min(last, end)].rstrip()))
            mark = f" [{number}]" if len(spans) > 1 and last <= end else ""
            yield f"    {' ' * before}{'^' * max(1, under)}{mark}"


def _span(text: str, reason: Reason) -> tuple[int, int] | None:
    if reason.line is None or reason.column is None:
        return None
    at = 0
    for _ in range(reason.line - 1):
        at = text.index("\n", at) + 1
    start = at + reason.column - 1
    return start, start + len(reason.fragment)


def _pieces(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Lines; long ones in pieces, divided at a space where there is one."""
    start = 0
    for line in text.split("\n"):
        end = start + len(line)
        while cell_len(_visible(text[start:end])) > width:
            fits = max(1, _fitting(text[start:end], width))
            space = text.rfind(" ", start + 1, start + fits)
            cut = space + 1 if space > start else start + fits
            yield start, cut
            start = cut
        if start < end:
            yield start, end
        start = end + 1


def _fitting(text: str, width: int) -> int:
    """How many characters have room."""
    used = 0
    for count, char in enumerate(text):
        used += cell_len(_visible(char))
        if used > width:
            return count
    return len(text)


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
