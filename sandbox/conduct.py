"""Watches how the client behaves, by rules Braze does not enforce but suffers from.

rule           | broken when
overlap        | two requests that carry the same user are under way at the same time
duplicate_user | one array of a request carries a user twice
gap            | another value for a user's attribute comes too soon after the request with the last
empty_object   | an attributes object holds nothing to write

A request is under way from its first byte until its reply is written or its client has gone: a
client that gave up may send again. A refused request (4xx) cannot have set a value, so it starts
no gap.
"""

from collections import Counter
from typing import Any, Final

from sandbox.fields import CONTROL
from sandbox.track import ARRAYS
from sandbox.wire import Request

_SAMPLES: Final = 50
_MISSING: Final = object()

Values = list[tuple[str, dict[str, Any]]]


class Span:
    """The time one request is under way, from the client's point of view.

    `over_at` is when its reply was written, or its beginning if the client gave up before: when
    exactly it did is noticed late, so it must not be held against what came after. 0.0: not yet.
    """

    __slots__ = ("alone", "over_at", "request", "started_at", "values")

    def __init__(self, request: Request) -> None:
        self.request: Request | None = request
        self.started_at = request.started_at
        self.over_at = 0.0
        self.alone = (self,)
        self.values: Values = []

    def meets(self, later: "Span") -> bool:
        """Whether `later`, which has just arrived, began before this one was over."""
        if self.request is None:
            return self.over_at > later.started_at
        return not self.request.peer_closed()


class Conduct:
    """Counts broken rules and keeps the first 50 as samples."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.samples: list[dict[str, object]] = []
        self._carriers: dict[str, tuple[Span, ...]] = {}
        self._sent: dict[str, dict[str, tuple[Any, float]]] = {}

    def receive(self, request: Request, at: float, gap_s: float) -> Span:
        """Judge a request as it arrives. The span returned must be closed with `finish`."""
        span = Span(request)
        try:
            document = request.document()
        except ValueError:
            return span
        if not isinstance(document, dict):
            return span
        for name in ARRAYS:
            objects = document.get(name)
            if isinstance(objects, list):
                self._receive_array(name, objects, span, at, gap_s)
        return span

    def finish(self, span: Span, at: float, status: int | None) -> None:
        """The reply was written, or with None the client has gone without one."""
        span.over_at = span.started_at if status is None else at
        span.request = None
        if status is None or not 400 <= status < 500:
            for user, item in span.values:
                sent = self._sent.setdefault(user, {})
                for name, value in item.items():
                    if name not in CONTROL:
                        sent[name] = (value, at)
        span.values = []

    def _receive_array(
        self, array: str, objects: list[Any], span: Span, at: float, gap_s: float
    ) -> None:
        seen: set[str] = set()
        carriers = self._carriers
        alone, began = span.alone, span.started_at
        watched = array == "attributes"
        for item in objects:
            user = item.get("external_id") if type(item) is dict else None
            if type(user) is not str:
                continue
            if user in seen:
                self._violate("duplicate_user", at, user, f"twice in {array}")
                continue
            seen.add(user)
            earlier = carriers.get(user)
            # Nearly always the last carrier is over, which needs no further look.
            if earlier is None or (len(earlier) == 1 and 0 < earlier[0].over_at <= began):
                carriers[user] = alone
            else:
                carriers[user] = self._join(user, earlier, span, at)
            if watched:
                if CONTROL.issuperset(item):
                    self._violate("empty_object", at, user, "nothing to write")
                if gap_s:
                    self._check_gap(user, item, span, at, gap_s)

    def _join(
        self, user: str, earlier: tuple[Span, ...], span: Span, at: float
    ) -> tuple[Span, ...]:
        """Note an overlap with those before, and keep all that are still under way."""
        if span in earlier:
            return earlier
        if any(other.meets(span) for other in earlier):
            self._violate("overlap", at, user, "two requests under way")
        still = tuple(other for other in earlier if other.request is not None)
        return (*still, span) if still else span.alone

    def _check_gap(
        self, user: str, item: dict[str, Any], span: Span, at: float, gap_s: float
    ) -> None:
        span.values.append((user, item))
        sent = self._sent.get(user)
        if sent is None:
            return
        for name, value in item.items():
            before, ended_at = sent.get(name, (_MISSING, 0.0))
            different = before != value or type(before) is not type(value)
            waited = span.started_at - ended_at
            if before is not _MISSING and different and waited < gap_s:
                self._violate("gap", at, user, f"{name!r} differs {waited:.3f} s after the last")

    def _violate(self, rule: str, at: float, user: str, detail: str) -> None:
        self.violations[rule] += 1
        if len(self.samples) < _SAMPLES:
            self.samples.append({"rule": rule, "at": at, "user": user, "detail": detail})
