"""Braze: the way there, key and instance, what the key may do, the clock. Changes nothing there."""

import time
from collections.abc import Callable
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import orjson

from console.checks.finding import Finding, all_unseen, bad, good, unseen
from console.checks.network import find_obstacle
from console.checks.server import clock_finding
from console.checks.settings import braze_key
from worker.braze.client import BrazeClient, UnusableKey
from worker.braze.instances import UnknownInstance, rest_url
from worker.braze.readback import NotRead, ReadBack
from worker.delivery import TODO
from worker.pipeline.notices import in_words
from worker.pipeline.outcome import Course, read
from worker.pipeline.reply import Reply, Trouble
from worker.settings import Settings, WrongSettings

BRAZE_CHECKS = ("braze", "braze_key", "braze_clock", "braze_read_back")
# Nobody has this id; an export of it shows whether exports are allowed.
NOBODY = "persona-sync-check"
_PROBE_ANSWER = "valid data must be provided"
WAIT = "Wait, and look at https://status.braze.com; nothing is lost meanwhile."
_NOT_BRAZE = "Check PERSONA_SYNC_BRAZE_ENDPOINT: another kind of server seems to be there."
_LATE = {
    Trouble.TIMEOUT: ("does not answer in time", WAIT),
    Trouble.RESET: ("breaks the connection off", WAIT),
    Trouble.UNREADABLE: ("answers with something that is no HTTP", _NOT_BRAZE),
}


def look_at_braze(settings: Settings, wall: Callable[[], float] = time.time) -> list[Finding]:
    """One harmless request (an empty array), and two that only read."""
    if settings.mode == "shadow" and not settings.braze_endpoint:
        return all_unseen(BRAZE_CHECKS, "in shadow mode no endpoint is needed, and none is set")
    try:
        base_url = rest_url(settings.braze_endpoint or "")
        key = braze_key(settings)
    except UnknownInstance:
        return all_unseen(BRAZE_CHECKS, "PERSONA_SYNC_BRAZE_ENDPOINT is missing or wrong")
    except (WrongSettings, UnusableKey):
        return all_unseen(BRAZE_CHECKS, "the Braze API key is missing or wrong")
    try:
        client = BrazeClient(
            base_url,
            lambda: key,
            connect=settings.braze_connect_timeout,
            total=settings.braze_request_timeout,
            idle=settings.braze_idle_connection,
            proxy=settings.braze_proxy,
        )
    except ValueError:
        return all_unseen(BRAZE_CHECKS, "PERSONA_SYNC_BRAZE_PROXY is wrong")
    try:
        reply = client.probe()
    finally:
        client.close()
    seen_at = wall()
    place = urlsplit(base_url).netloc
    if reply.status is None:
        return [
            _not_reached(reply, base_url, settings),
            *all_unseen(BRAZE_CHECKS[1:], "Braze does not answer"),
        ]
    way, credentials = judge(reply, place, seen_at)
    clock = braze_clock(reply, seen_at)
    if not credentials.ok:
        return [way, credentials, clock, unseen("braze_read_back", "the key is not known good")]
    return [way, credentials, clock, _read_back(base_url, key, settings)]


def judge(reply: Reply, place: str, now: float) -> tuple[Finding, Finding]:
    """What the answer to the probe says of the way, and of key and instance."""
    outcome = read(reply, 0, body_bytes=0, now=now)
    status = reply.status or 0
    said = f"{place} answers {status}"
    if outcome.course is Course.STOP:
        way = good("braze", said)
        todo = TODO.get(outcome.reason, "Check PERSONA_SYNC_BRAZE_ENDPOINT and the proxy, if any.")
        reason = in_words(outcome.reason)
        if outcome.reason in ("wrong_address", "redirected"):
            away = unseen("braze_key", f"Braze is not at {place}")
            return bad("braze", f"{said}: {reason}", todo), away
        return way, bad("braze_key", f"{said}: {reason}", todo)
    if outcome.course is Course.WAIT:
        busy = unseen("braze_key", f"{said}: the limit of requests is used up; try again later")
        return good("braze", said), busy
    is_ok = 200 <= status < 300
    if outcome.course is Course.FAILING and not is_ok:
        return bad("braze", f"{said}: it is in trouble", WAIT), unseen("braze_key", said)
    if outcome.course is Course.FINE and (is_ok or _PROBE_ANSWER in _message(reply).lower()):
        # The probe is empty on purpose, so that a 400 is what is right.
        way = good("braze", f"{place} answers an empty request as expected ({status})")
        return way, good("braze_key", "the key is taken, and may write attributes")
    return (
        bad("braze", f"{said}, but not as Braze does: this is not Braze", _NOT_BRAZE),
        unseen("braze_key", f"Braze is not at {place}"),
    )


def braze_clock(reply: Reply, now: float) -> Finding:
    """Our clock against the answer's Date, which knows whole seconds."""
    try:
        date = parsedate_to_datetime(reply.headers.get("date", ""))
    except ValueError:
        return unseen("braze_clock", "the answer has no date")
    there = date.replace(tzinfo=date.tzinfo or UTC).timestamp() + 0.5
    return clock_finding("braze_clock", there - now, "Braze's", 1.0)


def _message(reply: Reply) -> str:
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return message if isinstance(message, str) else ""


def _not_reached(reply: Reply, base_url: str, settings: Settings) -> Finding:
    place = urlsplit(base_url).netloc
    if reply.trouble in _LATE:
        how, todo = _LATE[reply.trouble]
        return bad("braze", f"{place} {how}", todo)
    seconds = settings.braze_connect_timeout.total_seconds()
    obstacle = find_obstacle(base_url, settings.braze_proxy, seconds)
    if obstacle is not None:
        return bad("braze", obstacle.detail, obstacle.todo)
    return bad(
        "braze",
        f"{place} could not be connected to a moment ago, and can be now",
        "Check again; if it comes back, raise PERSONA_SYNC_BRAZE_CONNECT_TIMEOUT.",
    )


def _read_back(base_url: str, key: str, settings: Settings) -> Finding:
    """Never a failure: only `seed` needs it."""
    reading = ReadBack(
        base_url,
        lambda: key,
        connect=settings.braze_connect_timeout,
        total=min(settings.braze_request_timeout, timedelta(seconds=10)),
        proxy=settings.braze_proxy,
    )
    try:
        exports = _may(lambda: reading.export_ids([NOBODY], ["external_id"]))
        attributes = _may(reading.custom_attributes)
    finally:
        reading.close()
    said = f"users.export.ids: {_WORD[exports]}; custom_attributes.get: {_WORD[attributes]}"
    missing = [
        name
        for name, may in (("users.export.ids", exports), ("custom_attributes.get", attributes))
        if may is False
    ]
    if missing:
        todo = f"Only if you want `seed`: make a key that has {' and '.join(missing)}."
        return good("braze_read_back", f"{said} (only needed for `seed`)", todo)
    if None in (exports, attributes):
        return unseen("braze_read_back", said)
    return good("braze_read_back", said)


_WORD = {True: "allowed", False: "not allowed", None: "no answer"}


def _may(ask: Callable[[], object]) -> bool | None:
    try:
        ask()
    except NotRead as error:
        return False if error.status in (401, 403) else None
    return True
