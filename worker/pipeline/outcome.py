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
no key to send it with             retry                                stop
never connected                    retry                                failing
time-out, reset, unreadable        unknown                              failing

"Retry" is said only where surely nothing was accepted; what may have been accepted is
"unknown". (Braze docs: post_user_track, errors, api_limits.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from worker.pipeline.braze_errors import Found, find_errors, has_words, safe_text
from worker.pipeline.rate_headers import Hints, read_hints, read_wait
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
    hints = read_hints(reply.headers, now)
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
        wait = read_wait(reply.headers, now, with_reset=row.course is Course.WAIT)
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
    if trouble is Trouble.NO_KEY:
        return _all_alike(_Row(*_STOP, str(trouble)), count)
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
    found = find_errors(body.get("errors"), count)
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
    if has_words(body, _TOO_MANY):
        return _too_large(count, "too_many_objects", hints, max_objects=count)
    found = find_errors(body.get("errors"), count)
    code = f"status_{reply.status}"
    if found.named:
        items = _with_dead(found, count, ItemVerdict(Verdict.RETRY, code))
        then = Then.RESEND_REST if len(found.named) < count else Then.NOTHING
        return Outcome(items, then, Course.FINE, code, hints=hints, notes=found.notes)
    if count == 1:
        said = found.nameless or safe_text(body.get("message")) or code
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


def _with_dead(found: Found, count: int, other: ItemVerdict) -> tuple[ItemVerdict, ...]:
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
