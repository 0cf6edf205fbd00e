"""What remains of a dead envelope without deleted users."""

import json

import pytest

from worker.pipeline.erase import envelope_without, written

USERS = frozenset({"ü1", 'quo"ted', "7"})


def test_others_stay_exactly_as_they_were() -> None:
    """Numbers that no float can hold, unknown fields and odd items are kept."""
    kept = [{"user_id": "b", "value": 12345678901234567890123, "odd": None}, "7", 7]
    text = json.dumps({"kind": "changes", "more": [1], "changes": [{"user_id": "7"}, *kept]})
    left, changes = envelope_without(text.encode(), USERS)
    assert json.loads(left) == {"kind": "changes", "more": [1], "changes": kept}
    assert changes == 3


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("user", sorted(USERS))
def test_every_way_of_writing_an_id_is_known(user: str, ascii_only: bool) -> None:
    """In UTF-8 or with escapes, in an envelope or in something that cannot be read."""
    text = json.dumps({"changes": [{"user_id": user}]}, ensure_ascii=ascii_only).encode()
    assert any(form in text for form in written(user))
    assert envelope_without(text, USERS) == (b"", 0)
    assert envelope_without(text[:-2], USERS) == (b"", 0)


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"[" * 100_000, b"7", b'{"version": 7}', b'{"changes": {}}']
)
def test_what_names_nobody_comes_back_as_it_was(text: bytes) -> None:
    """Whatever it is."""
    assert envelope_without(text, USERS) == (text, 0)
