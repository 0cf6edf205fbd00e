"""What the door answers: one form for what was taken, one for what was not.

The pydantic models are what the OpenAPI document tells; tests hold every answer to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from producer.refusals import InboxFull, MemoryFull, ProducerRefused

AWAY_SECONDS = 2
FULL_SECONDS = 5


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RefusedItem(_Model):
    """A refused message of a request whose other messages were taken."""

    index: int = Field(ge=0, description="its place in the batch, from 0")
    code: str = Field(description="one of docs/refusals.md; Segment's own where it has one")
    reason: str


class Taken(_Model):
    """Everything counted here as accepted is on disk."""

    success: Literal[True] = True
    accepted: int = Field(ge=0, description="changes and deletions")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="messages that are not our business, by code"
    )
    refused: list[RefusedItem] = Field(default_factory=list)


class Failed(_Model):
    """Nothing of the request was taken, or that is not certain; `message` says what to do."""

    success: Literal[False] = False
    code: str
    message: str


class Health(_Model):
    """Whether the process lives, or takes messages."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, a body and the headers that only this answer has."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


def taken(accepted: int, skipped: Mapping[str, int], refused: list[dict[str, Any]]) -> Reply:
    """200; the shape is that of `Taken`."""
    body = {"success": True, "accepted": accepted, "skipped": skipped, "refused": refused}
    return Reply(200, orjson.dumps(body))


def health(status: int, message: str) -> Reply:
    """200 or 503; the shape is that of `Health`."""
    return Reply(status, orjson.dumps({"ok": status == 200, "message": message}))


class Declined(Exception):
    """Ends a request with a refusal. `closes`: the connection cannot be used any more."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        closes: bool = False,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = (*headers, (b"connection", b"close")) if closes else headers

    def reply(self) -> Reply:
        """The shape is that of `Failed`."""
        body = {"success": False, "code": self.code, "message": self.message}
        return Reply(self.status, orjson.dumps(body), self.headers)


def not_now(refused: ProducerRefused) -> Declined:
    """429 while the inbox or the memory is full, 503 while the server is away, with a time."""
    if isinstance(refused, InboxFull | MemoryFull):
        seconds = str(FULL_SECONDS).encode()
        what = "inbox is full" if isinstance(refused, InboxFull) else "server's memory is full"
        return Declined(
            429,
            "too_many_requests",
            f"Nothing is accepted for the moment: the {what}. Send the same again after the "
            "seconds in Retry-After; who runs this should see to the workers.",
            ((b"retry-after", seconds), (b"x-ratelimit-reset", seconds)),
        )
    return Declined(
        503,
        "server_away",
        "Nothing is accepted for the moment: the store behind this does not take writes. Send "
        "the same again after the seconds in Retry-After; nothing is applied twice.",
        ((b"retry-after", str(AWAY_SECONDS).encode()),),
    )


def stopping() -> Declined:
    """503: this process ends; the rest of the body did not come in time."""
    return Declined(
        503,
        "stopping",
        "The producer stops, and the request was not here in whole. Send the same again after the "
        "seconds in Retry-After; nothing is applied twice.",
        ((b"retry-after", str(AWAY_SECONDS).encode()),),
        closes=True,
    )


def malformed() -> Declined:
    """400: what came is no HTTP request."""
    return Declined(400, "malformed_request", "This is no HTTP/1.1 request.", closes=True)


def busy() -> Declined:
    """503: this process holds as much as it may."""
    return Declined(
        503,
        "busy",
        "Too many requests are under way. Send the same again after the seconds in Retry-After.",
        ((b"retry-after", b"1"),),
        closes=True,
    )
