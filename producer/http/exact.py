"""A body's messages once more, whole numbers with every digit: parsed when first asked for, once,
however many messages ask."""

from collections.abc import Callable
from typing import Any

from producer.json_text import BrokenJson, read_exactly


class Exactly:
    """`messages_of` picks the messages out of the parsed body."""

    def __init__(self, body: bytes, messages_of: Callable[[Any], list[Any]]) -> None:
        self._body = body
        self._messages_of = messages_of
        self._found: list[Any] | None = None

    def user_id(self, index: int) -> object:
        """The user id of the message at that place; None if it cannot be read so exactly."""
        if self._found is None:
            try:
                self._found = self._messages_of(read_exactly(self._body))
            except BrokenJson:  # nested deeper than the standard library reads
                self._found = []
        return self._found[index]["userId"] if self._found else None
