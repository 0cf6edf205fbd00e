"""The stores on a real server, with a clock that only the test moves."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgpack
import pytest
from redis import Redis

from worker.audiences.registry import read_registry
from worker.contract import ENVELOPE, Changes, inbox_key, key, ledger_key
from worker.pipeline.ingest import EntryId, Ingested, ingest
from worker.pipeline.outcome import Verdict
from worker.pipeline.rules import LaneTerms, Rule, Rules
from worker.pipeline.schedule import Lane
from worker.stores.allowance import Allowance, AllowancePolicy
from worker.stores.audience_books import AudienceBooks
from worker.stores.dead_letters import DeadLetter, DeadLetters
from worker.stores.deletions import Deleted, Deletions, DeletionTerms
from worker.stores.erasure import Erasure
from worker.stores.forwards import Forwards
from worker.stores.inbox import GROUP, Entry, Inbox
from worker.stores.journal import Journal
from worker.stores.ledger import Balance, Ledger
from worker.stores.memberships import Applied, Claim, Memberships, Settled
from worker.stores.publication import Publication, Taken
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts
from worker.stores.sources import sources
from worker.stores.sweeps import Sweeps
from worker.stores.terms import Terms

START = 1_800_000_000_000  # a multiple of an hour
TERMS = Terms(
    gap=timedelta(seconds=5),
    hold=timedelta(seconds=30),
    lease=timedelta(seconds=30),
    undeclared_limit=100,
)
LANES = (200, 2_000, 10_000, 0)  # linger, max_wait, every, offset
OPEN, REFUSED = 1, 4
LISTS = ("rt:ready", "rt:held", "bt:ready", "bt:held")
# Rules of a registry: (key, (lane, every, exit, enabled)).
BATCHED = ("b", 0, "f", 1)


@dataclass(frozen=True)
class State:
    """One attribute of one user, as the server holds it."""

    value: str
    rank: tuple[int, int, int, int]
    acknowledged: str
    acknowledged_at: int
    flags: int
    since: int
    changed: int
    ambiguous: str
    hold_until: int

    @property
    def is_open(self) -> bool:
        return bool(self.flags & OPEN)

    @property
    def is_refused(self) -> bool:
        return bool(self.flags & REFUSED)


@dataclass
class World:
    """Every store of one partition, and the deeds of producers and workers on them."""

    client: Redis
    terms: Terms = TERMS
    policy: AllowancePolicy = field(default_factory=AllowancePolicy)
    deletion: DeletionTerms = field(default_factory=DeletionTerms)
    takeover_ms: int = 0
    at_once: int = 250
    now: int = START
    requests: int = 0

    # What tests compare with; here because test files cannot import one another.
    State = State
    START = START
    LANES = LANES

    def __post_init__(self) -> None:
        scripts = self.scripts = Scripts(self.client, lambda: self.now)
        self.rulebook = Rulebook(scripts)
        self.publication = Publication(scripts, self.rulebook)
        self.sweeps = Sweeps(scripts, self.terms, self.at_once)
        self.books = AudienceBooks(self.client, self.rulebook)
        self.memberships = Memberships(scripts, self.terms, self.rulebook)
        self.inbox = Inbox(self.client, self.takeover_ms)
        self.allowance = Allowance(scripts, self.policy)
        self.dead_letters = DeadLetters(self.client)
        self.journal = Journal(self.client)
        self.deletions = Deletions(scripts, self.terms, self.deletion)
        self.erasure = Erasure(scripts)
        self.forwards = Forwards(scripts, self.terms.lease)
        self.inbox.prepare(0)
        self.declare()

    def declare(self, *rules: tuple[str, tuple[str, int, str, int]], lanes: Any = LANES) -> None:
        """Publish a registry."""
        of = {name: Rule(*rule) for name, rule in rules}
        self.rulebook.put(0, "test", Rules(LaneTerms(*lanes), of), by="")

    # --- what a producer does

    def change(
        self, user: str, attribute: str, value: Any, at: int | None = None, **more: Any
    ) -> Any:
        """A change; a boolean is a membership unless `class` says otherwise."""
        kind = "audience" if isinstance(value, bool) else "trait"
        made = {"user_id": user, "attribute": attribute, "value": value, "event_at": at}
        return made | {"arrived_at": None, "place": 0, "class": kind} | more

    def append(self, *changes: Any, at: int | None = None) -> str:
        """Append one envelope and count what it holds, as producers do; its entry id."""
        envelope = {"version": 1, "id": "e", "kind": "changes", "changes": changes}
        fields = {"e": json.dumps(envelope), "n": len(changes)}
        id_ = self.client.xadd(inbox_key(0), fields, id=f"{at or self.now}-*")
        self.client.hincrby(ledger_key(0), "accepted", len(changes))
        return id_.decode()

    # --- what a worker does

    def ingested(self, entry: Entry) -> Ingested:
        """An entry as the accept script is given it."""
        envelope = ENVELOPE.validate_json(entry.data)
        assert isinstance(envelope, Changes)
        return ingest(envelope, EntryId.parse(entry.id), 300_000)

    def apply(self, entry: Entry) -> Applied:
        """Fold one entry."""
        ms = EntryId.parse(entry.id).ms
        return self.memberships.accept(0, entry.id, ms, self.ingested(entry))

    def accept(self) -> list[Applied]:
        """Fold everything in the inbox."""
        entries = self.inbox.take_over(0, 1_000) + self.inbox.read(0, 1_000)
        return [self.apply(entry) for entry in entries]

    def say(self, *changes: Any) -> Applied:
        """One envelope, appended and folded."""
        self.append(*changes)
        (applied,) = self.accept()
        return applied

    def forget(self, user: str) -> Deleted:
        """A deletion, appended and applied; letters and journal are gone through, too."""
        self.append_deletion(user)
        entries = self.inbox.read(0, 1_000)
        (deleted,) = (self.deletions.delete(0, entry.id, user) for entry in entries)
        self.erasure.go_on(0, lambda: False)
        return deleted

    def append_deletion(self, user: str) -> str:
        """Append a deletion; its entry id."""
        envelope = {"version": 1, "id": "d", "kind": "deletion", "user_id": user}
        fields = {"e": json.dumps(envelope), "n": 0}
        return str(self.client.xadd(inbox_key(0), fields, id=f"{self.now}-*").decode())

    def later(self, ms: int) -> None:
        """The clock goes on."""
        self.now += ms

    def claim(
        self, lane: Lane = Lane.REALTIME, id_: str | None = None, objects: int = 75, **more: Any
    ) -> Claim:
        """Take what is due."""
        self.requests += 1
        token = more.pop("token", "me")
        return self.memberships.claim(
            0,
            lane,
            id_ or f"c{self.requests}",
            token,
            objects=objects,
            size=more.pop("size", 10**6),
        )

    def settle(
        self, claim: Claim, verdict: Verdict = Verdict.DELIVERED, reason: str = ""
    ) -> Settled:
        """End all users of a claim alike."""
        verdicts = [(place, verdict, reason) for place in range(len(claim.users))]
        return self.memberships.settle(0, claim.id, verdicts, "req")

    def flush(self, verdict: Verdict = Verdict.DELIVERED, lane: Lane = Lane.REALTIME) -> dict:
        """Wait out the linger, claim, settle; what was sent, by user."""
        if lane is Lane.REALTIME:
            self.later(LANES[0])
        self.look(lane)
        claim = self.claim(lane)
        self.settle(claim, verdict)
        return self.sent(claim)

    def look(self, lane: Lane = Lane.REALTIME, full: int = 75, token: str = "me") -> Any:
        """What the lane has; also makes ready whose time has come."""
        return self.memberships.look(0, lane, full, token)

    @staticmethod
    def sent(claim: Claim) -> dict[str, dict[str, str]]:
        """The content of a claim, by user."""
        return {user.user_id: dict(user.values) for user in claim.users}

    # --- what is done to many users

    def publish(self, text: str, by: str = "here") -> Taken | None:
        """Publish this audiences.yaml, and have the partition take it up."""
        self.publication.publish(read_registry(text), text, by)
        return self.publication.catch_up(0)

    def sweep(self, steps: int = 1_000) -> int:
        """Do steps of sweeps until nothing is left, or so many; how many were done."""
        for done in range(steps):
            left = self.sweeps.unfinished(0)
            if not left:
                return done
            assert self.sweeps.step(0, left[0])
        return steps

    def dirty(self) -> dict[str, dict[str, int]]:
        """Attribute -> {user: since}, as the audiences' pending sets say."""
        return {
            name: {
                user.decode(): int(since)
                for user, since in self.client.zrange(
                    key(0, f"dirty:{id_}"), 0, -1, withscores=True
                )
            }
            for id_, name in self.names().items()
        }

    def counted(self, name: str) -> dict[str, int]:
        """A hash of counts by attribute: `sent`, `saved`, `known`, `skipped`."""
        names = self.names()
        found = self.client.hgetall(key(0, name))
        return {names[id_.decode()]: int(n) for id_, n in found.items() if int(n)}

    def assert_exact(self) -> None:
        """The pending sets, members and counts of each audience are what the states say."""
        users, since, known = self.users(), {}, Counter()
        members: Counter[str] = Counter()
        for user, (attributes, _) in users.items():
            for name, x in attributes.items():
                known[name] += 1
                members[name] += x.value == "true"
                if x.since:
                    since.setdefault(name, {})[user] = x.since
        assert {name: of for name, of in self.dirty().items() if of} == since
        assert self.members() == {name: n for name, n in members.items() if n}
        assert self.counted("known") == dict(known)
        balance = self.ledger()
        assert sum(self.counted("sent").values()) == balance.values
        saved = balance.ends["superseded"] + balance.ends["unchanged"]
        assert sum(self.counted("saved").values()) == saved

    # --- what can be seen

    def ledger(self) -> Balance:
        """The books."""
        return Ledger(self.client).balance(1)

    def ends(self) -> dict[str, int]:
        """The ends that were counted at all, and what is pending."""
        balance = self.ledger()
        return {name: n for name, n in balance.ends.items() if n} | (
            {"pending": balance.pending} if balance.pending else {}
        )

    def names(self) -> dict[str, str]:
        """Id -> attribute."""
        return {k.decode(): v.decode() for k, v in self.client.hgetall(key(0, "names")).items()}

    def users(self) -> dict[str, tuple[dict[str, State], str | None]]:
        """Every user's attributes and the claim that owns the user."""
        names, start = self.names(), key(0, "u:")
        owned = self.client.hgetall(key(0, "owned"))
        found = {}
        for name in self.client.keys(start + "*"):
            raw = self.client.hgetall(name)
            user = name.decode().removeprefix(start)
            owner = owned.get(user.encode())
            found[user] = (
                {names[id_.decode()]: _state(packed) for id_, packed in raw.items()},
                msgpack.unpackb(owner)[0] if owner else None,
            )
        return found

    def state(self, user: str, attribute: str) -> State:
        """One attribute of one user."""
        return self.users()[user][0][attribute]

    def lists(self, user: str | None = None) -> dict[str, Any]:
        """List -> {user: score}; of one user: list -> score."""
        every = {
            name: {
                u.decode(): int(at)
                for u, at in self.client.zrange(key(0, name), 0, -1, withscores=True)
            }
            for name in LISTS
        }
        if user is None:
            return every
        return {name: users[user] for name, users in every.items() if user in users}

    def members(self) -> dict[str, int]:
        """Attribute -> users whose membership is counted as true."""
        names = self.names()
        found = self.client.hgetall(key(0, "members"))
        return {names[k.decode()]: int(v) for k, v in found.items() if int(v)}

    def claims(self) -> dict[str, list[Any]]:
        """The records of open claims, unpacked."""
        raw = self.client.hgetall(key(0, "claim"))
        return {k.decode(): msgpack.unpackb(v) for k, v in raw.items()}

    def pending_in_inbox(self) -> int:
        """Changes in the inbox."""
        return sum(int(fields[b"n"]) for _, fields in self.client.xrange(inbox_key(0)))

    def letters(self) -> list[DeadLetter]:
        """All dead letters."""
        return self.dead_letters.read(0)

    def everything(self) -> dict[bytes, Any]:
        """Every key with its content: what a script that fails may not have changed."""
        return {name: self.client.dump(name) for name in sorted(self.client.keys("*"))}

    def deliveries(self) -> list[int]:
        """How often each pending entry has been delivered."""
        found = self.client.xpending_range(inbox_key(0), GROUP, "-", "+", 100)
        return [item["times_delivered"] for item in found]

    def break_accept(self, at: int | None) -> None:
        """Let the accept script fail before it applies its `at`-th user; None mends it."""
        known = self.scripts
        known._known.pop("accept", None)
        if at is None:
            return
        text = sources().on_partition("accept")  # to plant the error in
        begin = "local function apply(i)\n"
        assert begin in text
        planted = f"{begin}  if i == {at} then error({{err = 'ERR planted'}}) end\n"
        known._known["accept"] = self.client.register_script(text.replace(begin, planted))


def _state(packed: bytes) -> State:
    x = msgpack.unpackb(packed)
    x += ["", 0, 0, 0, 0, 0, "", 0][len(x) - 5 :] if len(x) < 13 else []
    return State(
        value=x[0], rank=tuple(x[1:5]), acknowledged=x[5], acknowledged_at=x[6], flags=x[7],
        since=x[8], changed=x[9], ambiguous=x[11], hold_until=x[12],
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(session_server: Any) -> Iterator[Any]:
    """The session's server, not waiting for the disk at each write: durability has other tests."""
    with session_server.client() as client:
        client.config_set("appendfsync", "no")
        yield session_server
        client.config_set("appendfsync", "always")


@pytest.fixture
def make_world(quick: Any) -> Iterator[Callable[..., World]]:
    """Makes an empty world; the last one made counts."""
    with quick.client() as client:

        def make(**more: Any) -> World:
            client.flushall()
            return World(client, **more)

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """An empty world with the usual terms."""
    return make_world()


@pytest.fixture
def differing(world: World) -> Callable[[Iterable[str]], None]:
    """Makes each of these users a member of `vip`."""

    def make(users: Iterable[str]) -> None:
        world.say(*(world.change(user, "vip", True, world.now) for user in users))

    return make
