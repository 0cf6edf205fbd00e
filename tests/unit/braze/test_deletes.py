"""Which ids go together into one request to delete profiles."""

import orjson
import pytest

from worker.braze.deletes import body, pack


class TestPack:
    @pytest.mark.parametrize("most_bytes", [1, 30, 64, 200, 4_000_000])
    def test_nobody_is_lost_and_no_body_is_larger(self, most_bytes: int) -> None:
        """Every id is in one group, in order; only one that is too large alone goes over."""
        users = ["a" * n for n in range(1, 40)] + ["ü" * 20, '"quoted"']
        groups = pack(users, most_bytes)
        assert [user for group in groups for user in group] == users
        assert all(len(group) == 1 or len(body(group)) <= most_bytes for group in groups)

    def test_what_fits_goes_together(self) -> None:
        """No more requests than necessary."""
        users = [f"u{n}" for n in range(10)]
        assert pack(users, len(body(users))) == [users]
        assert [len(group) for group in pack(users, len(body(users)) - 1)] == [9, 1]
        assert pack([], 100) == []

    def test_the_body(self) -> None:
        """As Braze wants it."""
        assert orjson.loads(body(["u1", "ü"])) == {"external_ids": ["u1", "ü"]}
