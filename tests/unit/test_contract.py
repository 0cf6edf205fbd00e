"""What may be put in the inbox, and what may not."""

import json
import zlib
from typing import Any

import pytest
from pydantic import ValidationError

from worker.contract import (
    ENVELOPE,
    MAX_CHANGES_PER_ENVELOPE,
    QUEUE_OF_TASK,
    REASONS,
    Change,
    ChangeClass,
    Changes,
    Deletion,
    QueueName,
    Refusal,
    Refusals,
    Skip,
    TaskName,
    append_key,
    bell_key,
    inbox_key,
    ledger_key,
    partition_of,
)

CHANGE = {"user_id": "u", "attribute": "vip", "value": True, "event_at": 1, "class": "audience"}


def envelope(**changed: Any) -> bytes:
    """An envelope of one change, as JSON."""
    made = {"version": 1, "id": "e1", "kind": "changes", "changes": [CHANGE]} | changed
    return json.dumps(made).encode()


def with_change(**changed: Any) -> bytes:
    """An envelope whose change differs from a good one."""
    return envelope(changes=[CHANGE | changed])


class TestEnvelopes:
    def test_each_kind_is_read(self) -> None:
        """Changes, refusals and deletions are told apart by their kind."""
        assert isinstance(ENVELOPE.validate_json(envelope()), Changes)
        refusals = {"id": "e", "kind": "refusals", "refused": {"broken_json": 2}}
        assert isinstance(ENVELOPE.validate_python(refusals), Refusals)
        deletion = {"id": "e", "kind": "deletion", "user_id": "u"}
        assert isinstance(ENVELOPE.validate_python(deletion), Deletion)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"{", id="broken"),
            pytest.param(b"[]", id="a list"),
            pytest.param(b"\xff", id="not text"),
            pytest.param(envelope(version=2), id="a later version"),
            pytest.param(envelope(version="1"), id="a version that is text"),
            pytest.param(envelope(kind="gossip"), id="an unknown kind"),
            pytest.param(envelope(more=1), id="a field too many"),
            pytest.param(envelope(id=""), id="no id"),
            pytest.param(envelope(id="x" * 201), id="an id too long"),
            pytest.param(envelope(changes=[]), id="no changes"),
            pytest.param(envelope(changes=[CHANGE] * 501), id="too many changes"),
        ],
    )
    def test_what_is_no_envelope_is_refused(self, data: bytes) -> None:
        """Whatever lies in the inbox, reading it is an envelope or a validation error."""
        with pytest.raises(ValidationError):
            ENVELOPE.validate_json(data)

    def test_a_full_envelope_is_read(self) -> None:
        """As many changes as the limit says."""
        read = ENVELOPE.validate_json(envelope(changes=[CHANGE] * MAX_CHANGES_PER_ENVELOPE))
        assert isinstance(read, Changes)
        assert len(read.changes) == 500

    def test_an_envelope_is_what_it_was_written_from(self) -> None:
        """Writing and reading lose nothing."""
        read = ENVELOPE.validate_json(envelope())
        assert ENVELOPE.validate_json(read.model_dump_json(by_alias=True)) == read

    def test_a_schema_can_be_made(self) -> None:
        """The contract is published as JSON Schema, with every kind and every limit."""
        schema = ENVELOPE.json_schema(by_alias=True)
        assert json.loads(json.dumps(schema))
        kinds = {"changes", "refusals", "deletion"}
        assert set(schema["discriminator"]["mapping"]) == kinds
        change = schema["$defs"]["Change"]
        assert {"user_id", "attribute", "value", "event_at", "class"} <= set(change["required"])
        assert change["additionalProperties"] is False
        assert schema["$defs"]["Changes"]["properties"]["changes"]["maxItems"] == 500


class TestChanges:
    @pytest.mark.parametrize(
        "changed",
        [
            {"user_id": ""},
            {"user_id": 7},
            {"user_id": "x" * 988},
            {"user_id": "ü" * 494},
            {"attribute": ""},
            {"attribute": "x" * 256},
            {"attribute": "ü" * 128},
            {"value": 1},
            {"value": "true"},
            {"value": None},
            {"value": [True], "class": "trait"},
            {"value": {}, "class": "trait"},
            {"value": None, "class": "trait"},
            {"value": "x" * 256, "class": "trait"},
            {"value": float("nan"), "class": "trait"},
            {"value": float("inf"), "class": "trait"},
            {"event_at": -1},
            {"event_at": 32_503_680_000_001},
            {"arrived_at": -1},
            {"place": -1},
            {"place": 2**53},
            {"message_id": "x" * 256},
            {"class": "cohort"},
            {"more": 1},
        ],
        ids=str,
    )
    def test_beyond_a_limit_is_refused(self, changed: dict[str, Any]) -> None:
        """What Braze or Redis could not hold, or what says nothing certain, is no change."""
        with pytest.raises(ValidationError):
            ENVELOPE.validate_json(with_change(**changed))

    @pytest.mark.parametrize(
        "changed",
        [
            {"user_id": "x" * 987},
            {"user_id": "ü" * 493},
            {"attribute": "ü" * 127},
            {"value": False, "class": "journey_step"},
            {"value": "ü" * 255, "class": "trait"},
            {"value": 450.5, "class": "computed_trait"},
            {"value": 10**30, "class": "trait"},
            {"value": "", "class": "trait"},
            {"event_at": None},
            {"event_at": 32_503_680_000_000},
            {"place": 2**53 - 1},
        ],
        ids=str,
    )
    def test_up_to_a_limit_is_read(self, changed: dict[str, Any]) -> None:
        """Limits are included."""
        read = ENVELOPE.validate_json(with_change(**changed))
        assert isinstance(read, Changes)
        written = read.changes[0].model_dump(by_alias=True, mode="json")
        assert {name: written[name] for name in changed} == changed

    def test_values_keep_their_type(self) -> None:
        """Nothing is coerced: 1 is not true, "1" is not 1, 1.0 stays a float."""
        for value in (True, 1, 1.0, "1"):
            change = Change.model_validate(CHANGE | {"value": value, "class": "trait"})
            assert type(change.value) is type(value)

    def test_a_change_cannot_be_altered(self) -> None:
        """What was read is what is applied."""
        with pytest.raises(ValidationError):
            Change.model_validate(CHANGE).user_id = "other"  # type: ignore[misc]

    def test_memberships_are_audiences_and_journey_steps(self) -> None:
        """The two classes of trait carry scalars."""
        memberships = {kind.value for kind in ChangeClass if kind.is_membership}
        assert memberships == {"audience", "journey_step"}


class TestNames:
    def test_one_partition_is_one(self) -> None:
        """Without a cluster everybody is in partition 0."""
        assert partition_of("u", 1) == 0

    def test_a_partition_is_that_of_the_bytes(self) -> None:
        """crc32 of the UTF-8 bytes, so that producers in other languages agree."""
        assert partition_of("ü", 7) == zlib.crc32(b"\xc3\xbc") % 7

    def test_every_partition_is_used(self) -> None:
        """Users spread over all partitions."""
        assert {partition_of(f"u{n}", 16) for n in range(1_000)} == set(range(16))

    def test_keys_of_a_partition_share_its_slot(self) -> None:
        """Every key carries the hash tag, so that a script is valid on a cluster."""
        keys = [inbox_key(3), append_key(3, "e"), ledger_key(3), bell_key(3, TaskName.ACCEPT)]
        assert all(key.startswith("ps1:{3}:") for key in keys)
        assert len(set(keys)) == 4

    def test_every_code_has_its_sentence(self) -> None:
        """People are told what was found and what would have been right."""
        assert set(REASONS) == {*Refusal, *Skip}
        assert all(reason.endswith(".") for reason in REASONS.values())

    def test_every_task_has_a_queue(self) -> None:
        """A task without a queue would never be worked on."""

        def values(names: type) -> set[str]:
            return {v for k, v in vars(names).items() if not k.startswith("_")}

        assert set(QUEUE_OF_TASK) == values(TaskName)
        assert set(QUEUE_OF_TASK.values()) <= values(QueueName)
