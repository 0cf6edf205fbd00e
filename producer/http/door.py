"""One request from its headers to its answer: the same for every route.

Gives it an id, counts it, turns a refusal into an answer, sets the headers that every answer has
and writes the line of the access log.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from producer.http.access_log import log_failure, log_request
from producer.http.asked import Asked
from producer.http.limits import Room
from producer.http.metrics import Row
from producer.http.replies import Declined, Reply, busy, stopping

Handler = Callable[[Asked], Awaitable[Reply]]

# What a scanner would ask of an API. Strict-Transport-Security is for what ends TLS.
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
TOO_MANY_HEADERS = "persona_sync.too_many_headers"
TOO_MANY_CONNECTIONS = "persona_sync.too_many_connections"
_HEALTH = ("healthz", "readyz")
# Two of them, and what stands in front may have looked at the other one.
_ONCE = (b"authorization", b"x-signature", b"content-type", b"content-encoding")


def headers_of(reply: Reply, request: str) -> list[tuple[bytes, bytes]]:
    """All headers of an answer."""
    return [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", request.encode()),
        *HEADERS,
        *reply.headers,
    ]


class Door:
    """What all routes of a process share."""

    def __init__(self, room: Room, row: Row) -> None:
        self.room = room
        self.row = row
        self.in_progress = 0
        self._name = secrets.token_hex(4)
        self._asked = 0

    def new_id(self) -> str:
        """A request's id: this process's random name and a number."""
        self._asked += 1
        return f"{self._name}{self._asked:08x}"

    def count(self, by: int) -> None:
        """Note the requests under way and what they hold."""
        self.in_progress += by
        self.row.set("requests_in_progress", self.in_progress)
        self.row.set("held_bytes", self.room.held)


class Endpoint:
    """A route, as an ASGI application. Without a method it answers all of them."""

    def __init__(self, door: Door, route: str, method: str, handler: Handler) -> None:
        self._door = door
        self._route = route
        self._method = method
        self._handler = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()
        door = self._door
        headers = dict(scope["headers"])
        asked = Asked(door.new_id(), scope["method"], headers, receive, door.room)
        door.count(+1)
        try:
            reply = await self._answer(asked, scope)
        except asyncio.CancelledError:  # a stop does not wait longer, and then the process ends
            asked.notes["code"] = stopping().code
            reply = stopping().reply()
        finally:
            asked.release()
            door.count(-1)
        answer = headers_of(reply, asked.id)
        await send({"type": "http.response.start", "status": reply.status, "headers": answer})
        body = b"" if asked.method == "HEAD" else reply.body
        await send({"type": "http.response.body", "body": body})
        self._note(asked, reply.status, time.perf_counter() - began)

    async def _answer(self, asked: Asked, scope: Any) -> Reply:
        try:
            if TOO_MANY_HEADERS in scope:
                raise _too_many_headers()
            if self._route not in _HEALTH:
                if TOO_MANY_CONNECTIONS in scope:
                    raise busy()
                _check_doubled([name for name, _ in scope["headers"]])
            if self._method and asked.method not in self._methods():
                raise _wrong_method(self._methods())
            return await self._handler(asked)
        except Declined as declined:
            asked.notes["code"] = declined.code
            return declined.reply()
        except Exception as error:  # noqa: BLE001 - a bug in one request ends that request only
            log_failure(asked.id, self._route, error)
            return _failed().reply()

    def _methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self._method == "GET" else (self._method,)

    def _note(self, asked: Asked, status: int, seconds: float) -> None:
        self._door.row.count("requests_total", route=self._route, status=str(status))
        self._door.row.observe("request_duration_seconds", seconds)
        log_request(asked.id, asked.method, self._route, status, seconds, asked.notes)


async def not_found(asked: Asked) -> Reply:
    """404 for every path that is not ours."""
    raise Declined(
        404, "not_found", "There is nothing here. Segment libraries send to /v1, webhooks to "
        "/webhooks/segment.",
    )  # fmt: skip


def _check_doubled(names: list[bytes]) -> None:
    """Raises Declined (400) for a header that may be there once only."""
    if len(set(names)) == len(names):
        return
    for name in _ONCE:
        if names.count(name) > 1:
            raise Declined(
                400, "doubled_header", f"The header {name.decode()} is there twice. Send it once."
            )


def _wrong_method(right: tuple[str, ...]) -> Declined:
    allowed = ", ".join(right)
    return Declined(
        405, "method_not_allowed", f"Use {right[0]} here.", ((b"allow", allowed.encode()),)
    )


def _too_many_headers() -> Declined:
    return Declined(
        431, "headers_too_large", "Too many headers, or too long ones. Send fewer.", closes=True
    )


def _failed() -> Declined:
    return Declined(
        500,
        "internal_error",
        "This is a fault of the producer; its log has a line with this answer's X-Request-Id. "
        "Send the same again later.",
    )
