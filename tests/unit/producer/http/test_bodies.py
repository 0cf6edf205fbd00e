"""A body within its limits: length, time, room, kind, and what a gzip unpacks to."""

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest

from producer.http.asked import Asked
from producer.http.bodies import read_body
from producer.http.replies import Declined

LIMIT = 10_000


def read(asked: Asked, seconds: float = 1.0) -> bytes:
    return asyncio.run(read_body(asked, LIMIT, seconds))


def refusal(asked: Asked, seconds: float = 1.0) -> tuple[int, str]:
    with pytest.raises(Declined) as caught:
        read(asked, seconds)
    body = json.loads(caught.value.reply().body)
    assert body["success"] is False
    assert len(body["message"]) > 20
    return caught.value.status, body["code"]


class TestPlain:
    def test_pieces_are_joined(self, routes: Any) -> None:
        """However it comes."""
        assert read(routes.asked([b"ab", b"", b"c"], None)) == b"abc"

    def test_declared_too_long(self, routes: Any) -> None:
        """Nothing of it is read."""
        asked = routes.asked([b"x"], None, content_length=str(LIMIT + 1))
        assert refusal(asked) == (413, "body_too_large")
        assert asked.held == 0

    def test_endless_chunks_are_cut_off(self, routes: Any) -> None:
        """Without a Content-Length the limit holds while it is read."""
        asked = routes.asked([b"x" * 4_000] * 1_000, None)
        assert refusal(asked) == (413, "body_too_large")
        assert asked.held <= LIMIT

    def test_the_limit_itself_fits(self, routes: Any) -> None:
        """Up to and including."""
        assert len(read(routes.asked([b"x" * LIMIT], None))) == LIMIT

    def test_a_slow_body_is_cut_off(self, routes: Any) -> None:
        """Whoever stops in the middle is not waited for."""
        asked = routes.asked([], None)
        assert refusal(asked, seconds=0.01) == (408, "body_too_slow")

    def test_a_full_process_says_so(self, routes: Any) -> None:
        """503, and what was held is given back."""
        routes.room.take(999_000)
        asked = routes.asked([b"x" * 900, b"x" * 900], None)
        assert refusal(asked) == (503, "busy")
        asked.release()
        assert routes.room.held == 999_000

    @pytest.mark.parametrize(
        "kind", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x"]
    )
    def test_json_is_taken(self, kind: str, routes: Any) -> None:
        """With or without parameters."""
        assert read(routes.asked([b"{}"], None, content_type=kind)) == b"{}"

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "json"])
    def test_other_kinds_are_refused(self, kind: str, routes: Any) -> None:
        """A form of a web page cannot send here."""
        asked = routes.asked([b"{}"], None, content_type=kind)
        assert refusal(asked) == (415, "unsupported_media_type")


class TestGzip:
    def packed(self, routes: Any, body: bytes, encoding: str = "gzip") -> Asked:
        asked: Asked = routes.asked([body], None, content_encoding=encoding)
        return asked

    def test_it_is_unpacked(self, routes: Any) -> None:
        """What was packed comes out."""
        assert read(self.packed(routes, gzip.compress(b"hello"))) == b"hello"

    def test_of_several_members(self, routes: Any) -> None:
        """RFC 1952: what a file of them unpacks to is all of them, one behind the other."""
        members = [gzip.compress(part) for part in (b"[1,", b"", b"2", b"x" * 5_000, b"]")]
        assert read(self.packed(routes, b"".join(members))) == b"[1,2" + b"x" * 5_000 + b"]"
        asked = self.packed(routes, gzip.compress(b"0" * 6_000) * 2)
        assert refusal(asked) == (413, "body_too_large")

    def test_a_bomb_is_not_unpacked(self, routes: Any) -> None:
        """A small body of many zeros: no more than a piece beyond the limit is made."""
        bomb = gzip.compress(b"0" * 8_000_000)
        assert len(bomb) < LIMIT
        asked = self.packed(routes, bomb)
        assert refusal(asked) == (413, "body_too_large")
        assert asked.held <= LIMIT + len(bomb)

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"no gzip", gzip.compress(b"hello")[:-3], zlib.compress(b"hello"),
            gzip.compress(b"a") + b"junk", gzip.compress(b"a") + gzip.compress(b"b")[:-1],
        ],
        # The bytes hold the time of day, and would be other names in each process of a run.
        ids=["empty", "plain", "cut off", "zlib", "junk behind", "second cut off"],
    )  # fmt: skip
    def test_broken_ones_are_refused(self, body: bytes, routes: Any) -> None:
        """Cut off, something behind it, another format."""
        assert refusal(self.packed(routes, body)) == (400, "broken_gzip")

    @pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip"])
    def test_other_encodings_are_refused(self, encoding: str, routes: Any) -> None:
        """Only gzip, once."""
        assert refusal(self.packed(routes, b"x", encoding)) == (415, "unsupported_encoding")
