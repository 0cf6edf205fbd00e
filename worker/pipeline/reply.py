"""What came back from one request to Braze, as a value: the client makes it, `outcome` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Trouble(StrEnum):
    """Why there is no whole reply."""

    NO_KEY = "no_key"  # nothing was sent: there is no key that a header can carry
    NOT_CONNECTED = "not_connected"  # nothing was sent: name, connect or TLS failed
    TIMEOUT = "timeout"  # the total was over after sending had begun
    RESET = "reset"  # the connection broke before a whole reply was there
    UNREADABLE = "unreadable"  # the reply was no HTTP, or longer than a reply can be


@dataclass(frozen=True, slots=True)
class Reply:
    """One request's end. Exactly one of `status` and `trouble` is set.

    `headers` have lower-case names. `body` holds at most 1 MB. `seconds` is from before the
    connect to the end.
    """

    status: int | None = None
    trouble: Trouble | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
