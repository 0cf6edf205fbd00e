"""audiences.yaml while the workers run: taken up when it changes, kept as it was when it is broken.

Part of each tick. The worker that ticks looks at its own file; one that says something new is
checked and published for all. Nothing is published while the file says what it said before, so a
worker with an older file does not undo what another has published. What the server has forgotten,
all of it or the last moments before a failover, is published again by whoever published it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.audiences.registry import WrongRegistry
from worker.audiences.registry_file import Reading, RegistryFile
from worker.pipeline import facts
from worker.pipeline.rules import Rules, Work
from worker.stores.publication import (
    ChangedMeanwhile,
    Concerned,
    NameHeld,
    Publication,
    RetiredKey,
    Taken,
)

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """What sending costs: users in a request, and requests in a second."""

    objects: int = 75
    rate: float = 100.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that could not be published yet. It waits for a name that a retired key holds while
    `instead_of` is published: whatever somebody else publishes counts more. None: others were
    faster each time, and it is tried again whatever that was."""

    reading: Reading
    instead_of: str | None = None


@dataclass(slots=True)
class Reload:
    """`host` says whose file it is. Work that follows from new rules is told with its cost."""

    file: RegistryFile
    publication: Publication
    record: Callable[[facts.Fact], None]
    host: str
    partitions: int = 1
    pace: Pace = Pace()
    # As it was once this process had published.
    _generation: int = field(default=0, init=False)
    _waits: _Waiting | None = field(default=None, init=False)

    def begin(self) -> None:
        """Publish the file of a worker that starts. Raises WrongRegistry: then it may not start.

        It starts with one that has to wait for a name: somebody must send what that waits for.
        """
        reading = self.file.last or self.file.changed()
        assert reading is not None, "the first look at a file always finds something"
        try:
            self._publish(reading)
        except RetiredKey as error:
            raise WrongRegistry(str(error)) from None
        except NameHeld as error:
            self._say_broken(error)
        self._catch_up()

    def look(self) -> None:
        """Take up what is new: of the file, and of what others have published or ordered."""
        try:
            reading = self.file.changed()
            if reading is None and self._is_forgotten():
                reading = self.file.last
            reading = reading or self._waiting()
            if reading is not None:
                self._publish(reading)
        except WrongRegistry as error:
            self._waits = None
            self._say_broken(error)
        except (RetiredKey, NameHeld) as error:
            self._say_broken(error)
        self._catch_up()

    def _publish(self, reading: Reading) -> None:
        self._waits, before = None, self.publication.read().digest
        try:
            self.publication.publish(reading.registry, reading.text, self.host)
        except NameHeld:
            self._waits = _Waiting(reading, before)
            raise
        except ChangedMeanwhile:
            self._waits = _Waiting(reading)
        else:
            self._generation = self.publication.generation()

    def _waiting(self) -> Reading | None:
        waits = self._waits
        if waits and waits.instead_of not in (None, self.publication.read().digest):
            waits = self._waits = None
        return waits.reading if waits else None

    def _say_broken(self, error: Exception) -> None:
        if self.publication.note_fault(str(error), self.host):
            first, *others = str(error).splitlines()
            self.record(facts.RegistryBroken(reason=first[:300], more=len(others), host=self.host))

    def _is_forgotten(self) -> bool:
        generation = self.publication.generation()
        return not generation or generation < self._generation

    def _catch_up(self) -> None:
        taken = [
            found
            for partition in range(self.partitions)
            if (found := self.publication.catch_up(partition)) is not None
        ]
        if not taken:
            return
        shadowed = {name for found in taken for name in found.shadowed}
        self.record(_published(taken[0], self.publication.read().by, shadowed))
        for work, name, users in _together(taken):
            self.record(self._begun(work, name, users, taken[0]))

    def _begun(self, work: Work, name: str, users: int, taken: Taken) -> facts.SweepBegun:
        sends = work is not Work.RESCHEDULE
        requests = -(-users // self.pace.objects) if sends else 0
        was = taken.before.rule(name).attribute or name
        renamed = work is Work.RESYNC and was != (taken.since.rule(name).attribute or name)
        return facts.SweepBegun(
            work=work,
            audience=name,
            users=users,
            points=users if sends else 0,
            requests=requests,
            seconds=round(requests / self.pace.rate, 1),
            left_behind=was if renamed else "",
        )


def _together(taken: list[Taken]) -> list[tuple[Work, str, int]]:
    """The work of all partitions, each kind for each key once."""
    users: dict[tuple[Work, str], int] = {}
    concerned: list[Concerned] = [one for found in taken for one in found.work]
    for one in concerned:
        users[one.work, one.key] = users.get((one.work, one.key), 0) + one.users
    return [(work, name, count) for (work, name), count in users.items()]


def _published(taken: Taken, by: str, shadowed: set[str]) -> facts.RegistryPublished:
    before, since = taken.before, taken.since
    names = {*before.of, *since.of}
    moved = {name for name in names if before.rule(name).lane != since.rule(name).lane}
    return facts.RegistryPublished(
        version=taken.version,
        replaced=taken.replaced,
        host=by,
        added=_named(_declared(since) - _declared(before)),
        removed=_named(_declared(before) - _declared(since)),
        moved=_named(moved),
        timed=_named({name for name in names - moved if _is_timed(before, since, name)}),
        shadowed=_named(shadowed),
    )


def _declared(rules: Rules) -> set[str]:
    """The keys that the file names; the rules of others remain for what was ordered of them."""
    return {name for name, rule in rules.of.items() if rule.declared}


def _is_timed(before: Rules, since: Rules, name: str) -> bool:
    """Whether a batched key gets other boundaries."""
    if since.rule(name).lane != "b":
        return False
    every = [rules.rule(name).every or rules.lanes.every for rules in (before, since)]
    return every[0] != every[1] or before.lanes.offset != since.lanes.offset


def _named(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
