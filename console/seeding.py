"""Reads from Braze what it holds of our users, inside the limits of the export, resumable.

Reads ask only for users with a value of which nobody knows what Braze holds, and of which its
answer can be believed by now; so whoever repeats a reading asks nobody twice, but for users with a
value that cannot be compared. What Braze does not have of a user it knows, or of one it does not
know, counts as `null`: not set is what writing null would make of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import Any

from worker.braze.readback import Exported, NotRead
from worker.contract import STRING_VALUE_MAX_CHARS, partition_of
from worker.pipeline.ingest import value_text
from worker.pipeline.retry import delay
from worker.stores.seeding import PAGE, Place, Progress, Seeding, TooFresh, Unread

NOBODY = "persona-sync-check"  # nobody has this id
MOST_FAILURES = 8  # in a row
_BASE, _CAP = timedelta(seconds=1), timedelta(seconds=60)
_REFUSED = {
    401: "Braze refuses the key, or it belongs to another instance: check "
    "PERSONA_SYNC_BRAZE_API_KEY and PERSONA_SYNC_BRAZE_ENDPOINT.",
    403: "The key may not read users: make one with the permissions users.track and "
    "users.export.ids (permissions are fixed when a key is made).",
    404: "There is no /users/export/ids at PERSONA_SYNC_BRAZE_ENDPOINT.",
}


class Stuck(Exception):
    """Braze does not let us read on. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a reading would be: of `known` users, `users` have `values` that nobody knows. `fresh`
    is not among them."""

    known: int
    users: int
    values: int
    ids_per_request: int
    per_minute: int
    fresh: TooFresh = field(default_factory=TooFresh)

    @property
    def requests(self) -> int:
        """Exports it takes."""
        return ceil(self.users / self.ids_per_request)

    @property
    def minutes(self) -> float:
        """How long that takes at the limit."""
        return self.requests / self.per_minute


class Pace:
    """At most so many requests a minute, evenly spaced, on the caller's clock."""

    def __init__(
        self, per_minute: int, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._interval = 60 / per_minute
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    def wait(self) -> None:
        """Wait until the next request may begin."""
        while (left := self._next - self._clock()) > 0:
            self._sleep(left)
        self._next = self._clock() + self._interval

    def pause(self, seconds: float) -> None:
        """No request before this is over."""
        self._next = max(self._next, self._clock() + seconds)


@dataclass(frozen=True, slots=True)
class Terms:
    """How much is asked at once, and by how much an answer may lag behind what was written."""

    partitions: int = 1
    ids_per_request: int = 50
    per_minute: int = 250
    lag: timedelta = timedelta(minutes=5)


class Seeder:
    """Reads users, or all users, into the acknowledged side.

    `read` asks Braze for up to 50 users; `now_ms` is the server's clock; `random` in [0, 1).
    `show(progress, waiting)` is told after each request, and why it waits.
    """

    def __init__(
        self,
        seeding: Seeding,
        read: Callable[[Sequence[str]], Exported],
        pace: Pace,
        terms: Terms,
        now_ms: Callable[[], int],
        random: Callable[[], float],
        show: Callable[[Progress, str], None] = lambda progress, waiting: None,
    ) -> None:
        self._seeding = seeding
        self._read = read
        self._pace = pace
        self._terms = terms
        self._now_ms = now_ms
        self._random = random
        self._show = show
        self.done = Progress()
        self.limited = 0

    def estimate(self, users: Sequence[str] | None) -> Estimate:
        """Count, without asking Braze; `users` None: everybody who is known."""
        known = asked = values = 0
        fresh = TooFresh()
        for partition in range(self._terms.partitions):
            for page, _ in self._pages(partition, users, self._seeding.beginning()):
                unread, later = self._seeding.unread(partition, page, self._terms.lag)
                fresh += later
                known += len(page)
                asked += len(unread)
                values += sum(len(user.attributes) for user in unread)
        terms = self._terms
        return Estimate(known, asked, values, terms.ids_per_request, terms.per_minute, fresh)

    def try_access(self) -> None:
        """Raise Stuck if Braze does not let us read, before anything is paused or counted."""
        self._ask([NOBODY])

    def run(self, users: Sequence[str] | None, *, go_on: bool) -> Progress:
        """Read them. With `go_on` behind the place where a reading stopped. Raises Stuck."""
        terms = self._terms
        source = "all" if users is None else "some"
        before = self._seeding.unfinished(terms.partitions, source) if go_on else None
        if before is None:
            self._seeding.begin(terms.partitions, source)
        self.done = before or Progress()
        self._show(self.done, "")
        for partition in range(terms.partitions):
            place = self._seeding.came_to(partition)
            if place is not None:
                self._read_partition(partition, users, place)
                self._seeding.come_to(partition, None)
        for partition in range(terms.partitions):
            self._seeding.end(partition)
        return self.done

    def _read_partition(self, partition: int, users: Sequence[str] | None, place: Place) -> None:
        """Requests are filled across pages; a page is done when the last of its users is."""
        waiting: list[tuple[Unread, Place]] = []
        size = self._terms.ids_per_request
        for page, after in self._pages(partition, users, place):
            unread, _ = self._seeding.unread(partition, page, self._terms.lag)
            waiting += [(user, place) for user in unread]
            while len(waiting) >= size:
                self._read_some(partition, [user for user, _ in waiting[:size]])
                del waiting[:size]
            if after is not None:
                place = after
                self._seeding.come_to(partition, waiting[0][1] if waiting else place)
        if waiting:
            self._read_some(partition, [user for user, _ in waiting])

    def _read_some(self, partition: int, users: Sequence[Unread]) -> None:
        exported, read_at = self._ask([user.user_id for user in users])
        readings = [(user.user_id, _held(user, exported)) for user in users]
        done = self._seeding.take(
            partition,
            readings,
            read_at_ms=read_at,
            lag=self._terms.lag,
            asked=len(users),
            no_profile=sum(user.user_id in exported.unknown for user in users),
        )
        self.done = _sum(self.done, done)
        self._show(self.done, "")

    def _ask(self, ids: Sequence[str]) -> tuple[Exported, int]:
        """One export, repeated until it is answered; and when it was begun."""
        failures = 0
        while True:
            self._pace.wait()
            begun = self._now_ms()
            try:
                return self._read(ids), begun
            except NotRead as error:
                failures += 1
                self._wait_or_give_up(error, failures)

    def _wait_or_give_up(self, error: NotRead, failures: int) -> None:
        status = error.status
        if status == 429:
            self.limited += 1
        elif status is not None and 300 <= status < 500:
            raise Stuck(_REFUSED.get(status, f"Braze refuses to export users: {error}.")) from error
        elif failures >= MOST_FAILURES:
            raise Stuck(
                f"Braze has not answered {failures} times in a row ({error}); try again later."
            ) from error
        seconds = error.wait
        if seconds is None:
            seconds = delay(failures, _BASE, _CAP, self._random()).total_seconds()
        self._pace.pause(seconds)
        tries = "" if status == 429 else f"try {failures} of {MOST_FAILURES}, "
        why = "Braze's limit is used up" if status == 429 else f"no answer ({error})"
        self._show(self.done, f"{why}; {tries}going on in {seconds:,.0f} s")

    def _pages(
        self, partition: int, users: Sequence[str] | None, place: Place
    ) -> Iterator[tuple[Sequence[str], Place | None]]:
        """Pages of the users, each with the place after it; a list has no places."""
        if users is None:
            for page in self._seeding.pages(partition, place):
                yield page.users, page.after
            return
        here = [u for u in users if partition_of(u, self._terms.partitions) == partition]
        for at in range(0, len(here), PAGE):
            yield here[at : at + PAGE], None


def _held(user: Unread, exported: Exported) -> list[tuple[str, str]]:
    """What Braze holds of a user's values, as JSON text; without those it cannot be compared of."""
    found = exported.attributes.get(user.user_id)
    if found is None:
        if user.user_id not in exported.unknown:
            return []
        found = {}
    texts = [(id_, _text(found.get(name))) for id_, name in user.attributes.items()]
    return [(id_, text) for id_, text in texts if text is not None]


def _text(value: Any) -> str | None:
    """A value as it would be sent; None for one that no change can have."""
    if value is None:
        return "null"
    if isinstance(value, str) and len(value) > STRING_VALUE_MAX_CHARS:
        return None
    return value_text(value) if isinstance(value, bool | int | float | str) else None


def _sum(a: Progress, b: Progress) -> Progress:
    return Progress(
        a.users + b.users,
        a.no_profile + b.no_profile,
        a.requests + b.requests,
        a.values + b.values,
        a.equal + b.equal,
        a.to_send + b.to_send,
        a.left + b.left,
    )
