"""Rules 9, 11, 15 to 17 at the allowance: what all workers may ask of Braze, on a moved clock."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.pipeline.outcome import Course, Hints, ItemVerdict, Outcome, Then, Verdict
from worker.pipeline.schedule import Lane
from worker.stores.allowance import AllowancePolicy

R, B = Lane.REALTIME, Lane.BATCHED
_lived = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


class Asker:
    """Asks and reports, numbering the permits."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.asked = 0

    def ask(self, lane: Lane = R, longest: int = 0) -> Any:
        """Reserve one request."""
        self.asked += 1
        return self.world.allowance.reserve(f"p{self.asked}", lane, longest)

    def tell(
        self,
        course: Course = Course.FINE,
        *,
        items: tuple[Verdict, ...] = (Verdict.DELIVERED,),
        permit: str | None = None,
        **more: Any,
    ) -> Any:
        """Report on the last request, or on one that is named."""
        verdicts = tuple(ItemVerdict(verdict) for verdict in items)
        outcome = Outcome(verdicts, Then.NOTHING, course, "why", **more)
        final = sum(v in (Verdict.DELIVERED, Verdict.DEAD) for v in items)
        return self.world.allowance.reporting(
            permit or f"p{self.asked}",
            outcome,
            status="200",
            objects=len(items),
            key_print="k",
            final=final,
        ).run()

    def hint(self, remaining: int, reset_in: float, limit: int = 100) -> None:
        """A reply that says what is left of the window."""
        self.tell(hints=Hints(limit, remaining, reset_in))

    def starts(self, seconds: float, lane: Lane = R, step: int = 10) -> list[int]:
        """Ask all the time for so long; the moments at which requests could begin."""
        found, until = [], self.world.now + round(seconds * 1000)
        while self.world.now < until:
            while (permission := self.ask(lane)).is_granted:
                found.append(self.world.now + permission.wait_ms)
                self.world.allowance.give_back(f"p{self.asked}")
            self.world.later(step)
        return found


@pytest.fixture
def asker(world: Any) -> Asker:
    """An asker in the usual world: 100 a second, burst 10."""
    return Asker(world)


class TestRate:
    @settings(max_examples=25, deadline=None, database=None, derandomize=True, **_lived)
    @given(
        rate=st.sampled_from([1.0, 3.0, 7.5, 100.0]),
        burst=st.integers(1, 20),
        pauses=st.lists(st.sampled_from([0, 0, 0, 1, 3, 50, 333, 2_000]), max_size=120),
        longest=st.sampled_from([0, 20, 500, 5_000]),
    )
    def test_rule_16_never_more_than_rate_and_burst(
        self,
        make_world: Callable[..., Any],
        rate: float,
        burst: int,
        pauses: list[int],
        longest: int,
    ) -> None:
        """In no second do more requests begin than the rate and the burst together."""
        world = make_world(policy=AllowancePolicy(rate=rate, burst=burst))
        asker, starts = Asker(world), []
        for pause in pauses:
            permission = asker.ask(longest=longest)
            assert permission.wait_ms <= longest or not permission.is_granted
            if permission.is_granted:
                starts.append(world.now + permission.wait_ms)
            world.later(pause)
        for at in starts:
            assert sum(at <= other < at + 1_000 for other in starts) <= rate + burst

    def test_the_whole_rate_can_be_used(self, asker: Asker) -> None:
        """Whoever asks all the time gets the rate, no less."""
        assert 200 <= len(asker.starts(2)) <= 210

    def test_a_wait_that_is_too_long_is_not_granted(self, asker: Asker) -> None:
        """A reservation is refused with the time to ask again, and takes nothing."""
        for _ in range(10):
            assert asker.ask().is_granted
        refused = asker.ask()
        assert (refused.is_granted, refused.why, refused.wait_ms) == (False, "rate", 10)
        asker.world.later(10)
        assert asker.ask().is_granted


class TestPause:
    def test_rule_16_nothing_is_granted_in_a_pause(self, asker: Asker) -> None:
        """Until a pause is over nobody gets permission, and who holds one is told to look."""
        assert asker.ask().is_granted
        asker.tell(Course.WAIT, items=(Verdict.RETRY,), wait=3.0)
        refused = asker.ask(longest=10_000)
        assert (refused.is_granted, refused.why, refused.wait_ms) == (False, "paused", 3_000)
        assert not asker.world.allowance.may_go()
        asker.world.later(3_000)
        assert asker.world.allowance.may_go()
        assert asker.ask().is_granted

    def test_a_shorter_pause_does_not_end_a_longer_one(self, asker: Asker) -> None:
        """Of two pauses the later end counts."""
        asker.tell(Course.WAIT, wait=30.0)
        asker.tell(Course.WAIT, wait=1.0)
        asker.world.allowance.pause(timedelta(seconds=2), "x", narrow=False)
        assert asker.ask().wait_ms == 30_000

    def test_rule_11_a_stop_lasts_until_it_is_lifted(self, asker: Asker) -> None:
        """Refused credentials stop everybody; time alone does not help."""
        asker.tell(Course.STOP, items=(Verdict.RETRY,))
        asker.world.later(86_400_000)
        assert (asker.ask().why, asker.world.allowance.may_go()) == ("stopped", False)
        assert asker.world.allowance.destination().key_print == "k"
        assert asker.world.allowance.resume()
        assert asker.ask().is_granted
        assert not asker.world.allowance.resume()


class TestTrouble:
    def test_rule_09_all_workers_narrow_to_one_probe(self, asker: Asker) -> None:
        """After some failures in a row one request at a time is let through."""
        for _ in range(3):
            assert asker.ask().is_granted
            learned = asker.tell(Course.FAILING, items=(Verdict.UNKNOWN,))
            asker.world.later(1)
        assert learned.failures == 3
        assert asker.ask().is_granted
        assert asker.ask().why == "narrowed"

    def test_rule_09_they_widen_on_success(self, asker: Asker) -> None:
        """Each success doubles how many may be under way, until nothing is narrowed."""
        asker.world.allowance.pause(timedelta(0), "x", narrow=True)
        widths = []
        while asker.world.allowance.destination().width:
            widths.append(asker.world.allowance.destination().width)
            asker.world.later(1_000)
            granted = 0
            while granted < widths[-1] and asker.ask(longest=1_000).is_granted:
                granted += 1
            assert granted == widths[-1]
            assert asker.ask(longest=1_000).why == "narrowed"
            for number in range(granted):
                asker.world.allowance.give_back(f"p{asker.asked - 1 - number}")
            asker.tell()
        assert widths == [1, 2, 4, 8, 16, 32]

    def test_rule_09_a_quiet_while_after_a_success_ends_the_narrowing(self, asker: Asker) -> None:
        """Who has nothing to widen with is not slowed for ever; those who look see the same."""

        def seen() -> str:
            world = asker.world
            return str(world.allowance.destination().state(world.now)[0])

        for _ in range(3):
            asker.ask()
            asker.tell(Course.FAILING, items=(Verdict.UNKNOWN,))
            asker.world.later(1)
        asker.world.later(60_000)
        assert seen() == "unreachable"
        asker.ask()
        asker.tell()
        asker.world.later(9_999)
        assert seen() == "slowed"
        assert [asker.ask().why for _ in range(3)] == ["", "", "narrowed"]
        asker.world.later(1)
        assert seen() == "connected"
        assert [asker.ask().why for _ in range(8)] == [""] * 8
        assert asker.world.allowance.destination().width == 0

    def test_rule_09_a_lost_permit_does_not_block_the_probe(self, asker: Asker) -> None:
        """The place of a killed worker's request is free again after the life of a permit."""
        asker.world.allowance.pause(timedelta(0), "x", narrow=True)
        assert asker.ask().is_granted
        asker.world.later(29_999)
        assert asker.ask().why == "narrowed"
        asker.world.later(1)
        assert asker.ask().is_granted

    def test_rule_09_success_forgets_failures(self, asker: Asker) -> None:
        """Failures count in a row."""
        for _ in range(2):
            asker.ask()
            asker.tell(Course.FAILING, items=(Verdict.UNKNOWN,))
            asker.world.later(1)
        asker.ask()
        asker.tell()
        asker.ask()
        assert asker.tell(Course.FAILING, items=(Verdict.UNKNOWN,)).failures == 1

    def test_rule_10_the_valve_trips_on_a_flood_of_refusals(self, asker: Asker) -> None:
        """Over a fifth of at least 200 verdicts within the window stops the destination."""
        asker.tell(items=(Verdict.DELIVERED,) * 150)
        assert not asker.tell(items=(Verdict.DEAD,) * 49).valve_tripped
        assert asker.tell(items=(Verdict.DEAD,)).valve_tripped
        assert asker.ask().reason == "valve"

    def test_rule_10_few_refusals_do_not_trip_it(self, asker: Asker) -> None:
        """A fifth exactly is borne, and what lies before the window is forgotten."""
        asker.tell(items=(Verdict.DEAD,) * 199)
        asker.world.later(60_000)
        asker.tell(items=(Verdict.DELIVERED,) * 200)
        assert not asker.tell(items=(Verdict.DEAD,) * 50).valve_tripped


class TestHints:
    def test_rule_17_what_is_left_is_spread(self, asker: Asker) -> None:
        """Ten requests left for a minute are not gone in the first second."""
        asker.hint(10, 60.0)
        starts = asker.starts(59, step=500)
        assert len(starts) == 10
        assert sum(at < starts[0] + 30_000 for at in starts) <= 7

    def test_rule_17_nothing_goes_beyond_what_is_left(self, asker: Asker) -> None:
        """With nothing left all wait for the reset, and are told when it is."""
        asker.hint(0, 20.0)
        refused = asker.ask(longest=5_000)
        assert (refused.is_granted, refused.why, refused.wait_ms) == (False, "hinted", 20_000)

    def test_rule_17_a_new_window_is_a_new_start(self, asker: Asker) -> None:
        """Once the window is over, a shortage in it holds nobody back."""
        asker.hint(10, 60.0)
        asker.starts(60, step=500)
        assert asker.ask().is_granted
        asker.hint(100, 60.0)
        assert len(asker.starts(1)) >= 5

    def test_rule_17_the_least_remaining_counts(self, asker: Asker) -> None:
        """Replies come out of order: within a window what is left does not grow again."""
        asker.hint(40, 30.0)
        asker.hint(3, 30.0)
        asker.hint(39, 30.0)
        assert asker.world.allowance.destination().hint_left == 3

    def test_rule_17_a_later_reset_is_a_new_window(self, asker: Asker) -> None:
        """A window that ends clearly later starts with what it says."""
        asker.hint(3, 30.0)
        asker.hint(99, 60.0)
        assert asker.world.allowance.destination().hint_left == 99

    def test_rule_17_the_old_windows_last_reply_does_not_empty_the_new(self, asker: Asker) -> None:
        """A reply of the old window that comes late says nothing of the new one."""
        asker.hint(99, 60.0)
        asker.hint(0, 0.5)
        assert asker.world.allowance.destination().hint_left == 99
        assert asker.ask().is_granted

    def test_rule_17_the_last_fifth_is_kept_for_realtime(self, asker: Asker) -> None:
        """Batched stops when a fifth of the limit is left; realtime goes on, and at once."""
        asker.hint(20, 60.0, limit=100)
        assert asker.ask(B).why == "hinted"
        assert asker.ask(R).is_granted

    def test_rule_17_batched_does_not_hold_up_realtime(self, asker: Asker) -> None:
        """However slowly the last of its share is spread, it does not push realtime back."""
        asker.hint(23, 60.0, limit=100)
        while asker.ask(B).is_granted:
            pass
        asker.world.later(3_000)
        assert asker.ask(R).is_granted

    def test_rule_15_smaller_requests_are_remembered(self, asker: Asker) -> None:
        """What was too much once bounds the next requests of all workers, for a while."""
        asker.tell(max_objects=60)
        assert asker.world.allowance.limits() == (30, 4_000_000)
        asker.tell(max_objects=75, max_bytes=1_000_000)
        assert asker.world.allowance.limits() == (30, 500_000)

    def test_requests_are_counted(self, asker: Asker) -> None:
        """Requests, objects, statuses and courses are counted exactly."""
        asker.tell(items=(Verdict.DELIVERED,) * 3)
        asker.tell(Course.FAILING, items=(Verdict.UNKNOWN,))
        counts = asker.world.allowance.counts()
        assert (counts["requests"], counts["objects"], counts["status:200"]) == (2, 4, 2)
        assert (counts["course:fine"], counts["course:failing"]) == (1, 1)
