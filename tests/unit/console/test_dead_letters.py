"""Choosing letters and packing changes again, without a server."""

from collections.abc import Iterator

import pytest

from console.dead_letters import Wanted, envelope_of, shown, summary
from console.who import one_line, this_operator
from worker.contract import ChangeClass
from worker.pipeline.ingest import EntryId, ingest
from worker.stores.dead_letters import DeadLetter


def letter(number: int = 1, **changes: object) -> DeadLetter:
    fields: dict[str, object] = {
        "id": f"{1_000 + number}-0",
        "partition": 0,
        "kind": "change",
        "at_ms": 1_000 + number,
        "reason": "undeclared_limit",
        "user_id": f"u{number}",
        "values": (("vip", "true", 500 + number),),
        "ranks": ((500 + number, 700, 0, 0),),
        "request": None,
        "envelope": None,
        "changes": 1,
    }
    return DeadLetter(**{**fields, **changes})  # type: ignore[arg-type]


class TestWanted:
    def test_everything_given_must_fit(self) -> None:
        """Filters narrow, one after the other."""
        assert Wanted().fits(letter())
        assert Wanted(reason="LIMIT", attribute="vip", user="u1").fits(letter())
        assert not Wanted(reason="limit", user="u2").fits(letter())

    def test_an_envelope_is_nobodys(self) -> None:
        """A whole envelope is not replayed for one of its users."""
        whole = letter(kind="envelope", user_id=None, values=(), ranks=())
        assert Wanted().fits(whole)
        assert not Wanted(user="u1").fits(whole)
        assert not Wanted(attribute="vip").fits(whole)

    def test_both_names_of_an_attribute(self) -> None:
        """An audience's key and its Braze attribute find the same letter."""
        names = {"vip": "seg_vip"}
        assert Wanted(attribute="seg_vip", names=names).fits(letter())
        assert Wanted(attribute="vip", names=names).fits(letter())


class TestShown:
    def test_an_envelope_is_shown_only_whole(self) -> None:
        """A listing is bounded; an export has everything."""
        found = letter(kind="envelope", user_id=None, values=(), ranks=(), envelope=b"\xff{")
        assert "envelope" not in shown(found)
        assert shown(found, whole=True)["envelope"] == "\ufffd{"

    def test_rare_reasons_come_together(self) -> None:
        """However many reasons there are, a summary is bounded and counts every letter."""

        def pages() -> Iterator[list[DeadLetter]]:
            yield [letter(n, reason=f"reason {n}") for n in range(1_500)]

        groups = summary(pages())
        assert len(groups) == 1_001
        assert sum(group["letters"] for group in groups) == 1_500
        assert groups[0]["letters"] == 500


class TestEnvelope:
    def test_changes_keep_their_rank(self) -> None:
        """Folded again, each change has the event time, arrival and place that it had."""
        letters = [letter(2), letter(1, ranks=((501, 700, 0, 9),))]
        again = ingest(envelope_of(letters), EntryId(10_000, 0), 0)
        assert {user: changes[0].rank[:2] for user, changes in again.users.items()} == {
            "u1": (501, 700),
            "u2": (502, 700),
        }
        assert again.users["u1"][0].rank.place == 9

    def test_order_among_equals_is_kept(self) -> None:
        """What arrived together stays in order: the later one still wins."""
        older = letter(2, user_id="u", values=(("vip", "false", 1),), ranks=((1, 2, 3, 0),))
        newer = letter(1, user_id="u", values=(("vip", "true", 1),), ranks=((1, 2, 4, 0),))
        again = ingest(envelope_of([newer, older]), EntryId(10_000, 0), 0)
        assert max(again.users["u"], key=lambda change: change.rank).value == "true"

    @pytest.mark.parametrize(
        ("text", "value", "kind"),
        [
            ("true", True, ChangeClass.AUDIENCE),
            ("4.5", 4.5, ChangeClass.COMPUTED_TRAIT),
            ('"x"', "x", ChangeClass.COMPUTED_TRAIT),
        ],
    )
    def test_values_are_what_they_were(self, text: str, value: object, kind: ChangeClass) -> None:
        """JSON text becomes the scalar again."""
        (change,) = envelope_of([letter(values=(("vip", text, 1),))]).changes
        assert (change.value, change.change_class) == (value, kind)


class TestWho:
    def test_a_name_is_one_line(self) -> None:
        """No control characters, nothing that is no text, no more than fits on a line."""
        assert one_line(" a\n\x1b[0m b\ud800 ") == "a [0m b"
        assert this_operator("ann") == "ann"

    @pytest.mark.parametrize("given", [None, "", "\n"])
    def test_nobody_is_nameless(self, given: str | None) -> None:
        """Without a usable name it is login@machine."""
        assert "@" in this_operator(given)
