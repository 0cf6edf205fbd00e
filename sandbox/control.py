"""The sandbox's own endpoints under /sandbox/: look, prepare, make trouble, start afresh.

GET    report                      counters, broken rules, waste
GET    requests?limit=N            the last track requests, newest first
GET    profiles?after=ID&limit=N   a page of profiles: custom attributes only
GET    profiles/ID                 one profile with fields, counters and history
PUT    profiles                    put custom attributes in place, uncounted
GET    faults                      the queue, with counts
PUT    faults                      replace the queue
POST   faults                      append one fault
DELETE faults                      clear the queue
GET    config, PUT config          show, change in part
POST   reset                       forget all but the settings

There is no login, hence the server listens on loopback only. No answer ever holds an API key.
"""

from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import unquote

import orjson

from sandbox.config import Config, Refused
from sandbox.faults import FaultQueue
from sandbox.state import State
from sandbox.wire import Reply, Request, json_reply, message

CONTROL_PATH: Final = "/sandbox/"
CONTROL_BYTES: Final = 256_000_000

_MOST_PROFILES: Final = 100_000


class Controlled(Protocol):
    """What the control endpoints may touch."""

    config: Config
    state: State
    faults: FaultQueue
    in_flight: int

    def reset(self) -> None: ...


class Control:
    """Answers the control endpoints. Wrong input is a 400 that says what is wrong."""

    def __init__(self, sandbox: Controlled) -> None:
        self._sandbox = sandbox
        self._routes: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "report"): self._report,
            ("GET", "requests"): self._requests,
            ("GET", "profiles"): self._profiles,
            ("PUT", "profiles"): self._set_profiles,
            ("GET", "faults"): self._faults,
            ("PUT", "faults"): self._set_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "config"): self._config,
            ("PUT", "config"): self._set_config,
            ("POST", "reset"): self._reset,
        }

    def answer(self, request: Request) -> Reply:
        try:
            reply = self._route(request)
        except Refused as refused:
            reply = message(400, str(refused))
        body = reply.body
        for key in self._sandbox.config.known_keys:
            body = body.replace(key.encode(), b"***")
        return Reply(reply.status, body, reply.headers, reply.content_type)

    def _route(self, request: Request) -> Reply:
        name = request.path.removeprefix(CONTROL_PATH)
        if request.oversize:
            return message(413, f"at most {CONTROL_BYTES} bytes")
        route = self._routes.get((request.method, name))
        if route is not None:
            return route(request)
        if request.method == "GET" and name.startswith("profiles/"):
            return self._profile(unquote(name.removeprefix("profiles/")))
        known = ", ".join(f"{method} {path}" for method, path in self._routes)
        return message(404, f"no such control; known under {CONTROL_PATH}: {known}")

    def _report(self, _: Request) -> Reply:
        box = self._sandbox
        state = box.state
        return json_reply(200, state.tally.report(state.profiles, state.conduct, box.in_flight))

    def _requests(self, request: Request) -> Reply:
        limit = _limit(request, 50, 200)
        return json_reply(200, {"requests": self._sandbox.state.tally.last(limit)})

    def _profiles(self, request: Request) -> Reply:
        limit = _limit(request, 1000, _MOST_PROFILES)
        page = list(self._sandbox.state.profiles.after(request.query().get("after"), limit))
        return json_reply(
            200,
            {
                "profiles": {key: profile.attributes() for key, profile in page},
                "next": page[-1][0] if len(page) == limit else None,
            },
        )

    def _profile(self, key: str) -> Reply:
        profile = self._sandbox.state.profiles.get(key)
        if profile is None:
            return message(404, "no such profile")
        return json_reply(
            200,
            {
                "id": key,
                "created_at": profile.created_at,
                "attributes": profile.attributes(),
                "fields": profile.fields(),
                "history": profile.history(),
                "objects": profile.objects,
                "values": profile.values,
                "values_unchanged": profile.unchanged,
                "events": profile.events,
                "purchases": profile.purchases,
            },
        )

    def _set_profiles(self, request: Request) -> Reply:
        scene = _document(request)
        if not isinstance(scene, dict) or not all(isinstance(v, dict) for v in scene.values()):
            raise Refused("the profiles must be a JSON object {id: {attribute: value}}")
        for key, attributes in scene.items():
            self._sandbox.state.profiles.set_scene(key, attributes)
        return json_reply(200, {"profiles": len(scene)})

    def _faults(self, _: Request) -> Reply:
        return json_reply(200, [fault.shown() for fault in self._sandbox.faults.faults])

    def _set_faults(self, request: Request) -> Reply:
        self._sandbox.faults.replace(_document(request))
        return self._faults(request)

    def _add_fault(self, request: Request) -> Reply:
        self._sandbox.faults.append(_document(request))
        return self._faults(request)

    def _clear_faults(self, request: Request) -> Reply:
        self._sandbox.faults.clear()
        return self._faults(request)

    def _config(self, _: Request) -> Reply:
        return json_reply(200, self._sandbox.config.shown())

    def _set_config(self, request: Request) -> Reply:
        self._sandbox.config.update(_document(request))
        return self._config(request)

    def _reset(self, _: Request) -> Reply:
        self._sandbox.reset()
        return json_reply(200, {"message": "reset"})


def _document(request: Request) -> object:
    try:
        return request.document()
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}") from None


def _limit(request: Request, default: int, most: int) -> int:
    text = request.query().get("limit", str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise Refused(f"'limit' must be a whole number from 1 to {most}")
    return int(text)
