"""What work on many users would cost: counted, and nothing changed, before anybody is asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from console.deployment import Deployment
from console.instants import at_said, iso, span_said
from console.paper import many
from console.standing import bounds_of
from worker.pipeline.rules import Work
from worker.pipeline.schedule import Lane, boundary_after
from worker.stores.audience_books import AudienceBook


@dataclass(frozen=True, slots=True)
class Cost:
    """`users` would be sent `points` values, `objects` users in a request, `rate` requests in a
    second. `begins_ms`: the boundary at which a batched audience goes out; None: at once.
    `points_left`: of the budget of today; None without one. `is_of_both_lanes`: a user may take
    two objects, one of them at a boundary."""

    users: int
    points: int
    objects: int
    rate: float
    begins_ms: int | None = None
    points_left: int | None = None
    is_of_both_lanes: bool = False

    @property
    def requests(self) -> int:
        """Requests, if they are full."""
        return ceil(self.users / self.objects) if self.points else 0

    @property
    def seconds(self) -> float:
        """How long that takes if nothing else is sent."""
        return round(self.requests / self.rate, 1)

    @property
    def is_over_budget(self) -> bool:
        """True if part of it has to wait for another day."""
        return self.points_left is not None and self.points > self.points_left

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "users": self.users,
            "data_points": self.points,
            "requests": self.requests,
            "users_per_request": self.objects,
            "requests_per_second": self.rate,
            "seconds": self.seconds,
            "begins_at": iso(self.begins_ms) if self.begins_ms is not None else None,
            "budget_left": self.points_left,
        }


def pace_of(deployment: Deployment) -> tuple[int, float]:
    """Users in a request and requests in a second, as all workers are allowed now."""
    objects = int(deployment.number("braze_objects_per_request"))
    smaller = deployment.stores.allowance.destination().most_objects
    rate = deployment.number("braze_requests_per_second")
    return min(objects, smaller or objects), rate


def cost_of(
    deployment: Deployment,
    users: int,
    points: int,
    book: AudienceBook | None = None,
    *,
    begins_ms: int | None = None,
) -> Cost:
    """The cost of sending these, of one audience or (None) of several. `begins_ms`: a boundary
    that is not the next of the audience's own interval."""
    objects, rate = pace_of(deployment)
    lanes = {one.lane for one in deployment.books().values()} if book is None else set()
    return Cost(
        users,
        points,
        objects,
        rate,
        _begins(deployment, book) if begins_ms is None else begins_ms,
        _left(deployment, book),
        is_of_both_lanes=len(lanes) > 1,
    )


def count(
    deployment: Deployment,
    work: Work,
    book: AudienceBook | None,
    *,
    since_ms: int = 0,
    value: str = "",
    show: Callable[[int], None] = lambda users: None,
) -> Cost:
    """Go through all users, a step at a time, resting as long as each took; `show` is told how many
    are concerned so far. `book` None: of all keys."""
    users = points = 0
    for partition in range(deployment.partitions):
        cursor = -1
        while cursor:
            began = time.monotonic()
            cursor, found, cost = deployment.stores.sweeps.count(
                partition,
                work,
                book.key if book else None,
                max(cursor, 0),
                since_ms=since_ms,
                value=value,
            )
            users, points = users + found, points + cost
            show(users)
            time.sleep(time.monotonic() - began)
    # Who is gone through and costs nothing is not sent.
    return cost_of(deployment, min(users, points), points, book)


def rows_of(cost: Cost, now_ms: int) -> list[tuple[str, str]]:
    """The cost for people."""
    least = " or more" if cost.is_of_both_lanes else ""
    rows = [
        ("users", f"{cost.users:,}"),
        ("requests", f"{cost.requests:,}{least}, with {many(cost.objects, 'user')} each"),
        ("data points", f"{cost.points:,}; Braze bills each"),
        ("takes", _takes(cost, now_ms)),
    ]
    if cost.is_over_budget:
        left = f"{cost.points_left:,}" if cost.points_left else "none"
        rows.append(("budget", f"{left} left today; the rest waits for 00:00 UTC"))
    return rows


def _takes(cost: Cost, now_ms: int) -> str:
    span = span_said(cost.seconds) if cost.seconds >= 1 else "less than a second"
    said = f"{span} at {cost.rate:g} requests a second"
    if cost.is_of_both_lanes:
        return f"{said}; batched audiences at their boundaries"
    if cost.begins_ms is None:
        return said
    return f"{said}, from its next boundary on: {at_said(cost.begins_ms, now_ms)}"


def _begins(deployment: Deployment, book: AudienceBook | None) -> int | None:
    """Whatever differs from now on is due at the next boundary."""
    if book is None or book.lane is Lane.REALTIME:
        return None
    lanes = deployment.stores.rulebook.read(0).rules.lanes
    return boundary_after(deployment.now_ms(), book.rule.every or lanes.every, lanes.offset)


def _left(deployment: Deployment, book: AudienceBook | None) -> int | None:
    """Data points of today that are left: of all, or fewer if the audience's own run out first."""
    stores, now = deployment.stores, deployment.now_ms()
    bounds = bounds_of(stores, stores.in_force.latest())
    left = []
    if bounds["per_day"]:
        left.append(bounds["per_day"] - stores.budget.today(deployment.partitions, now))
    if bounds["per_audience"] and book:
        today = stores.budget.today_of(deployment.partitions, now, book.key)
        left.append(bounds["per_audience"] - today)
    return max(0, min(left)) if left else None
