"""Work on many users in the background: begun by a change of the rules or by an operator.

A sweep goes through the users of a partition by SCAN, or through those who wait for its key. A
step is one script, which also notes how far the sweep has come, if it stands where the step began;
so of several workers that do the same step one wins, and a worker that is killed has lost
nothing. A cursor is good for one run of the server: in another one the sweep begins anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from worker.durations import to_ms
from worker.pipeline.rules import Work
from worker.stores.keys import key
from worker.stores.scripts import Scripts
from worker.stores.server import Server
from worker.stores.terms import Terms

# Those who wait for a key are concerned; any other work concerns all who have a value of it.
_OF_THE_DIRTY = frozenset({Work.RESCHEDULE, Work.FLUSH})


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep in one partition. `key` is '' for all keys; `users` looked at so far, of them
    `changed`, and the data `points` this costs; `total` users to look at, None if that is unknown.
    Instants in ms; `done_ms` is None while it goes on."""

    partition: int
    name: str
    work: Work
    key: str
    id: str
    since_ms: int
    begun_ms: int
    done_ms: int | None
    users: int
    changed: int
    points: int
    total: int | None
    by: str
    why: str
    cursor: str
    run: str

    @property
    def is_of_the_dirty(self) -> bool:
        """True if it goes through those who wait for its key, and through nobody else."""
        return self.work in _OF_THE_DIRTY


class Sweeps:
    """Begins, does and shows them. `at_once`: users (or keys) looked at in one step."""

    def __init__(self, scripts: Scripts, terms: Terms, at_once: int = 250) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._terms = terms
        self._at_once = at_once

    # --- beginning

    def flush(self, partition: int, name: str, by: str, why: str = "") -> bool:
        """Have all that waits for a key now sent at once, instead of at its boundary.

        False if the partition has never seen the key. What is held for a gap, a hold or the
        budget stays held.
        """
        return self._begin(partition, Work.FLUSH, name, 0, by, why)

    def resync(
        self, partition: int, name: str | None, by: str, why: str = "", since_ms: int = 0
    ) -> bool:
        """Forget what was acknowledged of a key (None: of all), and send it again.

        With `since_ms` only what was acknowledged since then. What is under way is sent again, too.
        """
        return self._begin(partition, Work.RESYNC, name or "", since_ms, by, why)

    def _begin(
        self, partition: int, work: Work, name: str, since_ms: int, by: str, why: str
    ) -> bool:
        begun = self._scripts.on_partition(
            "begin", partition, work, name, since_ms, self._terms.journal_bytes, by, why
        )
        return bool(begun)

    # --- seeing

    def read(self, partition: int) -> list[Sweep]:
        """All that are not done, and the last that are; in the order in which they began."""
        raw = self._client.hgetall(key(partition, "sweeps"))
        found = [
            _sweep(partition, name.decode(), msgpack.unpackb(packed))
            for name, packed in raw.items()
        ]
        return sorted(found, key=lambda sweep: int(sweep.name))

    def unfinished(self, partition: int) -> list[Sweep]:
        """Those that are not done: first the short ones, which go through the dirty only."""
        left = [sweep for sweep in self.read(partition) if sweep.done_ms is None]
        return sorted(left, key=lambda sweep: not sweep.is_of_the_dirty)

    def pending(self, partition: int, name: str, until_ms: int) -> int:
        """Users who wait for a key since before then: how much of a flush is still to be done."""
        id_ = self._client.hget(key(partition, "attrs"), name)
        if id_ is None:
            return 0
        return int(self._client.zcount(key(partition, f"dirty:{id_.decode()}"), "-inf", until_ms))

    # --- doing

    def step(self, partition: int, sweep: Sweep) -> bool:
        """Do the next step. False if it was not there to be done: somebody else did it."""
        run, after, users = self._scan(partition, sweep, int(sweep.cursor))
        if run != sweep.run and sweep.cursor != "0":
            run, after, users = self._scan(partition, sweep, 0)
        done = self._scripts.on_partition(
            "sweep",
            partition,
            sweep.name,
            sweep.cursor,
            sweep.run,
            str(after),
            run,
            msgpack.packb(users),
            to_ms(self._terms.gap),
        )
        return bool(done)

    def count(
        self,
        partition: int,
        work: Work,
        name: str | None,
        cursor: int = 0,
        *,
        since_ms: int = 0,
        value: str = "",
    ) -> tuple[int, int, int]:
        """What a sweep would do to users from this cursor on: (next cursor, users, data points).

        The next cursor is 0 at the end. Changes nothing.
        """
        id_ = self._client.hget(key(partition, "attrs"), name) if name else b"*"
        if id_ is None:
            return 0, 0, 0
        after, found = self._scan_all(self._client, partition, cursor)
        users = self._users(partition, found)
        sweep = {"work": work, "id": id_.decode(), "since": since_ms, "value": value}
        gap = to_ms(self._terms.gap)
        users_changed, points = self._scripts.on_partition(
            "sweep", partition, "", msgpack.packb(sweep), "", "", "", msgpack.packb(users), gap
        )
        return int(after), int(users_changed), int(points)

    def _scan(self, partition: int, sweep: Sweep, cursor: int) -> tuple[str, int, list[str]]:
        """The server's run, the cursor after, and users. Together, because between two commands
        the client may connect anew, and a cursor of another run passes users over."""
        with self._client.pipeline(transaction=True) as together:
            together.info("server")
            if sweep.is_of_the_dirty:
                dirty = key(partition, f"dirty:{sweep.id}")
                together.zscan(dirty, cursor, count=self._at_once)
            else:
                self._scan_all(together, partition, cursor)
            info, (after, found) = together.execute()
        run = str(info["run_id"])
        if not sweep.is_of_the_dirty:
            return run, int(after), self._users(partition, found)
        if sweep.work is Work.FLUSH:
            found = [(user, since) for user, since in found if since <= sweep.begun_ms]
        return run, int(after), [user.decode() for user, _ in found]

    def _scan_all(self, client: Server, partition: int, cursor: int) -> Any:
        return client.scan(cursor, match=f"{key(partition, 'u:')}*", count=self._at_once)

    def _users(self, partition: int, names: Iterable[bytes]) -> list[str]:
        start = key(partition, "u:")
        return [name.decode().removeprefix(start) for name in names]


def _sweep(partition: int, name: str, raw: Mapping[str, Any]) -> Sweep:
    return Sweep(
        partition=partition,
        name=name,
        work=Work(raw["work"]),
        key=raw["key"],
        id=raw["id"],
        since_ms=int(raw.get("since", 0)),
        begun_ms=int(raw["at"]),
        done_ms=int(raw["done_at"]) or None,
        users=int(raw["seen"]),
        changed=int(raw["changed"]),
        points=int(raw["points"]),
        total=int(raw["total"]) if raw["total"] >= 0 else None,
        by=raw["by"],
        why=raw["why"],
        cursor=raw["cursor"],
        run=raw["run"],
    )
