"""Work on many users, as it is shown: partitions together, and how far it is."""

from dataclasses import replace

from console.sweeps_shown import SweepShown, _shown, _together
from worker.pipeline.rules import Order, Work
from worker.stores.sweeps import Sweep

FIRST = Sweep(0, "1", Work.RESYNC, "vip", "3", 0, 1_000, None, 40, 10, 9, None, "ann", "", "8", "r")


def shown(
    *sweeps: Sweep, orders: dict[str, Order] | None = None, users: int = 100
) -> list[SweepShown]:
    """As they are shown beside so many users."""
    return [_shown(group, orders or {}, users) for group in _together(sweeps)]


def test_partitions_are_one() -> None:
    """The same work begun within moments in several partitions; done when the last one is."""
    second = replace(FIRST, partition=1, begun_ms=1_400, done_ms=2_000)
    (found,) = shown(second, FIRST)
    assert (found.users, found.changed, found.points, found.done_ms) == (80, 20, 18, None)
    (found,) = shown(replace(FIRST, done_ms=3_000), second)
    assert (found.begun_ms, found.done_ms, found.share) == (1_000, 3_000, 1.0)


def test_what_was_begun_twice_is_two() -> None:
    """In one partition, of another key, or long after."""
    again = replace(FIRST, name="2", begun_ms=1_500)
    other = replace(FIRST, partition=1, key="other")
    later = replace(FIRST, partition=1, begun_ms=1_000_000)
    assert len(shown(FIRST, again)) == len(shown(FIRST, other)) == len(shown(FIRST, later)) == 2


def test_progress_never_promises_its_end() -> None:
    """Before it is done it is 99 % at most, however many users it has seen; unknown is unknown."""
    (found,) = shown(FIRST)
    assert (found.share, found.total) == (0.4, 100)
    (found,) = shown(replace(FIRST, users=400))
    assert found.share == 0.99
    (found,) = shown(FIRST, users=0)
    assert found.share is None


def test_a_retiring_is_the_operators() -> None:
    """Not the host's that took it up."""
    sweep = replace(FIRST, work=Work.RETIRE, by="host:1", why="registry 7")
    (found,) = shown(sweep, orders={"vip": Order(retired="false", by="ann", why="over")})
    assert (found.by, found.why) == ("ann", "over")
    assert str(found) == (
        "retiring of vip, 40%: 40 of about 100 users looked at, 10 concerned; by ann"
    )
