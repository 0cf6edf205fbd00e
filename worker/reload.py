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
from worker.stores.publication import ChangedMeanwhile, Concerned, Publication, RetiredKey, Taken

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """What sending costs: users in a request, and requests in a second."""

    objects: int = 75
    rate: float = 100.0


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

    def begin(self) -> None:
        """Publish the file of a worker that starts. Raises WrongRegistry: then it may not start."""
        reading = self.file.last or self.file.changed()
        assert reading is not None, "the first look at a file always finds something"
        try:
            self._publish(reading)
        except RetiredKey as error:
            raise WrongRegistry(str(error)) from None
        self._catch_up()

    def look(self) -> None:
        """Take up what is new: of the file, and of what others have published or ordered."""
        try:
            reading = self.file.changed()
            if reading is None and self._is_forgotten():
                reading = self.file.last
            if reading is not None:
                self._publish(reading)
        except (WrongRegistry, RetiredKey) as error:
            if self.publication.note_fault(str(error), self.host):
                first, *others = str(error).splitlines()
                said = facts.RegistryBroken(reason=first[:300], more=len(others), host=self.host)
                self.record(said)
        except ChangedMeanwhile:
            pass  # the next tick finds the file as different as this one did
        self._catch_up()

    def _publish(self, reading: Reading) -> None:
        self.publication.publish(reading.registry, reading.text, self.host)
        self._generation = self.publication.generation()

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
        self.record(_published(taken[0], self.publication.read().by))
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


def _published(taken: Taken, by: str) -> facts.RegistryPublished:
    before, since = taken.before, taken.since
    return facts.RegistryPublished(
        version=taken.version,
        replaced=taken.replaced,
        host=by,
        added=_named(since.of.keys() - before.of.keys()),
        removed=_named(before.of.keys() - since.of.keys()),
        moved=_named({name for name in {*before.of, *since.of} if _moves(before, since, name)}),
    )


def _moves(before: Rules, since: Rules, name: str) -> bool:
    return before.rule(name).lane != since.rule(name).lane


def _named(names: set[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
