"""Counts of what was not taken, by source; samples bounded."""

from collections import Counter

from producer.http.door_counts import DoorCounts
from worker.contract import Refusals, RefusedSample


def sample(number: int) -> RefusedSample:
    return RefusedSample(code="page", where=str(number))


def test_one_envelope_for_each_source() -> None:
    """Counts add up, the first twenty samples stay."""
    counts = DoorCounts()
    for number in range(30):
        counts.add("web", Counter({"bad_request": 1}), Counter({"page": 2}), [sample(number)])
    counts.add("app", Counter(), Counter({"page": 1}), [])
    read = [Refusals.model_validate_json(one.body) for one in counts.take(lambda: "e")]
    assert [(one.source, one.refused, one.skipped) for one in read] == [
        ("web", {"bad_request": 30}, {"page": 60}),
        ("app", {}, {"page": 1}),
    ]
    assert [one.where for one in read[0].samples] == [str(number) for number in range(20)]


def test_counting_begins_anew() -> None:
    """What was taken is not counted again; nothing is no envelope."""
    counts = DoorCounts()
    counts.add("web", Counter(), Counter(), [])
    assert counts.take(lambda: "e") == []
    counts.add("web", Counter(), Counter({"page": 1}), [])
    assert len(counts.take(lambda: "e")) == 1
    assert counts.take(lambda: "e") == []
