"""What a reply of /users/track means for every item that was sent: one table, no exceptions.

reply                              items                                course   then
2xx, message success or queued     delivered; named in errors: dead     fine
  + an error that names no item    not named: unknown; alone: dead      fine     isolate
2xx, any other message             retry (nothing was accepted)         failing
2xx, body is no JSON object        unknown                              failing
400 409 422 and other 4xx          named: dead; the others: retry       fine     resend the rest
  + no item named                  retry; alone: dead                   fine     isolate
  + too many objects (its text)    retry; alone: dead                   fine     halves
413 body too large                 retry; alone: dead                   fine     halves
429                                retry                                wait
3xx 401 402 403 404 405 407 410    retry (credentials, address, or      stop
  411 415 426 431 451              our own bug: nobody's item)
408 425                            retry                                failing
5xx and any other status           unknown                              failing
never connected                    retry                                failing
time-out, reset, unreadable        unknown                              failing

"Retry" is said only where surely nothing was accepted; what may have been accepted is
"unknown". (Braze docs: post_user_track, errors, api_limits.)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from worker.pipeline.reply import Reply, Trouble


class Verdict(StrEnum):
    """What became of one item."""

    DELIVERED = "delivered"
    RETRY = "retry"  # surely not accepted: what Braze held before still stands
    UNKNOWN = "unknown"  # may have been accepted, now or later
    DEAD = "dead"  # refused for good


class Then(StrEnum):
    """What is to be sent at once, before anything else of these items."""

    NOTHING = "nothing"
    RESEND_REST = "resend_rest"  # the dead were named: the RETRY items go again
    HALVES = "halves"  # too large: both halves go again
    ISOLATE = "isolate"  # somebody in it is refused, nobody knows who: bisect


class Course(StrEnum):
    """What the reply says about the destination, whoever the items were."""

    FINE = "fine"
    WAIT = "wait"  # it asks for patience
    STOP = "stop"  # credentials, address or a bug of ours: no attempt can succeed
    FAILING = "failing"  # transient


@dataclass(frozen=True, slots=True)
class ItemVerdict:
    """The verdict of one item. `reason` is a short code, or for a dead item Braze's own words,
    on one line, without anything that looks like a key, at most 200 characters."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hints:
    """The window as one reply shows it; each None if it did not say. `reset_in` is seconds."""

    limit: int | None
    remaining: int | None
    reset_in: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole reply, read.

    `items` has exactly one verdict per item sent, in that order. `reason` is a short stable
    code. `wait` is the seconds the server asked for; None: it said nothing, the caller backs
    off. `max_objects` and `max_bytes` are set when that many were too many. `notes` are oddities
    that change nothing.
    """

    items: tuple[ItemVerdict, ...]
    then: Then
    course: Course
    reason: str
    wait: float | None = None
    hints: Hints | None = None
    max_objects: int | None = None
    max_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """A status that judges all items alike."""

    verdict: Verdict
    course: Course
    reason: str


@dataclass(slots=True)
class _Found:
    """What `errors` says: dead items with their text, and the text of an error that names none.

    `nameless` None: there was no such error.
    """

    named: dict[int, str] = field(default_factory=dict)
    nameless: str | None = None
    notes: tuple[str, ...] = ()


_STOP = (Verdict.RETRY, Course.STOP)
_ROWS: Mapping[int, _Row] = {
    # A bad key, a revoked one and one of another instance look the same; the body echoes the key.
    401: _Row(*_STOP, "invalid_key_or_wrong_instance"),
    402: _Row(*_STOP, "payment_required"),
    403: _Row(*_STOP, "forbidden_plan_or_key_permission"),
    404: _Row(*_STOP, "wrong_address"),
    405: _Row(*_STOP, "status_405"),
    407: _Row(*_STOP, "proxy_credentials_refused"),
    410: _Row(*_STOP, "status_410"),
    411: _Row(*_STOP, "status_411"),
    415: _Row(*_STOP, "status_415"),
    426: _Row(*_STOP, "status_426"),
    431: _Row(*_STOP, "status_431"),
    451: _Row(*_STOP, "status_451"),
    408: _Row(Verdict.RETRY, Course.FAILING, "status_408"),
    425: _Row(Verdict.RETRY, Course.FAILING, "status_425"),
    429: _Row(Verdict.RETRY, Course.WAIT, "rate_limited"),
}
_REDIRECTED = _Row(*_STOP, "redirected")

_ACCEPTED = ("success", "queued")
_TOO_MANY = ("max input length exceeded", "max number of external_ids and aliases exceeded")
_DELIVERED = ItemVerdict(Verdict.DELIVERED)


def read(reply: Reply, count: int, *, body_bytes: int, now: float) -> Outcome:
    """Judge `count` items that were sent in a body of `body_bytes` bytes. Never raises.

    `now` is our clock in epoch seconds; it is used only if the reply has no Date of its own.
    `count` 0 is the probe: no verdicts, but the course counts.
    """
    status = reply.status
    if status is None:
        return _network_trouble(reply.trouble, count)
    hints = _read_hints(reply.headers, now)
    if 200 <= status < 300:
        return _accepted(reply, count, hints)
    if status == 413:
        return _too_large(count, "body_too_large", hints, max_bytes=body_bytes)
    row = _row(status)
    if row is None:
        return _refused(reply, count, hints)
    wait = None
    if row.course is Course.WAIT or row.course is Course.FAILING:
        # Only a 429 is about the rate window; another status must ask for the wait by name.
        wait = _read_wait(reply.headers, now, with_reset=row.course is Course.WAIT)
    return _all_alike(row, count, wait=wait, hints=hints)


def _row(status: int) -> _Row | None:
    """The row of a status outside 2xx and 413; None: the body decides item by item."""
    row = _ROWS.get(status)
    if row is not None:
        return row
    if 300 <= status < 400:
        return _REDIRECTED
    if 400 <= status < 500:
        return None
    return _Row(Verdict.UNKNOWN, Course.FAILING, f"status_{status}")


def _all_alike(
    row: _Row, count: int, *, wait: float | None = None, hints: Hints | None = None
) -> Outcome:
    items = (ItemVerdict(row.verdict, row.reason),) * count
    return Outcome(items, Then.NOTHING, row.course, row.reason, wait=wait, hints=hints)


def _network_trouble(trouble: Trouble | None, count: int) -> Outcome:
    """Only a request of which nothing was sent is surely not accepted."""
    surely_not = trouble is Trouble.NOT_CONNECTED
    reason = str(trouble) if trouble is not None else str(Trouble.UNREADABLE)
    verdict = Verdict.RETRY if surely_not else Verdict.UNKNOWN
    return _all_alike(_Row(verdict, Course.FAILING, reason), count)


def _accepted(reply: Reply, count: int, hints: Hints | None) -> Outcome:
    """A 2xx: delivered is only who is not named in `errors`, and only if the message says so."""
    body = _object(reply.body)
    if body is None:
        row = _Row(Verdict.UNKNOWN, Course.FAILING, "unreadable_body")
        return _all_alike(row, count, hints=hints)
    message = body.get("message")
    if not isinstance(message, str) or message.strip().lower() not in _ACCEPTED:
        row = _Row(Verdict.RETRY, Course.FAILING, "nothing_accepted")
        return _all_alike(row, count, hints=hints)
    found = _find_errors(body.get("errors"), count)
    notes = (*found.notes, *_processed_note(body, count - len(found.named)))
    if found.nameless is not None and len(found.named) < count:
        if count == 1:
            dead = (ItemVerdict(Verdict.DEAD, found.nameless),)
            return Outcome(dead, Then.NOTHING, Course.FINE, "refused", hints=hints, notes=notes)
        reason = "error_without_index"
        items = _with_dead(found, count, ItemVerdict(Verdict.UNKNOWN, reason))
        return Outcome(items, Then.ISOLATE, Course.FINE, reason, hints=hints, notes=notes)
    items = _with_dead(found, count, _DELIVERED)
    reason = "partly_refused" if found.named else "accepted"
    return Outcome(items, Then.NOTHING, Course.FINE, reason, hints=hints, notes=notes)


def _refused(reply: Reply, count: int, hints: Hints | None) -> Outcome:
    """A 400 or its like: nothing was accepted, some items are to blame, perhaps named."""
    body = _object(reply.body) or {}
    if _has_words(body, _TOO_MANY):
        return _too_large(count, "too_many_objects", hints, max_objects=count)
    found = _find_errors(body.get("errors"), count)
    code = f"status_{reply.status}"
    if found.named:
        items = _with_dead(found, count, ItemVerdict(Verdict.RETRY, code))
        then = Then.RESEND_REST if len(found.named) < count else Then.NOTHING
        return Outcome(items, then, Course.FINE, code, hints=hints, notes=found.notes)
    if count == 1:
        said = found.nameless or _safe_text(body.get("message")) or code
        dead = (ItemVerdict(Verdict.DEAD, said),)
        return Outcome(dead, Then.NOTHING, Course.FINE, code, hints=hints, notes=found.notes)
    items = (ItemVerdict(Verdict.RETRY, code),) * count
    then = Then.ISOLATE if count else Then.NOTHING
    return Outcome(items, then, Course.FINE, code, hints=hints, notes=found.notes)


def _too_large(
    count: int,
    reason: str,
    hints: Hints | None,
    *,
    max_objects: int | None = None,
    max_bytes: int | None = None,
) -> Outcome:
    """The request was too large, not wrong: halves may pass. One item has no halves."""
    if count < 2:
        items = (ItemVerdict(Verdict.DEAD, reason),) * count
        return Outcome(items, Then.NOTHING, Course.FINE, reason, hints=hints)
    return Outcome(
        (ItemVerdict(Verdict.RETRY, reason),) * count,
        Then.HALVES,
        Course.FINE,
        reason,
        hints=hints,
        max_objects=max_objects,
        max_bytes=max_bytes,
    )


def _with_dead(found: _Found, count: int, other: ItemVerdict) -> tuple[ItemVerdict, ...]:
    if not found.named:
        return (other,) * count
    items = [other] * count
    for index, said in found.named.items():
        items[index] = ItemVerdict(Verdict.DEAD, said)
    return tuple(items)


def _processed_note(body: Mapping[str, Any], expected: int) -> tuple[str, ...]:
    """Braze counts what it queued; a differing count is odd, but it names nobody."""
    processed = body.get("attributes_processed")
    if type(processed) is int and processed != expected:
        return (f"processed {processed}, expected {expected}",)
    return ()


def _object(body: bytes) -> dict[str, Any] | None:
    """The body as a JSON object; None for HTML, nothing, or any other JSON."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


# --- Who is named in `errors`, however oddly it is written.
#
# Observed: {"type": "<text>", "input_array": "attributes", "index": 1}, the index counting from
# 0 inside input_array. Documented: only [{<minor error message>}]. So an entry may lack
# anything, or be a string (Braze docs: post_user_track, errors).

_OUR_ARRAY = "attributes"  # the only one we send
_TEXT_MAX = 200
_UNTOLD = "refused_without_a_text"

# A REST key is a UUID, and Braze echoes keys in texts.
_KEY_LIKE = re.compile(
    r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b"
    r"|\bbearer\s+\S+|\bapi[ _-]?key\W{1,3}\S+",
    re.IGNORECASE,
)


def _find_errors(errors: Any, count: int) -> _Found:
    """Read `errors` for `count` items sent. Absent, null and empty mean there is none."""
    found = _Found()
    if not errors:
        return found
    foreign = 0
    for entry in errors if isinstance(errors, list) else [errors]:
        if _is_foreign(entry):
            foreign += 1
        elif (index := _index(entry, count)) is not None:
            found.named.setdefault(index, _text(entry))
        elif found.nameless is None:
            found.nameless = _text(entry)
    if foreign:
        found.notes = (f"{foreign} errors of arrays that were not sent",)
    return found


def _is_foreign(entry: Any) -> bool:
    """Does it speak of an array that we did not send?"""
    if not isinstance(entry, dict):
        return False
    array = entry.get("input_array")
    return isinstance(array, str) and array != "" and array != _OUR_ARRAY


def _index(entry: Any, count: int) -> int | None:
    """The item an entry names; None if it has no array, no index, or one that cannot be."""
    if not isinstance(entry, dict) or entry.get("input_array") != _OUR_ARRAY:
        return None
    index = entry.get("index")
    return index if type(index) is int and 0 <= index < count else None


def _text(entry: Any) -> str:
    if isinstance(entry, dict):
        said = (_safe_text(entry.get(name)) for name in ("type", "message", "error"))
        return next((text for text in said if text), _UNTOLD)
    return _safe_text(entry) or _UNTOLD


def _safe_text(said: Any) -> str:
    """Braze's words on one line, without what looks like a key, at most 200 characters."""
    if not isinstance(said, str):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in said[: _TEXT_MAX * 4])
    return _KEY_LIKE.sub("[redacted]", " ".join(printable.split()))[:_TEXT_MAX]


def _has_words(body: Mapping[str, Any], words: tuple[str, ...]) -> bool:
    """Does the message, or any text of `errors`, contain one of these (lower case) words?"""
    errors = body.get("errors")
    texts = [body.get("message")]
    for entry in errors if isinstance(errors, list) else [errors]:
        texts.extend(entry.values() if isinstance(entry, dict) else [entry])
    lowered = [text.lower() for text in texts if isinstance(text, str)]
    return any(word in text for word in words for text in lowered)


# --- The rate-limit headers, as plain seconds.
#
# X-RateLimit-Reset is epoch seconds on one page and seconds to go on another; on a 429 of some
# plans all three are absent and X-Ratelimit-Retry-After stands instead (Braze docs: api_limits,
# post_user_track). Instants are read against the reply's own Date, so our clock may be wrong.
# Garbage counts as absent.

_WAIT_MAX = 3_700.0  # seconds: the longest window is an hour
_EPOCH_FROM = 1e9  # a smaller reset is seconds to go
_EPOCH_MS_FROM = 1e12

_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{0,9})?)\s*(?:,.*)?", re.ASCII | re.DOTALL)
_HTTP_DATE = re.compile(
    r"\s*[A-Za-z]{3}, ([0-9]{2}) ([A-Za-z]{3}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT\s*"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _read_hints(headers: Mapping[str, str], now: float) -> Hints | None:
    """What the headers (lower-case names) say of the window; None: nothing at all."""
    limit = _count(headers.get("x-ratelimit-limit"))
    remaining = _count(headers.get("x-ratelimit-remaining"))
    reset_in = _reset_in(headers, now)
    if limit is None and remaining is None and reset_in is None:
        return None
    return Hints(limit, remaining, reset_in)


def _read_wait(headers: Mapping[str, str], now: float, *, with_reset: bool) -> float | None:
    """The seconds the server asks us to wait, 0 to 3700; None: it does not say.

    Braze's own header first, then the standard one, then (`with_reset`) the end of the window.
    """
    asked = _number(headers.get("x-ratelimit-retry-after"))
    if asked is not None:
        return _clamped(asked)
    standard = headers.get("retry-after")
    asked = _number(standard)
    if asked is not None:
        return _clamped(asked)
    until = _http_date(standard)
    if until is not None:
        return _clamped(until - _server_time(headers, now))
    return _reset_in(headers, now) if with_reset else None


def _reset_in(headers: Mapping[str, str], now: float) -> float | None:
    reset = _number(headers.get("x-ratelimit-reset"))
    if reset is None:
        return None
    if reset < _EPOCH_FROM:
        return _clamped(reset)
    instant = reset / 1_000 if reset >= _EPOCH_MS_FROM else reset
    return _clamped(instant - _server_time(headers, now))


def _server_time(headers: Mapping[str, str], now: float) -> float:
    date = _http_date(headers.get("date"))
    return now if date is None else date


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), _WAIT_MAX)


def _count(value: str | None) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: str | None) -> float | None:
    """A number that is not negative; of a header that was sent twice, the first."""
    match = _NUMBER.fullmatch(value) if value is not None else None
    return float(match[1]) if match else None


def _http_date(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date in the form that servers must send (RFC 9110, 5.6.7)."""
    match = _HTTP_DATE.fullmatch(value) if value is not None else None
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        month_number = _MONTHS.index(month.lower()) + 1
        instant = datetime(
            int(year),
            month_number,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return instant.timestamp()
