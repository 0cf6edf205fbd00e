"""How an audience stands, as a word and as a line; which come first."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from console.audience_standing import AudiencesRead, AudienceStanding, short_table_of
from console.sweeps_shown import SweepShown
from worker.pipeline.rules import Order, Rule, Work
from worker.stores.audience_books import AudienceBook
from worker.stores.publication import Published

NOON = 1_795_348_800_000  # 2026-11-22T12:00Z
ANN = {"by": "ann", "at_ms": NOON - 1_000}
DISABLED, RETIRED = Order(is_disabled=True, **ANN), Order(retired="null", **ANN)
SWEEP = SweepShown(Work.RESYNC, "vip", "ann", "", NOON, None, 25, 10, 10, 100)


def standing(
    key: str = "vip", lane: str = "r", minutes: int | None = None, **more: Any
) -> AudienceStanding:
    """One audience; `minutes` its oldest value has waited."""
    rule, order = Rule(lane=lane, enabled=more.pop("enabled", 1)), more.pop("order", None)
    book = AudienceBook(key, rule, members=50, order=order)
    if minutes is not None:
        book = replace(book, pending=7, oldest_ms=NOON - minutes * 60_000)
    return AudienceStanding(book, "declared", NOON, **more)


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (standing(), "up_to_date", "up to date"),
        (standing(minutes=12), "behind", "7 users behind, the oldest for 12 min"),
        (
            standing(lane="b", minutes=12, due_ms=NOON + 3_600_000), "behind",
            "7 users behind, the oldest for 12 min; next flush 13:00 UTC",
        ),
        (
            standing(lane="b", minutes=12, due_ms=NOON - 60_000), "behind",
            "7 users behind, the oldest for 12 min; due since 11:59 UTC",
        ),
        (standing(order=DISABLED), "disabled", "disabled by ann"),
        (
            standing(minutes=1, order=replace(DISABLED, why="wrong query")), "disabled",
            "disabled by ann (wrong query); 7 users behind, the oldest for 1 min",
        ),
        (standing(enabled=0), "disabled", "disabled in audiences.yaml"),
        (standing(order=RETIRED), "retired", "retired at null by ann"),
        (
            standing(minutes=1, enabled=0, order=RETIRED), "retired",
            "retired at null by ann; 7 users still to be sent",
        ),
        (standing(order=replace(RETIRED, why="over")), "retired", "retired at null by ann (over)"),
        (
            standing(lane="b", minutes=1, order=RETIRED, due_ms=NOON + 3_600_000), "retired",
            "retired at null by ann; 7 users still to be sent; next flush 13:00 UTC",
        ),
        (
            standing(minutes=1, over=7), "over_budget",
            "7 users behind, the oldest for 1 min; 7 held until 2026-11-23 00:00 UTC: budget spent",
        ),
        (
            standing(minutes=1, over=2), "behind",
            "7 users behind, the oldest for 1 min; 2 held until 2026-11-23 00:00 UTC: budget spent",
        ),
        (standing(sweeps=(SWEEP,)), "up_to_date", "up to date; resync 25%"),
    ],
)  # fmt: skip
def test_state_and_line(found: AudienceStanding, state: str, said: str) -> None:
    """What a marketer asks: is its size at Braze current, and if not, until when?"""
    assert (found.state, found.said) == (state, said)
    document = found.as_json()
    assert (document["state"], document["said"], document["members"]) == (state, said, 50)


def test_the_stalest_come_first() -> None:
    """By how long they wait; those that nothing is sent of after those that are late."""
    found = [
        standing("current"), standing("late", minutes=1), standing("later", minutes=9),
        standing("off", minutes=99, order=DISABLED), standing("closed", order=RETIRED),
        standing("closing", minutes=5, order=RETIRED), standing("busy", sweeps=(SWEEP,)),
    ]  # fmt: skip
    read = AudiencesRead({one.book.key: one for one in found}, Published(), None)
    assert [one.book.key for one in read.stalest_first()] == [
        "later", "closing", "late", "busy", "off", "closed", "current"
    ]  # fmt: skip


class TestTableOfStatus:
    """Sent, saved and last flush are in it, as wide as the terminal is."""

    @staticmethod
    def drawn(found: AudienceStanding, width: int) -> list[str]:
        out = Console(width=width, file=StringIO(), markup=False, highlight=False)
        out.print(short_table_of([found], width))
        return out.file.getvalue().splitlines()  # type: ignore[attr-defined]

    def test_columns_where_there_is_room(self) -> None:
        """Each figure under its heading."""
        book = replace(standing().book, sent=1_234, saved=56, flushed_ms=NOON - 60_000)
        heading, line = self.drawn(replace(standing(), book=book), 160)
        for name, cell in (("sent", "1,234"), ("saved", "56"), ("last flush", "11:59 UTC")):
            assert cell in line, name
            assert name in heading
        assert "why" in heading

    @pytest.mark.parametrize("width", [80, 120])
    def test_below_the_line_elsewhere(self, width: int) -> None:
        """No column for them; how it stands comes first."""
        heading, first, *below = self.drawn(standing(), width)
        assert "sent" not in heading
        assert first.endswith("up to date".ljust(len(first) - first.index("up to date")))
        told = " ".join(" ".join(below).split())
        assert "declared" in told
        assert "0 sent, 0 saved, last flush never" in told

    def test_a_trait_has_no_members(self) -> None:
        """Blank for people, null for programs: 0 would be a size."""
        found = replace(standing(), is_trait=True)
        assert found.as_json()["members"] is None
        assert " 50 " not in self.drawn(found, 160)[1]


def test_a_shadowed_one_names_the_other() -> None:
    """Of two keys with one name at Braze one is sent; the other says which."""
    book = replace(standing().book, rule=Rule(enabled=0, declared=0, shadowed="nb"))
    found = AudienceStanding(book, "declared", NOON)
    assert found.said.startswith("shadowed by nb: ")
    assert found.as_json()["shadowed_by"] == "nb"
