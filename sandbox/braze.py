"""Braze's front door: which endpoint, may this key use it, is there allowance, is it readable.

The order of the refusals is fixed: 404 or 403 for the path, 401, 403 for the permission, 429, 415,
413, 400. A refused key uses up no allowance.
"""

from typing import Final

from sandbox.clock import Clock
from sandbox.config import Config
from sandbox.limits import Limit, announce
from sandbox.profiles import Profiles
from sandbox.readback import delete_users, export_ids, list_attributes
from sandbox.state import State
from sandbox.track import (
    NO_VALID_DATA,
    TOO_LONG,
    Judgement,
    Submission,
    exceeds,
    judge,
    read_submission,
)
from sandbox.wire import Headers, Reply, Request, json_reply, message

TRACK: Final = "/users/track"
EXPORT: Final = "/users/export/ids"
DELETE: Final = "/users/delete"
ATTRIBUTES: Final = "/custom_attributes"

SYNTAX: Final = "Error while parsing request body. Please check your syntax."

_PERMISSIONS: Final = {
    ("POST", TRACK): "users.track",
    ("POST", EXPORT): "users.export.ids",
    ("POST", DELETE): "users.delete",
    ("GET", ATTRIBUTES): "custom_attributes.get",
}
_PATHS: Final = frozenset(path for _, path in _PERMISSIONS)
_HOURLY: Final = {DELETE: Limit(250_000, 3600.0), ATTRIBUTES: Limit(1000, 3600.0)}


class Braze:
    """Answers one request at a time, at once; what delays or spoils an answer lies elsewhere."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock

    def now(self) -> float:
        """The time as Braze's own clock has it."""
        return self.clock.now() + self.config.clock_skew_s

    def answer(self, request: Request, state: State) -> Reply:
        """Everything a well-behaved Braze does with a request."""
        admitted = self.admit(request, state)
        if isinstance(admitted, Reply):
            return admitted
        if request.path == TRACK:
            reply = self.track(request, state)
        else:
            reply = self._read_back(request, state)
        return reply.with_headers(admitted) if admitted else reply

    def admit(self, request: Request, state: State) -> Reply | Headers:
        """The refusal, or the rate-limit headers the answer has to carry."""
        config = self.config
        permission = _PERMISSIONS.get((request.method, request.path))
        if permission is None:
            if request.path.endswith("/") and request.path.rstrip("/") in _PATHS:
                return message(403, "Forbidden")
            return message(404, "Invalid URL")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key.strip() not in config.keys:
            return message(401, f"Invalid API key: {key.strip()}")
        if permission not in config.permissions:
            return message(403, "Access Denied")
        now = self.now()
        standing = state.window(request.path).take(self._limit(request.path), now)
        headers = announce(config.header_form, standing, now)
        if standing is not None and not standing.allowed:
            return message(429, "Rate Limited", headers)
        if (refusal := self._unreadable(request)) is not None:
            return refusal.with_headers(headers)
        return headers

    def track(self, request: Request, state: State, spare: str | None = None) -> Reply:
        """Validate and apply an admitted track request. The user `spare` is left out, unseen."""
        found = read_submission(request.document())
        if isinstance(found, str):
            return message(400, found)
        if exceeds(found, self.config.max_objects, self.config.max_objects_form):
            return message(400, TOO_LONG)
        judgement = judge(found)
        if not any(judgement.fine.values()):
            return json_reply(400, {"message": NO_VALID_DATA, "errors": judgement.errors})
        if spare is not None:
            judgement = _without(judgement, spare)
        self._apply(judgement, found, state)
        body: dict[str, object] = {"message": "success"}
        for name, objects in judgement.fine.items():
            body[f"{name}_processed"] = len(objects)
        if judgement.errors:
            body["errors"] = judgement.errors
        return json_reply(201, body)

    def _apply(self, judgement: Judgement, found: Submission, state: State) -> None:
        """Attributes first, then events, then purchases, as Braze generally does."""
        at = self.clock.now()
        profiles: Profiles = state.profiles
        fine = judgement.fine
        attributes, events, purchases = (
            fine.get(name, []) for name in ("attributes", "events", "purchases")
        )
        profiles.write_attributes(attributes, at, self.config.rules)
        for item in events:
            profiles.count_event(item, at)
        for item in purchases:
            profiles.count_purchase(item, at)
        processed = len(attributes) + len(events) + len(purchases)
        state.tally.accept(found.size, processed, len(events), len(purchases))

    def _read_back(self, request: Request, state: State) -> Reply:
        if request.path == ATTRIBUTES:
            return list_attributes(request, state.profiles, self.config.blocked_attributes)
        document = request.document()
        if not isinstance(document, dict):
            return message(400, SYNTAX)
        if request.path == EXPORT:
            moment = self.clock.now() - self.config.export_delay_s
            return export_ids(document, state.profiles, moment)
        return delete_users(document, state.profiles, self.clock.now())

    def _limit(self, path: str) -> Limit:
        if path == TRACK:
            return self.config.rate_limit
        return self.config.export_rate_limit if path == EXPORT else _HOURLY[path]

    def _unreadable(self, request: Request) -> Reply | None:
        if request.method == "GET":
            return None
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            return message(415, "Unsupported Media Type")
        if request.oversize:
            return message(413, "Request Entity Too Large")
        try:
            request.document()
        except ValueError:
            return message(400, SYNTAX)
        return None


def _without(judgement: Judgement, user: str) -> Judgement:
    return Judgement(
        {
            name: [item for item in objects if item.get("external_id") != user]
            for name, objects in judgement.fine.items()
        },
        judgement.errors,
    )
