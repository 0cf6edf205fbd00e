"""What writes do to profiles, what is dropped in silence, and what is counted."""

from typing import Any

import pytest


def write(local: Any, **attributes: Any) -> dict[str, Any]:
    status, _ = local.track({"external_id": "u", **attributes})
    assert status == 201
    found: dict[str, Any] = local.attributes("u")
    return found


class TestWriting:
    def test_first_write_creates(self, local: Any) -> None:
        """An unknown user becomes a profile, unless the object says otherwise."""
        assert write(local, vip=True) == {"vip": True}
        status, body = local.track({"external_id": "v", "_update_existing_only": True, "vip": True})
        assert (status, body["attributes_processed"]) == (201, 1)
        assert local.app.state.profiles.get("v") is None

    def test_alias_is_not_created_by_default(self, local: Any) -> None:
        """For an alias the default is to update only."""
        alias = {"user_alias": {"alias_name": "n", "alias_label": "l"}, "vip": True}
        local.track(alias)
        assert len(local.app.state.profiles) == 0
        local.track({**alias, "_update_existing_only": False})
        assert local.attributes("user_alias:l:n") == {"vip": True}

    def test_null_removes(self, local: Any) -> None:
        """Writing null removes the attribute."""
        write(local, vip=True)
        assert write(local, vip=None) == {}

    def test_profile_fields_are_kept_apart(self, local: Any) -> None:
        """A reserved name is no custom attribute."""
        assert write(local, email="a@b.co", vip=True) == {"vip": True}
        assert local.control("GET", "profiles/u")["fields"] == {"email": "a@b.co"}

    def test_names_are_trimmed(self, local: Any) -> None:
        """Spaces at the edges of a name are cut off, each time."""
        write(local, **{" vip ": True})
        assert write(local, **{" vip ": False}) == {"vip": False}

    @pytest.mark.parametrize(
        ("before", "written", "after"),
        [
            (None, {"inc": 2}, 2),
            (3, {"inc": -1}, 2),
            ("x", {"inc": 1}, "x"),
            (None, {"add": ["a"]}, ["a"]),
            (["a", "b"], {"add": ["a"], "remove": ["b"]}, ["a"]),
            (["a", "b"], {"add": ["a"]}, ["b", "a"]),
            ("x", {"add": ["a"]}, "x"),
            (None, ["a", "a", 1, True], ["a", 1, True]),
            ({"a": 1}, {"b": 2}, {"b": 2}),
            ({"a": 1}, {"b c": 2}, {"a": 1}),
            ({"a": 1}, {"b": {"$c": 2}}, {"a": 1}),
            ([{"id": 1}], {"$add": [{"id": 2}]}, [{"id": 1}, {"id": 2}]),
            (
                [{"id": 1}, {"id": 2}],
                {"$remove": [{"$identifier_key": "id", "$identifier_value": 1}]},
                [{"id": 2}],
            ),
            (
                [{"id": 1}],
                {
                    "$update": [
                        {
                            "$identifier_key": "id",
                            "$identifier_value": 1,
                            "$new_object": {"n": "x"},
                        }
                    ]
                },
                [{"id": 1, "n": "x"}],
            ),
            ([{"id": 1}], {"$add": 5}, [{"id": 1}]),
        ],
    )
    def test_operations(self, local: Any, before: Any, written: Any, after: Any) -> None:
        """inc, add, remove, nested objects and arrays of objects do what Braze documents."""
        if before is not None:
            write(local, x=before)
        assert write(local, x=written) == {"x": after}

    def test_merge(self, local: Any) -> None:
        """With _merge_objects nested objects are merged deeply."""
        write(local, x={"a": {"b": 1}, "c": 1})
        assert write(local, _merge_objects=True, x={"a": {"d": 2}}) == {
            "x": {"a": {"b": 1, "d": 2}, "c": 1}
        }

    def test_history_is_bounded(self, local: Any) -> None:
        """The last 20 writes of an attribute are kept, newest last."""
        for n in range(30):
            write(local, n=n)
            local.clock.advance(1)
        history = local.control("GET", "profiles/u")["history"]["n"]
        assert [value for _, value in history] == list(range(10, 30))
        assert history[-1][0] == local.clock.now() - 1


class TestSilence:
    def test_blocked_attribute_vanishes(self, local: Any) -> None:
        """A blocklisted attribute is accepted, not stored, not billed."""
        local.control("PUT", "config", {"blocked_attributes": ["vip"]})
        assert write(local, vip=True, gold=True) == {"gold": True}
        assert local.control("GET", "report")["values"] == 1

    @pytest.mark.parametrize(
        ("forced", "written", "stored"),
        [
            ("boolean", "true", True),
            ("boolean", 0, False),
            ("boolean", "maybe", None),
            ("boolean", [1], None),
            ("number", "1.5", 1.5),
            ("number", "7", 7),
            ("number", True, None),
            ("number", {"inc": 2}, 2),
            ("string", 5, "5"),
            ("string", True, "true"),
            ("string", [1], None),
            ("array", "x", None),
            ("array", {"add": [1]}, [1]),
            ("object", {"a": 1}, {"a": 1}),
            ("time", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("time", True, None),
        ],
    )
    def test_forced_type(self, local: Any, forced: str, written: Any, stored: Any) -> None:
        """A value of another type is coerced where possible, otherwise ignored without a word."""
        local.control("PUT", "config", {"forced_types": {"x": forced}})
        assert write(local, x=written).get("x") == stored


class TestCosts:
    def test_unchanged_values_are_counted(self, local: Any) -> None:
        """A value equal to the stored one counts as waste, for all and for its attribute."""
        write(local, vip=True, plan="a")
        write(local, vip=True, plan="b")
        write(local, gone=None)
        report = local.control("GET", "report")
        assert (report["values"], report["values_unchanged"]) == (5, 2)
        assert report["attributes"]["vip"] == {"values": 2, "unchanged": 1}
        assert report["attributes"]["plan"] == {"values": 2, "unchanged": 0}
        assert report["attributes"]["gone"] == {"values": 1, "unchanged": 1}

    def test_one_is_not_true(self, local: Any) -> None:
        """Values of different types are never the same value."""
        write(local, vip=True)
        write(local, vip=1)
        assert local.control("GET", "report")["values_unchanged"] == 0

    def test_fill_is_counted(self, local: Any) -> None:
        """The report says how full accepted requests were."""
        local.track({"external_id": "a", "x": 1}, {"external_id": "b", "x": 1})
        local.track({"external_id": "c", "x": 1})
        local.track({"x": 1})
        report = local.control("GET", "report")
        assert report["mean_fill"] == 1.5
        assert report["fill_histogram"] == {"1": 1, "2": 1}
        assert report["by_status"] == {"201": 2, "400": 1}
        assert (report["objects"], report["requests"], report["rate_peak"]) == (3, 3, 3)
