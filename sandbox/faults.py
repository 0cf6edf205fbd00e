"""The queue of faults: what may be asked for, and which fault the next request meets.

The first fault in the queue that fits a request is the one that strikes; it may pass over its
first `after` fitting requests, and it is spent after `times` hits. A spent fault stays in the
queue with its count, for the test that wants to know, until the queue is cleared.

kind              | what the client meets                               | the write takes effect
latency           | the right answer, late                              | yes, at once
status            | any status, body, headers; no processing            | no
html              | an HTML page with an error status                   | no
hang              | no answer; the connection closes after `seconds`    | if `apply`, perhaps late
drip              | headers, then one byte of body each `interval`      | unless `apply` is false
reset_before      | the connection is reset                             | no
reset_after       | the connection is reset                             | unless `apply` is false
cut               | half the body, then the connection closes           | unless `apply` is false
poison            | 400 for the whole request, naming the user or not   | no
partial_unindexed | 201 whose error has no index, perhaps no array      | yes, but for the user
odd_message       | 2xx with an unknown message                         | no
queued            | 202 queued                                          | yes
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sandbox.config import Refused, number, span, whole
from sandbox.limits import HEADER_FORMS
from sandbox.track import ARRAYS
from sandbox.wire import Request

_TRACK: Final = "/users/track"
_TRACK_ONLY: Final = ("poison", "partial_unindexed", "odd_message", "queued")

_Reader = Callable[[str, object], Any]


@dataclass(slots=True)
class Fault:
    """One entry of the queue. `options` holds what only its kind knows, defaults filled in."""

    kind: str
    options: dict[str, Any]
    times: int | None = 1
    after: int = 0
    path: str = _TRACK
    match_user: str | None = None
    seen: int = 0
    hits: int = 0

    @property
    def spent(self) -> bool:
        return self.times is not None and self.hits >= self.times

    def strikes(self, request: Request) -> bool:
        """Whether it fits this request and its turn has come; counts the request if it fits."""
        if self.spent or request.path != self.path:
            return False
        if self.match_user is not None and not carries(request, self.match_user):
            return False
        self.seen += 1
        if self.seen <= self.after:
            return False
        self.hits += 1
        return True

    def shown(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            **self.options,
            "times": self.times,
            "after": self.after,
            "path": self.path,
            "match_user": self.match_user,
            "seen": self.seen,
            "hits": self.hits,
        }


class FaultQueue:
    """The faults in force, asked in order."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def replace(self, document: object) -> None:
        """Put a new queue in place of the old; with Refused the old one stays."""
        if not isinstance(document, list):
            raise Refused("the faults must be a JSON list")
        self.faults = [read_fault(entry) for entry in document]

    def append(self, document: object) -> None:
        self.faults.append(read_fault(document))

    def clear(self) -> None:
        self.faults = []

    def take(self, request: Request) -> Fault | None:
        """The fault this request meets. Faults behind it do not count the request."""
        return next((fault for fault in self.faults if fault.strikes(request)), None)


def carries(request: Request, user: str) -> bool:
    """Whether any object of the request is about this external_id."""
    return any(True for _ in places_of(request, user))


def places_of(request: Request, user: str) -> list[tuple[str, int]]:
    """Where the user stands in the request: array and index, for each object about them."""
    try:
        document = request.document()
    except ValueError:
        return []
    if not isinstance(document, dict):
        return []
    if user in _strings(document.get("external_ids")):
        return [("external_ids", 0)]
    return [
        (name, index)
        for name in ARRAYS
        if isinstance(objects := document.get(name), list)
        for index, item in enumerate(objects)
        if isinstance(item, dict) and item.get("external_id") == user
    ]


def read_fault(document: object) -> Fault:
    """A fault from its JSON form. Raises Refused with what is wrong."""
    if not isinstance(document, dict):
        raise Refused("a fault must be a JSON object")
    entry = dict(document)
    kind = entry.pop("kind", None)
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise Refused(f"unknown fault kind {kind!r}; known: {', '.join(_KINDS)}")
    times = entry.pop("times", 1)
    fault = Fault(
        kind=str(kind),
        options={},
        times=None if times is None else whole("times", times, 1),
        after=whole("after", entry.pop("after", 0)),
        path=_text("path", entry.pop("path", _TRACK)),
        match_user=_text_or_none("match_user", entry.pop("match_user", None)),
    )
    for name, (read, default) in known.items():
        fault.options[name] = read(name, entry.pop(name, default))
    if entry:
        raise Refused(f"fault {kind!r} does not know {', '.join(sorted(map(str, entry)))}")
    if kind in ("poison", "partial_unindexed") and fault.match_user is None:
        raise Refused(f"fault {kind!r} needs 'match_user'")
    if kind in _TRACK_ONLY and fault.path != _TRACK:
        raise Refused(f"fault {kind!r} fits {_TRACK} only")
    return fault


def _strings(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name!r} must be a string")
    return value


def _text_or_none(name: str, value: object) -> str | None:
    return None if value is None else _text(name, value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{name!r} must be true or false")
    return value


def _seconds(name: str, value: object) -> float:
    return number(name, value, 0.0, 86_400.0)


def _status(name: str, value: object) -> int:
    return whole(name, value, 200, 599)


def _anything(_: str, value: object) -> object:
    return value


def _headers(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(text, str) and (key + text).isprintable() for key, text in value.items()
    ):
        raise Refused(f"{name!r} must be an object of strings")
    return value


def _form(name: str, value: object) -> object:
    if value is not None and value not in HEADER_FORMS:
        raise Refused(f"{name!r} must be one of {', '.join(HEADER_FORMS)}")
    return value


_KINDS: Final[dict[str, dict[str, tuple[_Reader, Any]]]] = {
    "latency": {"seconds": (span, None)},
    "status": {
        "status": (_status, None),
        "body": (_anything, None),
        "headers": (_headers, {}),
        "header_form": (_form, None),
        "retry_after_s": (_seconds, 1.0),
    },
    "html": {"status": (_status, 502)},
    "hang": {"seconds": (_seconds, 30.0), "apply": (_flag, False), "apply_after": (_seconds, 0.0)},
    "drip": {"interval": (_seconds, 0.05), "apply": (_flag, True)},
    "reset_before": {},
    "reset_after": {"apply": (_flag, True)},
    "cut": {"apply": (_flag, True)},
    "poison": {"named": (_flag, True)},
    "partial_unindexed": {"array": (_flag, True)},
    "odd_message": {"status": (_status, 201), "message": (_text, "received")},
    "queued": {},
}
