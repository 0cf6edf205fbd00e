"""What is acknowledged without a request of ours: read from Braze, or to be forgotten again.

Users are gone through by SCAN, page by page; a cursor is good for one run of the server only,
so it is kept with the run's id. Doing a page again changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgpack

from worker.durations import to_ms
from worker.stores.keys import key
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts
from worker.stores.terms import Terms

PAGE = 1_000  # keys looked at in one SCAN, users in one script
UNFINISHED_LIFE = timedelta(hours=24)  # of a run that was interrupted
_COUNTS = ("users", "no_profile", "requests", "values", "equal", "to_send", "left")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a scan has come: this cursor, in this run of the server. '0': the beginning."""

    run: str
    cursor: int = 0

    def __str__(self) -> str:
        return f"{self.run}:{self.cursor}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some users, and where the scan stands after them; `after` is None at the end."""

    users: tuple[str, ...]
    after: Place | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A user with values of which nobody knows what Braze holds, {id: Braze's attribute}."""

    user_id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TooFresh:
    """Values that were sent with an unknown end so lately that what Braze shows of them may be
    older; at `from_ms` the last of them may be read. Adds up."""

    users: int = 0
    values: int = 0
    from_ms: int = 0

    def __add__(self, other: "TooFresh") -> "TooFresh":
        return TooFresh(
            self.users + other.users,
            self.values + other.values,
            max(self.from_ms, other.from_ms),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has done so far, those before an interruption included.

    `values` are known now; of them `equal` need not be sent, `to_send` are. `left`: what was
    read, and settled or sent by us meanwhile.
    """

    users: int = 0
    no_profile: int = 0
    requests: int = 0
    values: int = 0
    equal: int = 0
    to_send: int = 0
    left: int = 0


class Seeding:
    """The acknowledged side of one deployment."""

    def __init__(self, scripts: Scripts, terms: Terms, rulebook: Rulebook) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._terms = terms
        self._rulebook = rulebook

    # --- going through users

    def beginning(self) -> Place:
        """Where a scan of any partition begins."""
        return Place(str(self._client.info("server")["run_id"]))

    def place(self, text: str) -> Place:
        """A place as it was noted; the beginning, if the server has been restarted since."""
        start = self.beginning()
        run, _, cursor = text.rpartition(":")
        return Place(run, int(cursor)) if run == start.run and cursor.isdecimal() else start

    def pages(self, partition: int, place: Place) -> Iterator[Page]:
        """All users of a partition who are there the whole time; one may come twice."""
        start = key(partition, "u:")
        cursor = place.cursor
        while True:
            cursor, names = self._client.scan(cursor, match=f"{start}*", count=PAGE)
            users = tuple(name.decode().removeprefix(start) for name in names)
            yield Page(users, Place(place.run, cursor) if cursor else None)
            if not cursor:
                return

    # --- reading from Braze

    def unread(
        self, partition: int, users: Sequence[str], lag: timedelta
    ) -> tuple[list[Unread], TooFresh]:
        """Those of the users who have something to be read, in the order given; and what cannot
        be read yet, as what Braze shows may lag so far behind what it was sent."""
        found: list[Unread] = []
        fresh = TooFresh()
        for at in range(0, len(users), PAGE):
            packed = msgpack.packb(users[at : at + PAGE])
            answer = self._scripts.on_partition("seed", partition, packed, "", to_ms(lag))
            unread, *later = msgpack.unpackb(answer)
            found += [
                Unread(user, {id_: self._rulebook.attribute(partition, id_) for id_ in ids})
                for user, ids in unread
            ]
            fresh += TooFresh(*(int(number) for number in later))
        return found, fresh

    def take(
        self,
        partition: int,
        readings: Sequence[tuple[str, Sequence[tuple[str, str]]]],
        *,
        read_at_ms: int,
        lag: timedelta,
        asked: int,
        no_profile: int,
    ) -> Progress:
        """Acknowledge what Braze holds: (user, [(id, JSON text), ...]), read at that time.

        What a request of ours settled meanwhile stays. Counted and applied in one step.
        """
        counts = {"users": asked, "no_profile": no_profile, "requests": 1}
        values, equal, to_send, left = self._scripts.on_partition(
            "seed",
            partition,
            msgpack.packb(readings),
            read_at_ms,
            to_ms(lag),
            to_ms(self._terms.gap),
            self._terms.journal_bytes,
            msgpack.packb(counts),
            to_ms(UNFINISHED_LIFE),
        )
        return Progress(asked, no_profile, 1, values, equal, to_send, left)

    def unfinished(self, partitions: int, source: str) -> Progress | None:
        """What a run that was interrupted had done; None if there was none of this source."""
        stored = [self._client.hgetall(key(p, "seed")) for p in range(partitions)]
        if not any(raw.get(b"source") == source.encode() for raw in stored):
            return None
        return Progress(*(sum(int(raw.get(n.encode(), 0)) for raw in stored) for n in _COUNTS))

    def begin(self, partitions: int, source: str) -> None:
        """Begin a run anew: nothing is done yet."""
        for partition in range(partitions):
            self.end(partition)
            self._client.hset(key(partition, "seed"), "source", source)
            self._client.pexpire(key(partition, "seed"), to_ms(UNFINISHED_LIFE))

    def end(self, partition: int) -> None:
        """The run is over."""
        self._client.delete(key(partition, "seed"))

    def come_to(self, partition: int, place: Place | None) -> None:
        """Everybody before this place is read; None: the whole partition is."""
        mark = str(place) if place else "end"
        self._client.hset(key(partition, "seed"), "place", mark)

    def came_to(self, partition: int) -> Place | None:
        """Where an interrupted run goes on; None: the partition was done."""
        mark = (self._client.hget(key(partition, "seed"), "place") or b"").decode()
        return None if mark == "end" else self.place(mark)

    # --- forgetting what was acknowledged in shadow

    def forget(
        self,
        partition: int,
        users: Sequence[str],
        from_ms: int,
        until_ms: int,
        *,
        only_count: bool = False,
    ) -> tuple[int, int]:
        """Make unknown what was acknowledged within this span: (users, values) it concerned."""
        packed = msgpack.packb(users)
        gap = to_ms(self._terms.gap)
        found = self._scripts.on_partition(
            "forget", partition, packed, from_ms, until_ms, gap, int(only_count)
        )
        return int(found[0]), int(found[1])
