"""What this process sent lately, kept for a server that may have forgotten it (rule 13).

The server is the only memory of what Braze holds. When it turns out to be another one, what this
process sent last of each value is compared with what the state says now, and what differs becomes
unknown: it is sent again, and a value that flips back is not taken for one that Braze holds.
Until the first such moment this costs an append for each request.

Compared is also what a claim that is gone has sent, whatever took it away.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from worker.pipeline.outcome import ItemVerdict, Verdict
from worker.stores.identity import ServerIdentity
from worker.stores.memberships import Memberships, SentLast

_MOST_USERS = 50_000
_AT_ONCE = 200
# Users whom a claim owns are asked for again after this time.
_AGAIN_SECONDS = 0.5
# Braze may hold what was sent.
MAY_BE_THERE = (Verdict.DELIVERED, Verdict.UNKNOWN)
# Of a user's attribute: the value, when it was sent, and whether it may have come late.
_Doubts = dict[tuple[int, str], dict[str, tuple[str, float, bool]]]


@dataclass(slots=True)
class Sent:
    """The users of one request, with what was sent of each; `at` seconds when it began."""

    partition: int
    epoch: int
    at: float
    users: int
    objects: Sequence[SentLast]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was made of a change of servers. `waited` is how long nobody claims because of it, 0 if
    another process had seen to that; `values` were sent by this one and forgotten by the server."""

    waited: timedelta
    values: int


class Recollection:
    """One for each process; safe to use from many threads."""

    def __init__(
        self,
        memberships: Memberships,
        identity: ServerIdentity,
        clock: Callable[[], float],
        memory: timedelta = timedelta(seconds=10),
        most_users: int = _MOST_USERS,
    ) -> None:
        self._memberships = memberships
        self._identity = identity
        self._clock = clock
        self._memory = memory.total_seconds()
        self._most_users = most_users
        self._ring: deque[Sent] = deque()
        self._users = 0
        self._seen = identity.epoch
        self._doubts: _Doubts = {}
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._comparing = threading.Lock()

    # --- while sending

    def is_same_server(self, epoch: int) -> bool:
        """False if what was read under this epoch may have been forgotten."""
        return self._identity.epoch == epoch

    def begin(self, partition: int, epoch: int, objects: Sequence[SentLast]) -> Sent:
        """A request is about to be sent for a claim of this epoch. What is older than the memory
        of it goes: counted back from now, so that nothing goes while the server is away."""
        sent = Sent(partition, epoch, self._clock(), len(objects), objects)
        oldest = sent.at - self._memory
        with self._lock:
            self._ring.append(sent)
            self._users += sent.users
            while self._ring and (self._ring[0].at < oldest or self._users > self._most_users):
                self._users -= self._ring.popleft().users
        return sent

    def end(self, sent: Sent, items: Sequence[ItemVerdict]) -> None:
        """It came to its end. What was surely not accepted need not be remembered."""
        if any(item.verdict not in MAY_BE_THERE for item in items):
            sent.objects = [
                told
                for told, item in zip(sent.objects, items, strict=True)
                if item.verdict in MAY_BE_THERE
            ]
        if not self.is_same_server(sent.epoch):
            self.doubt(sent.partition, sent.objects)

    def doubt(self, partition: int, objects: Sequence[SentLast]) -> None:
        """This came to its end for a claim that is gone, or that the server may have forgotten:
        it may have come later than what others have sent since."""
        with self._lock:
            self._add(partition, objects, self._clock(), comes_late=True)

    # --- after it

    @property
    def has_doubts(self) -> bool:
        """True if there is something to compare now. Cheap: asked before each claim."""
        if self._identity.epoch != self._seen:
            return True
        return bool(self._doubts) and self._clock() >= self._not_before

    def compare(self) -> Recalled | None:
        """Compare what is in doubt with the state. None if the server is the one it was.

        If the server cannot be reached, nothing is lost: it raises, and is to be called again.
        """
        with self._comparing:
            epoch = self._identity.epoch
            with self._lock:
                if epoch != self._seen:
                    for sent in self._ring:
                        self._add(sent.partition, sent.objects, sent.at, comes_late=False)
                    self._ring.clear()
                    self._users = 0
            forgotten = self._ask_all()
            is_other, self._seen = epoch != self._seen, epoch
        has_quieted = self._identity.has_quieted()
        if not is_other and not has_quieted:
            return None
        return Recalled(self._identity.quiet if has_quieted else timedelta(), forgotten)

    def _add(
        self, partition: int, objects: Sequence[SentLast], at: float, *, comes_late: bool
    ) -> None:
        for user, values in objects:
            self._put((partition, user), {name: (text, at, comes_late) for name, text in values})

    def _put(self, who: tuple[int, str], values: dict[str, tuple[str, float, bool]]) -> None:
        """Of each attribute the value that was sent last counts."""
        known = self._doubts.setdefault(who, {})
        for name, value in values.items():
            if name not in known or known[name][1] <= value[1]:
                known[name] = value

    def _ask_all(self) -> int:
        """Values that were forgotten. Users in flight remain in doubt."""
        with self._lock:
            taken, self._doubts = self._doubts, {}
        forgotten = 0
        try:
            while taken:
                forgotten += self._ask_some(taken)
        finally:
            with self._lock:
                for who, values in taken.items():
                    self._put(who, values)
        return forgotten

    def _ask_some(self, taken: _Doubts) -> int:
        """The same for some of one partition, which leave `taken` when it is done."""
        partition = next(iter(taken))[0]
        some = list(islice((who for who in taken if who[0] == partition), _AT_ONCE))
        now = self._clock()
        told = [
            (
                user,
                [
                    (name, text, None if comes_late else timedelta(seconds=now - at))
                    for name, (text, at, comes_late) in taken[partition, user].items()
                ],
            )
            for _, user in some
        ]
        forgotten, in_flight = self._memberships.recall(partition, told)
        if in_flight:
            self._not_before = self._clock() + _AGAIN_SECONDS
            with self._lock:
                for place in in_flight:
                    self._put(some[place], taken[some[place]])
        for who in some:
            del taken[who]
        return forgotten
