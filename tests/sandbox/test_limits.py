"""Rate limits and the ways Braze announces them."""

import json
from typing import Any

import pytest

USER = {"external_id": "u", "vip": True}
T0 = 1_800_000_000


def send(local: Any) -> tuple[int, dict[str, str]]:
    reply = local.call("/users/track", {"attributes": [USER]})
    return reply.status, dict(reply.headers)


def limit(local: Any, form: str, most: int | None = 1, window_s: float = 10) -> None:
    rate = {"limit": most, "window_s": window_s, "header_form": form}
    local.control("PUT", "config", {"rate_limit": rate})


@pytest.mark.parametrize(
    ("form", "on_success", "on_429"),
    [
        (
            "epoch",
            {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0"}
            | {"X-RateLimit-Reset": str(T0 + 10)},
            {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0"}
            | {"X-RateLimit-Reset": str(T0 + 10)},
        ),
        (
            "delta",
            {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "10"},
            {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"},
        ),
        (
            "mau",
            {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "10"},
            {"X-Ratelimit-Retry-After": "7"},
        ),
        ("retry-after", {}, {"Retry-After": "7"}),
        ("none", {}, {}),
    ],
)
def test_header_form(local: Any, form: str, on_success: Any, on_429: Any) -> None:
    """Each form announces the limit in its own way, before and after it is reached."""
    limit(local, form)
    assert send(local) == (201, on_success)
    local.clock.advance(3.5)
    assert send(local) == (429, on_429)
    local.clock.advance(6.5)
    assert send(local)[0] == 201


def test_default_is_three_thousand_in_three_seconds(local: Any) -> None:
    """Out of the box the burst limit of the documentation holds."""
    assert send(local)[1]["X-RateLimit-Limit"] == "3000"
    assert send(local)[1]["X-RateLimit-Remaining"] == "2998"


def test_no_limit(local: Any) -> None:
    """Without a limit nothing is announced."""
    limit(local, "epoch", None)
    assert send(local) == (201, {})


def test_refused_requests_change_nothing(local: Any) -> None:
    """A 429 leaves the profile as it was and uses up no allowance."""
    limit(local, "epoch")
    send(local)
    assert local.track({"external_id": "u", "vip": False})[0] == 429
    assert local.attributes("u") == {"vip": True}
    assert local.control("GET", "report")["by_status"] == {"201": 1, "429": 1}


def test_bad_key_uses_no_allowance(local: Any) -> None:
    """A 401 is answered before anything is counted against the limit."""
    limit(local, "epoch")
    local.call("/users/track", {}, authorization="Bearer nobody-knows")
    assert send(local)[0] == 201


def test_clock_skew_shifts_the_epoch(local: Any) -> None:
    """With a skewed clock the reset time is told in Braze's time, not in ours."""
    limit(local, "epoch")
    local.control("PUT", "config", {"clock_skew_s": 3600})
    assert send(local)[1]["X-RateLimit-Reset"] == str(T0 + 3610)
    assert local.app.date() == T0 + 3600


def test_export_has_its_own_limit(local: Any) -> None:
    """Reading back is limited apart from writing."""
    local.control("PUT", "config", {"export_rate_limit": {"limit": 1, "window_s": 60}})
    ask = {"external_ids": ["u"], "fields_to_export": ["external_id"]}
    assert [local.call("/users/export/ids", ask).status for _ in range(2)] == [201, 429]
    assert send(local)[0] == 201
    assert json.loads(local.call("/users/export/ids", ask).body) == {"message": "Rate Limited"}
