"""What /v1 makes of bodies: sources, shapes, times, limits, refusals beside good messages."""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from producer.http.replies import Failed, Reply, Taken
from producer.http.tracking import Tracking
from producer.instants import read_instant
from worker.contract import REASONS, Change, Refusals


def body_of(reply: Reply) -> dict[str, Any]:
    """The answer, held to the model that the OpenAPI document shows."""
    (Taken if reply.status == 200 else Failed).model_validate_json(reply.body)
    found: dict[str, Any] = json.loads(reply.body)
    return found


class TestBatch:
    def test_good_messages_are_taken_beside_bad_ones(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """200 with a refusal for each bad one, by its index."""
        messages = [
            engage("u1"),
            engage("u2", value="true"),
            7,
            {"type": "track", "userId": "u3", "event": "Plain"},
            engage("u4", value=False),
            {"type": "track", "userId": "u5"},
            engage(None, anonymousId="a1"),
        ]
        found = body_of(routes.ask(Tracking(routes.intake).batch, {"batch": messages}))
        assert found["success"] is True
        assert found["accepted"] == 2
        assert found["skipped"] == {"plain_track": 1, "no_user_id": 1}
        assert [(one["index"], one["code"]) for one in found["refused"]] == [
            (1, "membership_not_boolean"), (2, "not_an_object"), (5, "event_not_defined"),
        ]  # fmt: skip
        assert [(one.user_id, one.value, one.place) for one in routes.kept.items] == [
            ("u1", True, 0), ("u4", False, 4),
        ]  # fmt: skip

    def test_what_was_not_taken_is_counted_with_samples(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """An envelope of its own kind: codes, counts, the user's id and where; no body."""
        messages = [engage("u2", value="secret text"), {"type": "page", "userId": "u3"}]
        routes.ask(Tracking(routes.intake).batch, {"batch": messages})
        (envelope,) = routes.counts.take(lambda: "e1")
        refusals = Refusals.model_validate_json(envelope.body)
        assert (refusals.source, refusals.refused) == ("web", {"membership_not_boolean": 1})
        assert refusals.skipped == {"page": 1}
        assert [(one.user_id, one.where) for one in refusals.samples] == [
            ("u2", "r1:0"), ("u3", "r1:1"),
        ]  # fmt: skip
        assert b"secret text" not in envelope.body

    def test_context_and_integrations_of_the_batch_are_merged(self, routes: Any) -> None:
        """A message's own fields win."""
        personas = {"computation_class": "audience", "computation_key": "vip"}
        messages = [
            {"type": "identify", "userId": "u1", "traits": {"vip": True}},
            {
                "type": "identify",
                "userId": "u2",
                "context": {"personas": {**personas, "computation_key": "own"}},
                "traits": {"own": False},
            },
        ]
        document = {"batch": messages, "context": {"personas": personas}, "integrations": {}}
        assert body_of(routes.ask(Tracking(routes.intake).batch, document))["accepted"] == 2
        assert [one.attribute for one in routes.kept.items] == ["vip", "own"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"{", 400, "broken_json"),
            (b"\xff", 400, "broken_json"),
            (b"[]", 400, "not_an_object"),
            ({"batch": {}}, 400, "bad_request"),
            ({}, 400, "bad_request"),
            ({"batch": []}, 400, "empty_batch"),
            ({"batch": [1] * 2_501}, 413, "too_many_messages"),
            (b" " * 512_001, 413, "body_too_large"),
        ],
    )
    def test_a_wrong_body_is_refused_whole(
        self, body: Any, status: int, code: str, routes: Any
    ) -> None:
        """With a reason, and nothing of it is taken."""
        reply = routes.ask(Tracking(routes.intake).batch, body)
        assert (reply.status, body_of(reply)["code"]) == (status, code)
        assert routes.kept.items == []

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"{", "broken_json"), (b"[]", "not_an_object"), ({}, "bad_request"),
            ({"batch": []}, "empty_batch"), ({"batch": [1] * 2_501}, "too_many_messages"),
            (b" " * 512_001, "body_too_large"),
        ],
    )  # fmt: skip
    def test_a_wrong_body_of_a_known_sender_is_counted(
        self, body: Any, code: str, routes: Any
    ) -> None:
        """Once, under its code; what a stranger sends must not make the counts grow."""
        routes.ask(Tracking(routes.intake).batch, body)
        (envelope,) = routes.counts.take(lambda: "e1")
        refusals = Refusals.model_validate_json(envelope.body)
        assert (refusals.source, refusals.refused) == ("web", {code: 1})
        assert code in REASONS
        for authorization in (None, "Basic eDo="):
            routes.ask(Tracking(routes.intake).batch, body, authorization)
        assert routes.counts.take(lambda: "e2") == []

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({}, None),
            ({"type": "delete"}, "bad_request"),
            ({"type": "track"}, "event_not_defined"),
            ({"traits": []}, "traits_not_object"),
            ({"properties": {"text": "x" * 32_768}}, "line_too_long"),
            ({"context": {}}, "plain_identify"),
            ({"type": "page"}, "page"),
            ("email", "reserved_attribute"),
            ({"timestamp": "nonsense"}, "unreadable_timestamp"),
        ],
    )
    def test_whoever_is_named_can_be_looked_for(
        self, fields: Any, code: str | None, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """The user is in the sample of every message that was not taken and names one."""
        message = engage("u1", fields) if isinstance(fields, str) else {**engage("u1"), **fields}
        routes.ask(Tracking(routes.intake).batch, {"batch": [message]})
        taken = routes.counts.take(lambda: "e1")
        samples = [s for one in taken for s in Refusals.model_validate_json(one.body).samples]
        expected = [] if code is None else [(code, "u1", "r1:0")]
        assert [(one.code, one.user_id, one.where) for one in samples] == expected

    @pytest.mark.parametrize(
        "integrations", [{"All": False, "Webhooks": True}, {"Braze": False}, {"All": False}]
    )
    def test_integrations_are_segments_to_read(
        self, integrations: Any, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """They chose the way here; what has come is meant for us (decision 0014)."""
        document = {"batch": [engage(integrations=integrations)], "integrations": integrations}
        assert body_of(routes.ask(Tracking(routes.intake).batch, document))["accepted"] == 1

    def test_2500_messages_fit(self, routes: Any) -> None:
        """Segment's own limit, up to and including."""
        plain = {"type": "page", "userId": "u"}
        reply = routes.ask(Tracking(routes.intake).batch, {"batch": [plain] * 2_500})
        assert body_of(reply)["skipped"] == {"page": 2_500}

    def test_a_long_message_is_refused_alone(self, routes: Any, engage: Callable[..., Any]) -> None:
        """32 KB a message, counted without the spaces between."""
        long = engage("u1", properties={"text": "x" * 32_768})
        reply = routes.ask(Tracking(routes.intake).batch, {"batch": [long, engage("u2")]})
        found = body_of(reply)
        assert [(one["index"], one["code"]) for one in found["refused"]] == [(0, "line_too_long")]
        assert found["accepted"] == 1

    def test_ids_beyond_a_double_keep_every_digit(self, routes: Any) -> None:
        """Two users whose ids differ in the last digit stay two."""
        personas = '{"personas":{"computation_class":"audience","computation_key":"vip"}}'
        one = '{"type":"identify","userId":%d,"context":' + personas + ',"traits":{"vip":true}}'
        first, second = 98765432109876543210, 98765432109876543211
        body = '{"batch":[' + one % first + "," + one % second + "]}"
        routes.ask(Tracking(routes.intake).batch, body.encode())
        assert [item.user_id for item in routes.kept.items] == [str(first), str(second)]

    def test_many_such_ids_cost_one_reading(self, routes: Any, engage: Callable[..., Any]) -> None:
        """The body is read exactly once, not once for each message."""
        messages = [engage(98765432109876543210 + number) for number in range(2_500)]
        began = time.process_time()
        reply = routes.ask(Tracking(routes.intake).batch, {"batch": messages})
        assert body_of(reply)["accepted"] == 2_500
        assert time.process_time() - began < 3
        assert len({item.user_id for item in routes.kept.items}) == 2_500

    def test_nesting_that_only_one_reader_can_follow(self, routes: Any) -> None:
        """An id that cannot be read exactly is refused; it is no error of ours."""
        personas = '{"personas":{"computation_class":"audience","computation_key":"vip"}}'
        deep = "[" * 1_015 + "]" * 1_015
        body = (
            '{"batch":[{"type":"identify","userId":98765432109876543210,"context":'
            + personas + ',"traits":{"vip":true},"x":' + deep + "}]}"
        )  # fmt: skip
        reply = routes.ask(Tracking(routes.intake).batch, body.encode())
        codes = [one["code"] for one in body_of(reply)["refused"]]
        assert codes in ([], ["user_id_not_string"])


class TestSingle:
    def single(self, routes: Any, kind: str, body: Any, *given: Any, **headers: str) -> Reply:
        found: Reply = routes.ask(
            partial(Tracking(routes.intake).single, kind), body, *given, **headers
        )
        return found

    def test_the_path_says_the_kind(self, routes: Any, engage: Callable[..., Any]) -> None:
        """A message need not say it again."""
        for said in ({}, {"type": None}, {"type": "Identify"}):
            message = {**engage(), **said}
            if not said:
                del message["type"]
            assert body_of(self.single(routes, "identify", message))["accepted"] == 1

    @pytest.mark.parametrize("said", ["page", "delete", "", 7, []])
    def test_a_type_that_contradicts_the_path_is_refused(
        self, said: object, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """One of the two is a mistake, and most of all where somebody asks to delete."""
        reply = self.single(routes, "identify", engage(type=said))
        assert (reply.status, body_of(reply)["code"]) == (400, "bad_request")
        assert routes.kept.items == []

    def test_a_refused_message_is_400(self, routes: Any, engage: Callable[..., Any]) -> None:
        """It is the whole request: its sender is told plainly."""
        reply = self.single(routes, "identify", engage(value=1))
        assert (reply.status, body_of(reply)["code"]) == (400, "membership_not_boolean")
        assert len(routes.counts.take(lambda: "e")) == 1

    def test_an_anonymous_message_is_passed_over(
        self, routes: Any, engage: Callable[..., Any]
    ) -> None:
        """Only identified users are synced; that is no fault of the message."""
        reply = self.single(routes, "identify", engage(None, anonymousId="a"))
        assert body_of(reply)["skipped"] == {"no_user_id": 1}

    def test_32_kb_is_the_limit(self, routes: Any, engage: Callable[..., Any]) -> None:
        """Counted as in a batch: what is indented costs nothing, what is said does."""
        spaces = json.dumps(engage()).encode() + b" " * 40_000
        assert body_of(self.single(routes, "identify", spaces))["accepted"] == 1
        long = engage(properties={"text": "x" * 32_768})
        reply = self.single(routes, "identify", long)
        assert (reply.status, body_of(reply)["code"]) == (400, "line_too_long")
        reply = self.single(routes, "identify", b" " * 512_001)
        assert (reply.status, body_of(reply)["code"]) == (413, "body_too_large")


class TestSource:
    def source(self, routes: Any, body: Any, authorization: str | None) -> tuple[int, str | None]:
        reply = routes.ask(Tracking(routes.intake).batch, body, authorization)
        items: list[Change] = routes.kept.items
        return reply.status, items[-1].source if items else None

    @pytest.mark.parametrize(
        ("key", "authorization", "expected"),
        [
            (None, "Basic azE6", (200, "web")),
            (None, "Basic azI6", (200, "app")),
            ("k2", None, (200, "app")),
            ("k2", "Basic azE6", (200, "web")),
            ("k1", "Basic azM6", (401, None)),
            ("k1", "Bearer k1", (401, None)),
            ("k3", None, (401, None)),
            (7, None, (401, None)),
            ("\ud800", None, (401, None)),
            (None, None, (401, None)),
        ],
    )
    def test_header_first_then_body(
        self,
        key: object,
        authorization: str | None,
        expected: tuple[int, str | None],
        routes: Any,
        engage: Callable[..., Any],
    ) -> None:
        """A wrong header is not made good by the body."""
        document = {"batch": [engage()], **({} if key is None else {"writeKey": key})}
        assert self.source(routes, document, authorization) == expected

    def test_401_says_how(self, routes: Any) -> None:
        """With the header that HTTP asks for."""
        reply = routes.ask(Tracking(routes.intake).batch, {}, None)
        assert reply.status == 401
        assert b"www-authenticate" in dict(reply.headers)
        assert "writeKey" in body_of(reply)["message"]


class TestTimes:
    def test_the_senders_clock_is_corrected_as_segment_does(self, routes: Any) -> None:
        """Segment's own example: the event is moved by receivedAt - sentAt."""
        routes.intake.now_ms = lambda: read_instant("2015-12-12T19:11:01.266Z")
        change = self.sent(routes, timestamp="2015-12-12T19:11:01.152Z")
        assert change.event_at == read_instant("2015-12-12T19:11:01.249Z")
        assert change.arrived_at is None

    def test_what_segment_corrected_is_not_corrected_again(self, routes: Any) -> None:
        """A message with originalTimestamp has been through Segment."""
        stamp = "2015-12-12T19:11:01.152Z"
        change = self.sent(routes, timestamp=stamp, originalTimestamp=stamp)
        assert change.event_at == read_instant(stamp)

    def test_without_a_timestamp_arrival_counts(self, routes: Any) -> None:
        """The inbox gives the time then, one clock for all."""
        assert self.sent(routes).event_at is None

    def test_order_within_a_batch_is_kept(self, routes: Any, engage: Callable[..., Any]) -> None:
        """All of one batch are moved by the same."""
        stamps = ["2026-11-22T09:59:58.000Z", "2026-11-22T09:59:58.001Z"]
        messages = [engage(timestamp=stamp) for stamp in stamps]
        document = {"batch": messages, "sentAt": "2026-11-22T09:59:59.000Z"}
        routes.ask(Tracking(routes.intake).batch, document)
        first, second = (item.event_at for item in routes.kept.items)
        assert second - first == 1

    def sent(self, routes: Any, **fields: str) -> Change:
        """One message of a batch that was sent at 19:11:01.169."""
        personas = {"personas": {"computation_class": "audience", "computation_key": "vip"}}
        message = {"type": "identify", "userId": "u", "context": personas, "traits": {"vip": True}}
        document = {"batch": [{**message, **fields}], "sentAt": "2015-12-12T19:11:01.169Z"}
        reply = routes.ask(Tracking(routes.intake).batch, document)
        assert body_of(reply)["accepted"] == 1, reply.body
        (change,) = routes.kept.items
        assert isinstance(change, Change)
        return change
