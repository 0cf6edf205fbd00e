"""Reads a request's body within its limits: length, time, room, and what a gzip unpacks to.

Whoever sends more, or slower, gets the reason as an answer. What still comes of the body is
thrown away, for a while: producer/http/connection.py.
"""

import asyncio
import zlib

from producer.http.asked import Asked
from producer.http.replies import Declined

_PIECE = 64 * 1024
_GZIP = 31  # zlib's number for a gzip header and the largest window
_JSON = (b"application/json", b"")


async def read_body(
    asked: Asked, limit: int, seconds: float, *, may_be_packed: bool = True
) -> bytes:
    """The unpacked body, at most `limit` bytes. Raises Declined: 408, 413, 415, 400 or 503.

    `may_be_packed` False where who sends is known from the body only: a stranger's gzip would cost
    a thousand times what it took to send.
    """
    is_packed = _check_kind(asked, may_be_packed)
    declared = asked.header(b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_long(limit)
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(asked, limit)
    except TimeoutError:
        raise Declined(
            408,
            "body_too_slow",
            f"The body was not here within {seconds:g} s. Send it again, faster.",
            closes=True,
        ) from None
    return _unpacked(asked, body, limit) if is_packed else body


def _check_kind(asked: Asked, may_be_packed: bool) -> bool:
    """True if the body is a gzip. Raises Declined (415) for what is neither that nor JSON."""
    kind = asked.header(b"content-type").partition(b";")[0].strip().lower()
    if kind not in _JSON:
        raise Declined(
            415,
            "unsupported_media_type",
            "Send JSON, with Content-Type: application/json.",
        )
    encoding = asked.header(b"content-encoding").strip().lower()
    if encoding in (b"", b"identity"):
        return False
    if not may_be_packed:
        raise Declined(
            415,
            "unsupported_encoding",
            "Send the body plain here, as Segment does: it is not unpacked before its signature "
            "was checked.",
        )
    if encoding not in (b"gzip", b"x-gzip"):
        raise Declined(
            415,
            "unsupported_encoding",
            "Send the body plain, or with Content-Encoding: gzip.",
        )
    return True


async def _receive(asked: Asked, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            raise Declined(400, "cut_off", "The body ended early.", closes=True)
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_long(limit)
        asked.hold(len(piece))
        pieces.append(piece)
        if not message.get("more_body"):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unpacked(asked: Asked, packed: bytes, limit: int) -> bytes:
    """Unpack piece by piece, all members (RFC 1952): what would grow beyond the limit is not
    unpacked further."""
    unpacker = zlib.decompressobj(_GZIP)
    pieces: list[bytes] = []
    size = 0
    rest = packed
    try:
        while rest:
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP)
            piece = unpacker.decompress(rest, _PIECE)
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            size += len(piece)
            if size > limit:
                raise _too_long(limit)
            asked.hold(len(piece))
            pieces.append(piece)
    except zlib.error:
        raise _broken_gzip() from None
    if not unpacker.eof:
        raise _broken_gzip()
    return b"".join(pieces)


def _broken_gzip() -> Declined:
    return Declined(400, "broken_gzip", "The body is not a whole gzip.")


def _too_long(limit: int) -> Declined:
    return Declined(
        413,
        "body_too_large",
        f"The body is longer than {limit:,} bytes, unpacked. A message has 32 KB at most; "
        "send fewer of them at a time.",
    )
