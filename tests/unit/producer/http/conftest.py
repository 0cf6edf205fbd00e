"""Routes without a socket: a request is a value, the store a list."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from producer.http.asked import Asked
from producer.http.auth import FreshSecrets, Secrets, WriteKeys
from producer.http.door_counts import DoorCounts
from producer.http.intake import Intake
from producer.http.limits import Room
from producer.http.metrics import Board
from producer.http.packing import Item
from producer.http.replies import Declined, Reply
from producer.refusals import ProducerRefused

KEY = "Basic azE6"  # k1:
NOW_MS = 1_795_341_600_000


class Kept:
    """An appender that keeps what it is given."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.trouble: ProducerRefused | None = None

    async def append(self, items: Sequence[Item]) -> None:
        if self.trouble:
            raise self.trouble
        self.items += items


class Routes:
    """What a route needs, and how to ask it."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.counts = DoorCounts()
        self.room = Room(1_000_000)
        self.secrets = Secrets(WriteKeys([("web", "k1"), ("app", "k2")]), ("s3cret",), ("t0ken",))
        self.intake = Intake(
            self.kept,  # type: ignore[arg-type]
            self.counts,
            FreshSecrets(lambda: self.secrets, clock=count().__next__),  # read anew each time
            Board(1).row(0),
            timedelta(seconds=1),
            now_ms=lambda: NOW_MS,
        )

    def ask(
        self,
        handler: Callable[[Asked], Any],
        body: Any,
        authorization: str | None = KEY,
        **headers: str,
    ) -> Reply:
        """The answer to a request; `body` may be bytes, several pieces, or a JSON value."""
        pieces = body if isinstance(body, list) and body and isinstance(body[0], bytes) else [body]
        asked = self.asked(pieces, authorization, **headers)
        try:
            reply = asyncio.run(handler(asked))
        except Declined as declined:
            reply = declined.reply()
        assert isinstance(reply, Reply)
        return reply

    def asked(self, pieces: list[Any], authorization: str | None, **headers: str) -> Asked:
        """A request whose body comes in pieces."""
        waiting = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in pieces]

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.sleep(60)
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        if authorization is not None:
            named[b"authorization"] = authorization.encode()
        return Asked("r1", "POST", named, receive, self.room)


@pytest.fixture
def routes() -> Routes:
    """Fresh ones."""
    return Routes()


def engage(user: str = "u1", key: str = "vip", value: object = True, **more: Any) -> dict[str, Any]:
    """An identify call as Engage makes it."""
    personas = {"computation_class": "audience", "computation_key": key}
    return {
        "type": "identify",
        "userId": user,
        "context": {"personas": personas},
        "traits": {key: value},
        **more,
    }


@pytest.fixture(name="engage")
def _engage() -> Callable[..., dict[str, Any]]:
    """See the function."""
    return engage
