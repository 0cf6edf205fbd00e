"""Whatever the bytes of a body: an answer of the right shape, every message in one count, and
nothing in the store that the contract does not allow."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.http.asked import Asked
from producer.http.auth import FreshSecrets, Secrets, WriteKeys
from producer.http.bodies import read_body
from producer.http.door_counts import DoorCounts
from producer.http.ingest import KINDS
from producer.http.intake import Intake
from producer.http.limits import Room
from producer.http.metrics import Board
from producer.http.packing import Item, packed
from producer.http.replies import Declined, Failed, Reply, Taken
from producer.http.signature import is_first_signed, signature_of
from producer.http.tracking import Tracking
from producer.http.webhook import Webhook
from worker.contract import ENVELOPE, Refusals

_steady = settings(deadline=None, database=None, derandomize=True, max_examples=200)
NOW_MS = 1_795_341_600_000
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ODD = st.one_of(
    JSON, st.just("u1"), st.just(True), st.sampled_from(["vip", "2026-11-22T10:00:00Z"])
)
PERSONAS = st.fixed_dictionaries(
    {},
    optional={
        "computation_class": st.sampled_from(["audience", "trait", "journey_step", "x"]) | JSON,
        "computation_key": st.sampled_from(["vip", "", "email", "$x"]) | JSON,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*KINDS, "delete", "Track"]) | JSON,
        "userId": ODD,
        "anonymousId": ODD,
        "event": ODD,
        "timestamp": ODD,
        "sentAt": ODD,
        "receivedAt": ODD,
        "originalTimestamp": ODD,
        "messageId": ODD,
        "context": st.fixed_dictionaries({}, optional={"personas": PERSONAS | JSON}) | JSON,
        "traits": st.dictionaries(st.sampled_from(["vip", "x"]), ODD, max_size=2) | JSON,
        "properties": st.dictionaries(st.sampled_from(["vip", "x"]), ODD, max_size=2) | JSON,
    },
)
MESSAGES = st.lists(MESSAGE | JSON, min_size=1, max_size=6)


class Kept:
    """An appender that keeps what it is given."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.trouble = None

    async def append(self, items: Sequence[Item]) -> None:
        self.items += items


class Desk:
    """The routes before a list."""

    def __init__(self) -> None:
        self.kept, self.counts, self.room = Kept(), DoorCounts(), Room(10_000_000)
        secrets = Secrets(WriteKeys([("web", "k1")]), "s3cret", "t0ken")
        self.intake = Intake(
            self.kept,  # type: ignore[arg-type]
            self.counts,
            FreshSecrets(lambda: secrets),
            Board(1).row(0),
            timedelta(seconds=5),
            now_ms=lambda: NOW_MS,
        )

    def asked(self, body: bytes, **headers: str) -> Asked:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        return Asked("r1", "POST", named, receive, self.room)

    def ask(
        self, handler: Callable[[Asked], Awaitable[Reply]], body: bytes, **headers: str
    ) -> dict[str, Any]:
        """The answer, which fits its model; what was appended fits the contract."""
        asked = self.asked(body, **headers)

        async def answer() -> Reply:
            return await handler(asked)

        try:
            reply = asyncio.run(answer())
        except Declined as declined:
            reply = declined.reply()
        (Taken if reply.status == 200 else Failed).model_validate_json(reply.body)
        for envelope in packed(self.kept.items, partitions=1, new_id=lambda: "e"):
            ENVELOPE.validate_json(envelope.body)
        found: dict[str, Any] = json.loads(reply.body)
        return {**found, "status": reply.status}

    def counted(self) -> int:
        """How many messages were refused or skipped, as the worker will count them."""
        read = [Refusals.model_validate_json(one.body) for one in self.counts.take(lambda: "e")]
        return sum(sum((*one.refused.values(), *one.skipped.values())) for one in read)


@_steady
@given(st.binary(max_size=400))
def test_any_bytes_have_an_answer(body: bytes) -> None:
    """Never an exception, on any route."""
    desk = Desk()
    tracking = Tracking(desk.intake)
    login = "Basic azE6"
    desk.ask(tracking.batch, body, authorization=login)
    desk.ask(partial(tracking.single, "identify"), body, authorization=login)
    desk.ask(tracking.batch, body)
    desk.ask(tracking.batch, body, authorization=login, content_encoding="gzip")
    signed = signature_of("s3cret", body)
    desk.ask(Webhook(desk.intake, 1_000), body, x_signature=signed, authorization="Bearer t0ken")


@_steady
@given(MESSAGES, st.dictionaries(st.sampled_from(["context", "integrations", "sentAt"]), ODD))
def test_every_message_of_a_batch_has_one_outcome(
    messages: list[Any], more: dict[str, Any]
) -> None:
    """Accepted, refused or skipped: they add up to what was sent, in the answer and for the
    worker."""
    desk = Desk()
    body = json.dumps({**more, "batch": messages}).encode()
    found = desk.ask(Tracking(desk.intake).batch, body, authorization="Basic azE6")
    assert found["status"] == 200
    others = len(found["refused"]) + sum(found["skipped"].values())
    assert found["accepted"] == len(desk.kept.items)
    assert found["accepted"] + others == len(messages)
    assert desk.counted() == others


@_steady
@given(MESSAGES)
def test_a_webhook_says_the_same_of_each(messages: list[Any]) -> None:
    """Signed by its first message as it was written; deletions are taken, too."""
    desk = Desk()
    body = json.dumps(messages, ensure_ascii=False).encode("utf-8", "surrogatepass")
    first = json.dumps(messages[0], ensure_ascii=False).encode("utf-8", "surrogatepass")
    found = desk.ask(
        Webhook(desk.intake, 100_000),
        body,
        x_signature=signature_of("s3cret", first),
        authorization="Bearer t0ken",
    )
    if found["status"] == 200:
        others = len(found["refused"]) + sum(found["skipped"].values())
        assert found["accepted"] + others == len(messages)
    else:
        assert found["status"] in (400, 401)  # half a character is no UTF-8


@_steady
@given(MESSAGE, st.lists(JSON, max_size=3), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_the_first_of_an_array_is_found(
    first: dict[str, Any], rest: list[Any], separators: tuple[str, str]
) -> None:
    """However it was written: odd numbers, non-ASCII, spaces, the order of its names."""
    written = [
        json.dumps(one, separators=separators, ensure_ascii=False, default=str).encode(
            "utf-8", "replace"
        )
        for one in [first, *rest]
    ]
    body = b"[" + b",".join(written) + b"]"
    assert is_first_signed("s3cret", body, signature_of("s3cret", written[0]).encode())


@_steady
@given(st.binary(max_size=5_000), st.integers(0, 9), st.integers(1, 5_000))
def test_a_gzip_is_what_it_holds_or_too_long(body: bytes, level: int, limit: int) -> None:
    """Unpacked it is the body, if that is within the limit; else 413."""
    sent = gzip.compress(body, level)
    status, found = unpacked(Desk().asked(sent, content_encoding="gzip"), limit)
    fits = max(len(body), len(sent)) <= limit
    assert (status, found) == ((200, body) if fits else (413, b""))


def unpacked(asked: Asked, limit: int) -> tuple[int, bytes]:
    """The status that reading it would have, and what was read."""
    try:
        return 200, asyncio.run(read_body(asked, limit, 5.0))
    except Declined as declined:
        return declined.status, b""
