"""Who may send: write keys and the webhook's secrets, compared in constant time.

A changed file of secrets is taken up within a second. One that can no longer be read, or says
nonsense or nothing, is told in the log, and what was valid before stays so.
"""

import base64
import binascii
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import structlog

from worker.settings import Settings, WrongSettings

_SOURCE_MAX_CHARS = 255
_LOOK_SECONDS = 1.0
_NOT_A_LIST = (
    "PERSONA_SYNC_WRITE_KEYS must be `source:key`, several with commas between, such as "
    "web:3xMp...,engage:9kQz...; a source has no colon, a key no space."
)


_NAMES = {
    "write_keys": "PERSONA_SYNC_WRITE_KEYS_FILE",
    "shared_secrets": "PERSONA_SYNC_SHARED_SECRET_FILE",
    "webhook_tokens": "PERSONA_SYNC_WEBHOOK_TOKEN_FILE",
}


def _items(text: str | None) -> list[str]:
    """What stands between commas and line ends, without the spaces around it."""
    return [item.strip() for item in re.split(r"[,\n]", text or "") if item.strip()]


def _digest(secret: bytes) -> bytes:
    """Of one length for all, so that a comparison tells nothing of a secret's own."""
    return sha256(secret).digest()


class WriteKeys:
    """Keys of sources. A source may have several keys, a key has one source."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._known = [(source, _digest(key.encode())) for source, key in pairs]

    @classmethod
    def parse(cls, text: str | None) -> "WriteKeys":
        """Read `source:key,source:key`; line ends separate, too. Raises WrongSettings, and no
        word of the text is in its message."""
        pairs = []
        for item in _items(text):
            source, _, key = (part.strip() for part in item.partition(":"))
            if not source or not re.fullmatch(r"[!-~]+", key) or len(source) > _SOURCE_MAX_CHARS:
                raise WrongSettings(_NOT_A_LIST)
            pairs.append((source, key))
        if len({key for _, key in pairs}) < len(pairs):
            raise WrongSettings(
                "PERSONA_SYNC_WRITE_KEYS gives one key twice; each must be its own."
            )
        return cls(pairs)

    def __bool__(self) -> bool:
        return bool(self._known)

    def source_of(self, given: bytes) -> str | None:
        """The source that has this key. It is compared with every key, whatever comes out."""
        wanted, found = _digest(given), None
        for source, known in self._known:
            if hmac.compare_digest(known, wanted):
                found = source
        return found


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is valid now: several of each while one is replaced, none: not set up."""

    write_keys: WriteKeys
    shared_secrets: tuple[str, ...]
    webhook_tokens: tuple[str, ...]

    @classmethod
    def read(cls, settings: Settings) -> "Secrets":
        """From the environment and the files it names. Raises WrongSettings."""
        return cls(
            WriteKeys.parse(settings.write_keys_text()),
            tuple(_items(settings.shared_secret_text())),
            tuple(_items(settings.webhook_token_text())),
        )

    def has_token(self, authorization: bytes) -> bool:
        """True if the header is `Bearer` and our token."""
        kind, _, given = authorization.strip().partition(b" ")
        wanted = _digest(given.strip())
        are_right = [
            hmac.compare_digest(_digest(token.encode()), wanted) for token in self.webhook_tokens
        ]
        return kind.lower() == b"bearer" and any(are_right)

    def without_losses(self, before: "Secrets") -> tuple["Secrets", str]:
        """The same; but where all of a kind are gone now, those from before. And why: a file that
        is empty is one that somebody is writing, or has cut off by mistake."""
        gone = {
            name: getattr(before, name)
            for name in _NAMES
            if getattr(before, name) and not getattr(self, name)
        }
        if not gone:
            return self, ""
        settings = " and ".join(_NAMES[name] for name in gone)
        return replace(self, **gone), (
            f"{settings}: the file is empty now. What it held before stays valid; write the new "
            "one, or restart to do without."
        )


class FreshSecrets:
    """Secrets that follow their files. For one event loop."""

    def __init__(
        self, read: Callable[[], Secrets], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises what `read` raises: wrong secrets are no start."""
        self._read = read
        self._clock = clock
        self._found = read()
        self._read_at = clock()
        self._said = ""

    def now(self) -> Secrets:
        """The secrets, at most a second old."""
        if self._clock() - self._read_at >= _LOOK_SECONDS:
            self._read_at = self._clock()
            self._look()
        return self._found

    def _look(self) -> None:
        try:
            self._found, reason = self._read().without_losses(self._found)
        except WrongSettings as error:
            reason = str(error)
        except UnicodeDecodeError:
            reason = "A file of secrets is not text. What was valid before stays so; mend the file."
        if reason and reason != self._said:
            structlog.get_logger().warning("secrets_not_taken_up", reason=reason)
        self._said = reason


def basic_user(authorization: bytes) -> bytes | None:
    """The user of HTTP Basic authentication with an empty password; None if it is not that."""
    kind, _, encoded = authorization.strip().partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user if colon and not password else None
