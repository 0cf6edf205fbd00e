"""How readings are packed into envelopes."""

from producer.envelopes import SAMPLES, Parcel, clean_name
from producer.messages import Refused, Skipped, read
from worker.contract import (
    ENVELOPE,
    MAX_CHANGES_PER_ENVELOPE,
    Changes,
    Refusal,
    Refusals,
    Skip,
    partition_of,
)


def parcel_of(users: int, partitions: int = 1) -> Parcel:
    parcel = Parcel(partitions=partitions, source="test")
    for number in range(users):
        raw = {
            "type": "identify",
            "userId": f"u{number}",
            "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}},
            "traits": {"vip": True},
        }
        parcel.add(read(raw, source="test", place=number), number)
    return parcel


def test_nothing_packs_to_nothing() -> None:
    """Without readings there is no envelope."""
    assert parcel_of(0).packed("p") == []


def test_at_most_500_changes_in_order() -> None:
    """Envelopes are full, keep the order, and their ids count up."""
    packed = parcel_of(1_201).packed("p")
    assert [envelope.count for envelope in packed] == [MAX_CHANGES_PER_ENVELOPE] * 2 + [201]
    assert [envelope.envelope_id for envelope in packed] == ["p:0:0", "p:0:1", "p:0:2"]
    read_back = [ENVELOPE.validate_json(envelope.body) for envelope in packed]
    changes = [change for one in read_back if isinstance(one, Changes) for change in one.changes]
    assert [change.place for change in changes] == list(range(1_201))


def test_each_user_in_the_own_partition() -> None:
    """With several partitions every change is in the envelope of its user's partition."""
    for envelope in parcel_of(200, partitions=3).packed("p"):
        read_back = ENVELOPE.validate_json(envelope.body)
        assert isinstance(read_back, Changes)
        for change in read_back.changes:
            assert partition_of(change.user_id, 3) == envelope.partition


def test_packing_is_deterministic() -> None:
    """The same readings under the same name make the same bytes."""
    assert parcel_of(700, 2).packed("p") == parcel_of(700, 2).packed("p")


def test_refusals_travel_counted_and_sampled() -> None:
    """All are counted, at most twenty are shown, and they count as no change."""
    parcel = parcel_of(1)
    for line in range(30):
        parcel.add(Refused(Refusal.BROKEN_JSON), line)
        parcel.add(Refused(Refusal.VALUE_TOO_LONG, "u"), line)
        parcel.add(Skipped(Skip.NO_USER_ID), line)
    envelope = parcel.packed("p")[-1]
    read_back = ENVELOPE.validate_json(envelope.body)
    assert isinstance(read_back, Refusals)
    assert (envelope.partition, envelope.count) == (0, 0)
    assert read_back.refused == {"broken_json": 30, "value_too_long": 30}
    assert read_back.skipped == {"no_user_id": 30}
    assert len(read_back.samples) == SAMPLES


def test_names_from_outside_are_made_safe() -> None:
    """A name that is no UTF-8, as arguments of a command can be, is still a name."""
    assert clean_name("a\udcff" + "b" * 10, 4) == "a?bb"
