"""What Segment refuses at its own door, in its words and in one order."""

from typing import Any

import pytest

from producer.http.ingest import KINDS, is_long, kind_of, plain, wrong_shape
from worker.contract import Refusal, Skip

TRACK = {"type": "track", "userId": "u", "event": "Seen"}
GROUP = {"type": "group", "userId": "u", "groupId": "g"}
ALIAS = {"type": "alias", "userId": "u", "previousId": "p"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (TRACK, None),
        (GROUP, None),
        (ALIAS, None),
        ({"type": "identify", "anonymousId": "a"}, None),
        ({"type": "page", "userId": 12}, None),
        ({**TRACK, "properties": None, "traits": {}}, None),
        ({"type": "delete", "userId": "u"}, Refusal.BAD_REQUEST),
        ({"userId": "u"}, Refusal.BAD_REQUEST),
        ({"type": 7}, Refusal.BAD_REQUEST),
        ({"type": "identify"}, Refusal.NO_USER_ANON_ID),
        ({"type": "identify", "userId": "", "anonymousId": None}, Refusal.NO_USER_ANON_ID),
        ({**GROUP, "groupId": ""}, Refusal.ID_REQUIRED),
        ({**ALIAS, "previousId": None}, Refusal.ID_REQUIRED),
        ({**GROUP, "groupId": []}, Refusal.ID_NOT_STRING),
        ({**TRACK, "userId": {"id": 1}}, Refusal.ID_NOT_STRING),
        ({**TRACK, "userId": True}, Refusal.ID_NOT_STRING),
        ({**TRACK, "anonymousId": ["a"]}, Refusal.ID_NOT_STRING),
        ({**TRACK, "event": None}, Refusal.EVENT_NOT_DEFINED),
        ({**TRACK, "event": ""}, Refusal.EVENT_NOT_DEFINED),
        ({**TRACK, "event": 5}, Refusal.EVENT_NOT_STRING),
        ({**TRACK, "traits": []}, Refusal.TRAITS_NOT_OBJECT),
        ({**TRACK, "properties": "x"}, Refusal.PROPERTIES_NOT_OBJECT),
    ],
)
def test_first_fault_names_the_message(message: dict[str, Any], code: Refusal | None) -> None:
    """A call has no fault, or the first of them in the order of the checks."""
    assert wrong_shape(message, kind_of(message)) == code


@pytest.mark.parametrize("kind", KINDS)
def test_plain_messages_are_told_apart_by_kind(kind: str) -> None:
    """Each kind that is not our business has a reason of its own."""
    assert kind_of({"type": kind.upper()}) == kind
    assert plain(kind) is not Skip.NOT_AN_AUDIENCE_MESSAGE
    assert plain("other") is Skip.NOT_AN_AUDIENCE_MESSAGE


@pytest.mark.parametrize(
    ("size", "expected"), [(32_768, False), (32_769, True)], ids=["at the limit", "beyond it"]
)
def test_a_message_is_measured_as_written_without_spaces(size: int, expected: bool) -> None:
    """One rule for every route: 32 KB, in UTF-8."""
    empty = len(b'{"text":""}')
    assert is_long({"text": "x" * (size - empty)}) is expected
    assert is_long({"text": "é" * ((size - empty) // 2) + "x" * ((size - empty) % 2)}) is expected
