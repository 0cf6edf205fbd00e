"""`POST /v1/...`: the HTTP Tracking API, as Segment's libraries use it.

The sender's clock is corrected as Segment does it: what a message's `timestamp` says is moved by
the difference between when we received it and its `sentAt`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from producer.fields import known_user
from producer.http.asked import Asked
from producer.http.auth import Secrets, basic_user
from producer.http.exact import Exactly
from producer.http.ingest import is_long, is_of, kind_of, plain, wrong_shape
from producer.http.intake import Intake
from producer.http.limits import BATCH_MAX_BYTES, BATCH_MAX_MESSAGES
from producer.http.packing import Item
from producer.http.reading import Reading
from producer.http.replies import Declined, Reply
from producer.json_text import MESSAGE_MAX_BYTES, BrokenJson, read_json
from producer.messages import Refused, Skipped, read_parsed
from worker.contract import Refusal, Skip

# Other requests go on between so many messages.
MESSAGES_AT_ONCE = 250
_SHARED = ("context", "integrations")


class Tracking:
    """The routes of /v1."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def single(self, kind: str, asked: Asked) -> Reply:
        """One message, whose kind the path says."""
        intake = self._intake
        source = self._source_of_header(asked)
        intake.refuse_early()
        with intake.counting(source, asked):
            body = await intake.body(asked, BATCH_MAX_BYTES)
            message = parsed(body)
        source = source or self._source_of_body(message)
        reading = Reading(asked.id)
        one = _Batch(source, intake.now_ms(), {}, body, Exactly(body, lambda found: [found]))
        reading.add(0, kind, one.read(0, message, kind))
        if reading.refusals:
            raise intake.refuse_single(reading, source, asked)
        return await intake.take(reading, source, asked)

    async def batch(self, asked: Asked) -> Reply:
        """Up to 2,500 messages; what is refused does not keep the others from being taken."""
        intake = self._intake
        source = self._source_of_header(asked)
        intake.refuse_early()
        with intake.counting(source, asked):
            body = await intake.body(asked, BATCH_MAX_BYTES)
            document = parsed(body)
        source = source or self._source_of_body(document)
        with intake.counting(source, asked):
            messages = _messages_of(document)
        batch = _Batch(
            source, intake.now_ms(), document, body, Exactly(body, lambda found: found["batch"])
        )
        reading = Reading(asked.id)
        for index, message in enumerate(messages):
            if index and index % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not isinstance(message, dict):
                reading.add(index, "other", Refused(Refusal.NOT_AN_OBJECT))
                continue
            kind = kind_of(message)
            reading.add(index, kind, batch.read(index, message, kind))
        return await intake.take(reading, source, asked)

    def _source_of_header(self, asked: Asked) -> str | None:
        """The source of the Authorization header; None if there is none. Raises Declined."""
        authorization = asked.header(b"authorization")
        if not authorization:
            return None
        user = basic_user(authorization)
        return _checked(None if user is None else self._secrets().write_keys.source_of(user))

    def _source_of_body(self, document: dict[str, Any]) -> str:
        given = document.get("writeKey")
        if not isinstance(given, str):
            return _checked(None)
        key = given.encode("utf-8", "surrogatepass")
        return _checked(self._secrets().write_keys.source_of(key))

    def _secrets(self) -> Secrets:
        return self._intake.secrets()


class _Batch:
    """What the messages of one request share."""

    def __init__(
        self,
        source: str,
        received_ms: int,
        document: dict[str, Any],
        body: bytes,
        exactly: Exactly,
    ) -> None:
        self._source = source
        self._received_ms = received_ms
        self._may_be_long = len(body) > MESSAGE_MAX_BYTES
        self._exactly = exactly
        self._sent_at = document.get("sentAt")
        self._shared = {
            name: found
            for name in _SHARED
            if isinstance(found := document.get(name), dict) and found
        }

    def read(self, index: int, message: dict[str, Any], kind: str) -> Item | Refused | Skipped:
        """One message, with what the batch says for all of them. `kind` is what its path says, or
        itself; a path has the last word, and a message that contradicts it is refused."""
        refusal = self._fault(message, kind)
        if refusal is not None:
            return Refused(refusal, known_user(message.get("userId"), self._exact(index)))
        message["type"] = kind
        if self._sent_at is not None and message.get("sentAt") is None:
            message["sentAt"] = self._sent_at
        for name, shared in self._shared.items():
            own = message.get(name)
            if own is None or isinstance(own, dict):
                message[name] = {**shared, **(own or {})}
        read = read_parsed(
            message,
            self._exact(index),
            source=self._source,
            place=index,
            received_ms=self._received_ms,
        )
        return told_apart(read, kind)

    def _exact(self, index: int) -> Callable[[], object]:
        return lambda: self._exactly.user_id(index)

    def _fault(self, message: dict[str, Any], kind: str) -> Refusal | None:
        if self._may_be_long and is_long(message):
            return Refusal.LINE_TOO_LONG
        return wrong_shape(message, kind) if is_of(message, kind) else Refusal.BAD_REQUEST


def told_apart(read: Item | Refused | Skipped, kind: str) -> Item | Refused | Skipped:
    """The same; what is about no audience goes by the kind of its message."""
    if isinstance(read, Skipped) and read.code is Skip.NOT_AN_AUDIENCE_MESSAGE:
        return Skipped(plain(kind), read.user_id)
    return read


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Declined (400)."""
    try:
        found = read_json(body)
    except BrokenJson:
        raise Declined(400, "broken_json", "The body is not JSON in UTF-8.") from None
    if not isinstance(found, dict):
        raise Declined(400, "not_an_object", "The body must be a JSON object.")
    return found


def _messages_of(document: dict[str, Any]) -> list[Any]:
    messages = document.get("batch")
    if not isinstance(messages, list):
        raise Declined(400, "bad_request", "`batch` must be an array of messages.")
    if not messages:
        raise Declined(400, "empty_batch", "`batch` has no message.")
    if len(messages) > BATCH_MAX_MESSAGES:
        raise Declined(
            413,
            "too_many_messages",
            f"A batch has at most {BATCH_MAX_MESSAGES:,} messages. Send it in parts.",
        )
    return messages


def _checked(source: str | None) -> str:
    if source is None:
        raise Declined(
            401,
            "unauthorized",
            "The write key is missing or not known here. Send it as the user of HTTP Basic "
            "authentication with an empty password, or as `writeKey` in the body.",
            ((b"www-authenticate", b'Basic realm="persona-sync", charset="UTF-8"'),),
        )
    return source
