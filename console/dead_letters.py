"""Choosing dead letters, and what is done with those chosen: shown, replayed, dropped.

Letters are read page by page, up to the one that was the newest at the beginning: what dies
meanwhile (a replayed change may die again) is left for the next time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from operator import itemgetter
from typing import Any

import orjson

from console.instants import iso
from worker.contract import Change, ChangeClass, Changes
from worker.durations import to_ms
from worker.stores.dead_letters import DeadLetter, DeadLetters
from worker.stores.operators import AT_ONCE, InboxIsFull, Operators
from worker.stores.undeclared import Undeclared

GROUPS = 1_000
OTHER_REASONS = "(other reasons)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: all that fit everything that is given.

    `attribute` is an audience's key or its Braze attribute; `names` maps the one to the other.
    A letter of a whole envelope has no user and no attribute of its own.
    """

    reason: str | None = None
    attribute: str | None = None
    user: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    limit: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def fits(self, letter: DeadLetter) -> bool:
        """True if it is one of them; its age is not looked at here."""
        if self.reason is not None and self.reason.casefold() not in letter.reason.casefold():
            return False
        if self.user is not None and letter.user_id != self.user:
            return False
        return self.attribute is None or any(
            self.attribute in (name, self.names.get(name)) for name, _, _ in letter.values
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The letters that are wanted, as of one moment. May be walked through more than once."""

    letters: DeadLetters
    wanted: Wanted
    newest: Mapping[int, str]
    now_ms: int
    total: int

    @classmethod
    def of(cls, letters: DeadLetters, wanted: Wanted, partitions: int, now_ms: int) -> "Chosen":
        """Note how far to read; nothing is read yet."""
        newest = {p: last for p in range(partitions) if (last := letters.newest(p)) is not None}
        total = sum(letters.size(p) for p in range(partitions))
        return cls(letters, wanted, newest, now_ms, total)

    def pages(self, seen: Callable[[int], None] = lambda _: None) -> Iterator[list[DeadLetter]]:
        """Pages of fitting letters, oldest first; `seen` is told how many were looked at."""
        wanted = self.wanted
        from_ms = 0 if wanted.newer_than is None else self.now_ms - to_ms(wanted.newer_than)
        until = None if wanted.older_than is None else self.now_ms - to_ms(wanted.older_than)
        left = wanted.limit
        for partition, last in self.newest.items():
            for page in self.letters.pages(partition, last, from_ms, until):
                fitting = [letter for letter in page if wanted.fits(letter)][:left]
                seen(len(page))
                if fitting:
                    yield fitting
                if left is not None:
                    left -= len(fitting)
                    if left <= 0:
                        return


def shown(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """A letter for people and programs; only `whole` has the text of a whole envelope."""
    document: dict[str, Any] = {
        "id": letter.id,
        "partition": letter.partition,
        "kind": letter.kind,
        "at": iso(letter.at_ms),
        "user": letter.user_id,
        "attributes": [name for name, _, _ in letter.values],
        "values": {name: orjson.loads(value) for name, value, _ in letter.values},
        "ranks": {
            name: {
                "event_at": iso(event),
                "arrived_at": iso(arrived),
                "arrived_sequence": sequence,
                "place": place,
            }
            for (name, _, _), (event, arrived, sequence, place) in zip(
                letter.values, letter.ranks, strict=True
            )
        },
        "reason": letter.reason,
        "request": letter.request,
        "entry": letter.entry,
        "changes": letter.changes,
    }
    if whole and letter.envelope is not None:
        document["envelope"] = letter.envelope.decode("utf-8", "replace")
    return document


def summary(pages: Iterator[list[DeadLetter]]) -> list[dict[str, Any]]:
    """Letters by kind and reason, the most frequent first; rare reasons beyond 1,000 together."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for letter in (letter for page in pages for letter in page):
        name = (letter.kind, letter.reason)
        if name not in groups and len(groups) >= GROUPS:
            name = (letter.kind, OTHER_REASONS)
        group = groups.setdefault(
            name,
            {"kind": name[0], "reason": name[1], "letters": 0, "changes": 0}
            | {"first_at": iso(letter.at_ms), "last_at": ""},
        )
        group["letters"] += 1
        group["changes"] += letter.changes
        group["last_at"] = iso(letter.at_ms)
    return sorted(groups.values(), key=lambda group: -group["letters"])


@dataclass(slots=True)
class Replayed:
    """What a replay did. `due`: values to be sent; `accepted`: changes accepted anew; `deletions`:
    profiles that Braze is asked again to delete; `no_room`: letters that stay, see `Room`."""

    letters: int = 0
    due: int = 0
    accepted: int = 0
    deletions: int = 0
    gone: int = 0
    no_room: int = 0
    inbox_is_full: bool = False


class Room:
    """For which changes over the limit of undeclared audiences there is room by now: those of keys
    that are known, and of as many others as the limit leaves. Any other would die again."""

    def __init__(self, undeclared: Undeclared, limit: int) -> None:
        self._undeclared = undeclared
        self.limit = limit
        self._new: dict[int, set[str]] = {}
        self._left: dict[int, int] = {}
        self.lacking: set[str] = set()

    def of(self, partition: int, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those of the letters, of the kind `change`, for which there is room."""
        if partition not in self._left:
            self._left[partition] = self.limit - self._undeclared.count(partition)
            self._new[partition] = set()
        names = sorted({name for letter in letters for name, _, _ in letter.values})
        known = self._undeclared.known(partition, names) | self._new[partition]
        for name in names:
            if name in known:
                continue
            if len(self._new[partition]) < self._left[partition]:
                self._new[partition].add(name)
                known.add(name)
            else:
                self.lacking.add(name)
        return [it for it in letters if all(name in known for name, _, _ in it.values)]


class Replay:
    """Replays letters, each kind in its way; see worker/stores/operators.py for what is counted.
    `done` is what it has done so far, also when it was interrupted."""

    def __init__(
        self, letters: DeadLetters, operators: Operators, by: str, high_water: int, room: Room
    ) -> None:
        self.done = Replayed()
        self._room = room
        self._letters = letters
        self._operators = operators
        self._by = by
        self._high_water = high_water

    def run(self, pages: Iterator[list[DeadLetter]]) -> Replayed:
        """Replay page by page; ends early if the inbox is full. Stopped midway, it may be
        started again: what was replayed is no letter any more."""
        try:
            for page in pages:
                for partition, kind, ours in _alike(page):
                    self._some(partition, kind, ours)
        except InboxIsFull:
            self.done.inbox_is_full = True
        return self.done

    def _some(self, partition: int, kind: str, letters: list[DeadLetter]) -> None:
        replayed = self.done
        if kind in ("object", "deletion"):
            found, due = self._operators.replay(partition, [it.id for it in letters], self._by)
            replayed.letters += found
            replayed.due += due
            replayed.deletions += found if kind == "deletion" else 0
            replayed.gone += len(letters) - found
        elif kind == "change":
            fitting = self._room.of(partition, letters)
            replayed.no_room += len(letters) - len(fitting)
            self._changes(partition, fitting)
        else:
            for letter in letters:
                if self._operators.requeue(
                    partition, [letter.id], self._by, high_water=self._high_water
                ):
                    replayed.letters += 1
                    replayed.accepted += letter.changes
                else:
                    replayed.gone += 1

    def _changes(self, partition: int, letters: list[DeadLetter]) -> None:
        replayed, before = self.done, len(letters)
        while letters:
            envelope = envelope_of(letters)
            if self._operators.requeue(
                partition,
                [letter.id for letter in letters],
                self._by,
                envelope=envelope.model_dump_json(by_alias=True).encode(),
                changes=len(envelope.changes),
                high_water=self._high_water,
            ):
                replayed.letters += len(letters)
                replayed.accepted += len(envelope.changes)
                break
            still = [self._letters.one(partition, letter.id) for letter in letters]
            letters = [letter for letter in still if letter is not None]
        replayed.gone += before - len(letters)


class Drop:
    """Throws letters away; `dropped` is how many so far, also when it was interrupted."""

    def __init__(self, operators: Operators, by: str) -> None:
        self._operators = operators
        self._by = by
        self.dropped = 0

    def run(self, pages: Iterator[list[DeadLetter]], done: Callable[[int], None]) -> None:
        """Drop page by page; `done` is told after each how many were in it."""
        for page in pages:
            for partition, _, ours in _alike(page, by_kind=False):
                ids = [letter.id for letter in ours]
                self.dropped += self._operators.drop(partition, ids, self._by)
            done(len(page))


def envelope_of(letters: Sequence[DeadLetter]) -> Changes:
    """One envelope of single changes, each with the rank that it had.

    Ordered by rank, because a change without a place of its own takes the one in the envelope.
    Beside times and place a rank has an arrival sequence, which an envelope cannot carry: it
    only tells apart what arrived in the same millisecond.
    """
    ranked = [
        (rank, letter.user_id or "", name, orjson.loads(text))
        for letter in letters
        for (name, text, _), rank in zip(letter.values, letter.ranks, strict=True)
    ]
    changes = [
        Change(
            user_id=user,
            attribute=name,
            value=value,
            event_at=event,
            arrived_at=arrived,
            place=place,
            source="replay",
            # A letter does not say; only a membership is sure to be a boolean.
            change_class=(
                ChangeClass.AUDIENCE if isinstance(value, bool) else ChangeClass.COMPUTED_TRAIT
            ),
        )
        for (event, arrived, _, place), user, name, value in sorted(ranked, key=itemgetter(0))
    ]
    return Changes(id=f"replay:{letters[0].partition}:{letters[0].id}", changes=changes)


def _alike(
    page: list[DeadLetter], *, by_kind: bool = True
) -> Iterator[tuple[int, str, list[DeadLetter]]]:
    """Letters that one script can take: one partition, one kind, not too many."""
    groups: dict[tuple[int, str], list[DeadLetter]] = {}
    for letter in page:
        groups.setdefault((letter.partition, letter.kind if by_kind else ""), []).append(letter)
    for (partition, kind), ours in groups.items():
        for start in range(0, len(ours), AT_ONCE):
            yield partition, kind, ours[start : start + AT_ONCE]
