"""Desired and acknowledged values of every user, the due lists, and the claims on them.

Each method is one script: it happens as a whole or not at all, on the server's clock. The scripts
are the only writers, and hold the rules; see `lua/parts`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgpack

from worker.durations import to_ms
from worker.pipeline.ingest import Ingested
from worker.pipeline.outcome import Verdict
from worker.pipeline.schedule import Lane
from worker.stores.keys import key
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts, Step
from worker.stores.terms import Terms

_LIST = {Lane.REALTIME: "rt", Lane.BATCHED: "bt"}
_REFUSED = 4
# The rules change seldom: whoever finds other ones so often in a row reads something wrong.
_TRIES = 10
_LANE_OF = {lane.code: lane for lane in Lane}
# A user, and (attribute name at Braze, JSON text) of what was sent.
SentLast = tuple[str, Sequence[tuple[str, str]]]
# The same, with how long ago each was sent; None: it may have come later than anything since.
ToldOf = tuple[str, Sequence[tuple[str, str, timedelta | None]]]
_CODE = {Verdict.DELIVERED: "d", Verdict.RETRY: "r", Verdict.UNKNOWN: "u", Verdict.DEAD: "x"}


class RulesUnsteady(Exception):
    """The rules had another version each time that a script was run; nothing was done."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What folding one entry did. `is_applied` is False if somebody else had applied it."""

    is_applied: bool
    opened: int = 0
    superseded: int = 0
    unchanged: int = 0
    dead: int = 0
    realtime_ready: int = 0
    has_gatherer: bool = False
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Whether a lane has a request to fill: `full`, `due`, `wait`, `busy` (somebody else gathers
    the crumbs), `quiet` (nobody claims for a while) or `empty`. `wait_ms` is when the first user
    is due."""

    state: str
    users: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class ClaimedUser:
    """One user of a claim, with (attribute name, value as JSON text) for each value to send."""

    user_id: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """Users taken for one request. Until it is settled or its lease is over they are ours, unless
    the server of this `epoch` is another one since (see identity.py): that may have forgotten."""

    id: str
    users: tuple[ClaimedUser, ...]
    left: int
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling did. `is_gone`: there was no such claim any more."""

    users: int = 0
    values: int = 0
    dead: int = 0
    realtime_ready: int = 0
    has_gatherer: bool = False
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """Users of one lane. `ready` includes the `due`; instants in ms."""

    ready: int
    due: int
    held: int
    first_due_ms: int | None
    next_due_ms: int | None


@dataclass(frozen=True, slots=True)
class AttributeTrace:
    """One attribute of one user, as it is now. `acknowledged` is None while unknown; it has no
    time if no request of ours brought it there: it was said by an import, or read from Braze."""

    attribute: str
    desired: str
    desired_at_ms: int
    acknowledged: str | None
    acknowledged_at_ms: int | None
    lane: Lane
    due_at_ms: int | None
    is_refused: bool
    in_flight: bool
    hold_until_ms: int | None


class Memberships:
    """The state of one deployment's users, by partition."""

    def __init__(self, scripts: Scripts, terms: Terms, rulebook: Rulebook) -> None:
        self._client = scripts.client
        self._scripts = scripts
        self._terms = terms
        self._rulebook = rulebook

    def _as_published(
        self, is_stale: Callable[[Any], bool], script: str, partition: int, *args: object
    ) -> Any:
        """Run a script that refuses a version of the rules that is not the published one; then
        read them, and repeat."""
        for _ in range(_TRIES):
            version = self._rulebook.version(partition)
            result = self._scripts.on_partition(script, partition, *args, version)
            if not is_stale(result):
                return result
            self._rulebook.read(partition)
        raise RulesUnsteady(f"The rules of partition {partition} changed {_TRIES} times in a row.")

    def accept(
        self,
        partition: int,
        entry_id: str,
        entry_ms: int,
        envelope: Ingested,
        *,
        acknowledged: bool = False,
    ) -> Applied:
        """Fold an entry and acknowledge it. Repeating it changes nothing.

        `acknowledged`: Braze is said to hold these values already. That is believed of values
        that no request of ours has settled.
        """
        names: dict[str, int] = {}
        users = []
        for user, changes in envelope.users.items():
            packed = [
                (names.setdefault(change.attribute, len(names) + 1), change.value, *change.rank)
                for change in changes
            ]
            users.append((user, packed))
        result = self._as_published(
            lambda given: given[0] == -1,
            "accept",
            partition,
            entry_id,
            entry_ms,
            msgpack.packb((list(names), users)),
            to_ms(self._terms.gap),
            self._terms.journal_bytes,
            self._terms.undeclared_limit,
            int(acknowledged),
            int(self._terms.counts_flips),
        )
        if result[0] == 0:
            return Applied(False)
        _, opened, superseded, unchanged, dead, ready, gatherer, skipped = result
        return Applied(True, opened, superseded, unchanged, dead, ready, bool(gatherer), skipped)

    def refuse_envelope(self, partition: int, entry_id: str, reason: str) -> bool:
        """Move an entry to the dead letters, whole. False if it was no longer pending."""
        return bool(self._scripts.on_partition("refuse_envelope", partition, entry_id, reason))

    def count_door(
        self, partition: int, entry_id: str, counts: dict[str, int], samples: Sequence[object]
    ) -> bool:
        """Count what was refused or skipped at the door, and acknowledge the entry."""
        packed = msgpack.packb(list(counts.items()))
        sampled = msgpack.packb(samples)
        counted = self._scripts.on_partition(
            "door", partition, entry_id, packed, sampled, self._terms.journal_bytes
        )
        return bool(counted)

    def look(self, partition: int, lane: Lane, full: int, token: str) -> Look:
        """See whether there is a request to fill; the asker may become the gatherer of crumbs."""
        result = self._scripts.on_partition("look", partition, lane.code, full, token)
        return Look(result[0].decode(), int(result[1]), int(result[2]))

    def claim(
        self,
        partition: int,
        lane: Lane,
        claim_id: str,
        token: str,
        *,
        objects: int,
        size: int,
    ) -> Claim:
        """Take users for one request of at most `objects` users and about `size` bytes.

        With the same id it returns the same claim. No users: there was nothing to take, or the
        server turned out to be another one, of which the names may mean something else.
        """
        epoch = self._rulebook.epoch()
        raw, left = self._as_published(
            lambda given: given[1] == -1,
            "claim",
            partition,
            claim_id,
            lane.code,
            objects,
            size,
            to_ms(self._terms.lease),
            to_ms(self._terms.gap),
            token,
            *self._terms.limits(partition),
        )
        if not raw:
            return Claim(claim_id, (), left)
        users = []
        for user, values in msgpack.unpackb(raw):
            named = tuple(
                (self._rulebook.attribute(partition, value[0], epoch), value[1]) for value in values
            )
            users.append(ClaimedUser(user, named))
        is_same_server = epoch == self._rulebook.epoch()
        return Claim(claim_id, tuple(users) if is_same_server else (), left, epoch)

    def settle(
        self,
        partition: int,
        claim_id: str,
        verdicts: Iterable[tuple[int, Verdict, str]],
        request_id: str = "",
        quiet_ms: int = 0,
    ) -> Settled:
        """End some users of a claim, by their place in it (from 0), verdict and reason.

        Settling a claim that is gone, or a user twice, changes nothing. For `quiet_ms` nobody
        claims in this partition: who had permission before a pause began must not take what is
        given back because of it.
        """
        return self.settling(partition, claim_id, verdicts, request_id, quiet_ms).run()

    def settling(
        self,
        partition: int,
        claim_id: str,
        verdicts: Iterable[tuple[int, Verdict, str]],
        request_id: str = "",
        quiet_ms: int = 0,
    ) -> Step[Settled]:
        """`settle`, prepared to go with other scripts in one round trip."""
        named = [(place + 1, _CODE[verdict], reason) for place, verdict, reason in verdicts]
        return self._settling(partition, claim_id, named, request_id, "", "0", quiet_ms)

    def has_lost(self, partition: int, claim_id: str, places: Iterable[int]) -> bool:
        """Whether a claim lost one of these places, not settled yet, to a deletion; or is gone."""
        record = self._client.hget(key(partition, "claim"), claim_id)
        if record is None:
            return True
        users = msgpack.unpackb(record)
        return any(not users[place] for place in places)

    def void(self, partition: int, claim_id: str) -> Settled:
        """End a claim whose lease is over: what it may have sent is unknown."""
        return self._settling(partition, claim_id, [], "", "u", "1", 0).run()

    def end_unsent(self, partition: int, claim_id: str) -> Settled:
        """End a claim of which surely nothing was sent, and nothing will be."""
        return self._settling(partition, claim_id, [], "", "r", "0", 0).run()

    def recall(self, partition: int, sent: Sequence[ToldOf]) -> tuple[int, list[int]]:
        """Compare the state with what was sent to Braze last, for a server that may have forgotten
        it. A value that differs becomes unknown, with a hold; one that is the same costs nothing,
        nor does one that was acknowledged since.

        Returns how many values were forgotten, and the places of users who are in flight: nothing
        is known of those before their claim has ended.
        """
        told = [
            (
                user,
                [
                    (name, value, -1 if age is None else to_ms(age))
                    for attribute, value, age in values
                    for name in self._rulebook.keys_of(partition, attribute)
                ],
            )
            for user, values in sent
        ]
        forgotten, owned = self._scripts.on_partition(
            "recall",
            partition,
            msgpack.packb(told),
            to_ms(self._terms.hold),
            to_ms(self._terms.gap),
            self._terms.journal_bytes,
        )
        return int(forgotten), [int(place) - 1 for place in owned]

    def open_claims(self, partition: int) -> list[str]:
        """All claims that have not ended."""
        return [id_.decode() for id_ in self._client.hkeys(key(partition, "claim"))]

    def _settling(
        self,
        partition: int,
        claim_id: str,
        named: list[tuple[int, str, str]],
        request_id: str,
        rest: str,
        only_expired: str,
        quiet_ms: int,
    ) -> Step[Settled]:
        step = self._scripts.step_on_partition(
            "settle",
            partition,
            claim_id,
            msgpack.packb(named),
            to_ms(self._terms.gap),
            to_ms(self._terms.hold),
            self._terms.journal_bytes,
            request_id,
            rest,
            only_expired,
            int(self._terms.has_budget),
            quiet_ms,
        )
        return replace(step, read=_settled)

    def waiting(self, partition: int, lane: Lane, now_ms: int) -> "Waiting":
        """How many users wait in a lane, and for what. Reads only."""
        ready, held = (key(partition, f"{_LIST[lane]}:{name}") for name in ("ready", "held"))
        first = self._client.zrange(ready, 0, 0, withscores=True)
        coming = self._client.zrangebyscore(ready, f"({now_ms}", "+inf", 0, 1, withscores=True)
        return Waiting(
            ready=int(self._client.zcard(ready)),
            due=int(self._client.zcount(ready, "-inf", now_ms)),
            held=int(self._client.zcard(held)),
            first_due_ms=int(first[0][1]) if first else None,
            next_due_ms=int(coming[0][1]) if coming else None,
        )

    def in_flight(self, partition: int) -> dict[Lane, int]:
        """Users that claims own now, by the lane that claimed them."""
        found = dict.fromkeys(Lane, 0)
        for id_, packed in self._client.hgetall(key(partition, "claim")).items():
            users = sum(1 for user in msgpack.unpackb(packed) if user)
            found[_LANE_OF[id_[:1].decode()]] += users
        return found

    def stop_gathering(self, partition: int, lane: Lane, token: str) -> None:
        """Give up being the gatherer of crumbs, if this token is."""
        name = key(partition, f"gather:{lane.code}")
        if self._client.get(name) == token.encode():
            self._client.delete(name)

    def next_due(self, partition: int, lane: Lane) -> int | None:
        """When the first user of a lane is due, ready or held; None if there is none."""
        first: list[float] = []
        for name in ("ready", "held"):
            found = self._client.zrange(
                key(partition, f"{_LIST[lane]}:{name}"), 0, 0, withscores=True
            )
            first.extend(float(item[1]) for item in found)
        return int(min(first)) if first else None

    def expired_claims(self, partition: int, now_ms: int) -> list[str]:
        """Claims whose lease was over at `now_ms`."""
        found = self._client.zrangebyscore(key(partition, "claims"), "-inf", now_ms)
        return [id_.decode() for id_ in found]

    def replay(self, partition: int, letter_id: str) -> int:
        """Lift a dead letter's marks; its newest values are sent. Returns how many are due.

        -1 if the letter is gone or is no user's.
        """
        packed = msgpack.packb([letter_id])
        gap = to_ms(self._terms.gap)
        letters, due = self._scripts.on_partition("replay", partition, packed, gap, 0, "")
        return int(due) if letters else -1

    def trace(self, partition: int, user_id: str) -> list[AttributeTrace]:
        """Everything known of one user; empty for a user never seen. Changes nothing."""
        raw = self._scripts.on_partition("trace", partition, user_id, to_ms(self._terms.gap))
        return [
            AttributeTrace(
                attribute=name,
                desired=desired,
                desired_at_ms=int(event_ms),
                acknowledged=acknowledged or None,
                acknowledged_at_ms=(
                    int(acknowledged_at) if acknowledged and acknowledged_at else None
                ),
                lane=Lane.REALTIME if lane == "r" else Lane.BATCHED,
                due_at_ms=int(due) if due >= 0 else None,
                is_refused=bool(flags & _REFUSED),
                in_flight=bool(in_flight),
                hold_until_ms=int(hold) if hold else None,
            )
            for (
                name, desired, event_ms, acknowledged, acknowledged_at, flags, in_flight, hold,
                lane, due,
            ) in sorted(msgpack.unpackb(raw))
        ]  # fmt: skip


def _settled(result: Any) -> Settled:
    if not result:
        return Settled(is_gone=True)
    users, values, dead, ready, gatherer = result
    return Settled(users, values, dead, ready, bool(gatherer))
