"""Reading profiles back, the list of attributes, and deletion."""

import json
from typing import Any

import pytest


def ask(local: Any, *ids: str, fields: Any = ("external_id", "custom_attributes")) -> Any:
    reply = local.call("/users/export/ids", {"external_ids": ids, "fields_to_export": list(fields)})
    return reply.status, json.loads(reply.body)


class TestExport:
    def test_shape(self, local: Any) -> None:
        """Known users come with the fields asked for, unknown ones are listed apart."""
        local.track({"external_id": "a", "vip": True, "email": "a@b.co"})
        assert ask(local, "a", "b", fields=["external_id", "custom_attributes", "email"]) == (
            201,
            {
                "message": "success",
                "users": [
                    {"external_id": "a", "custom_attributes": {"vip": True}, "email": "a@b.co"}
                ],
                "invalid_user_ids": ["b"],
            },
        )

    def test_fields_are_required(self, local: Any) -> None:
        """Without fields_to_export the request is refused."""
        assert local.call("/users/export/ids", {"external_ids": ["a"]}).status == 400

    def test_at_most_fifty(self, local: Any) -> None:
        """More than 50 people at once are refused with Braze's words."""
        assert ask(local, *map(str, range(50)))[0] == 201
        status, body = ask(local, *map(str, range(51)))
        assert (status, body["message"]) == (
            400,
            "max number of external_ids and aliases exceeded",
        )

    @pytest.mark.parametrize("ids", [[], [1], "a", [None]])
    def test_nobody(self, local: Any, ids: Any) -> None:
        """Ids must be a list of strings with somebody in it."""
        body = {"external_ids": ids, "fields_to_export": ["external_id"]}
        assert local.call("/users/export/ids", body).status == 400

    def test_delay_shows_the_past(self, local: Any) -> None:
        """With a visibility delay a read sees the profile as it was that long ago."""
        local.control("PUT", "config", {"export_delay_s": 10})
        local.track({"external_id": "a", "vip": True})
        assert ask(local, "a")[1]["invalid_user_ids"] == ["a"]
        local.clock.advance(6)
        local.track({"external_id": "a", "vip": False, "gold": True})
        local.clock.advance(4)
        assert ask(local, "a")[1]["users"][0]["custom_attributes"] == {"vip": True}
        local.clock.advance(6)
        assert ask(local, "a")[1]["users"][0]["custom_attributes"] == {"vip": False, "gold": True}

    def test_scene_is_visible_at_once(self, local: Any) -> None:
        """Values put in place by hand have always been there, and cost nothing."""
        local.control("PUT", "config", {"export_delay_s": 10})
        local.control("PUT", "profiles", {"a": {"vip": True}})
        assert ask(local, "a")[1]["users"][0]["custom_attributes"] == {"vip": True}
        assert local.control("GET", "report")["values"] == 0


class TestDelete:
    def test_deleted_profile_is_gone(self, local: Any) -> None:
        """Deletion answers with the number queued and removes the profile."""
        local.track({"external_id": "a", "vip": True})
        reply = local.call("/users/delete", {"external_ids": ["a", "b"]})
        assert json.loads(reply.body) == {"deleted": 2, "message": "success"}
        assert ask(local, "a")[1]["invalid_user_ids"] == ["a"]

    def test_deleted_profile_is_seen_a_while(self, local: Any) -> None:
        """Under a visibility delay a deletion shows late as well."""
        local.control("PUT", "config", {"export_delay_s": 10})
        local.track({"external_id": "a", "vip": True})
        local.clock.advance(20)
        local.call("/users/delete", {"external_ids": ["a"]})
        local.clock.advance(5)
        assert len(ask(local, "a")[1]["users"]) == 1
        local.clock.advance(5)
        assert ask(local, "a")[1]["users"] == []

    def test_at_most_fifty(self, local: Any) -> None:
        """More than 50 people at once are refused."""
        ids = list(map(str, range(51)))
        assert local.call("/users/delete", {"external_ids": ids}).status == 400


class TestCustomAttributes:
    def test_pages_are_linked(self, local: Any) -> None:
        """Fifty a page; following Link shows every attribute once."""
        local.track({"external_id": "u", **{f"a{n:03}": True for n in range(120)}})
        path, names = "/custom_attributes", []
        while path:
            reply = local.call(path, None, "GET", host="x")
            names += [entry["name"] for entry in json.loads(reply.body)["attributes"]]
            link = dict(reply.headers).get("Link", "")
            assert not link or link.endswith('>; rel="next"')
            path = link.partition(">")[0].removeprefix("<http://x")
        assert names == [f"a{n:03}" for n in range(120)]

    def test_types_and_blocklist(self, local: Any) -> None:
        """Each attribute shows its type, and whether it is blocklisted."""
        local.control("PUT", "config", {"blocked_attributes": ["no"]})
        local.track({"external_id": "u", "b": True, "n": 1, "s": "x", "l": [1], "o": {"a": 1}})
        listed = json.loads(local.call("/custom_attributes", None, "GET").body)["attributes"]
        assert {entry["name"]: entry["data_type"] for entry in listed} == {
            "b": "Boolean",
            "n": "Number",
            "s": "String",
            "l": "Array",
            "o": "Object",
            "no": "String",
        }
        assert [e["name"] for e in listed if e["status"] == "Blocklisted"] == ["no"]

    def test_bad_cursor(self, local: Any) -> None:
        """A made-up cursor is refused."""
        assert local.call("/custom_attributes?cursor=%FF%FF", None, "GET").status == 400
