"""Rule 21 with workers and a Braze: the file changes while they run, and profiles end up right."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Part, Worker, eventually
from worker.pipeline.schedule import Lane

LANES = "lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 1h}}\n"


def write(deployment: Deployment, *entries: str, lanes: str = LANES) -> None:
    """Have audiences.yaml written, a while ago."""
    listed = "".join(f"  - {{{one}}}\n" for one in entries)
    file = deployment.folder / "audiences.yaml"
    file.write_text(f"{lanes}audiences:\n{listed}")
    os.utime(file, (time.time() - 10, time.time() - 10))


@pytest.fixture
def written(deployment: Deployment) -> Callable[..., None]:
    """Writes the file; `vip` is batched, by the hour, to begin with."""
    write(deployment, "key: vip, cadence: batched")
    return lambda *entries, **more: write(deployment, *entries, **more)


def test_rule_21_two_workers_take_up_a_lane_move(
    deployment: Deployment, written: Callable[..., None]
) -> None:
    """Users who wait for an hour go now; the worker whose file did not change sends them."""
    one, two = deployment.worker(), deployment.worker()
    deployment.put("u", vip=True)
    deployment.drain(one)
    assert deployment.sandbox.attributes("u") == {}
    written("key: vip, cadence: realtime")
    one.flow.recover()
    one.flow.recover()
    assert one.facts_named("registry_published")
    deployment.drain(two, batched=True)
    assert deployment.sandbox.attributes("u") == {"vip": True}
    assert not two.facts_named("registry_published")


def test_rule_21_a_renamed_attribute_ends_right_under_its_new_name(
    deployment: Deployment, written: Callable[..., None]
) -> None:
    """Everybody is sent again under the new name, whoever was delivered or under way before."""
    written("key: vip, cadence: realtime")
    worker, stale = deployment.worker(), deployment.worker()
    for number in range(30):
        deployment.put(f"u{number}", vip=number % 3 > 0)
    deployment.drain(worker)
    for number in range(5):
        deployment.put(f"u{number}", vip=number % 3 == 0)
    stale.accept()
    written("key: vip, cadence: realtime, attribute: seg_vip")
    with deployment.threads(stale.step, worker.step):
        eventually(
            lambda: all(
                deployment.sandbox.attributes(user).get("seg_vip") == values["vip"]
                for user, values in deployment.meant.items()
            ),
            15,
        )
    deployment.drain(worker)
    (begun,) = [*worker.facts_named("sweep_begun"), *stale.facts_named("sweep_begun")]
    assert (begun.work, begun.users, begun.left_behind) == ("resync", 30, "vip")


def test_rule_21_a_flush_brings_one_audience_up_to_date(
    deployment: Deployment, written: Callable[..., None]
) -> None:
    """What waits for its boundary is sent now, with the doorbell of the tick."""
    written("key: vip, cadence: batched", "key: other, cadence: batched")
    worker: Worker = deployment.worker()
    deployment.put("u", vip=True, other=True)
    deployment.drain(worker)
    at = worker.stores.allowance.now_ms()
    assert worker.stores.sweeps.flush(0, "vip", "somebody")
    worker.flow.recover()
    assert ("persona_sync.sweep", 0) in worker.rung
    worker.flow.sweep(0)
    assert worker.facts_named("sweep_ended")
    worker.flow.recover()
    assert ("persona_sync.flush_batched", 0) in worker.rung
    worker.flush(Lane.BATCHED)
    assert deployment.sandbox.attributes("u") == {"vip": True}
    assert worker.stores.sweeps.pending(0, "vip", at) == 0


def test_rule_21_retired_everywhere(deployment: Deployment, written: Callable[..., None]) -> None:
    """Every member loses the attribute, changes that come later revive nothing."""
    written("key: vip, cadence: realtime")
    worker = deployment.worker()
    for number in range(10):
        deployment.put(f"u{number}", vip=True)
    deployment.drain(worker)
    worker.stores.publication.retire("vip", "null", "somebody")
    deployment.drain(worker)
    deployment.put("u1", vip=True)

    def is_done() -> bool:
        worker.step()
        profiles = deployment.sandbox.profiles()
        return deployment.is_idle() and not any("vip" in values for values in profiles.values())

    eventually(is_done, 10)
    assert deployment.ledger()["skipped"] == 1
    book = worker.stores.audience_books.read(1, worker.stores.allowance.now_ms())["vip"]
    assert (book.members, book.skipped, book.sent) == (0, 1, 20)


@pytest.mark.slow
def test_rule_21_processes_take_up_a_file_that_changes(
    deployment: Deployment, start: Callable[..., Part], written: Callable[..., None]
) -> None:
    """Two real workers and a beat: windows of 5 s, then realtime, then another name."""
    five = "lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 5s}}\n"
    written("key: vip, cadence: batched", lanes=five)
    deployment.meant.clear()
    start("one", batched_offset="0s")
    start("two", batched_offset="0s")
    start(beat=True)

    def holds(name: str, value: Any) -> Callable[[], bool]:
        def look() -> bool:
            profiles = deployment.sandbox.profiles()
            users = [f"u{number}" for number in range(20)]
            return all(profiles.get(user, {}).get(name) == value for user in users)

        return look

    def say(value: bool) -> None:
        changes = [deployment.change(f"u{number}", "vip", value) for number in range(20)]
        deployment.send(changes, rings=True)

    say(True)
    eventually(holds("vip", True), 30)
    assert time.time() % 5 < 3, "sent at a boundary"
    written("key: vip, cadence: realtime", lanes=five)
    say(False)
    eventually(holds("vip", False), 30)
    written("key: vip, cadence: realtime, attribute: seg_vip", lanes=five)
    eventually(holds("seg_vip", False), 30)
    say(True)
    eventually(holds("seg_vip", True), 30)
    assert holds("vip", False)(), "the old name keeps its last values"
    eventually(deployment.is_idle, 20)
