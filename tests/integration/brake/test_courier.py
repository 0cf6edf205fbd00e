"""The way of a notice to the webhook: in order, tried again, bounded, in nobody's way."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from worker.pipeline import facts
from worker.pipeline.schedule import Lane
from worker.watch import CourierPolicy

Make = Callable[..., Any]


def note(world: Any, *names: str) -> None:
    for name in names:
        world.record(facts.BudgetReached(audience=name, limit=1))
    world.watch.give()


def names(hook: Any) -> list[str]:
    return [json.loads(body)["text"].partition(" ")[0] for _, _, body in hook.got]


class TestCourier:
    def test_each_is_posted_once_in_order(self, make: Make, hook: Any) -> None:
        """One for each tick, the oldest first; then there is nothing more to post."""
        world = make(url=hook.url)
        note(world, "a", "b", "c")
        for _ in range(6):
            world.tick()
        assert names(hook) == ["a", "b", "c"]

    def test_what_is_not_taken_is_tried_again(self, make: Make, hook: Any) -> None:
        """Waits grow; nothing overtakes; each failure is a fact; then it is delivered."""
        world = make(url=hook.url)
        hook.status = 500
        note(world, "a", "b")
        at = []
        for _ in range(60):
            before = len(hook.got)
            world.tick()
            at += [world.now] * (len(hook.got) - before)
        waits = [later - earlier for earlier, later in pairwise(at)]
        assert waits == sorted(waits)
        assert waits[0] >= 3_000
        assert waits[-1] >= 3 * waits[0]
        assert [(fact.reason, fact.tries) for fact in world.said("notice_not_sent")] == [
            ("status_500", n + 1) for n in range(len(at))
        ]
        hook.status = 200
        for _ in range(120):
            world.tick()
        assert names(hook) == ["a"] * (len(at) + 1) + ["b"]

    def test_it_is_given_up_at_last(self, make: Make, hook: Any) -> None:
        """After some tries the next one has its turn; the notice is in `status` all the same."""
        policy = CourierPolicy(tries=3, base=timedelta(seconds=1), cap=timedelta(seconds=1))
        world = make(url=hook.url, courier_policy=policy)
        hook.status = 404
        note(world, "a", "b")
        for _ in range(30):
            world.tick()
        assert names(hook) == ["a"] * 3 + ["b"] * 3
        assert [fact.given_up for fact in world.said("notice_not_sent")] == [False, False, True] * 2
        assert len(world.texts()) == 2

    def test_posts_of_a_minute_are_bounded(self, make: Make, hook: Any) -> None:
        """However many notices there are, only so many are posted in a minute, and all in time."""
        world = make(url=hook.url, courier_policy=CourierPolicy(per_minute=5))
        note(world, *(f"a{n}" for n in range(12)))
        counts = []
        world.now -= 500
        for _ in range(3):
            before = len(hook.got)
            for _ in range(60):
                world.tick()
            counts.append(len(hook.got) - before)
        assert counts == [5, 5, 2]

    def test_the_queue_is_bounded(self, make: Make, hook: Any) -> None:
        """A webhook that is away for long gets the newest hundred."""
        world = make(url=hook.url, courier_policy=CourierPolicy(per_minute=1_000))
        note(world, *(f"a{n}" for n in range(90)))
        note(world, *(f"b{n}" for n in range(60)))
        for _ in range(200):
            world.tick()
        assert len(hook.got) == 100
        assert names(hook)[-1] == "b59"
        assert names(hook)[0] == "a50"

    def test_two_workers_post_it_once(self, make: Make, hook: Any) -> None:
        """While one worker posts, the ticks of others leave the notice alone."""
        held: list[Callable[[], None]] = []
        world = make(url=hook.url, launch=held.append)
        note(world, "a")
        for _ in range(3):
            world.tick()
        (post,) = held
        post()
        world.tick()
        assert names(hook) == ["a"]

    def test_a_sender_that_is_lost_is_replaced(self, make: Make, hook: Any) -> None:
        """A worker that dies while it posts holds up the others for seconds only."""
        world = make(url=hook.url, launch=lambda work: None)
        note(world, "a")
        world.tick()
        assert 0 < world.client.pttl("ps1:{a}:notices:sender") <= 15_000

    def test_a_hanging_webhook_is_in_nobodys_way(self, make: Make, hook: Any) -> None:
        """The tick and deliveries go on while a post hangs; it ends at its time-out."""
        threads: list[threading.Thread] = []

        def launch(work: Callable[[], None]) -> None:
            threads.append(threading.Thread(target=work))
            threads[-1].start()

        world = make(url=hook.url, launch=launch)
        hook.hangs.clear()
        note(world, "a")
        world.tick()
        world.crowd(3)
        world.tick()
        world.later(200)
        world.flow.flush(0, Lane.REALTIME)
        assert len(world.sent_of("vip")) == 3
        (thread,) = threads
        assert thread.is_alive()
        thread.join(5)
        assert [fact.tries for fact in world.said("notice_not_sent")] == [1]

    @pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/x"])
    def test_no_webhook_to_be_found(self, make: Make, url: str) -> None:
        """An address that is gone or answers nothing is a fact without a word of it."""
        world = make(url=url)
        note(world, "a")
        world.tick()
        (fact,) = world.said("notice_not_sent")
        assert fact.reason in ("wrong_address", "ConnectionRefusedError")

    def test_without_a_webhook_nothing_waits(self, make: Make) -> None:
        """Notices are kept for `status` only."""
        world = make()
        note(world, "a")
        world.tick()
        assert not world.client.exists("ps1:{a}:notices:unsent")
