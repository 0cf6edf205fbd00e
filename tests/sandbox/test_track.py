"""What /users/track accepts and refuses."""

import json
from typing import Any

import pytest

VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
EVENT = {"external_id": "u", "name": "seen", "time": "2026-11-22T10:00:00Z"}
PURCHASE = {
    "external_id": "u",
    "product_id": "p",
    "currency": "USD",
    "price": 1.5,
    "time": "2026-11-22T10:00:00Z",
}


class TestWholeRequest:
    def test_success_counts_what_was_queued(self, local: Any) -> None:
        """A good request is 201 with one count per array sent."""
        status, body = local.track({"external_id": "u", "vip": True}, events=[EVENT])
        assert (status, body) == (
            201,
            {"message": "success", "attributes_processed": 1, "events_processed": 1},
        )

    @pytest.mark.parametrize("body", [{"attributes": []}, {}, [], {"attributes": None}])
    def test_nothing_to_do_is_refused(self, local: Any, body: Any) -> None:
        """An empty request, the harmless probe of a key, is 400 with the well-known text."""
        reply = local.call("/users/track", body)
        assert (reply.status, json.loads(reply.body)) == (400, {"message": VALID})

    @pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"NaN"])
    def test_bad_json_is_a_syntax_error(self, local: Any, body: bytes) -> None:
        """What is not JSON is 400 with the syntax text."""
        reply = local.call("/users/track", body)
        assert reply.status == 400
        assert b"Please check your syntax" in reply.body

    def test_array_of_wrong_type_is_refused(self, local: Any) -> None:
        """An array field that is no array refuses the request."""
        assert local.track(attributes={"external_id": "u"})[0] == 400

    def test_too_many_objects_together(self, local: Any) -> None:
        """The default of 75 counts all arrays together."""
        users = [{"external_id": f"u{n}", "vip": True} for n in range(75)]
        assert local.track(*users)[0] == 201
        status, body = local.track(*users, events=[EVENT])
        assert (status, body["message"]) == (400, "Max Input Length Exceeded")

    def test_limit_per_array(self, local: Any) -> None:
        """Under the legacy form each array has the limit to itself."""
        local.control("PUT", "config", {"max_objects": 2, "max_objects_form": "per_array"})
        users = [{"external_id": f"u{n}", "vip": True} for n in range(2)]
        assert local.track(*users, events=[EVENT, EVENT])[0] == 201
        assert local.track(*users, events=[EVENT] * 3)[0] == 400


class TestDoor:
    @pytest.mark.parametrize("given", ["Bearer wrong-key-12", "Basic sandbox-key", "", "Bearer "])
    def test_bad_key_is_echoed(self, local: Any, given: str) -> None:
        """A key that is not accepted is 401 with the key in the text, as Braze does it."""
        reply = local.call("/users/track", {}, authorization=given)
        key = given.partition(" ")[2]
        assert reply.status == 401
        assert json.loads(reply.body) == {"message": f"Invalid API key: {key}"}

    def test_missing_permission(self, local: Any) -> None:
        """A key without the endpoint's permission is 403."""
        local.control("PUT", "config", {"permissions": ["users.delete"]})
        assert local.track({"external_id": "u", "vip": True})[0] == 403

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/users/track/", 403),
            ("POST", "/users/trac", 404),
            ("GET", "/users/track", 404),
            ("POST", "/", 404),
        ],
    )
    def test_wrong_address(self, local: Any, method: str, path: str, status: int) -> None:
        """A trailing slash is 403, anything else unknown is 404."""
        assert local.call(path, {}, method).status == status

    @pytest.mark.parametrize("kind", ["", "text/plain"])
    def test_content_type_is_needed(self, local: Any, kind: str) -> None:
        """Without the JSON content type the request is 415."""
        assert local.call("/users/track", {}, **{"content-type": kind}).status == 415

    def test_content_type_may_name_a_charset(self, local: Any) -> None:
        """A charset after the content type does no harm."""
        body = {"attributes": [{"external_id": "u", "vip": True}]}
        kind = {"content-type": "application/json; charset=utf-8"}
        assert local.call("/users/track", body, **kind).status == 201


BAD_ATTRIBUTES = [
    ({"vip": True}, "is required"),
    ({"email": None, "vip": True}, "is required"),
    ({"external_id": "", "vip": True}, "is required"),
    ({"external_id": "u", "braze_id": "b"}, "only one of"),
    ({"external_id": 7, "vip": True}, "must be a string"),
    ({"external_id": "x" * 988}, "fewer than 988 bytes"),
    ({"external_id": "é" * 494}, "fewer than 988 bytes"),
    ({"user_alias": {"alias_name": "a"}}, "alias_label"),
    ({"external_id": "u", "email": "nobody"}, "not a valid email"),
    ({"external_id": "u", "email_subscribe": "yes"}, "'email_subscribe' must be"),
    ({"external_id": "u", "push_subscribe": None}, "'push_subscribe' must be"),
    ({"external_id": "u", "gender": "X"}, "gender"),
    ({"external_id": "u", "country": "Germany"}, "country"),
    ({"external_id": "u", "dob": "1.2.1990"}, "dob"),
    ({"external_id": "u", "current_location": {"longitude": "1"}}, "location"),
    ({"external_id": "u", "_update_existing_only": "yes"}, "boolean"),
    ({"external_id": "u", "first_name": 3}, "first_name"),
    ({"external_id": "u", "subscription_groups": [{}]}, "subscription_groups"),
    ({"external_id": "u", "$vip": True}, "start with '$'"),
    ({"external_id": "u", "": True}, "empty"),
    ({"external_id": "u", "a" * 256: True}, "255"),
    ({"external_id": "u", "plan": "x" * 256}, "255"),
    ({"external_id": "u", "plans": ["x" * 256]}, "255"),
    ({"external_id": "u", "plans": list(range(501))}, "500"),
    ({"external_id": "u", "visits": {"inc": "1"}}, "'inc'"),
    ({"external_id": "u", "tags": {"add": "one"}}, "arrays"),
    ({"external_id": "u", "big": {f"k{n}": "x" * 250 for n in range(400)}}, "100 KB"),
    ({"external_id": "u", "push_token_import": True}, "must omit"),
    ({"email": "a@b.co", "push_token_import": True}, "push_tokens"),
    ("u", "objects"),
    (None, "objects"),
]


class TestAttributes:
    @pytest.mark.parametrize(("item", "text"), BAD_ATTRIBUTES)
    def test_bad_object_is_refused(self, local: Any, item: Any, text: str) -> None:
        """A bad object alone makes the request 400, with the reason beside its index."""
        status, body = local.track(item)
        assert (status, body["message"]) == (400, VALID)
        [error] = body["errors"]
        assert (error["input_array"], error["index"]) == ("attributes", 0)
        assert text in error["type"]

    @pytest.mark.parametrize(
        "item",
        [
            {"external_id": "x" * 987, "vip": True},
            {"user_alias": {"alias_name": "a", "alias_label": "b"}, "vip": True},
            {"email": "a@b.co", "vip": True},
            {"phone": "+4912345678", "vip": True},
            {"braze_id": "abc", "vip": True},
            {"external_id": "u", "email": "a@b.co", "email_subscribe": "opted_in", "gender": None},
            {"external_id": "u", "dob": "1990-02-01", "country": "DE", "language": "de"},
            {"external_id": "u", "a" * 255: "x" * 255},
            {"external_id": "u", "n": 1, "f": 1.5, "s": "x", "l": [1, "a"], "o": {"a": {"b": 1}}},
            {"external_id": "u", "gone": None},
        ],
    )
    def test_good_object_is_queued(self, local: Any, item: Any) -> None:
        """Whatever the documentation allows is accepted."""
        status, body = local.track(item)
        assert (status, body) == (201, {"message": "success", "attributes_processed": 1})

    def test_partial_failure_is_still_a_success(self, local: Any) -> None:
        """Good objects are applied, bad ones named by array and index."""
        status, body = local.track(
            {"external_id": "a", "vip": True},
            {"vip": True},
            {"external_id": "c", "vip": True},
            events=[EVENT, {**EVENT, "time": "noon"}],
        )
        assert status == 201
        assert (body["attributes_processed"], body["events_processed"]) == (2, 1)
        places = [(error["input_array"], error["index"]) for error in body["errors"]]
        assert places == [("attributes", 1), ("events", 1)]
        assert local.attributes("c") == {"vip": True}


class TestEventsAndPurchases:
    @pytest.mark.parametrize(
        "change",
        [
            {"name": ""},
            {"name": None},
            {"time": "noon"},
            {"time": None},
            {"properties": []},
            {"properties": {"$x": 1}},
            {"properties": {"x": "y" * 51_000}},
            {"braze_id": "b"},
            {"external_id": ""},
        ],
    )
    def test_bad_event(self, local: Any, change: Any) -> None:
        """An event needs a person, a name, a time, and properties of a decent size."""
        status, body = local.track(events=[{**EVENT, **change}])
        assert (status, body["errors"][0]["input_array"]) == (400, "events")

    @pytest.mark.parametrize(
        "change",
        [
            {"quantity": 0},
            {"quantity": 101},
            {"quantity": True},
            {"price": "1"},
            {"currency": "EURO"},
            {"product_id": ""},
            {"time": 5},
        ],
    )
    def test_bad_purchase(self, local: Any, change: Any) -> None:
        """A purchase needs a product, a currency, a price, and a quantity up to 100."""
        status, body = local.track(purchases=[{**PURCHASE, **change}])
        assert (status, body["errors"][0]["input_array"]) == (400, "purchases")

    def test_both_are_counted(self, local: Any) -> None:
        """Events and purchases are counted for the profile and in the report."""
        assert local.track(events=[EVENT], purchases=[PURCHASE])[0] == 201
        report = local.control("GET", "report")
        profile = local.control("GET", "profiles/u")
        assert (report["events"], report["purchases"], report["objects"]) == (1, 1, 2)
        assert (profile["events"], profile["purchases"]) == (1, 1)
