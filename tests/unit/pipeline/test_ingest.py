"""From an envelope to ranked changes: what an example shows better than a law."""

from typing import Any

from worker.contract import Changes
from worker.pipeline.ingest import EntryId, Rank, ingest, value_text

ENTRY = EntryId(1_000, 3)


def ranks(*changes: dict[str, Any], entry: EntryId = ENTRY) -> list[Rank]:
    """The ranks of one user's changes."""
    made = [
        {"user_id": "u", "attribute": "a", "value": True, "event_at": 5, "class": "audience"} | c
        for c in changes
    ]
    ingested = ingest(Changes.model_validate({"id": "e", "changes": made}), entry, 300)
    return [change.rank for change in ingested.users["u"]]


class TestRanks:
    def test_without_a_place_the_envelope_decides(self) -> None:
        """What stands later in the envelope ranks higher."""
        assert [rank.place for rank in ranks({}, {}, {})] == [0, 1, 2]

    def test_a_place_that_is_given_counts(self) -> None:
        """The line of a file outlives how it was cut into envelopes."""
        assert [rank.place for rank in ranks({"place": 7}, {"place": 8})] == [7, 8]

    def test_without_a_time_arrival_is_the_time(self) -> None:
        """No timestamp: the change is of when it came, by Segment's clock or by ours."""
        assert ranks({"event_at": None})[0] == (1_000, 1_000, 3, 0)
        assert ranks({"event_at": None, "arrived_at": 9})[0] == (9, 9, 0, 0)

    def test_the_future_is_the_arrival(self) -> None:
        """Beyond the tolerance the event time is the arrival, or the entry's if that is, too."""
        assert [rank.event_ms for rank in ranks({"event_at": 1_300}, {"event_at": 1_301})] == [
            1_300,
            1_000,
        ]
        assert ranks({"event_at": 1_301, "arrived_at": 900})[0].event_ms == 900
        assert ranks({"event_at": None, "arrived_at": 9_999})[0].event_ms == 1_000

    def test_a_repeated_message_of_the_future_has_its_rank(self) -> None:
        """Coming again in a later entry it does not outrank what was said in between."""
        ((one,), (other,)) = (
            ranks({"event_at": 10**9, "arrived_at": 900}, entry=EntryId(ms, 0))
            for ms in (1_000, 2_000)
        )
        assert one == other


class TestValues:
    def test_values_are_json(self) -> None:
        """Each scalar has one text."""
        texts = {True: "true", False: "false", "ü": '"ü"', 2.5: "2.5", -3: "-3"}
        assert {value: value_text(value) for value in texts} == texts
        assert value_text("") == '""'
        assert value_text(-0.0) == "0"
        assert value_text(1e300) == "1e+300"
        assert value_text(10**30) == "1" + "0" * 30
