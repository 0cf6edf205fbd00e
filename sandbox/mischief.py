"""Plays a fault: turns a request that meets one into the delivery its client gets."""

from collections.abc import Callable
from random import Random
from typing import Final

import orjson

from sandbox.braze import Braze
from sandbox.delivery import Delivery, Manner
from sandbox.faults import Fault, places_of
from sandbox.limits import Standing, announce
from sandbox.state import State
from sandbox.track import ARRAYS, NO_VALID_DATA
from sandbox.wire import Headers, Reply, Request, json_reply, message, reason

_NOTHING: Final = message(503, "Service Unavailable")
_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>{0} {1}</title></head>"
    "<body><h1>{0} {1}</h1><p>The request could not be satisfied.</p></body></html>"
)

Play = Callable[["Mischief", Fault, Request, State], Delivery]


class Mischief:
    """Knows each kind of fault. Draws of random delays come from one seeded source."""

    def __init__(self, braze: Braze, random: Random) -> None:
        self.braze = braze
        self.random = random

    def play(self, fault: Fault, request: Request, state: State) -> Delivery:
        return _PLAYS[fault.kind](self, fault, request, state)

    def _latency(self, fault: Fault, request: Request, state: State) -> Delivery:
        delay = self.random.uniform(*fault.options["seconds"])
        return Delivery(self.braze.answer(request, state), delay=delay)

    def _status(self, fault: Fault, request: Request, state: State) -> Delivery:
        options = fault.options
        headers: Headers = tuple(options["headers"].items())
        if options["header_form"] is not None:
            now = self.braze.now()
            standing = Standing(False, 1, 0, now + options["retry_after_s"])
            headers += announce(options["header_form"], standing, now)
        body = options["body"]
        if body is None:
            body = {"message": reason(options["status"])}
        if isinstance(body, str):
            return Delivery(Reply(options["status"], body.encode(), headers, "text/plain"))
        return Delivery(Reply(options["status"], orjson.dumps(body), headers))

    def _html(self, fault: Fault, request: Request, state: State) -> Delivery:
        status = fault.options["status"]
        page = _PAGE.format(status, reason(status)).encode()
        return Delivery(Reply(status, page, content_type="text/html"))

    def _hang(self, fault: Fault, request: Request, state: State) -> Delivery:
        seconds, after = fault.options["seconds"], fault.options["apply_after"]
        if not fault.options["apply"]:
            return Delivery(_NOTHING, Manner.SILENCE, seconds)
        if after == 0:
            return Delivery(self.braze.answer(request, state), Manner.SILENCE, seconds)

        def late() -> None:
            self.braze.answer(request, state)

        return Delivery(_NOTHING, Manner.SILENCE, seconds, late=late, late_after=after)

    def _drip(self, fault: Fault, request: Request, state: State) -> Delivery:
        reply = self._answer_or_pretend(fault, request, state)
        return Delivery(reply, Manner.DRIP, interval=fault.options["interval"])

    def _reset_before(self, fault: Fault, request: Request, state: State) -> Delivery:
        return Delivery(_NOTHING, Manner.RESET)

    def _reset_after(self, fault: Fault, request: Request, state: State) -> Delivery:
        return Delivery(self._answer_or_pretend(fault, request, state), Manner.RESET)

    def _cut(self, fault: Fault, request: Request, state: State) -> Delivery:
        return Delivery(self._answer_or_pretend(fault, request, state), Manner.CUT)

    def _poison(self, fault: Fault, request: Request, state: State) -> Delivery:
        admitted = self.braze.admit(request, state)
        if isinstance(admitted, Reply):
            return Delivery(admitted)
        if not fault.options["named"]:
            return Delivery(message(400, NO_VALID_DATA, admitted))
        problem = "provided external_id is blacklisted and disallowed"
        errors = [
            {"type": problem, "input_array": array, "index": index}
            for array, index in places_of(request, fault.match_user or "")
        ]
        return Delivery(json_reply(400, {"message": NO_VALID_DATA, "errors": errors}, admitted))

    def _partial_unindexed(self, fault: Fault, request: Request, state: State) -> Delivery:
        admitted = self.braze.admit(request, state)
        if isinstance(admitted, Reply):
            return Delivery(admitted)
        reply = self.braze.track(request, state, spare=fault.match_user)
        if reply.status == 201:
            body = orjson.loads(reply.body)
            error = {"type": "this object could not be processed"}
            if fault.options["array"]:
                error["input_array"] = places_of(request, fault.match_user or "")[0][0]
            body["errors"] = [*body.get("errors", ()), error]
            reply = json_reply(201, body)
        return Delivery(reply.with_headers(admitted))

    def _odd_message(self, fault: Fault, request: Request, state: State) -> Delivery:
        admitted = self.braze.admit(request, state)
        if isinstance(admitted, Reply):
            return Delivery(admitted)
        return Delivery(message(fault.options["status"], fault.options["message"], admitted))

    def _queued(self, fault: Fault, request: Request, state: State) -> Delivery:
        reply = self.braze.answer(request, state)
        if reply.status >= 300:
            return Delivery(reply)
        return Delivery(message(202, "queued", reply.headers))

    def _answer_or_pretend(self, fault: Fault, request: Request, state: State) -> Reply:
        """The true answer, or without `apply` one that looks like it while nothing was written."""
        if fault.options["apply"]:
            return self.braze.answer(request, state)
        admitted = self.braze.admit(request, state)
        if isinstance(admitted, Reply):
            return admitted
        document = request.document()
        body: dict[str, object] = {"message": "success"}
        for array in ARRAYS:
            sent = document.get(array) if isinstance(document, dict) else None
            if isinstance(sent, list):
                body[f"{array}_processed"] = len(sent)
        return json_reply(201, body, admitted)


_PLAYS: Final[dict[str, Play]] = {
    "latency": Mischief._latency,
    "status": Mischief._status,
    "html": Mischief._html,
    "hang": Mischief._hang,
    "drip": Mischief._drip,
    "reset_before": Mischief._reset_before,
    "reset_after": Mischief._reset_after,
    "cut": Mischief._cut,
    "poison": Mischief._poison,
    "partial_unindexed": Mischief._partial_unindexed,
    "odd_message": Mischief._odd_message,
    "queued": Mischief._queued,
}
