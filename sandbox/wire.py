"""What crosses the wire: a request as received, a reply as Braze would word it, and its bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

import orjson

Headers: TypeAlias = tuple[tuple[str, str], ...]

_UNREAD: Final = object()


class Request:
    """One HTTP request. `oversize` means the body was longer than allowed and was thrown away."""

    __slots__ = (
        "_document",
        "body",
        "exchange",
        "headers",
        "keep_alive",
        "method",
        "oversize",
        "path",
        "peer_closed",
        "query_string",
        "started_at",
    )

    def __init__(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        started_at: float = 0.0,
    ) -> None:
        self.method = method
        self.path, _, self.query_string = target.partition("?")
        self.headers: dict[str, str] = dict(headers or {})
        self.body = body
        self.started_at = started_at
        self.keep_alive = True
        self.oversize = False
        self.peer_closed: Callable[[], bool] = _never
        self.exchange: Any = None
        self._document: object = _UNREAD

    def document(self) -> object:
        """The body as JSON, parsed once. Raises ValueError for anything that is not JSON."""
        if self._document is _UNREAD:
            self._document = orjson.loads(self.body)
        return self._document

    def query(self) -> dict[str, str]:
        """The query string; of a repeated name the last value counts."""
        return {name: values[-1] for name, values in parse_qs(self.query_string).items()}


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Content-Length and Date are added when it is encoded."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    content_type: str = "application/json"

    def with_headers(self, headers: Headers) -> "Reply":
        return Reply(self.status, self.body, self.headers + headers, self.content_type)


def json_reply(status: int, document: object, headers: Headers = ()) -> Reply:
    return Reply(status, orjson.dumps(document), headers)


def message(status: int, text: str, headers: Headers = ()) -> Reply:
    """The form of nearly every Braze refusal: `{"message": text}`."""
    return json_reply(status, {"message": text}, headers)


def reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


_status_lines: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: ".encode()
    for status in HTTPStatus
}


class DateHeader:
    """The Date header, formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def at(self, now: float) -> bytes:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode()
        return self._text


def encode_head(reply: Reply, date: bytes, keep_alive: bool) -> bytes:
    """Status line and headers, including the empty line that ends them."""
    line = _status_lines.get(reply.status)
    if line is None:
        line = f"HTTP/1.1 {reply.status} {reason(reply.status)}\r\nDate: ".encode()
    head = (
        f"\r\nContent-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
    )
    for name, value in reply.headers:
        head += f"{name}: {value}\r\n"
    return line + date + (head + "\r\n").encode("latin-1", "replace")
