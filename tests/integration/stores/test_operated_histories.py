"""Law (rules 12, 21): whatever operators and files do in between, the books of each audience are
exact, and in the end Braze holds under each name what was last said.

Histories are drawn by a seed. A write to Braze is taken, refused for now, or of unknown end: then
it lands at once or never. Workers are killed: their claims end by the lease.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from worker.pipeline.outcome import Verdict
from worker.pipeline.rules import LaneTerms, Rule, Rules
from worker.pipeline.schedule import Lane
from worker.stores.publication import RetiredKey

USERS = [f"u{n}" for n in range(6)]
KEYS = ["a", "b", "c", "undeclared"]
LINGER, EVERY, LEASE = 200, 10_000, 30_000


class History:
    """One deployment, and what Braze holds of it."""

    def __init__(self, world: Any, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.braze: dict[tuple[str, str], str] = {}
        self.generation = 0
        self.published()

    def rules(self) -> Rules:
        """A registry as somebody might write it."""
        draw = self.chance
        of = {
            key: Rule(
                lane=draw.choice("rb"),
                every=draw.choice([0, 5_000]),
                exit=draw.choice("ffn"),
                enabled=draw.choice([1, 1, 1, 0]),
                attribute=draw.choice(["", "", f"seg_{key}"]),
            )
            for key in KEYS[:3]
            if draw.random() < 0.8
        }
        return Rules(LaneTerms(LINGER, 2_000, EVERY, draw.choice([0, 3_000])), of)

    def published(self, rules: Rules | None = None) -> None:
        """Another registry is taken up."""
        self.generation += 1
        rules = rules or self.rules()
        packed = self.world.publication
        text = json.dumps([rules.lanes, rules.of])
        version = packed.read().generation
        assert packed._publish(version, f"d{self.generation}", text, "", "here", "", "")
        packed.catch_up(0)

    def step(self) -> None:
        """Something happens."""
        draw = self.chance
        what = draw.choices(
            [self.say, self.request, self.wait, self.published, self.order, self.ask, self.sweep,
             self.void, self.retire],
            [30, 30, 15, 3, 3, 4, 10, 5, 0.3],
        )[0]  # fmt: skip
        what()

    def say(self) -> None:
        """A few changes come, some of them late."""
        draw, world = self.chance, self.world
        world.say(
            *(
                world.change(
                    draw.choice(USERS), draw.choice(KEYS), draw.random() < 0.5,
                    world.now - draw.choice([0, 0, 5_000]), place=n,
                )
                for n in range(draw.randint(1, 4))
            )
        )  # fmt: skip

    def request(self, *, is_fine: bool = False) -> None:
        """A worker claims and sends; it may be killed before it settles."""
        draw, world = self.chance, self.world
        lane = draw.choice(list(Lane))
        world.look(lane)
        claim = world.claim(lane, objects=draw.choice([1, 3, 75]))
        if not claim.users:
            return
        if draw.random() < 0.3 and not is_fine:
            self.between(claim)
        else:
            self.end(claim, is_fine)

    def between(self, claim: Any) -> None:
        """Things happen while a request is under way."""
        for _ in range(self.chance.randint(1, 3)):
            self.chance.choice([self.say, self.published, self.ask, self.sweep, self.order])()
        self.end(claim, False)

    def end(self, claim: Any, is_fine: bool) -> None:
        """Braze answers, or does not; or the worker is gone and nobody settles."""
        draw, world, verdicts = self.chance, self.world, []
        for place, user in enumerate(claim.users):
            verdict = draw.choices(list(Verdict), [6, 1, 1, 1])[0]
            verdict = Verdict.DELIVERED if is_fine else verdict
            if verdict is Verdict.DELIVERED or (verdict is Verdict.UNKNOWN and draw.random() < 0.5):
                for name, value in user.values:
                    self.braze[user.user_id, name] = value
            verdicts.append((place, verdict, ""))
        was_killed = draw.random() < 0.1 and not is_fine
        if was_killed:
            return
        world.memberships.settle(0, claim.id, verdicts)

    def void(self) -> None:
        """Claims of those who were killed end with their lease."""
        for claim in self.world.memberships.expired_claims(0, self.world.now):
            self.world.memberships.void(0, claim)

    def wait(self, ms: int | None = None) -> None:
        """Time passes."""
        self.world.later(ms or self.chance.choice([1, 200, 2_000, 5_000, 10_000, 30_000]))

    def order(self) -> None:
        """An operator disables or enables a key."""
        key = self.chance.choice(KEYS)
        try:
            if self.chance.random() < 0.5:
                self.world.publication.disable(key, "me")
            else:
                self.world.publication.enable(key)
        except RetiredKey:
            return
        self.world.publication.catch_up(0)

    def retire(self) -> None:
        """An operator retires a key."""
        try:
            value = self.chance.choice(["false", "null"])
            self.world.publication.retire(self.chance.choice(KEYS), value, "me")
        except RetiredKey:
            return
        self.world.publication.catch_up(0)

    def ask(self) -> None:
        """An operator has a key, or everything, flushed or sent again."""
        if self.chance.random() < 0.5:
            self.world.sweeps.flush(0, self.chance.choice(KEYS), "me")
        else:
            self.world.sweeps.resync(0, self.chance.choice([*KEYS, None]), "me")

    def sweep(self) -> None:
        """A worker does a step or two."""
        self.world.sweep(self.chance.randint(1, 2))

    # --- what must hold

    def assert_books(self) -> None:
        """Each audience's numbers are exact, and the ledger balances."""
        world = self.world
        world.assert_exact()
        users, names = world.users(), world.names()
        pending = sum(x.is_open for attributes, _ in users.values() for x in attributes.values())
        for record in world.claims().values():
            for user, values in (item for item in record if item):
                for id_, _, *rank, was_open, _entry in values:
                    now = users[user][0][names[id_]]
                    pending += was_open == 1 and tuple(rank) != now.rank
        assert world.ledger().pending == pending

    def finish(self) -> None:
        """Everything is enabled, swept and sent."""
        world = self.world
        for key in KEYS:
            try:
                world.publication.enable(key)
            except RetiredKey:
                continue
        rules = self.rules()
        self.published(
            Rules(rules.lanes, {key: one._replace(enabled=1) for key, one in rules.of.items()})
        )
        world.sweep()
        self.wait(LEASE)
        self.void()
        for _ in range(40):
            self.wait(EVERY)
            for lane in Lane:
                world.look(lane, token="end")
                claim = world.claim(lane, token="end")
                if claim.users:
                    self.end(claim, True)
            world.client.delete("ps1:{0}:gather:r", "ps1:{0}:gather:b")

    def assert_right(self) -> None:
        """Braze holds what was last said, under the name and in the way of the last rules."""
        rules = self.world.rulebook.read(0).rules
        for user, (attributes, owner) in self.world.users().items():
            assert owner is None
            for key, x in attributes.items():
                if x.is_refused:
                    continue
                rule = rules.rule(key)
                wire = "null" if x.value == "false" and rule.exit == "n" else x.value
                assert x.acknowledged == wire, (user, key)
                assert self.braze[user, rule.attribute or key] == wire, (user, key)
                assert not rule.retired or x.value == rule.retired
        assert self.world.lists() == {name: {} for name in self.world.lists()}


@pytest.mark.parametrize("seed", range(20))
def test_rule_21_every_operated_history_ends_right(
    make_world: Callable[..., Any], seed: int
) -> None:
    """After any history the numbers are exact and Braze holds the right values."""
    history = History(make_world(at_once=3), seed)
    for _ in range(100):
        history.step()
        history.assert_books()
    history.finish()
    history.assert_books()
    history.assert_right()
