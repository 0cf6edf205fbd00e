"""Counts what arrives and what is answered, and remembers the last requests.

Only POST /users/track is counted in detail; other paths appear in `by_path`. A request without an
answer (hang, reset, client gone) is counted under the status "none".
"""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sandbox.conduct import Conduct
from sandbox.profiles import Profiles

_REMEMBERED: Final = 200
_BODY_KEPT: Final = 256_000
_PATHS: Final = 200


@dataclass(slots=True)
class Entry:
    """One received track request; `status` and `duration_s` stay None while it is under way."""

    at: float
    body: bytes
    fault: str | None = None
    status: int | str | None = None
    duration_s: float | None = None

    def shown(self) -> dict[str, object]:
        return {
            "at": self.at,
            "status": self.status,
            "objects": _objects(self.body),
            "duration_s": self.duration_s,
            "fault": self.fault,
        }


class Tally:
    """The counters since the start or the last reset."""

    def __init__(self) -> None:
        self.requests = 0
        self.objects = 0
        self.events = 0
        self.purchases = 0
        self.max_in_flight = 0
        self.rate_peak = 0
        self.first_request_at: float | None = None
        self.last_request_at: float | None = None
        self.by_status: Counter[str] = Counter()
        self.by_path: Counter[str] = Counter()
        self.fill: Counter[int] = Counter()
        self.entries: deque[Entry] = deque(maxlen=_REMEMBERED)
        self._second = -1
        self._in_second = 0

    def count_path(self, path: str) -> None:
        if path in self.by_path or len(self.by_path) < _PATHS:
            self.by_path[path] += 1
        else:
            self.by_path["others"] += 1

    def receive(self, at: float, body: bytes) -> Entry:
        """Count a track request that has arrived whole."""
        self.requests += 1
        if self.first_request_at is None:
            self.first_request_at = at
        self.last_request_at = at
        second = int(at)
        if second != self._second:
            self._second = second
            self._in_second = 0
        self._in_second += 1
        self.rate_peak = max(self.rate_peak, self._in_second)
        entry = Entry(at, body if len(body) <= _BODY_KEPT else b"")
        self.entries.append(entry)
        return entry

    def finish(self, entry: Entry, status: int | None, duration_s: float) -> None:
        entry.status = "none" if status is None else status
        entry.duration_s = round(duration_s, 6)
        self.by_status[str(entry.status)] += 1

    def accept(self, size: int, processed: int, events: int, purchases: int) -> None:
        """Count a request that was answered with success, of `size` objects sent."""
        self.fill[size] += 1
        self.objects += processed
        self.events += events
        self.purchases += purchases

    def last(self, limit: int) -> list[dict[str, object]]:
        """The last requests, newest first."""
        return [entry.shown() for entry in list(self.entries)[::-1][:limit]]

    def report(self, profiles: Profiles, conduct: Conduct, in_flight: int) -> dict[str, object]:
        """Everything counted, as JSON."""
        accepted = self.fill.total()
        sent = sum(size * times for size, times in self.fill.items())
        costs = profiles.costs
        return {
            "requests": self.requests,
            "by_status": dict(self.by_status),
            "by_path": dict(self.by_path),
            "objects": self.objects,
            "events": self.events,
            "purchases": self.purchases,
            "values": costs.values,
            "values_unchanged": costs.unchanged,
            "profiles": len(profiles),
            "mean_fill": round(sent / accepted, 3) if accepted else 0.0,
            "fill_histogram": {str(size): self.fill[size] for size in sorted(self.fill)},
            "max_in_flight": self.max_in_flight,
            "in_flight": in_flight,
            "violations": dict(conduct.violations),
            "violation_samples": conduct.samples,
            "first_request_at": self.first_request_at,
            "last_request_at": self.last_request_at,
            "rate_peak": self.rate_peak,
            "attributes": {
                name: {"values": values, "unchanged": unchanged}
                for name, (values, unchanged) in costs.attributes.items()
            },
        }


def _objects(body: bytes) -> list[Any]:
    """The objects of all arrays of a body; nothing for a body that could not be read."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return []
    if not isinstance(document, dict):
        return []
    arrays = (document.get(name) for name in ("attributes", "events", "purchases"))
    return [item for array in arrays if isinstance(array, list) for item in array]
