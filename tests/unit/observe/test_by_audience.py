"""Metrics of audiences: declared keys by name, so many and no more, the others together."""

from worker.metric import OTHER
from worker.observe.metrics import AUDIENCE
from worker.pipeline.rules import Rule
from worker.scrape import by_audience
from worker.stores.audience_books import AudienceBook


def book(
    key: str, declared: bool = True, members: int = 1, oldest: int | None = None
) -> AudienceBook:
    """The book of one key."""
    rule = Rule(declared=int(declared))
    return AudienceBook(key, rule, members=members, sent=2, saved=3, pending=4, oldest_ms=oldest)


def test_more_than_have_a_series_are_one() -> None:
    """Of many declared keys the first by name have series; nothing is left out of the sums."""
    books = {f"a{n:03}": book(f"a{n:03}") for n in range(AUDIENCE.most + 20)}
    found = by_audience(books, 1_000)
    assert len(found) == AUDIENCE.most + 1
    assert next(iter(found)) == "a000"
    assert (found[OTHER].members, found[OTHER].sent, found[OTHER].saved) == (20, 40, 60)


def test_what_nobody_declared_has_no_name_here() -> None:
    """It comes from outside; a declared key that is called `other` is with them."""
    books = {"x": book("x", declared=False), OTHER: book(OTHER), "vip": book("vip")}
    found = by_audience(books, 1_000)
    assert (set(found), found[OTHER].members) == ({"vip", OTHER}, 2)


def test_the_oldest_counts() -> None:
    """Seconds since the oldest value waits; of several the longest; nobody is 0."""
    books = {
        "a": book("a", declared=False, oldest=200),
        "b": book("b", declared=False, oldest=700),
        "vip": book("vip"),
    }
    found = by_audience(books, 1_200)
    assert (found[OTHER].oldest_seconds, found["vip"].oldest_seconds) == (1.0, 0.0)
