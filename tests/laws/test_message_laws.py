"""Laws of reading messages: total, exactly one outcome, and independent of the form."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.instants import UnreadableInstant, read_instant
from producer.messages import Refused, Skipped, read
from worker.contract import ENVELOPE, Change, ChangeClass, Changes, Refusal, Skip

# Text as JSON can carry it, unpaired surrogates included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | ANY_TEXT
)
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8
)
TIMES = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | ANY_JSON
KEYS = st.sampled_from(["vip", "email", "$x", "é", "\ud800", "", " vip"]) | ANY_JSON


@st.composite
def near_messages(draw: st.DrawFn) -> dict[str, Any]:
    """Messages that are nearly right: every field is there or not, right or anything."""
    key = draw(KEYS)
    name = key if isinstance(key, str) else "vip"
    personas = {
        "computation_class": draw(st.sampled_from([*map(str, ChangeClass)]) | ANY_JSON),
        "computation_key": key,
    }
    fields = {
        "type": draw(st.sampled_from(["identify", "track", "Identify"]) | ANY_JSON),
        "context": draw(st.just({"personas": personas}) | ANY_JSON),
        "userId": draw(ANY_TEXT | ANY_JSON),
        "traits": draw(st.just({name: draw(ANY_JSON)}) | ANY_JSON),
        "properties": draw(st.just({name: draw(st.booleans())}) | ANY_JSON),
        "messageId": draw(ANY_JSON),
    }
    fields |= {
        time: draw(TIMES) for time in ("timestamp", "receivedAt", "sentAt", "originalTimestamp")
    }
    absent = draw(st.sets(st.sampled_from(sorted(fields))))
    return {field: value for field, value in fields.items() if field not in absent}


def assert_one_outcome(reading: object) -> None:
    if isinstance(reading, Change):
        envelope = Changes(id="e", changes=[reading])
        assert ENVELOPE.validate_json(envelope.model_dump_json(by_alias=True)) == envelope
    elif isinstance(reading, Refused):
        assert reading.code in Refusal
    else:
        assert isinstance(reading, Skipped)
        assert reading.code in Skip


@given(st.binary() | ANY_TEXT)
def test_any_bytes_have_one_outcome(raw: bytes | str) -> None:
    """Whatever the bytes: a change, a refusal or a skip, and never an exception."""
    assert_one_outcome(read(raw, source="law", place=0))


@given(ANY_JSON | near_messages())
def test_any_json_has_one_outcome(message: Any) -> None:
    """Whatever the JSON: one outcome, and a change survives its envelope unchanged."""
    try:
        text = json.dumps(message)
    except ValueError:  # digits beyond what Python writes
        text = "null"
    assert_one_outcome(read(text.encode(), source="law", place=0))


@given(near_messages())
def test_python_values_have_one_outcome(message: dict[str, Any]) -> None:
    """A mapping from a program, with infinities and all, has one outcome too."""
    assert_one_outcome(read(message, source="law", place=0))


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_number_ids_are_their_digits(number: float) -> None:
    """A number as user id reads back as the same number, and integral ones have no fraction."""
    message = {
        "type": "identify",
        "userId": number,
        "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}},
        "traits": {"vip": True},
    }
    reading = read(json.dumps(message), source="law", place=0)
    assert isinstance(reading, Change)
    if isinstance(number, int):
        assert reading.user_id == str(number)
    else:
        assert float(reading.user_id) == number
        assert not reading.user_id.endswith(".0")


@given(ANY_TEXT | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{2,12}[Z+-][0-9:]{0,5}"))
def test_reading_an_instant_is_total(written: str) -> None:
    """Any text is an instant within range, or unreadable."""
    with suppress(UnreadableInstant):
        assert 0 <= read_instant(written) <= 32_503_680_000_000
