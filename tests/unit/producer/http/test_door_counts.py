"""Counts of what was not taken, by source; samples bounded."""

from collections import Counter

from producer.envelopes import Samples
from producer.http.door_counts import DoorCounts
from producer.messages import Refused, Skipped
from worker.contract import Refusal, Refusals, Skip, partition_of


def sample(where: int, user: str | None = "u", *, is_skipped: bool = False) -> Samples:
    samples = Samples()
    reading = Skipped(Skip.PAGE, user) if is_skipped else Refused(Refusal.BAD_REQUEST, user)
    samples.add(reading, str(where))
    return samples


def test_one_envelope_for_each_source() -> None:
    """Counts add up, the first twenty samples stay."""
    counts = DoorCounts()
    for number in range(30):
        counts.add("web", Counter({"bad_request": 1}), Counter({"page": 2}), sample(number))
    counts.add("app", Counter(), Counter({"page": 1}), Samples())
    read = [Refusals.model_validate_json(one.body) for one in counts.take(lambda: "e")]
    assert [(one.source, one.refused, one.skipped) for one in read] == [
        ("web", {"bad_request": 30}, {"page": 60}),
        ("app", {}, {"page": 1}),
    ]
    assert [one.where for one in read[0].samples] == [str(number) for number in range(20)]


def test_counting_begins_anew() -> None:
    """What was taken is not counted again; nothing is no envelope."""
    counts = DoorCounts()
    counts.add("web", Counter(), Counter(), Samples())
    assert counts.take(lambda: "e") == []
    counts.add("web", Counter(), Counter({"page": 1}), Samples())
    assert len(counts.take(lambda: "e")) == 1
    assert counts.take(lambda: "e") == []


def test_samples_are_of_those_who_can_be_named() -> None:
    """Nobody looks for a message without a user: only named ones take the room, refused ones
    before skipped ones, and of those a few."""
    counts = DoorCounts()
    for number in range(40):
        counts.add("web", Counter(), Counter({"page": 1}), sample(number, is_skipped=True))
        counts.add("web", Counter({"bad_request": 1}), Counter(), sample(number, None))
    counts.add("web", Counter({"bad_request": 1}), Counter(), sample(99, "late"))
    (envelope,) = counts.take(lambda: "e")
    found = Refusals.model_validate_json(envelope.body)
    assert found.refused == {"bad_request": 41}
    assert [(one.user_id, one.where) for one in found.samples] == [
        ("late", "99"), *(("u", str(number)) for number in range(5)),
    ]  # fmt: skip


def test_a_sample_lies_where_its_user_is() -> None:
    """There `trace` looks, and there is known who was deleted; counts are said once."""
    counts = DoorCounts()
    for number in range(8):
        counts.add("web", Counter({"bad_request": 1}), Counter(), sample(number, f"u{number}"))
    envelopes = counts.take(iter("abcd").__next__, partitions=3)
    assert len({envelope.envelope_id for envelope in envelopes}) == len(envelopes) == 3
    read = {one.partition: Refusals.model_validate_json(one.body) for one in envelopes}
    assert [found.refused for found in read.values()] == [{"bad_request": 8}, {}, {}]
    for partition, found in read.items():
        assert found.samples
        assert {partition_of(one.user_id or "", 3) for one in found.samples} == {partition}
