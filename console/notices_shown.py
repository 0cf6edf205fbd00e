"""Notices as `status` shows them: those that are over say so, so that none seems to stand."""

from collections.abc import Collection, Sequence
from typing import Any

from console.instants import iso
from worker.stores.budget import DAY_MS
from worker.stores.notices import Kept


def shown(
    notices: Sequence[Kept],
    *,
    now_ms: int,
    is_stopped: bool,
    is_unreachable: bool,
    is_broken: bool,
    held: Collection[str],
) -> list[dict[str, Any]]:
    """The newest first, as they come. `is_broken`: a file is refused.
    `held`: audiences with users who wait for the budget.

    `over` is null for what never stands, such as a flip; `over_since` is null where nobody noted
    when it ended.
    """
    found = []
    resumed_ms: int | None = None
    stands = {"destination_stopped": is_stopped, "destination_unreachable": is_unreachable}
    waits = dict.fromkeys(held, True) | {"": bool(held)}
    for notice in notices:
        over, since = None, None
        if notice.kind == "destination_resumed":
            resumed_ms = notice.at_ms
            stands = dict.fromkeys(stands, False)
        elif notice.kind == "registry_broken":
            over, is_broken = not is_broken, False  # the one before it was about an older file
        elif notice.kind in stands:
            # Only the newest can stand, and only if nothing ended it since.
            over, since = not stands[notice.kind], resumed_ms
            stands[notice.kind] = False
        elif notice.kind == "budget_reached":
            midnight = (notice.at_ms // DAY_MS + 1) * DAY_MS
            over = now_ms >= midnight or not waits.get(notice.audience, False)
            since = midnight if now_ms >= midnight else None
            # The one before it was about a lower bound.
            waits[notice.audience] = False
        found.append(
            {
                "at": iso(notice.at_ms),
                "kind": notice.kind,
                "audience": notice.audience or None,
                "text": notice.text,
                "over": over,
                "over_since": iso(since) if over and since else None,
            }
        )
    return found
