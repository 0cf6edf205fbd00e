"""The client's conduct: overlaps, doubled users, gaps, empty objects."""

from typing import Any

VIP = {"external_id": "u", "vip": True}


def violations(local: Any) -> Any:
    return local.control("GET", "report")["violations"]


class TestOverlap:
    def test_two_requests_for_one_user(self, local: Any) -> None:
        """A user in two requests at the same time is an overlap."""
        first = local.begin("/users/track", {"attributes": [VIP]})
        local.app.handle(first)
        local.track(VIP)
        local.app.finish(first, replied=True)
        assert violations(local) == {"overlap": 1}
        assert local.control("GET", "report")["violation_samples"][0]["user"] == "u"

    def test_one_after_the_other(self, local: Any) -> None:
        """Requests that follow one another are fine, also within the same instant."""
        for _ in range(3):
            local.track(VIP)
        assert violations(local) == {}

    def test_different_users_may_overlap(self, local: Any) -> None:
        """Requests at the same time for different users are what is wanted."""
        first = local.begin("/users/track", {"attributes": [VIP]})
        local.app.handle(first)
        local.track({"external_id": "v", "vip": True})
        local.app.finish(first, replied=True)
        assert violations(local) == {}
        assert local.control("GET", "report")["max_in_flight"] == 2

    def test_began_before_the_other_was_over(self, local: Any) -> None:
        """A request whose body came late overlaps with one answered in the meantime."""
        slow = local.begin("/users/track", {"attributes": [VIP]})
        local.clock.advance(1)
        local.track(VIP)
        local.app.handle(slow)
        local.app.finish(slow, replied=True)
        assert violations(local) == {"overlap": 1}

    def test_client_that_gave_up_may_send_again(self, local: Any) -> None:
        """Once the client has gone its request is no longer under way, noticed or not."""
        for notice in (True, False):
            first = local.begin("/users/track", {"attributes": [VIP]})
            first.peer_closed = lambda: True
            local.app.handle(first)
            if notice:
                local.app.finish(first, replied=False)
            local.track(VIP)
            if not notice:
                local.app.finish(first, replied=False)
        local.track(VIP)
        assert violations(local) == {}

    def test_the_long_one_is_not_forgotten(self, local: Any) -> None:
        """A short request in between does not hide the one that is still under way."""
        first = local.begin("/users/track", {"attributes": [VIP]})
        local.app.handle(first)
        local.track(VIP)
        local.track(VIP)
        local.app.finish(first, replied=True)
        assert violations(local) == {"overlap": 2}


def test_user_twice_in_one_array(local: Any) -> None:
    """Two objects of one user in one array are counted, across arrays they are not."""
    event = {"external_id": "u", "name": "seen", "time": "2026-11-22T10:00:00Z"}
    local.track(VIP, events=[event])
    assert violations(local) == {}
    local.track(VIP, {"external_id": "u", "gold": True})
    assert violations(local) == {"duplicate_user": 1}


def test_object_without_attributes(local: Any) -> None:
    """An object that writes nothing is a waste and counted."""
    local.track({"external_id": "u", "_update_existing_only": True})
    assert violations(local) == {"empty_object": 1}


class TestGap:
    def flip(self, local: Any, wait: float, value: Any = False, gap_s: float = 5) -> Any:
        local.control("PUT", "config", {"gap_s": gap_s})
        local.track(VIP)
        local.clock.advance(wait)
        local.track({"external_id": "u", "vip": value})
        return violations(local)

    def test_too_soon(self, local: Any) -> None:
        """Another value for the same attribute within the gap breaks the rule."""
        assert self.flip(local, 4.9) == {"gap": 1}

    def test_late_enough(self, local: Any) -> None:
        """After the gap another value is fine."""
        assert self.flip(local, 5) == {}

    def test_same_value_need_not_wait(self, local: Any) -> None:
        """The same value may be repeated at once."""
        assert self.flip(local, 0, True) == {}

    def test_off_by_default(self, local: Any) -> None:
        """Without a gap set nothing is held against the client."""
        assert self.flip(local, 0, gap_s=0) == {}

    def test_refused_request_starts_no_gap(self, local: Any) -> None:
        """What was refused with a 4xx cannot have set a value."""
        local.control("PUT", "faults", [{"kind": "status", "status": 429}])
        assert self.flip(local, 0) == {}

    def test_ambiguous_request_starts_a_gap(self, local: Any) -> None:
        """After a 5xx nobody knows whether the value was set, so it counts."""
        local.control("PUT", "faults", [{"kind": "status", "status": 500}])
        assert self.flip(local, 0) == {"gap": 1}
