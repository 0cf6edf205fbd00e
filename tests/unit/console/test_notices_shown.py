"""Which of the notices still stand, as `status` shows them."""

from typing import Any

from console.notices_shown import shown
from worker.stores.budget import DAY_MS
from worker.stores.notices import Kept

NOON = 20_000 * DAY_MS + DAY_MS // 2


def stopped(at_ms: int) -> Kept:
    return Kept(at_ms, "destination_stopped", "", "Nothing is sent.")


def resumed(at_ms: int) -> Kept:
    return Kept(at_ms, "destination_resumed", "", "Braze is sent to again.")


def unreachable(at_ms: int) -> Kept:
    return Kept(at_ms, "destination_unreachable", "", "Nothing gets through.")


def over(
    *newest_first: Kept,
    now_ms: int = NOON,
    is_stopped: bool = False,
    is_unreachable: bool = False,
    is_broken: bool = False,
    held: tuple[str, ...] = (),
) -> list[Any]:
    found = shown(
        newest_first,
        now_ms=now_ms,
        is_stopped=is_stopped,
        is_unreachable=is_unreachable,
        is_broken=is_broken,
        held=held,
    )
    return [(item["over"], item["over_since"]) for item in found]


def test_a_stop_stands_while_it_lasts() -> None:
    """As long as nothing is sent, the notice is true."""
    assert over(stopped(NOON), is_stopped=True) == [(False, None)]


def test_a_stop_that_ended_says_since_when() -> None:
    """The notice of its end, the first after it, tells the moment."""
    later = [resumed(3_000), stopped(2_000), resumed(1_000), stopped(0)]
    assert [since for _, since in over(*later)[1::2]] == [
        "1970-01-01T00:00:03.000Z",
        "1970-01-01T00:00:01.000Z",
    ]


def test_a_broken_file_stands_until_it_is_mended() -> None:
    """While a file is refused, the newest notice of it stands; afterwards none does."""
    broken = [Kept(at, "registry_broken", "", "It cannot be taken up.") for at in (2_000, 1_000)]
    assert over(*broken, is_broken=True) == [(False, None), (True, None)]
    assert over(*broken) == [(True, None), (True, None)]


def test_only_the_newest_stop_can_stand() -> None:
    """A new stop does not make an old one stand again."""
    found = over(stopped(3_000), resumed(2_000), stopped(1_000), is_stopped=True)
    assert [is_over for is_over, _ in found] == [False, None, True]


def test_an_end_that_nobody_noted_is_an_end() -> None:
    """The destination itself says that it is not stopped."""
    assert over(stopped(NOON)) == [(True, None)]


def test_a_pause_by_hand_after_the_end_is_another_stop() -> None:
    """What stops it now is not what the old notice is about."""
    assert over(resumed(2_000), stopped(1_000), is_stopped=True)[1][0] is True


def test_a_spent_budget_is_over_at_midnight() -> None:
    """Its day has an end that everybody knows."""
    spent = Kept(NOON, "budget_reached", "vip", "vip has had its 100 data points.")
    midnight = (NOON // DAY_MS + 1) * DAY_MS
    assert over(spent, now_ms=midnight - 1, held=("vip",)) == [(False, None)]
    assert over(spent, now_ms=midnight, held=("vip",)) == [(True, "2024-10-05T00:00:00.000Z")]


def test_a_budget_that_was_raised_is_over_before() -> None:
    """Once nobody waits for it any more, the notice does not stand; those of others do."""
    spent = [Kept(NOON, "budget_reached", name, "Spent.") for name in ("vip", "new", "")]
    assert over(*spent) == [(True, None)] * 3
    assert over(*spent, held=("new",)) == [(True, None), (False, None), (False, None)]


def test_only_the_newest_notice_of_a_budget_can_stand() -> None:
    """A bound that was raised and is spent again makes the notice of the lower one old."""
    spent = [Kept(NOON + at, "budget_reached", "vip", "Spent.") for at in (1, 0)]
    assert over(*spent, held=("vip",)) == [(False, None), (True, None)]


def test_an_outage_stands_while_it_lasts() -> None:
    """Then it says since when Braze answers again; a stop beside it is judged by itself."""
    assert over(unreachable(NOON), is_unreachable=True) == [(False, None)]
    assert over(unreachable(NOON), stopped(NOON), is_stopped=True) == [(True, None), (False, None)]
    assert over(resumed(3_000), unreachable(2_000))[1] == (True, "1970-01-01T00:00:03.000Z")


def test_what_never_stands_is_not_over() -> None:
    """A flip happened; there is nothing that could end."""
    assert over(Kept(NOON, "flips_unusual", "vip", "Many.")) == [(None, None)]
