"""Segment's Public API: v1 and alpha, one audience or a list, wrapped or not."""

from typing import Any

import pytest

from worker.audiences.cadence import Lane
from worker.audiences.segment_api import NotAudiences, Stated, read_page

QUERY = "event('Bought').count() >= 1"
V1: dict[str, Any] = {
    "id": "aud_1",
    "spaceId": "spa_1",
    "name": "Recent buyers",
    "key": "recent_buyers",
    "enabled": True,
    "audienceType": "USERS",
    "definition": {"query": QUERY},
    "status": "Live",
    "computeCadence": {"type": "BATCH"},
    "size": {"count": 5, "uniqueCount": 5, "type": "USERS"},
    "options": {"includeHistoricalData": True, "filterByExternalIds": ["user_id"]},
}
ALPHA: dict[str, Any] = {
    "name": "Recent buyers",
    "key": "recent_buyers",
    "enabled": False,
    "definition": {"query": QUERY, "type": "ACCOUNTS"},
    "options": {"includeAnonymousUsers": False},
}
FROM_V1 = Stated("recent_buyers", "Recent buyers", "USERS", QUERY, Lane.BATCHED, True)
FROM_ALPHA = Stated("recent_buyers", "Recent buyers", "ACCOUNTS", QUERY, None, False)


@pytest.mark.parametrize(
    "document",
    [
        V1,
        [V1],
        {"data": V1},
        {"data": [V1]},
        {"data": {"audience": V1}},
        {"data": {"audiences": [V1], "pagination": {"current": "MA==", "totalEntries": 1}}},
        {"audiences": [V1]},
    ],
)
def test_every_shape(document: object) -> None:
    """One or a list, with or without what is around it."""
    page = read_page(document)
    assert page.audiences == (FROM_V1,)
    assert not page.has_more


def test_alpha() -> None:
    """The type stands in the definition, and there may be no cadence."""
    assert read_page({"data": {"audience": ALPHA}}).audiences == (FROM_ALPHA,)


def test_more_pages() -> None:
    """A list that goes on says so."""
    page = read_page({"data": {"audiences": [V1], "pagination": {"next": "MTA="}}})
    assert page.has_more


def test_an_empty_list() -> None:
    """A space without audiences has none."""
    assert read_page({"data": {"audiences": []}}).audiences == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", 12), ("definition", None), ("definition", {"query": 3}),
        ("computeCadence", "BATCH"), ("enabled", "yes"), ("name", None), ("audienceType", []),
    ],
)  # fmt: skip
def test_odd_fields_are_passed_over(field: str, value: object) -> None:
    """A field that is not as documented is not known."""
    (stated,) = read_page({**V1, field: value}).audiences
    assert stated != FROM_V1


def test_an_unknown_cadence_is_kept_for_the_report() -> None:
    """A new word of Segment's is no lane, and is not lost."""
    (stated,) = read_page({**V1, "computeCadence": {"type": "HOURLY"}}).audiences
    assert (stated.cadence, stated.odd_cadence) == (None, "HOURLY")


@pytest.mark.parametrize(
    "document",
    [None, 1, "text", [1], {}, {"data": {}}, {"foo": 1}, {"errors": [{"type": "forbidden"}]}, [[]]],
)
def test_something_else(document: object) -> None:
    """What is no audience is refused in words."""
    with pytest.raises(NotAudiences, match="audience"):
        read_page(document)
