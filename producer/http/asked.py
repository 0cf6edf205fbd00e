"""One request as the routes see it, and what the access log will say of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from producer.http.limits import Room, TooMuchHeld
from producer.http.replies import busy

Receive = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Asked:
    """A request: `held` is what its body takes of the process's room until it is answered."""

    id: str
    method: str
    headers: dict[bytes, bytes]
    receive: Receive
    room: Room
    held: int = 0
    notes: dict[str, Any] = field(default_factory=dict)  # for the access log: ids and counts

    def header(self, name: bytes) -> bytes:
        """A header's value; empty if there is none."""
        return self.headers.get(name, b"")

    def hold(self, size: int) -> None:
        """Take room for so many bytes more. Raises Declined (503) if there is none."""
        try:
            self.room.take(size)
        except TooMuchHeld:
            raise busy() from None
        self.held += size

    def release(self) -> None:
        """Give all of it back."""
        self.room.give_back(self.held)
        self.held = 0
