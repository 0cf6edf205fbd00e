"""Story (rule 21): audiences.yaml changes again and again under load, and two workers see it at
different moments. Windows are kept, nothing is lost, nothing is sent twice."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.integration.flow.support import Deployment, Part, Traffic, eventually
from worker.contract import key
from worker.stores.audience_books import AudienceBook, AudienceBooks
from worker.stores.publication import Publication
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts
from worker.stores.sweeps import Sweeps
from worker.stores.terms import Terms

Start = Callable[..., Part]
WINDOWED = ("nightly", "weekly")
KEYS = (*WINDOWED, "vip", "gold", "left")
# A time-out of a busy machine would be a value sent twice, which no change of a rule explains.
PATIENT = {
    "batched_offset": "0s",
    "braze_request_timeout": "3s",
    "claim_lease": "6s",
    "ambiguous_hold": "4s",
}


def audiences(every: str, *, vip: str = "realtime", gold: str = "gold", left: str = "null") -> str:
    """The file: two audiences that stay batched, one that moves, one renamed, one whose exit
    changes."""
    return (
        f"lanes: {{realtime: {{linger: 10ms, max_wait: 50ms}}, batched: {{every: {every}}}}}\n"
        "audiences:\n"
        "  - {key: nightly, cadence: batched}\n"
        "  - {key: weekly, cadence: batched}\n"
        f"  - {{key: vip, cadence: {vip}}}\n"
        f"  - {{key: gold, cadence: realtime, attribute: {gold}}}\n"
        f"  - {{key: left, cadence: realtime, on_exit: {left}}}\n"
    )


# What the file says, one after the other.
CHANGES: tuple[dict[str, str], ...] = (
    {"vip": "batched"},
    {"vip": "batched", "gold": "seg_gold"},
    {"vip": "realtime", "gold": "seg_gold"},
    {"vip": "realtime", "gold": "seg_gold", "left": "false"},
)


class Story:
    """Two workers with their files, which say in turn what CHANGES says."""

    def __init__(self, deployment: Deployment, files: int, every: int) -> None:
        self.deployment = deployment
        self.every = every
        self.files = [deployment.folder / f"audiences-{n}.yaml" for n in range(files)]
        self.write()
        client = deployment.client
        scripts = Scripts(client)
        rulebook = Rulebook(scripts)
        self.books = AudienceBooks(client, rulebook)
        self.publication = Publication(scripts, rulebook)
        self.sweeps = Sweeps(scripts, Terms())

    def file_of(self, worker: int) -> Path:
        """The file that a worker looks at: its own, or the one for all."""
        return self.files[min(worker, len(self.files) - 1)]

    def write(self, **said: str) -> None:
        """All files say this."""
        for file in self.files:
            file.write_text(audiences(f"{self.every}s", **said))

    def go_through_the_changes(self, apart: float, between: float) -> None:
        """Each file says it some time after the one before, and then it is lived with."""
        for said in CHANGES:
            before = self.publication.version()
            for file in self.files:
                file.write_text(audiences(f"{self.every}s", **said))
                pass_time(apart)
            eventually(lambda before=before: self.publication.version() != before, 10, "it")
            pass_time(between)

    def is_over(self) -> bool:
        """Nothing waits, not even for a boundary, and no sweep is left."""
        return self.deployment.is_delivered() and not self.sweeps.unfinished(0)

    # --- what must hold

    def assert_right(self) -> None:
        """Each profile has, under the last names, what was said last."""
        profiles = self.deployment.sandbox.profiles()
        names = {"gold": "seg_gold"}
        for user, values in self.deployment.meant.items():
            found = profiles[user]
            expected = {names.get(name, name): value for name, value in values.items()}
            assert {name: found.get(name) for name in expected} == expected, user

    def assert_windows_kept(self, users: Iterator[str]) -> None:
        """Who is in batched audiences only has at most one object in each window."""
        for user in users:
            profile = self.deployment.sandbox._call("GET", f"profiles/{user}")
            moments = {at for past in profile["history"].values() for at, _ in past}
            assert len(moments) == profile["objects"], "the history is whole"
            windows = sorted(int(at // self.every) for at in moments)
            assert len(windows) == len(set(windows)), (user, windows)

    def assert_books(self) -> None:
        """Members, who waits, and what was sent and saved, to the last one; the ledger, too."""
        self.deployment.assert_balanced()
        books, meant, ledger = self.read(), self.deployment.meant, self.deployment.ledger()
        for name in KEYS:
            said = [values[name] for values in meant.values() if name in values]
            book = books[name]
            assert (book.members, book.known, book.pending) == (sum(said), len(said), 0), name
        report = self.deployment.sandbox.report()
        assert sum(book.sent for book in books.values()) == ledger["values"] == report["values"]
        assert sum(book.saved for book in books.values()) == (
            ledger["superseded"] + ledger["unchanged"]
        )
        # What was in flight while its rule changed is sent once more.
        assert report["values_unchanged"] <= ledger["resent"]
        assert not self.deployment.client.keys(key(0, "dirty:*"))

    def read(self) -> dict[str, AudienceBook]:
        """The numbers of each audience."""
        return self.books.read(1, int(time.time() * 1000))


def pass_time(seconds: float) -> None:
    """Let the load go on for a while."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, seconds + 5)


def of_whom(chance: Random) -> tuple[str, str]:
    """A third of the changes is of users who are in batched audiences only."""
    if chance.random() < 0.3:
        return f"w{chance.randrange(60)}", chance.choice(WINDOWED)
    return f"u{chance.randrange(200)}", chance.choice(KEYS)


def load(deployment: Deployment) -> Traffic:
    """Steady changes, as long as the story lasts."""
    return Traffic(deployment, of_whom=of_whom, size=25, every=0.05)


@pytest.mark.parametrize("files", [2, 1], ids=["a file each", "one file"])
def test_rule_21_the_file_changes_under_load(deployment: Deployment, files: int) -> None:
    """Two workers in this process, windows of a second."""
    story = Story(deployment, files, every=1)
    workers = [deployment.worker(audiences=story.file_of(n), **PATIENT) for n in range(2)]
    with deployment.threads(*(worker.step for worker in workers)):
        with load(deployment):
            pass_time(0.5)
            story.go_through_the_changes(apart=0.3, between=0.7)
        eventually(story.is_over, 15, "the end")
    story.assert_right()
    story.assert_books()
    story.assert_windows_kept(f"w{n}" for n in range(60))
    facts = [fact for worker in workers for fact in worker.facts_named("registry_published")]
    assert len({fact.version.rpartition("-")[0] for fact in facts}) == len(CHANGES)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("files", [2, 1], ids=["a file each", "one file"])
def test_rule_21_the_file_changes_under_load_of_processes(
    deployment: Deployment, start: Start, files: int
) -> None:
    """Two worker processes and the beat, windows of five seconds."""
    story = Story(deployment, files, every=5)
    for n in range(2):
        start(f"w{n}", audiences=str(story.file_of(n)), **PATIENT)
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    start(beat=True)
    with load(deployment):
        pass_time(5)
        story.go_through_the_changes(apart=2.5, between=7)
    eventually(story.is_over, 30, "the end")
    story.assert_right()
    story.assert_books()
    story.assert_windows_kept(f"w{n}" for n in range(60))
