"""Rule 6: no verdict without evidence, whatever kind of reply comes."""

from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Worker, eventually


def crowd(deployment: Deployment, size: int, **bad: dict[str, Any]) -> None:
    """`size` users u0, u1, ... for one request; those named in `bad` say other things."""
    deployment.send(
        [
            deployment.change(f"u{n}", name, value)
            for n in range(size)
            for name, value in bad.get(f"u{n}", {"vip": True}).items()
        ]
    )


def letters(worker: Worker) -> list[tuple[str | None, str]]:
    """Who is in the dead letters, and why."""
    found = worker.stores.dead_letters.read(0)
    return sorted((letter.user_id, letter.reason) for letter in found)


def assert_delivered_but(deployment: Deployment, *dead: str) -> None:
    """Everybody but those holds what was meant."""
    for user in dead:
        deployment.meant.pop(user)
        assert deployment.sandbox.attributes(user) == {}
    deployment.assert_right()
    assert deployment.ledger()["dead"] == len(dead)


def test_rule_6_named_in_a_partial_error_is_dead_the_rest_is_delivered(
    deployment: Deployment, worker: Worker
) -> None:
    """201 with an index: that item ends, nobody is sent twice."""
    crowd(deployment, 10, u3={"$not_a_name": True}, u7={"$nor_this": True})
    deployment.drain(worker)
    assert_delivered_but(deployment, "u3", "u7")
    assert [user for user, _ in letters(worker)] == ["u3", "u7"]
    assert "must not start with '$'" in letters(worker)[0][1]
    assert len(deployment.sandbox.requests()) == 1


def test_rule_6_named_in_a_400_is_dead_the_rest_is_sent_again(
    deployment: Deployment, worker: Worker
) -> None:
    """400 with an index refuses all; without the named item the rest goes at once."""
    deployment.sandbox.fault("poison", match_user="u3", named=True, times=None)
    crowd(deployment, 10)
    deployment.drain(worker)
    assert_delivered_but(deployment, "u3")
    assert [len(item["objects"]) for item in deployment.sandbox.requests()] == [10, 9]


@pytest.mark.parametrize("place", [0, 37, 74])
def test_rule_6_unnamed_poison_of_75_is_found_within_8_further_requests(
    place: int, deployment: Deployment, worker: Worker
) -> None:
    """By halves: it stands alone after 8 at most; one more for those that were cleared by then."""
    deployment.sandbox.fault("poison", match_user=f"u{place}", named=False, times=None)
    crowd(deployment, 75)
    deployment.drain(worker)
    assert_delivered_but(deployment, f"u{place}")
    requests = deployment.sandbox.requests()
    sizes = [len(item["objects"]) for item in requests]
    alone = [[item["external_id"] for item in found["objects"]] for found in requests]
    assert sizes[0] == 75
    assert alone.index([f"u{place}"]) <= 8
    assert len(requests) <= 1 + 8 + 1
    assert deployment.sandbox.report()["values_unchanged"] == 0


def test_rule_6_two_unnamed_poisons_are_both_found(deployment: Deployment, worker: Worker) -> None:
    """Several refused items cost more requests, and nobody else their value."""
    for user in ("u5", "u60"):
        deployment.sandbox.fault("poison", match_user=user, named=False, times=None)
    crowd(deployment, 75)
    deployment.drain(worker)
    assert_delivered_but(deployment, "u5", "u60")
    assert len(deployment.sandbox.requests()) <= 1 + 2 * 8


def test_rule_6_poison_is_found_although_permission_is_scarce(deployment: Deployment) -> None:
    """Other requests that want the allowance do not make the search begin again and again."""
    scarce = {"braze_requests_per_second": 30, "braze_burst": 1}
    busy = deployment.worker(**scarce, braze_objects_per_request=16)
    deployment.sandbox.fault("poison", match_user="u7", named=False, times=None)
    crowd(deployment, 900)
    with deployment.threads(busy.accept, *[busy.flush] * 24):
        eventually(deployment.is_idle, 12, "idleness")
    assert_delivered_but(deployment, "u7")
    # 16 with one bad item: at most 6 refused requests; a slow machine may have to begin again.
    assert deployment.sandbox.faults()[0]["hits"] <= 2 * 6


@pytest.mark.parametrize("has_array", [True, False])
def test_rule_6_error_without_index_makes_the_items_unknown_and_finds_whom(
    has_array: bool, deployment: Deployment, worker: Worker
) -> None:
    """201 with an error that names nobody: halves, until it stands alone."""
    deployment.sandbox.fault("partial_unindexed", match_user="u4", array=has_array, times=None)
    crowd(deployment, 20)
    deployment.drain(worker)
    assert_delivered_but(deployment, "u4")
    assert letters(worker) == [("u4", "this object could not be processed")]


def test_rule_6_another_message_accepted_nothing(deployment: Deployment, worker: Worker) -> None:
    """A 201 that is neither success nor queued is no delivery."""
    deployment.sandbox.fault("odd_message")
    crowd(deployment, 3)
    worker.accept()
    hasty = deployment.hasty_worker()
    tally = eventually(lambda: (found := hasty.flush()).requests and found, 3)
    assert (tally.delivered, tally.retry) == (0, 3)
    deployment.drain(worker)
    deployment.assert_right()


def test_rule_6_queued_is_delivered(deployment: Deployment, worker: Worker) -> None:
    """202 queued is Braze's word that it will do it."""
    deployment.sandbox.fault("queued")
    crowd(deployment, 3)
    deployment.drain(worker)
    assert deployment.sandbox.report()["by_status"] == {"202": 1}
    deployment.assert_right()
    assert deployment.ledger()["delivered"] == 3


@pytest.mark.parametrize("status", [200, 400, 500, 502])
def test_rule_6_html_page_is_no_verdict_of_delivery(
    status: int, deployment: Deployment, worker: Worker
) -> None:
    """Somebody's HTML page never counts as delivered and kills nobody who is fine."""
    page = "<html><body>Sorry</body></html>"
    deployment.sandbox.fault("status", status=status, body=page)
    crowd(deployment, 3)
    deployment.drain(worker)
    deployment.assert_right()
    assert letters(worker) == []
    assert deployment.ledger()["delivered"] == 3


def test_rule_6_too_many_objects_makes_requests_smaller_and_is_remembered(
    deployment: Deployment, worker: Worker
) -> None:
    """Max Input Length Exceeded: halves go at once, and later requests begin that small."""
    deployment.sandbox.configure(max_objects=20)
    crowd(deployment, 75)
    deployment.drain(worker)
    deployment.assert_right()
    assert letters(worker) == []
    other = deployment.worker()
    deployment.send([deployment.change(f"v{n}", "vip", True) for n in range(60)])
    before = len(deployment.sandbox.requests())
    deployment.drain(other)
    later = deployment.sandbox.requests()[before:]
    assert {item["status"] for item in later} == {201}
    deployment.assert_right()


def test_rule_6_413_makes_requests_smaller_and_is_remembered(
    deployment: Deployment, worker: Worker
) -> None:
    """A body that is too large: halves go at once, and later requests begin that small."""
    deployment.sandbox.configure(max_bytes=1_500)
    crowd(deployment, 75)
    deployment.drain(worker)
    deployment.assert_right()
    deployment.send([deployment.change(f"v{n}", "vip", True) for n in range(75)])
    before = len(deployment.sandbox.requests())
    deployment.drain(worker)
    later = deployment.sandbox.requests()[before:]
    assert {item["status"] for item in later} == {201}
    deployment.assert_right()
