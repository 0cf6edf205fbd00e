"""Each fault as a client meets it, over a real connection."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

Wait = Callable[[Callable[[], Any]], Any]


def faults(remote: Any, *entries: dict[str, Any]) -> None:
    remote.control("PUT", "faults", list(entries))


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


class TestQueue:
    def test_times_and_after(self, local: Any) -> None:
        """A fault passes over `after` requests and is spent after `times` hits."""
        local.control("PUT", "faults", [{"kind": "status", "status": 503, "times": 2, "after": 1}])
        user = {"external_id": "u", "vip": True}
        assert [local.track(user)[0] for _ in range(5)] == [201, 503, 503, 201, 201]
        assert local.control("GET", "faults")[0]["hits"] == 2

    def test_first_that_fits_strikes(self, local: Any) -> None:
        """Faults are asked in order, by path and by user, and later ones wait their turn."""
        local.control(
            "PUT",
            "faults",
            [
                {"kind": "status", "status": 500, "match_user": "b", "times": None},
                {"kind": "status", "status": 502, "path": "/users/delete"},
                {"kind": "status", "status": 503},
            ],
        )
        a, b = ({"external_id": user, "vip": True} for user in "ab")
        assert [local.track(b)[0], local.track(a)[0], local.track(a)[0]] == [500, 503, 201]
        assert local.track(a, b)[0] == 500
        assert local.call("/users/delete", {"external_ids": ["a"]}).status == 502

    def test_export_may_be_matched_by_user(self, local: Any) -> None:
        """A fault on the export can wait for one user as well."""
        fault = {"kind": "status", "status": 500, "path": "/users/export/ids", "match_user": "b"}
        local.control("POST", "faults", fault)
        ask = {"external_ids": ["a"], "fields_to_export": ["external_id"]}
        assert local.call("/users/export/ids", ask).status == 201
        assert local.call("/users/export/ids", {**ask, "external_ids": ["b"]}).status == 500

    def test_cleared(self, local: Any) -> None:
        """DELETE ends all faults."""
        local.control("PUT", "faults", [{"kind": "status", "status": 500, "times": None}])
        local.control("DELETE", "faults")
        assert local.track({"external_id": "u", "vip": True})[0] == 201


class TestStatus:
    @pytest.mark.parametrize(
        ("form", "header"),
        [
            ("epoch", "X-RateLimit-Reset"),
            ("delta", "X-RateLimit-Reset"),
            ("mau", "X-Ratelimit-Retry-After"),
            ("retry-after", "Retry-After"),
            ("none", None),
        ],
    )
    def test_throttled_in_each_form(self, remote: Any, form: str, header: str | None) -> None:
        """A burst of 429 can announce its end in any of the header forms."""
        faults(remote, {"kind": "status", "status": 429, "header_form": form, "retry_after_s": 30})
        reply = remote.track("u")
        assert reply.status_code == 429
        if header is None:
            assert not any("rate" in name.lower() for name in reply.headers)
            return
        told = int(reply.headers[header])
        assert (told - time.time() if form == "epoch" else told) == pytest.approx(30, abs=2)

    def test_any_body_and_headers(self, remote: Any) -> None:
        """Status, body and headers can be chosen freely; nothing is applied."""
        faults(
            remote,
            {"kind": "status", "status": 502, "body": {"a": 1}, "headers": {"X-Odd": "yes"}},
            {"kind": "status", "status": 500, "body": "oops"},
        )
        first, second = remote.track("u"), remote.track("u")
        assert (first.status_code, first.json(), first.headers["X-Odd"]) == (502, {"a": 1}, "yes")
        assert (second.status_code, second.text) == (500, "oops")
        assert remote.attributes("u") is None

    def test_html(self, remote: Any) -> None:
        """A CDN's error page is HTML with its own status."""
        faults(remote, {"kind": "html", "status": 503})
        reply = remote.track("u")
        assert (reply.status_code, reply.headers["Content-Type"]) == (503, "text/html")
        assert reply.text.startswith("<!DOCTYPE html>")
        assert remote.attributes("u") is None


class TestSlow:
    def test_latency(self, remote: Any) -> None:
        """The answer is right and comes late; the write is there at once."""
        faults(remote, {"kind": "latency", "seconds": [0.05, 0.06]})
        begin = time.monotonic()
        assert remote.track("u").status_code == 201
        assert time.monotonic() - begin >= 0.05

    def test_usual_latency(self, remote: Any) -> None:
        """A latency in the settings delays every answer."""
        remote.control("PUT", "config", {"latency": [0.03, 0.03]})
        begin = time.monotonic()
        assert remote.track("u").status_code == 201
        assert time.monotonic() - begin >= 0.03

    def test_drip(self, remote: Any) -> None:
        """Headers come at once, the body byte by byte, complete in the end."""
        faults(remote, {"kind": "drip", "interval": 0.001})
        assert remote.track("u").json() == {"message": "success", "attributes_processed": 1}
        assert remote.attributes("u") == {"vip": True}

    def test_drip_outlasts_a_read_timeout(self, remote: Any) -> None:
        """Each byte restarts a socket time-out, so only a total limit ends the wait."""
        faults(remote, {"kind": "drip", "interval": 0.01, "apply": False})
        begin = time.monotonic()
        reply = remote.track("u", timeout=0.25)
        assert time.monotonic() - begin > 0.3
        assert reply.json()["attributes_processed"] == 1
        assert remote.attributes("u") is None

    @pytest.mark.parametrize("apply", [True, False])
    def test_hang(self, remote: Any, eventually: Wait, apply: bool) -> None:
        """The body is taken and nothing answered; the write took effect or did not."""
        faults(remote, {"kind": "hang", "seconds": 30, "apply": apply})
        with pytest.raises(requests.ReadTimeout):
            remote.track("u", timeout=0.05)
        assert remote.attributes("u") == ({"vip": True} if apply else None)
        eventually(lambda: remote.control("GET", "report")["in_flight"] == 0)
        assert remote.control("GET", "report")["by_status"] == {"none": 1}

    def test_hang_ends(self, remote: Any) -> None:
        """After its seconds the connection is closed without an answer."""
        faults(remote, {"kind": "hang", "seconds": 0.02})
        with pytest.raises(requests.ConnectionError):
            remote.track("u")

    def test_hang_that_lands_late(self, remote: Any, eventually: Wait) -> None:
        """A write can take effect long after its client gave up, over a newer value."""
        faults(remote, {"kind": "hang", "apply": True, "apply_after": 0.5})
        with pytest.raises(requests.ReadTimeout):
            remote.track("u", timeout=0.05, vip="old")
        assert remote.track("u", vip="new").status_code == 201
        assert remote.attributes("u") == {"vip": "new"}
        eventually(lambda: remote.attributes("u") == {"vip": "old"})
        assert remote.control("GET", "report")["violations"] == {}


class TestBroken:
    @pytest.mark.parametrize(
        ("fault", "applied"),
        [
            ({"kind": "reset_before"}, False),
            ({"kind": "reset_after"}, True),
            ({"kind": "reset_after", "apply": False}, False),
        ],
    )
    def test_reset(self, remote: Any, fault: dict[str, Any], applied: bool) -> None:
        """The connection is reset, which tells the client nothing about the write."""
        faults(remote, fault)
        with remote.connect() as connection:
            connection.sendall(remote.request_bytes("u"))
            with pytest.raises(ConnectionResetError):
                read_all(connection)
        assert (remote.attributes("u") is not None) == applied

    @pytest.mark.parametrize("apply", [True, False])
    def test_cut(self, remote: Any, apply: bool) -> None:
        """The body ends before its announced length."""
        faults(remote, {"kind": "cut", "apply": apply})
        with remote.connect() as connection:
            connection.sendall(remote.request_bytes("u"))
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 Created")
        assert f"Content-Length: {len(body) * 2}".encode() in head
        assert (remote.attributes("u") is not None) == apply

    def test_cut_is_an_error_for_a_client(self, remote: Any) -> None:
        """A client library reports the cut reply as a broken connection."""
        faults(remote, {"kind": "cut"})
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            remote.track("u")


class TestLies:
    def test_named_poison(self, remote: Any) -> None:
        """One bad user makes the whole request a 400 that names their place."""
        faults(remote, {"kind": "poison", "match_user": "b", "times": None})
        reply = remote.track("a", "b")
        assert reply.status_code == 400
        [error] = reply.json()["errors"]
        assert (error["input_array"], error["index"]) == ("attributes", 1)
        assert remote.attributes("a") is None
        assert remote.track("a").status_code == 201

    def test_unnamed_poison(self, remote: Any) -> None:
        """The bare form says nothing about who is at fault."""
        faults(remote, {"kind": "poison", "match_user": "b", "named": False})
        reply = remote.track("a", "b")
        assert (reply.status_code, list(reply.json())) == (400, ["message"])
        assert remote.attributes("a") is None

    def test_credentials_come_before_poison(self, remote: Any) -> None:
        """A wrong key is 401 even for a poisoned request."""
        faults(remote, {"kind": "poison", "match_user": "b"})
        remote.control("PUT", "config", {"keys": []})
        assert remote.track("b").status_code == 401

    @pytest.mark.parametrize("array", [True, False])
    def test_error_without_index(self, remote: Any, array: bool) -> None:
        """A 201 can leave open which object failed; all but that one are applied."""
        faults(remote, {"kind": "partial_unindexed", "match_user": "b", "array": array})
        reply = remote.track("a", "b")
        assert (reply.status_code, reply.json()["attributes_processed"]) == (201, 1)
        [error] = reply.json()["errors"]
        assert "index" not in error
        assert ("input_array" in error) == array
        assert remote.attributes("a") == {"vip": True}
        assert remote.attributes("b") is None

    def test_odd_message(self, remote: Any) -> None:
        """A 2xx whose message is neither success nor queued has applied nothing."""
        faults(remote, {"kind": "odd_message", "message": "maintenance"})
        reply = remote.track("u")
        assert (reply.status_code, reply.json()) == (201, {"message": "maintenance"})
        assert remote.attributes("u") is None

    def test_queued(self, remote: Any) -> None:
        """During maintenance the answer is 202 queued, and the write lands."""
        faults(remote, {"kind": "queued"})
        reply = remote.track("u")
        assert (reply.status_code, reply.json()) == (202, {"message": "queued"})
        assert remote.attributes("u") == {"vip": True}
