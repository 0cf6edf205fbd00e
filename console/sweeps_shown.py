"""Work on many users as it is shown: that of all partitions together, and how far it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from console.instants import iso
from worker.pipeline.rules import Order, Work
from worker.stored import Stores
from worker.stores.sweeps import Sweep

# Partitions begin the same work within moments of each other.
_TOGETHER_MS = 60_000
WORDS = {
    Work.RESCHEDULE: "rescheduling",
    Work.FLUSH: "flush",
    Work.RESYNC: "resync",
    Work.EXIT_CHANGED: "new exit value",
    Work.RETIRE: "retiring",
}


@dataclass(frozen=True, slots=True)
class SweepShown:
    """One piece of work. `key` '' for all keys; `users` looked at, of about `total` (None: nobody
    knows); `changed` of them, which costs so many data `points`. Instants in ms."""

    work: Work
    key: str
    by: str
    why: str
    begun_ms: int
    done_ms: int | None
    users: int
    changed: int
    points: int
    total: int | None

    @property
    def share(self) -> float | None:
        """How far it is, 0 to 1; None if nobody knows. 1 only at its end."""
        if self.done_ms is not None:
            return 1.0
        return None if not self.total else min(0.99, self.users / self.total)

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return {
            "work": self.work.value,
            "audience": self.key or None,
            "by": self.by or None,
            "why": self.why or None,
            "begun_at": iso(self.begun_ms),
            "done_at": iso(self.done_ms) if self.done_ms is not None else None,
            "share": round(self.share, 3) if self.share is not None else None,
            "users": self.users,
            "users_in_all": self.total,
            "changed": self.changed,
            "data_points": self.points,
        }

    def __str__(self) -> str:
        """As `status` says it."""
        share = f"{self.share:.0%}: " if self.share is not None else ""
        of = f" of about {self.total:,}" if self.total else ""
        said = f"{WORDS[self.work]} of {self.key or 'all audiences'}"
        said += f", {share}{self.users:,}{of} users looked at, {self.changed:,} concerned"
        return f"{said}; by {self.by}" if self.by else said


def read_sweeps(stores: Stores, partitions: int) -> list[SweepShown]:
    """Those under way, then the last that are done, the newest first."""
    sweeps = [one for partition in range(partitions) for one in stores.sweeps.read(partition)]
    orders = stores.publication.orders()
    # Nearly every key of the server is a user.
    users = int(stores.client.dbsize()) if any(one.total is None for one in sweeps) else 0
    found = [_shown(group, orders, users) for group in _together(sweeps)]
    return sorted(found, key=lambda one: (one.done_ms is not None, -one.begun_ms))


def _together(sweeps: Iterable[Sweep]) -> list[list[Sweep]]:
    groups: list[list[Sweep]] = []
    for sweep in sorted(sweeps, key=lambda one: (one.begun_ms, one.partition)):
        for group in groups:
            first = group[0]
            if (
                (first.work, first.key, first.by, first.why)
                == (sweep.work, sweep.key, sweep.by, sweep.why)
                and sweep.begun_ms - first.begun_ms <= _TOGETHER_MS
                and all(sweep.partition != one.partition for one in group)
            ):
                group.append(sweep)
                break
        else:
            groups.append([sweep])
    return groups


def _shown(group: list[Sweep], orders: dict[str, Order], users: int) -> SweepShown:
    first = group[0]
    by, why = first.by, first.why
    if first.work is Work.RETIRE and first.key in orders:
        by, why = orders[first.key].by, orders[first.key].why
    done = [one.done_ms for one in group]
    total = sum(one.total for one in group if one.total is not None)
    return SweepShown(
        work=first.work,
        key=first.key,
        by=by,
        why=why,
        begun_ms=first.begun_ms,
        done_ms=max(at for at in done if at is not None) if all(done) else None,
        users=sum(one.users for one in group),
        changed=sum(one.changed for one in group),
        points=sum(one.points for one in group),
        total=users if any(one.total is None for one in group) else total,
    )
