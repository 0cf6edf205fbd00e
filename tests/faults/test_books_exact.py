"""Story (rules 12, 21): operators and files do what they like while workers are killed under load,
and the numbers of each audience are exact in the end: members, data points, what was saved."""

import signal
import time
from collections import Counter
from collections.abc import Callable
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
KEYS = ("vip", "gold", "left", "nightly", "undeclared")
RETIRED = "closed"
# An innocent envelope is read more often than in real life; sweeps have many steps; the journal
# keeps everything.
TERMS = {"inbox_deliveries": "50", "sweep_users": "5", "journal_bytes": "1000000000"}


class Operators:
    """What people do to a running deployment, drawn by a seed."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment = deployment
        self.chance = Random(seed)
        self.file = deployment.folder / "audiences.yaml"
        client = deployment.client
        scripts = Scripts(client)
        rulebook = Rulebook(scripts)
        self.publication = Publication(scripts, rulebook)
        self.sweeps = Sweeps(scripts, Terms())
        self.books = AudienceBooks(client, rulebook)
        self.write()

    def write(self, *, is_drawn: bool = False) -> None:
        """The file says something else, or what it says usually."""
        draw = self.chance.choice if is_drawn else lambda options: options[0]
        self.file.write_text(
            "lanes: {realtime: {linger: 10ms, max_wait: 50ms}, batched: {every: 1s}}\n"
            "audiences:\n"
            f"  - {{key: vip, cadence: {draw(['realtime', 'batched'])}}}\n"
            f"  - {{key: gold, cadence: realtime, attribute: {draw(['gold', 'seg_gold'])}}}\n"
            f"  - {{key: left, cadence: realtime, on_exit: {draw(['false', 'null'])}}}\n"
            f"  - {{key: nightly, cadence: batched, batched: {{every: {draw(['1s', '2s'])}}}}}\n"
        )

    def do_something(self) -> None:
        """One deed."""
        some = self.chance.choice(KEYS)
        deeds: list[Callable[[], object]] = [
            lambda: self.write(is_drawn=True),
            lambda: self.sweeps.flush(0, some, "me"),
            lambda: self.sweeps.resync(0, some, "me"),
            lambda: self.publication.disable(some, "me"),
            lambda: self.publication.enable(some),
        ]
        self.chance.choice(deeds)()

    def go_home(self) -> None:
        """Everything is as it is usually."""
        for name in KEYS:
            self.publication.enable(name)
        self.write()

    def is_sweeping(self) -> bool:
        """A sweep is in the middle."""
        return any(sweep.users > 0 for sweep in self.sweeps.unfinished(0))

    def is_over(self) -> bool:
        """Nothing waits, and what is published is taken up and swept."""
        registry = self.deployment.client.hget(key(0, "meta"), "registry") or b""
        return (
            self.publication.read().text == self.file.read_text()
            and registry.decode() == self.publication.version()
            and not self.sweeps.unfinished(0)
            and self.deployment.is_delivered()
        )

    def read(self) -> dict[str, AudienceBook]:
        """The numbers of each audience."""
        return self.books.read(1, int(time.time() * 1000))


def of_whom(chance: Random) -> tuple[str, str]:
    """Two hundred users, six audiences."""
    return f"u{chance.randrange(200)}", chance.choice((*KEYS, RETIRED))


def live_through(deployment: Deployment, start: Start, kills: int) -> None:
    """Two workers; each in turn is killed, every other time in the middle of a sweep."""
    operators = Operators(deployment, seed=kills)
    deployment.sandbox.configure(latency=[0.0, 0.06])
    start(beat=True)
    workers = [start(f"w{n}", **TERMS) for n in range(2)]
    eventually(lambda: deployment.client.zcard("ps1:{a}:workers") == 2, 20, "two workers")
    interrupted = 0
    with Traffic(deployment, of_whom=of_whom, size=30, every=0.04):
        for n in range(kills):
            at = time.monotonic() + operators.chance.uniform(0.3, 1.5)
            operators.do_something()
            eventually(lambda at=at: time.monotonic() > at, 5)
            if n == kills // 2:
                operators.publication.retire(RETIRED, "false", "me")
            if n % 2:
                operators.sweeps.resync(0, None, "me")
                eventually(operators.is_sweeping, 20, "a sweep in the middle")
            interrupted += operators.is_sweeping()
            workers[0].end(signal.SIGKILL)
            workers = [workers[1], start(f"w{n + 2}", **TERMS)]
    operators.go_home()
    eventually(operators.is_over, 60, "the end")
    print(f"{kills} kills, {interrupted} of them in the middle of a sweep")
    assert interrupted
    assert_exact(deployment, operators)


def assert_exact(deployment: Deployment, operators: Operators) -> None:
    """Each number is what those who do not know it say: the producer, Braze, the ledger."""
    retired = {user: values.pop(RETIRED, None) for user, values in deployment.meant.items()}
    deployment.assert_right()
    deployment.assert_balanced()
    books, ledger = operators.read(), deployment.ledger()
    for name in KEYS:
        said = [values[name] for values in deployment.meant.values() if name in values]
        assert (books[name].members, books[name].known) == (sum(said), len(said)), name
    profiles = deployment.sandbox.profiles()
    assert all(profiles[user].get(RETIRED) in (False, None) for user in retired if user in profiles)
    assert books[RETIRED].members == 0
    assert books[RETIRED].skipped == ledger["skipped"] > 0
    assert [book.pending for book in books.values()] == [0] * len(books)
    assert not deployment.client.keys(key(0, "dirty:*"))
    assert sum(book.sent for book in books.values()) == ledger["values"]
    saved = ledger["superseded"] + ledger["unchanged"]
    assert sum(book.saved for book in books.values()) == saved
    assert ledger["dead"] == 0
    assert_sent(deployment, {name: book.sent for name, book in books.items()})


def assert_sent(deployment: Deployment, sent: dict[str, int]) -> None:
    """Braze got what was acknowledged, and nothing more than what ended as unknown."""
    received = Counter()
    for attribute, cost in deployment.sandbox.report()["attributes"].items():
        received[attribute.removeprefix("seg_")] += cost["values"]
    unknown = deployment.unknown_values()
    unexplained = {
        name: (received[name], of, unknown[name])
        for name, of in sent.items()
        if not 0 <= received[name] - of <= unknown[name]
    }
    assert not unexplained, "received, acknowledged, of unknown end"
    print(f"{sum(received.values()) - sum(sent.values())} values sent twice by kills")


def test_rule_12_numbers_are_exact_after_kills(deployment: Deployment, start: Start) -> None:
    """Four kills, two of them in the middle of a sweep."""
    live_through(deployment, start, kills=4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rule_12_numbers_are_exact_after_sixty_kills(deployment: Deployment, start: Start) -> None:
    """The same, with sixty."""
    live_through(deployment, start, kills=60)
