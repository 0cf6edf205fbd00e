"""What a message becomes: a change, or exactly one code."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from producer.messages import Refused, Skipped, read
from worker.contract import Change, ChangeClass, Refusal, Skip


def message(**changed: Any) -> dict[str, Any]:
    """An audience's identify message; `None` takes a field away."""
    made = {
        "type": "identify",
        "messageId": "personas_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
        "userId": "u123",
        "timestamp": "2026-11-22T10:00:00.000Z",
        "receivedAt": "2026-11-22T10:00:13.000Z",
        "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}},
        "traits": {"vip": True},
    } | changed
    return {name: value for name, value in made.items() if value is not None}


def personas(change_class: object = "audience", key: object = "vip") -> dict[str, Any]:
    return {"personas": {"computation_class": change_class, "computation_key": key}}


def trait(value: object, **changed: Any) -> dict[str, Any]:
    return message(context=personas("trait", "tier"), traits={"tier": value}, **changed)


def read_one(raw: Any) -> Change | Refused | Skipped:
    if isinstance(raw, dict):
        raw = json.dumps(raw).encode()
    return read(raw, source="test", place=7)


def code_of(raw: Any) -> str:
    reading = read_one(raw)
    return "accepted" if isinstance(reading, Change) else str(reading.code)


class TestChanges:
    def test_identify_becomes_a_change(self) -> None:
        """Every field of a change comes from the message, the source and the place."""
        assert read_one(message()) == Change.model_validate(
            {
                "user_id": "u123",
                "attribute": "vip",
                "value": True,
                "event_at": 1_795_341_600_000,
                "arrived_at": 1_795_341_613_000,
                "place": 7,
                "message_id": "personas_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
                "source": "test",
                "class": ChangeClass.AUDIENCE,
            }
        )

    @pytest.mark.parametrize("event", ["Audience Entered", "Audience Exited", "Renamed", None])
    def test_track_counts_by_its_property(self, event: str | None) -> None:
        """A track message says what its property says, whatever the event is called."""
        raw = message(type="track", event=event, traits={"vip": True}, properties={"vip": False})
        reading = read_one(raw)
        assert isinstance(reading, Change)
        assert reading.value is False

    @pytest.mark.parametrize("form", ["bytes", "str", "mapping"])
    def test_every_form_reads_the_same(self, form: str) -> None:
        """Bytes, text and mappings of one message make one change."""
        text = json.dumps(message())
        raw: Any = {"bytes": text.encode(), "str": text, "mapping": message()}[form]
        assert read(raw, source="test", place=7) == read_one(message())

    def test_mapping_may_hold_a_datetime(self) -> None:
        """A Python program need not write its times as text."""
        raw = message(timestamp=datetime(2026, 11, 22, 10, tzinfo=UTC))
        reading = read(raw, source="test", place=7)
        assert isinstance(reading, Change)
        assert reading.event_at == 1_795_341_600_000

    @pytest.mark.parametrize("value", ["gold", "", "x" * 255, "ü" * 255, 12, -3, 450.5, True, 0])
    def test_trait_takes_scalars(self, value: object) -> None:
        """A computed trait's scalar is taken as it is, with its type."""
        reading = read_one(trait(value))
        assert isinstance(reading, Change)
        assert (reading.value, type(reading.value)) == (value, type(value))

    @pytest.mark.parametrize("name", ["IDENTIFY", "Identify", "identify"])
    def test_types_in_any_case(self, name: str) -> None:
        """Upper and lower case of a type mean the same, of a class too."""
        assert code_of(message(type=name, context=personas("Audience"))) == "accepted"

    @pytest.mark.parametrize("message_id", [None, 12, ["a"], "x" * 500, "\ud800"])
    def test_message_id_never_refuses(self, message_id: object) -> None:
        """A missing, odd or long message id costs no change."""
        assert code_of(message(messageId=message_id)) == "accepted"


CODES: list[tuple[str, Any, str]] = [
    ("empty", b"", Refusal.BROKEN_JSON),
    ("cut", b'{"type": "ident', Refusal.BROKEN_JSON),
    ("not utf-8", b'{"userId": "\xff"}', Refusal.BROKEN_JSON),
    ("nan", b'{"userId": NaN}', Refusal.BROKEN_JSON),
    ("deep", b"[" * 30_000, Refusal.BROKEN_JSON),
    ("array", b"[1]", Refusal.NOT_AN_OBJECT),
    ("number", b"12", Refusal.NOT_AN_OBJECT),
    ("null", b"null", Refusal.NOT_AN_OBJECT),
    ("long", b'{"a": "' + b"x" * 32_768 + b'"}', Refusal.LINE_TOO_LONG),
    ("long in bytes only", '{"a": "' + "€" * 11_000 + '"}', Refusal.LINE_TOO_LONG),
    ("long and broken", b"x" * 40_000, Refusal.LINE_TOO_LONG),
    ("page", message(type="page"), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("group", message(type="group"), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("no type", message(type=None), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("plain track", message(context={"ip": "::1"}), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("context a list", message(context=[1]), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("personas a string", message(context={"personas": "x"}), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("class unknown", message(context=personas("prediction")), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("class a list", message(context=personas(["audience"])), Skip.NOT_AN_AUDIENCE_MESSAGE),
    ("key missing", message(context=personas(key=None)), Refusal.MISSING_ATTRIBUTE_KEY),
    ("key empty", message(context=personas(key="")), Refusal.MISSING_ATTRIBUTE_KEY),
    ("key a number", message(context=personas(key=5)), Refusal.MISSING_ATTRIBUTE_KEY),
    ("key reserved", message(context=personas(key="email")), Refusal.RESERVED_ATTRIBUTE),
    ("key long", message(context=personas(key="k" * 256)), Refusal.ATTRIBUTE_NAME_TOO_LONG),
    ("key long in bytes", message(context=personas(key="é" * 128)), "attribute_name_too_long"),
    ("key with $", message(context=personas(key="$add")), Refusal.INVALID_ATTRIBUTE_NAME),
    ("key with space", message(context=personas(key="vip ")), Refusal.INVALID_ATTRIBUTE_NAME),
    ("key with tab", message(context=personas(key="v\tip")), Refusal.INVALID_ATTRIBUTE_NAME),
    ("key with nul", message(context=personas(key="v\0ip")), Refusal.INVALID_ATTRIBUTE_NAME),
    ("key surrogate", message(context=personas(key="v\ud800")), Refusal.INVALID_ATTRIBUTE_NAME),
    ("user missing", message(userId=None, anonymousId="a"), Skip.NO_USER_ID),
    ("user null", b'{"userId": null,' + json.dumps(message(userId=None))[1:].encode(),
     Skip.NO_USER_ID),
    ("user empty", message(userId=""), Skip.NO_USER_ID),
    ("user true", message(userId=True), Refusal.USER_ID_NOT_STRING),
    ("user false", message(userId=False), Refusal.USER_ID_NOT_STRING),
    ("user object", message(userId={"id": 1}), Refusal.USER_ID_NOT_STRING),
    ("user list", message(userId=[]), Refusal.USER_ID_NOT_STRING),
    ("user infinite", b'{"userId": 1e999,' + json.dumps(message(userId=None))[1:].encode(),
     Refusal.USER_ID_NOT_STRING),
    ("user long", message(userId="u" * 988), Refusal.USER_ID_TOO_LONG),
    ("user long in bytes", message(userId="é" * 494), Refusal.USER_ID_TOO_LONG),
    ("user surrogate", message(userId="u\ud800"), Refusal.BROKEN_JSON),
    ("user at its limit", message(userId="u" * 987), "accepted"),
    ("user with spaces", message(userId=" u "), "accepted"),
    ("user in any script", message(userId="用户\u200b🎉"), "accepted"),
    ("user of blanks", message(userId=" \u3000"), Refusal.INVALID_USER_ID),
    ("user with nul", message(userId="u\0"), Refusal.INVALID_USER_ID),
    ("user with a tab", message(userId="tab\there"), "accepted"),
    ("member string", message(traits={"vip": "true"}), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("member number", message(traits={"vip": 1}), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("member null", message(traits={"vip": None}), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("member missing", message(traits={}), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("traits missing", message(traits=None), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("traits a list", message(traits=["vip"]), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("track with traits", message(type="track"), Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("journey", message(context=personas("journey_step")), "accepted"),
    ("journey string", message(context=personas("journey_step"), traits={"vip": "true"}),
     Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("journey missing", message(context=personas("journey_step"), traits={}),
     Refusal.MEMBERSHIP_NOT_BOOLEAN),
    ("computed trait", message(context=personas("computed_trait"), traits={"vip": 4.5}),
     "accepted"),
    ("trait null", trait(None), Refusal.VALUE_NOT_SCALAR),
    ("trait list", trait([1]), Refusal.VALUE_NOT_SCALAR),
    ("trait object", trait({"a": 1}), Refusal.VALUE_NOT_SCALAR),
    ("trait missing", message(context=personas("trait", "tier")), Refusal.VALUE_NOT_SCALAR),
    ("trait long", trait("x" * 256), Refusal.VALUE_TOO_LONG),
    ("trait surrogate", trait("\udfff"), Refusal.BROKEN_JSON),
    ("trait infinite", json.dumps(trait(5)).replace('"tier": 5', '"tier": 1e999'),
     Refusal.VALUE_NOT_SCALAR),
    ("trait beyond 64 bits", trait(2**70), "accepted"),
    ("trait beyond a double", trait(10**400), Refusal.VALUE_NOT_SCALAR),
    ("timestamp words", message(timestamp="yesterday"), Refusal.UNREADABLE_TIMESTAMP),
    ("timestamp a number", message(timestamp=1_795_341_600), Refusal.UNREADABLE_TIMESTAMP),
    ("receivedAt broken", message(receivedAt="x"), Refusal.UNREADABLE_TIMESTAMP),
    ("sentAt broken", message(sentAt="x"), Refusal.UNREADABLE_TIMESTAMP),
    ("sentAt broken, unused", message(sentAt="x", receivedAt=None), "accepted"),
    ("sentAt broken, corrected already",
     message(sentAt="x", originalTimestamp="2026-11-22T10:00:00Z"), "accepted"),
    ("corrected to before 1970",
     message(timestamp="1970-01-01", sentAt="2026-11-22", receivedAt="2026-11-21"),
     Refusal.UNREADABLE_TIMESTAMP),
    ("surrogate where nobody looks", message(anonymousId="\ud83d"), "accepted"),
    ("doubled name", b'{"type": "page",' + json.dumps(message())[1:].encode(), "accepted"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "code"), [pytest.param(raw, code, id=name)
                                           for name, raw, code in CODES])  # fmt: skip
def test_each_shape_has_its_code(raw: Any, code: str) -> None:
    """Every wrong shape has one code, and right ones are accepted."""
    assert code_of(raw) == code


@pytest.mark.parametrize(
    ("written", "user_id"),
    [
        ("12", "12"), ("12.0", "12"), ("1.5", "1.5"), ("-7", "-7"), ("0", "0"), ("-0.0", "0"),
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551615", "18446744073709551615"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e3", "1000"), ("1e30", "1e+30"),
    ],
)  # fmt: skip
def test_numbers_as_user_ids_become_strings(written: str, user_id: str) -> None:
    """A number becomes the string that people would write, and no digit is lost."""
    reading = read_one(json.dumps(message(userId=0)).replace('"userId": 0', f'"userId": {written}'))
    assert isinstance(reading, Change)
    assert reading.user_id == user_id


class TestOrderOfChecks:
    def test_first_failure_names_the_message(self) -> None:
        """Mending the first fault shows the next one, in the documented order."""
        raw = message(
            type="page",
            context=personas(key="email"),
            userId=True,
            traits={"vip": "yes"},
            timestamp="x",
        )
        seen = [code_of(raw)]
        for mended in (
            {"type": "identify"},
            {"context": personas()},
            {"userId": "u1"},
            {"traits": {"vip": True}},
            {"timestamp": "2026-11-22"},
        ):
            raw |= mended
            seen.append(code_of(raw))
        assert seen == [
            Skip.NOT_AN_AUDIENCE_MESSAGE,
            Refusal.RESERVED_ATTRIBUTE,
            Refusal.USER_ID_NOT_STRING,
            Refusal.MEMBERSHIP_NOT_BOOLEAN,
            Refusal.UNREADABLE_TIMESTAMP,
            "accepted",
        ]

    def test_refusal_names_the_user_once_known(self) -> None:
        """A value's refusal says whose it was; an unreadable user id is not repeated."""
        assert read_one(message(traits={})) == Refused(Refusal.MEMBERSHIP_NOT_BOOLEAN, "u123")
        assert read_one(message(userId=[])) == Refused(Refusal.USER_ID_NOT_STRING, None)

    def test_reasons_are_sentences(self) -> None:
        """Every code has a sentence for people."""
        for code in Refusal:
            assert Refused(code).reason.endswith(".")
        for skip in Skip:
            assert Skipped(skip).reason.endswith(".")


@pytest.mark.parametrize(
    ("times", "event_at"),
    [
        pytest.param(
            {
                "timestamp": "2015-12-12T19:11:01.152Z",
                "sentAt": "2015-12-12T19:11:01.169Z",
                "receivedAt": "2015-12-12T19:11:01.266Z",
            },
            "2015-12-12T19:11:01.249Z",
            id="skew of the sender's clock",
        ),
        pytest.param(
            {
                "originalTimestamp": "2015-12-12T19:11:01.152Z",
                "timestamp": "2015-12-12T19:11:01.249Z",
                "sentAt": "2015-12-12T19:11:01.169Z",
                "receivedAt": "2015-12-12T19:11:01.266Z",
            },
            "2015-12-12T19:11:01.249Z",
            id="corrected already",
        ),
        pytest.param(
            {"timestamp": "2015-12-12T19:11:01.152Z", "sentAt": "2015-12-12T19:11:01.169Z",
             "receivedAt": None},
            "2015-12-12T19:11:01.152Z",
            id="no arrival",
        ),
        pytest.param(
            {"timestamp": "2015-12-12T19:11:01.152Z", "receivedAt": "2015-12-12T19:11:09Z"},
            "2015-12-12T19:11:01.152Z",
            id="no sentAt",
        ),
        pytest.param(
            {"timestamp": None, "sentAt": "2015-12-12T19:11:01.169Z"}, None, id="no timestamp"
        ),
    ],
)  # fmt: skip
def test_event_time(times: dict[str, str | None], event_at: str | None) -> None:
    """The event time is free of the sender's clock error; without a timestamp it is arrival."""
    reading = read_one(message(**times))
    assert isinstance(reading, Change)
    expected = event_at and datetime.fromisoformat(event_at).timestamp()
    assert reading.event_at == (round(expected * 1_000) if expected else None)
