"""Laws of the outcome: whatever comes back, one verdict per item, and none without evidence."""

import json
import string

import orjson
from hypothesis import given
from hypothesis import strategies as st

from worker.pipeline.outcome import Course, Then, Verdict, read
from worker.pipeline.reply import Reply, Trouble

_SECRET = "hunter2-hunter2"
_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["success", "queued", "Max Input Length Exceeded", "attributes", "events"]),
)
_scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 10), st.floats(), _TEXTS)
_errors = st.fixed_dictionaries(
    {},
    optional={
        "type": _TEXTS,
        "message": _TEXTS,
        "input_array": st.one_of(st.just("attributes"), _scalars),
        "index": st.one_of(st.integers(-2, 6), _scalars),
    },
)
_json = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)
_objects = st.fixed_dictionaries(
    {},
    optional={
        "message": st.one_of(st.sampled_from(["success", "queued", "failed"]), _scalars),
        "errors": st.one_of(st.lists(st.one_of(_errors, _json), max_size=4), _json),
        "attributes_processed": _json,
    },
)
_bodies = st.one_of(
    st.binary(max_size=50), st.one_of(_objects, _json).map(lambda value: json.dumps(value).encode())
)
_header_values = st.one_of(
    st.text(max_size=30),
    st.text(string.digits + " ,.-", max_size=20),
    st.integers(-10, 10**18).map(str),
    st.sampled_from(
        ["Tue, 24 Nov 2026 10:00:00 GMT", "Tue, 31 Feb 2026 10:00:00 GMT", "Mon, 01 Jan 0000 "]
    ),
)
_headers = st.dictionaries(
    st.sampled_from(
        [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-ratelimit-retry-after",
            "retry-after",
            "date",
        ]
    ),
    _header_values,
)
_statuses = st.one_of(
    st.integers(100, 599),
    st.integers(-1, 1_000),
    st.sampled_from([200, 201, 202, 400, 401, 413, 429, 503]),
)
_replies = st.one_of(
    st.builds(Reply, status=_statuses, headers=_headers, body=_bodies),
    st.builds(Reply, trouble=st.sampled_from(Trouble)),
)
_counts = st.integers(0, 5)
_nows = st.floats(0, 4e9)


def _read(reply, count, now=1.8e9):
    return read(reply, count, body_bytes=1_000, now=now)


@given(_replies, _counts, _nows)
def test_one_verdict_per_item_whatever_comes(reply, count, now):
    """No reply raises, and none leaves an item without a verdict or gives it two."""
    found = _read(reply, count, now)
    assert len(found.items) == count
    assert found.reason != ""
    assert all(len(item.reason) <= 200 and item.reason.isprintable() for item in found.items)


@given(_replies, _counts)
def test_no_delivery_without_evidence(reply, count):
    """Delivered is said only after a 2xx whose message is success or queued."""
    found = _read(reply, count)
    if any(item.verdict is Verdict.DELIVERED for item in found.items):
        assert 200 <= reply.status < 300
        assert orjson.loads(reply.body)["message"].strip().lower() in ("success", "queued")
        assert found.course is Course.FINE


@given(_replies, _counts)
def test_no_death_without_a_refusal(reply, count):
    """Dead is said only after a 2xx or 4xx about the items, with a reason."""
    found = _read(reply, count)
    dead = [item for item in found.items if item.verdict is Verdict.DEAD]
    if dead:
        assert found.course is Course.FINE
        assert 200 <= reply.status < 300 or 400 <= reply.status < 500
        assert all(item.reason for item in dead)


@given(_replies, _counts)
def test_surely_not_accepted_is_sure(reply, count):
    """Retry is never said after a time-out, a reset, or a 5xx."""
    found = _read(reply, count)
    ambiguous = reply.trouble in (Trouble.TIMEOUT, Trouble.RESET, Trouble.UNREADABLE)
    if ambiguous or (reply.status is not None and reply.status >= 500):
        assert all(item.verdict is Verdict.UNKNOWN for item in found.items)


@given(_replies, _counts)
def test_what_comes_then_can_be_done(reply, count):
    """Parts are asked for only where there are parts, and the search always ends."""
    found = _read(reply, count)
    open_items = [i for i in found.items if i.verdict in (Verdict.RETRY, Verdict.UNKNOWN)]
    if found.then is not Then.NOTHING:
        assert open_items
        assert found.course is Course.FINE
    if found.then in (Then.HALVES, Then.ISOLATE):
        assert count >= 2
    if found.course is Course.FINE and open_items:
        assert found.then is not Then.NOTHING


@given(_replies, _counts, _nows)
def test_waits_are_bounded(reply, count, now):
    """Whatever the headers say: from nothing to a little over an hour."""
    found = _read(reply, count, now)
    assert found.wait is None or 0 <= found.wait <= 3_700
    if found.hints is not None and found.hints.reset_in is not None:
        assert 0 <= found.hints.reset_in <= 3_700
    if found.course in (Course.FINE, Course.STOP):
        assert found.wait is None


@given(st.integers(100, 999), _counts, st.sampled_from(["API key: ", "api_key=", "Bearer "]))
def test_an_echoed_key_is_never_kept(status, count, words):
    """Wherever Braze repeats the key, no part of the outcome does."""
    said = f"Invalid {words}{_SECRET}"
    errors = [said, {"type": said, "input_array": "attributes", "index": 0}]
    for message in (said, "success"):
        body = json.dumps({"message": message, "errors": errors}).encode()
        assert _SECRET not in repr(_read(Reply(status=status, body=body), count))
