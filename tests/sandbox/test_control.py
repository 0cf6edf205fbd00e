"""The control endpoints: what they show, what they refuse, what they never tell."""

import json
from typing import Any

import pytest

USER = {"external_id": "u", "vip": True}


class TestReport:
    def test_fresh_report_has_every_field(self, local: Any) -> None:
        """A report can be read field by field before anything has happened."""
        assert local.control("GET", "report") == {
            "requests": 0,
            "by_status": {},
            "by_path": {},
            "objects": 0,
            "events": 0,
            "purchases": 0,
            "values": 0,
            "values_unchanged": 0,
            "profiles": 0,
            "mean_fill": 0.0,
            "fill_histogram": {},
            "max_in_flight": 0,
            "in_flight": 0,
            "violations": {},
            "violation_samples": [],
            "first_request_at": None,
            "last_request_at": None,
            "rate_peak": 0,
            "attributes": {},
        }

    def test_only_track_requests_count(self, local: Any) -> None:
        """Other endpoints appear by their path, control calls not at all."""
        local.track(USER)
        local.call("/users/delete", {"external_ids": ["x"]})
        report = local.control("GET", "report")
        assert report["requests"] == 1
        assert report["by_path"] == {"/users/track": 1, "/users/delete": 1}
        assert report["first_request_at"] == local.clock.now()

    def test_requests_are_remembered(self, local: Any) -> None:
        """The last requests are kept, newest first, with their fate."""
        local.control("PUT", "faults", [{"kind": "status", "status": 503, "after": 1}])
        local.track(USER)
        local.track({"external_id": "v", "vip": True})
        listed = local.control("GET", "requests?limit=2")["requests"]
        assert [(r["status"], r["fault"]) for r in listed] == [(503, "status"), (201, None)]
        assert listed[1]["objects"] == [USER]

    def test_reset_keeps_the_settings(self, local: Any) -> None:
        """A reset forgets profiles, counters and faults, and nothing else."""
        local.control("PUT", "config", {"max_objects": 5})
        local.control("PUT", "faults", [{"kind": "queued"}])
        local.track(USER)
        local.control("POST", "reset")
        report = local.control("GET", "report")
        assert (report["requests"], report["profiles"]) == (0, 0)
        assert local.control("GET", "faults") == []
        assert local.control("GET", "config")["max_objects"] == 5

    def test_reset_under_way(self, local: Any) -> None:
        """A request from before the reset counts for nothing after it."""
        request = local.begin("/users/track", {"attributes": [USER]})
        local.app.handle(request)
        local.control("POST", "reset")
        local.app.finish(request, replied=True)
        report = local.control("GET", "report")
        assert (report["by_status"], report["in_flight"], report["profiles"]) == ({}, 0, 0)


class TestProfiles:
    def test_pages(self, local: Any) -> None:
        """Following `next` shows every profile once, in the order of ids."""
        local.control("PUT", "profiles", {f"u{n}": {"n": n} for n in range(5)})
        seen, after = {}, ""
        while after is not None:
            page = local.control("GET", f"profiles?limit=2&after={after}")
            seen |= page["profiles"]
            after = page["next"]
        assert seen == {f"u{n}": {"n": n} for n in range(5)}

    def test_pages_see_what_came_and_went(self, local: Any) -> None:
        """A profile that is new is in the next page, a deleted one is not."""
        local.control("PUT", "profiles", {"b": {}, "c": {}})
        assert list(local.control("GET", "profiles")["profiles"]) == ["b", "c"]
        local.track({"external_id": "a", "vip": True})
        local.call("/users/delete", {"external_ids": ["c"]})
        assert list(local.control("GET", "profiles")["profiles"]) == ["a", "b"]

    def test_id_may_hold_anything(self, local: Any) -> None:
        """An id in the path is read URL-encoded."""
        local.control("PUT", "profiles", {"a/b ü": {"vip": True}})
        shown = local.control("GET", "profiles/a%2Fb%20%C3%BC")
        assert (shown["id"], shown["attributes"]) == ("a/b ü", {"vip": True})

    def test_unknown_profile(self, local: Any) -> None:
        """A profile that does not exist is 404."""
        assert local.call("/sandbox/profiles/nobody", None, "GET").status == 404


class TestKeys:
    def test_rotation(self, local: Any) -> None:
        """New keys take the place of the old at once; no keys refuse everybody."""
        local.control("PUT", "config", {"keys": ["another-key"]})
        assert local.track(USER)[0] == 401
        body = {"attributes": [USER]}
        assert local.call("/users/track", body, authorization="Bearer another-key").status == 201
        local.control("PUT", "config", {"keys": []})
        assert local.call("/users/track", body, authorization="Bearer another-key").status == 401

    def test_never_shown(self, local: Any) -> None:
        """No control answer holds a key, not even one a client put into its data."""
        local.control("PUT", "config", {"keys": ["sandbox-key", "another-key"]})
        local.control("POST", "faults", {"kind": "status", "status": 401, "body": "another-key"})
        local.call("/users/track", {}, authorization="Bearer sandbox-key")
        local.track({"external_id": "another-key", "note": "sandbox-key"})
        local.control("PUT", "config", {"keys": []})
        for path in ("report", "requests", "profiles", "faults", "config"):
            body = local.call(f"/sandbox/{path}", None, "GET").body
            assert b"sandbox-key" not in body
            assert b"another-key" not in body


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ([], "object"),
            ({"colour": 1}, "unknown setting 'colour'"),
            ({"keys": "sandbox-key"}, "list of strings"),
            ({"keys": ["short"]}, "8 to 200"),
            ({"keys": ['quote"in-it']}, "8 to 200"),
            ({"permissions": ["everything"]}, "one of"),
            ({"rate_limit": 5}, "object"),
            ({"rate_limit": {"limit": -1}}, "whole number"),
            ({"rate_limit": {"window_s": 0}}, "number"),
            ({"rate_limit": {"header_form": "odd"}}, "one of"),
            ({"export_rate_limit": {"header_form": "epoch"}}, "object with"),
            ({"max_objects": 0}, "whole number"),
            ({"max_objects": True}, "whole number"),
            ({"max_objects_form": "each"}, "one of"),
            ({"blocked_attributes": [1]}, "list of strings"),
            ({"forced_types": {"x": "colour"}}, "one of"),
            ({"forced_types": []}, "object"),
            ({"latency": [2, 1]}, "[min, max]"),
            ({"latency": "long"}, "number"),
            ({"gap_s": -1}, "number"),
        ],
    )
    def test_config(self, local: Any, change: Any, text: str) -> None:
        """A wrong setting is refused with its reason, and no part of the update holds."""
        change = {"max_bytes": 7, **change} if isinstance(change, dict) else change
        reply = local.call("/sandbox/config", change, "PUT")
        assert reply.status == 400
        assert text in json.loads(reply.body)["message"]
        assert local.control("GET", "config")["max_bytes"] == 4_000_000

    @pytest.mark.parametrize(
        ("faults", "text"),
        [
            ({}, "list"),
            ([5], "object"),
            ([{"kind": "earthquake"}], "unknown fault kind"),
            ([{"kind": ["hang"]}], "unknown fault kind"),
            ([{"kind": "hang", "colour": 1}], "does not know colour"),
            ([{"kind": "hang", "times": 0}], "times"),
            ([{"kind": "hang", "apply": 1}], "true or false"),
            ([{"kind": "latency"}], "seconds"),
            ([{"kind": "status"}], "status"),
            ([{"kind": "status", "status": 99}], "status"),
            ([{"kind": "status", "status": 500, "headers": {"a": "b\r\nc"}}], "headers"),
            ([{"kind": "status", "status": 429, "header_form": "odd"}], "header_form"),
            ([{"kind": "poison"}], "match_user"),
            ([{"kind": "queued", "path": "/users/delete"}], "only"),
            ([{"kind": "hang", "path": 1}], "path"),
        ],
    )
    def test_faults(self, local: Any, faults: Any, text: str) -> None:
        """A wrong fault is refused with its reason, and the queue stays as it was."""
        local.control("PUT", "faults", [{"kind": "queued"}])
        reply = local.call("/sandbox/faults", faults, "PUT")
        assert reply.status == 400
        assert text in json.loads(reply.body)["message"]
        assert len(local.control("GET", "faults")) == 1

    @pytest.mark.parametrize("path", ["profiles", "config", "faults"])
    @pytest.mark.parametrize("body", [b"{", b'"x"', b'{"a": 1}'])
    def test_bad_body(self, local: Any, path: str, body: bytes) -> None:
        """A body of the wrong form is refused everywhere."""
        assert local.call(f"/sandbox/{path}", body, "PUT").status == 400

    @pytest.mark.parametrize("limit", ["0", "x", "-1", "999999", "²"])
    def test_bad_limit(self, local: Any, limit: str) -> None:
        """A limit out of bounds is refused."""
        assert local.call(f"/sandbox/requests?limit={limit}", None, "GET").status == 400

    def test_unknown_control(self, local: Any) -> None:
        """An unknown control path is 404 and says which are known."""
        reply = local.call("/sandbox/reports", None, "GET")
        assert reply.status == 404
        assert b"GET report" in reply.body


def test_own_mistake_is_a_500(
    local: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the sandbox itself is answered with 500 and told on standard error."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(local.app.state.profiles, "write_attributes", fail)
    assert local.track(USER)[0] == 500
    assert "on purpose" in capsys.readouterr().err
