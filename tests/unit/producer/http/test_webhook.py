"""Segment's webhooks: a signed message, an array with our token, deletions in their place."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from producer.http.replies import Declined, Failed, Reply, Taken
from producer.http.signature import signature_of
from producer.http.webhook import Webhook
from worker.contract import Change, Deletion, Refusals

TOKEN = "Bearer t0ken"


def send(
    routes: Any, body: Any, authorization: str | None = None, signed: bytes | None = None
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    signature = signature_of("s3cret", raw if signed is None else signed)
    handler = Webhook(routes.intake, 100_000)
    reply: Reply = routes.ask(handler, raw, authorization, x_signature=signature)
    (Taken if reply.status == 200 else Failed).model_validate_json(reply.body)
    return reply


def first(messages: list[Any]) -> bytes:
    return json.dumps(messages[0], separators=(",", ":")).encode()


class TestOne:
    def test_a_signed_message_is_taken(self, routes: Any, engage: Callable[..., Any]) -> None:
        """Its source is the webhook."""
        assert send(routes, engage(receivedAt="2026-11-22T10:00:00Z")).status == 200
        (change,) = routes.kept.items
        assert change.source == "webhook"
        assert change.arrived_at is not None

    def test_a_wrong_signature_is_401(self, routes: Any, engage: Callable[..., Any]) -> None:
        """Nothing is taken, and the message says what to compare."""
        reply = send(routes, engage(), signed=b"another body")
        assert reply.status == 401
        assert b"Shared Secret" in reply.body
        assert routes.kept.items == []

    def test_a_token_does_not_replace_the_signature(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """Both say who sent it; for one message the signature does."""
        assert send(routes, engage(), TOKEN, signed=b"x").status == 401

    def test_no_signature_is_401_before_the_body(self, routes: Any) -> None:
        """Strangers cannot make us read."""
        asked = routes.asked([b"{}"], None)
        reply = routes.ask(Webhook(routes.intake, 100), b"{}")
        assert reply.status == 401
        assert b"X-Signature" in reply.body
        assert asked.held == 0

    def test_either_secret_fits_while_one_is_replaced(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """For one message and for an array."""
        routes.secrets = type(routes.secrets)(
            routes.secrets.write_keys, ("next", "s3cret"), ("t-next", "t0ken")
        )
        messages = [engage("u1"), engage("u2")]
        assert send(routes, messages[0]).status == 200
        assert send(routes, messages, TOKEN, signed=first(messages)).status == 200
        assert send(routes, messages, "Bearer t-next", signed=first(messages)).status == 200
        assert send(routes, messages[0], signed=b"x").status == 401

    def test_a_gzip_is_not_unpacked_for_a_stranger(self, routes: Any) -> None:
        """415 without reading it: Segment sends none, and who sends it is known from the body."""
        asked = routes.asked([gzip.compress(b" " * 90_000)], None, content_encoding="gzip",
                             x_signature="0" * 40)  # fmt: skip
        with pytest.raises(Declined) as caught:
            asyncio.run(Webhook(routes.intake, 100_000)(asked))
        assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
        assert asked.held == 0

    def test_a_message_has_32_kb_at_most(self, routes: Any, engage: Callable[..., Any]) -> None:
        """As everywhere; but nobody is kept because a deletion is long."""
        long = engage("u1", properties={"text": "x" * 32_768})
        reply = json.loads(send(routes, long).body)
        assert [one["code"] for one in reply["refused"]] == ["line_too_long"]
        deletion = {"type": "delete", "userId": "u1", "text": "x" * 32_768}
        assert json.loads(send(routes, deletion).body)["accepted"] == 1

    def test_long_bodies_are_checked_beside_the_others(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """Right ones are taken and wrong ones refused, whichever thread looks."""
        body = json.dumps(engage()).encode() + b" " * 300_000
        handler = Webhook(routes.intake, 1_000_000)
        for signature, status in ((signature_of("s3cret", body), 200), ("0" * 40, 401)):
            assert routes.ask(handler, body, None, x_signature=signature).status == status

    def test_a_signed_wrong_body_is_counted(self, routes: Any) -> None:
        """Once, under the webhook's name."""
        assert send(routes, b"{").status == 400
        (envelope,) = routes.counts.take(lambda: "e1")
        refusals = Refusals.model_validate_json(envelope.body)
        assert (refusals.source, refusals.refused) == ("webhook", {"broken_json": 1})

    def test_without_a_secret_nobody_gets_in(self, routes: Any) -> None:
        """An empty secret signs nothing."""
        routes.secrets = type(routes.secrets)(routes.secrets.write_keys, (), ("t0ken",))
        body = b"{}"
        handler = Webhook(routes.intake, 100)
        reply = routes.ask(handler, body, TOKEN, x_signature=signature_of("", body))
        assert reply.status == 401
        assert b"PERSONA_SYNC_SHARED_SECRET" in reply.body

    @pytest.mark.parametrize("body", [b"{", b"7", b'"text"', b"null", b"[", b"\xff"])
    def test_a_signed_nonsense_is_no_error_of_ours(self, body: bytes, routes: Any) -> None:
        """Refused as a body or as a message, never 500."""
        assert send(routes, body, TOKEN).status in (200, 400, 401)
        assert routes.kept.items == []


class TestArray:
    def test_it_needs_our_token(self, routes: Any, engage: Callable[..., Any]) -> None:
        """The refusal names both ways out."""
        messages = [engage("u1"), engage("u2")]
        reply = send(routes, messages, signed=first(messages))
        assert reply.status == 401
        text = json.loads(reply.body)["message"]
        assert "PERSONA_SYNC_WEBHOOK_TOKEN" in text
        assert "batching off" in text

    def test_with_it_the_first_message_must_be_signed(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """As Segment signs an array; a signature over all of it is as good."""
        messages = [engage("u1"), engage("u2")]
        assert send(routes, messages, TOKEN, signed=first(messages)).status == 200
        assert send(routes, messages, TOKEN).status == 200
        assert [one.user_id for one in routes.kept.items] == ["u1", "u2"] * 2

    @pytest.mark.parametrize("authorization", [TOKEN, "Bearer other", None])
    def test_one_of_the_two_is_not_enough(
        self, authorization: str | None, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """Neither the token without the signature nor the signature of a later message."""
        messages = [engage("u1"), engage("u2")]
        assert send(routes, messages, authorization, signed=first(messages[1:])).status == 401

    def test_4000_messages_are_the_most(self, routes: Any) -> None:
        """Segment's limit, up to and including."""
        assert send(routes, [1] * 4_000, TOKEN).status == 200
        reply = send(routes, [1] * 4_001, TOKEN)
        assert (reply.status, json.loads(reply.body)["code"]) == (413, "too_many_messages")


class TestDeletion:
    def test_it_keeps_its_place(self, routes: Any, engage: Callable[..., Any]) -> None:
        """What was said before it and after it stays so."""
        messages = [
            engage("u1"),
            {"type": "delete", "userId": "u1", "timestamp": "2026-11-22T10:00:00.000Z"},
            engage("u1", value=False),
        ]
        reply = send(routes, messages, TOKEN, signed=first(messages))
        assert json.loads(reply.body)["accepted"] == 3
        before, deletion, after = routes.kept.items
        assert isinstance(deletion, Deletion)
        assert (deletion.user_id, deletion.source) == ("u1", "webhook")
        assert deletion.requested_at == 1_795_341_600_000
        assert isinstance(before, Change)
        assert isinstance(after, Change)

    @pytest.mark.parametrize("stamp", [None, "nonsense", 7])
    def test_its_time_is_only_shown(self, stamp: object, routes: Any) -> None:
        """Nobody is kept because a time cannot be read."""
        body = {"type": "delete", "userId": "u1", "timestamp": stamp}
        assert json.loads(send(routes, body).body)["accepted"] == 1

    def test_without_a_user_there_is_nothing_to_forget(self, routes: Any) -> None:
        """Skipped with its reason."""
        assert json.loads(send(routes, {"type": "delete"}).body)["skipped"] == {"no_user_id": 1}
        reply = json.loads(send(routes, {"type": "delete", "userId": []}).body)
        assert reply["refused"][0]["code"] == "user_id_not_string"

    def test_the_tracking_api_takes_none(self, routes: Any) -> None:
        """A write key may be in many hands: only a signed webhook forgets people."""
        from producer.http.tracking import Tracking

        document = {"batch": [{"type": "delete", "userId": "u1"}]}
        reply = json.loads(routes.ask(Tracking(routes.intake).batch, document).body)
        assert reply["refused"][0]["code"] == "bad_request"
        assert routes.kept.items == []
