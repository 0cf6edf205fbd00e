"""Windows from end to end: hours pass by a moved clock, with workers and a Braze."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.contract import inbox_key, key, ledger_key
from worker.pipeline.schedule import Lane

HOUR, MINUTE = 3_600_000, 60_000
HOURLY = """
lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 1h}}
audiences:
  - {key: lapsed, cadence: batched}
  - {key: nightly, cadence: batched}
  - {key: weekly, cadence: batched}
  - {key: vip, cadence: realtime}
"""


class Hours:
    """A deployment whose clock runs as usual, and can be set forward. It starts at five past."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        (deployment.folder / "audiences.yaml").write_text(HOURLY)
        now = self._real()
        self.start = (now // HOUR + 1) * HOUR
        self._ahead = self.start + 5 * MINUTE - now

    @staticmethod
    def _real() -> int:
        return int(time.time() * 1000)

    def now(self) -> int:
        """The time in this deployment, ms."""
        return self._real() + self._ahead

    def set(self, at: int) -> None:
        """Set the clock forward."""
        assert at >= self.now()
        self._ahead = at - self._real()

    def worker(self, **settings: Any) -> Worker:
        """A worker that lives by this clock."""
        return self.deployment.worker(self.now, **settings)

    def settle(self, worker: Worker) -> None:
        """Work until nothing is in the inbox, due, held or in flight, and no sweep is left."""

        def is_done() -> bool:
            worker.step()
            client = self.deployment.client
            looks = client.pipeline(transaction=True)
            looks.xlen(inbox_key(0))
            for name in ("rt:ready", "rt:held", "bt:held", "claims"):
                looks.zcard(key(0, name))
            looks.zcount(key(0, "bt:ready"), "-inf", self.now())
            return not any(looks.execute()) and not worker.stores.sweeps.unfinished(0)

        eventually(is_done, 10, "that nothing is due")

    def say(self, worker: Worker, user: str, **values: Any) -> None:
        """Changes of one user come, and are worked off as far as they are due."""
        self.put(user, **values)
        self.settle(worker)

    def put(self, user: str, **values: Any) -> None:
        """Changes of one user come; their entry has the time of this deployment."""
        changes = [self.deployment.change(user, name, value) for name, value in values.items()]
        for envelope in self.deployment.packed(changes):
            fields = {"e": envelope.body, "n": envelope.count}
            self.deployment.client.xadd(inbox_key(0), fields, id=f"{self.now()}-*")
            self.deployment.client.hincrby(ledger_key(0), "accepted", envelope.count)

    def objects(self, user: str) -> list[dict[str, Any]]:
        """What Braze was sent of a user, oldest first."""
        return [
            {name: value for name, value in item.items() if not name.startswith(("_", "external"))}
            for request in self.deployment.sandbox.requests()
            for item in request["objects"]
            if item["external_id"] == user
        ]


@pytest.fixture
def hours(deployment: Deployment) -> Hours:
    """Three hourly audiences and a realtime one, at five past the hour."""
    return Hours(deployment)


def test_one_object_for_three_hourly_audiences(hours: Hours) -> None:
    """The changes come minutes apart; at the hour there is one object with all of them."""
    worker = hours.worker(batched_offset="0s")
    for place, name in enumerate(("lapsed", "nightly", "weekly")):
        hours.set(hours.start + (10 + 15 * place) * MINUTE)
        hours.say(worker, "u", **{name: True})
    hours.set(hours.start + HOUR - 2_000)
    hours.settle(worker)
    assert hours.objects("u") == []
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    assert hours.objects("u") == [{"lapsed": True, "nightly": True, "weekly": True}]


def test_the_offset_moves_the_boundary(hours: Hours) -> None:
    """At the full hour nothing goes; a minute and a half later, the deployment's offset, all."""
    worker = hours.worker()
    hours.say(worker, "u", lapsed=True)
    hours.set(hours.start + HOUR + 80_000)
    hours.settle(worker)
    assert hours.objects("u") == []
    hours.set(hours.start + HOUR + 90_000)
    hours.settle(worker)
    assert hours.objects("u") == [{"lapsed": True}]


def test_out_and_in_again_sends_nothing(hours: Hours) -> None:
    """Who left and came back within a window is in no request, and costs no data point."""
    worker = hours.worker(batched_offset="0s")
    hours.say(worker, "u", lapsed=True)
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    for minutes, value in ((10, False), (20, True)):
        hours.set(hours.start + HOUR + minutes * MINUTE)
        hours.say(worker, "u", lapsed=value)
    hours.set(hours.start + 2 * HOUR)
    hours.settle(worker)
    assert hours.objects("u") == [{"lapsed": True}]
    book = worker.stores.audience_books.read(1, hours.now())["lapsed"]
    assert (book.members, book.pending, book.sent, book.saved) == (1, 0, 1, 2)


def test_one_object_a_window_with_the_newest_values(hours: Hours) -> None:
    """However often a user changes within a window, it ends in one object, with the last word."""
    worker = hours.worker(batched_offset="0s")
    for window in range(3):
        for minutes, value in ((10, True), (30, False), (50, window != 1)):
            hours.set(hours.start + window * HOUR + minutes * MINUTE)
            hours.say(worker, "u", lapsed=value, weekly=window % 2 == 0)
        hours.set(hours.start + (window + 1) * HOUR)
        hours.settle(worker)
    assert hours.objects("u") == [
        {"lapsed": True, "weekly": True},
        {"lapsed": False, "weekly": False},
        {"lapsed": True, "weekly": True},
    ]


def test_boundaries_that_passed_while_all_was_down_are_made_up_at_once(hours: Hours) -> None:
    """Two boundaries are missed: whoever starts next sends one object, with the newest values."""
    first = hours.worker(batched_offset="0s")
    hours.say(first, "u", lapsed=True, weekly=True)
    hours.put("u", weekly=False)
    first.accept()
    first.engine.stop.set()
    hours.set(hours.start + 2 * HOUR + 10 * MINUTE)
    second = hours.worker(batched_offset="0s")
    hours.settle(second)
    assert hours.objects("u") == [{"lapsed": True, "weekly": False}]
    hours.set(hours.start + 3 * HOUR)
    hours.settle(second)
    assert len(hours.objects("u")) == 1


def test_what_came_before_a_boundary_that_nobody_was_there_for_goes_at_once(hours: Hours) -> None:
    """A change lies in the inbox while the hour passes: whoever folds it sends it, not an hour
    later; but who had their object of this window already waits for the next."""
    hours.set(hours.start + 50 * MINUTE)
    hours.put("v", lapsed=True)
    worker = hours.worker(batched_offset="0s")
    worker.accept()
    hours.put("u", lapsed=True)
    hours.put("v", weekly=True)
    hours.set(hours.start + HOUR + 10 * MINUTE)
    worker.flush(Lane.BATCHED)
    worker.accept()
    hours.put("w", lapsed=True)
    hours.settle(worker)
    assert [hours.objects(user) for user in "uv"] == [[{"lapsed": True}], [{"lapsed": True}]]
    hours.set(hours.start + 2 * HOUR)
    hours.settle(worker)
    assert hours.objects("v") == [{"lapsed": True}, {"weekly": True}]
    assert hours.objects("w") == [{"lapsed": True}]


def test_rule_21_a_flush_carries_no_other_audience(hours: Hours) -> None:
    """Of a user in three audiences only the one that is flushed goes, and only of who waits."""
    worker = hours.worker(batched_offset="0s")
    hours.say(worker, "u", lapsed=True, nightly=True, weekly=True)
    hours.say(worker, "v", nightly=True)
    assert worker.stores.sweeps.flush(0, "lapsed", "somebody")
    hours.settle(worker)
    assert (hours.objects("u"), hours.objects("v")) == ([{"lapsed": True}], [])
    hours.say(worker, "u", lapsed=False)
    assert len(hours.objects("u")) == 1, "what comes after the flush waits for its boundary"
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    assert hours.objects("u")[1:] == [{"lapsed": False, "nightly": True, "weekly": True}]
    assert hours.objects("v") == [{"nightly": True}]


def test_realtime_takes_nothing_along_before_its_boundary(hours: Hours) -> None:
    """A realtime change goes at once and alone; the batched one of the same user waits."""
    worker = hours.worker(batched_offset="0s")
    hours.say(worker, "u", lapsed=True, vip=True)
    assert hours.objects("u") == [{"vip": True}]
    hours.say(worker, "u", vip=False)
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    assert hours.objects("u")[-1] == {"lapsed": True}
    assert all(len(item) == 1 for item in hours.objects("u"))


def test_batched_takes_no_realtime_value_along_that_is_sent_already(hours: Hours) -> None:
    """At the boundary an object holds what differs, and nothing that Braze has."""
    worker = hours.worker(batched_offset="0s")
    hours.say(worker, "u", vip=True)
    hours.say(worker, "u", lapsed=True)
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    assert hours.objects("u") == [{"vip": True}, {"lapsed": True}]


def test_rule_21_a_file_that_changes_in_mid_window(hours: Hours) -> None:
    """Batched to realtime goes now, realtime to batched at the boundary, the others keep theirs."""
    worker = hours.worker(batched_offset="0s")
    hours.say(worker, "u", lapsed=True, weekly=True)
    write = (hours.deployment.folder / "audiences.yaml").write_text
    moved = HOURLY.replace("lapsed, cadence: batched", "lapsed, cadence: realtime")
    write(moved.replace("vip, cadence: realtime", "vip, cadence: batched"))
    published: Callable[[], Any] = lambda: worker.facts_named("registry_published")  # noqa: E731
    eventually(lambda: worker.flow.recover() and published(), 5, "the new registry")
    hours.settle(worker)
    assert hours.objects("u") == [{"lapsed": True}]
    hours.say(worker, "u", vip=True)
    assert len(hours.objects("u")) == 1
    hours.set(hours.start + HOUR)
    hours.settle(worker)
    assert hours.objects("u")[1:] == [{"weekly": True, "vip": True}]
