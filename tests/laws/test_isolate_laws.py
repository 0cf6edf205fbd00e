"""Laws of isolating: the refused end dead, nobody else does, and it does not take long."""

from collections.abc import Set as AbstractSet

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.pipeline.isolate import Suspects, group_to_test, narrow

_steady = settings(deadline=None, database=None, derandomize=True, max_examples=200)


class Braze:
    """Refuses a request whole if it holds a refused item, and does not say which."""

    def __init__(self, refused: AbstractSet[int]) -> None:
        self.refused = refused
        self.requests: list[tuple[int, ...]] = []
        self.delivered: set[int] = set()

    def takes(self, group: tuple[int, ...]) -> bool:
        self.requests.append(group)
        if self.refused & set(group):
            return False
        assert not self.delivered & set(group), "sent again after it was delivered"
        self.delivered |= set(group)
        return True


def _isolate_one(braze: Braze, places: tuple[int, ...]) -> tuple[set[int], set[int]]:
    """One search in a group that was refused whole: who is dead, and who is to go again."""
    suspects: Suspects | None = Suspects(places)
    dead: set[int] = set()
    while suspects is not None and not suspects.is_found:
        tested = group_to_test(suspects)
        assert tested
        assert set(tested) < set(suspects.places) or not suspects.proven, "the same group again"
        suspects = narrow(suspects, tested, was_refused=not braze.takes(tested))
    if suspects is not None:
        assert len(places) == 1 or braze.requests[-1] == suspects.places
        dead = set(suspects.places)
    return dead, set(places) - dead - braze.delivered


_batches = st.integers(1, 75).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))
)


@_steady
@given(batch=_batches)
def test_exactly_the_refused_end_dead(batch: tuple[int, set[int]]) -> None:
    """Whoever is refused is found and was refused alone; all others are delivered."""
    n, refused = batch
    braze, dead, left = Braze(refused), set(), set(range(n))
    for _ in range(len(refused) + 1):
        group = tuple(sorted(left))
        if not group or braze.takes(group):
            break
        found, left = _isolate_one(braze, group)
        assert len(found) == 1
        assert tuple(found) in braze.requests, "dead without having been refused alone"
        dead |= found
    assert dead == refused
    assert braze.delivered == set(range(n)) - refused


@_steady
@given(bad=st.integers(0, 74))
def test_one_of_75_is_found_within_8_requests(bad: int) -> None:
    """The search for one bad item costs at most 8 requests after the refused one."""
    braze = Braze({bad})
    dead, left = _isolate_one(braze, tuple(range(75)))
    assert dead == {bad}
    assert len(braze.requests) <= 8
    assert left | braze.delivered | dead == set(range(75))


@_steady
@given(batch=_batches)
def test_a_search_is_short(batch: tuple[int, set[int]]) -> None:
    """However many are refused, one search needs no more requests than for one."""
    n, refused = batch
    braze = Braze(refused)
    _isolate_one(braze, tuple(range(n)))
    assert len(braze.requests) <= 8


@_steady
@given(n=st.integers(2, 75))
def test_nobody_is_dead_if_the_refusal_was_a_fluke(n: int) -> None:
    """If every part is taken the second time, all end delivered and none dead."""
    braze = Braze(set())
    dead, left = _isolate_one(braze, tuple(range(n)))
    assert (dead, left) == (set(), set())
    assert braze.delivered == set(range(n))
