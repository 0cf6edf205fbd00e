"""The simulated space: what is computed, and the life of every person in true order.

`Space` walks each person's own clock forward and keeps the value that holds after each step,
so the truth is known before a line exists. What becomes of the lines later (order, repetition,
clocks of senders) cannot change it. Times are milliseconds since 1970, UTC.
"""

from dataclasses import dataclass, replace
from itertools import count
from typing import Literal, TypeAlias

from sandbox.engage.dice import Dice
from sandbox.engage.people import Person

Scalar: TypeAlias = bool | int | float | str
Truth: TypeAlias = dict[str, dict[str, Scalar]]

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_740_787_200_000
"""2025-03-01T00:00Z: nobody is known before."""
END = 1_766_188_800_000
"""2025-12-20T00:00Z: lives converge towards it; late arrivals end within the year."""


@dataclass(frozen=True, slots=True)
class Computation:
    """Something the space computes for its people."""

    key: str
    id: str
    kind: Literal["audience", "journey_step", "trait", "computed_trait"]
    value: Literal["membership", "number", "text", "flag"] = "membership"
    cadence: Literal["realtime", "batched"] = "realtime"
    declared: bool = True
    """Named in audiences.yaml. One is left out, as happens in life."""


COMPUTATIONS = (
    Computation("vip", "aud_1", "audience"),
    Computation("cart_abandoner", "aud_2", "audience"),
    Computation("newsletter_reader", "aud_3", "audience"),
    Computation("trial_user", "aud_4", "audience"),
    Computation("beta_tester", "aud_5", "audience", declared=False),
    Computation("lapsed_30d", "aud_6", "audience", cadence="batched"),
    Computation("dormant_90d", "aud_7", "audience", cadence="batched"),
    Computation("big_spender_365d", "aud_8", "audience", cadence="batched"),
    Computation("j_o_welcome_step_2", "jou_1", "journey_step"),
    Computation("spend_180", "tra_1", "trait", "number"),
    Computation("favourite_category", "tra_2", "computed_trait", "text"),
    Computation("is_subscriber", "tra_3", "computed_trait", "flag"),
)

CATEGORIES = ("Shoes", "Home & Garden", "Bücher", "日用品", 'TV 55"', "Games", "true", "12")
"""Values of the text trait; the last two must stay text."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one message says: at `at`, this person's value became (or still was) `value`."""

    person: Person
    computation: Computation
    value: Scalar
    at: int
    arrival: int
    place: int
    """When its line reaches the file, which need not be when Segment received it."""
    ingredient: str
    exact: bool = False
    """The arrival decides between equals, so the line has to carry it."""
    repeatable: bool = True
    """False: the line's place decides, so another copy further down would mean something."""
    pair: int | None = None
    """Two statements of one pair keep their order in the file."""


class Life:
    """One person's clock and the values that hold now."""

    def __init__(self, begin: int) -> None:
        self.clock = begin
        self.values: dict[str, Scalar] = {}

    def later(self, dice: Dice) -> int:
        """The next moment: at least 1 ms on, and never past `END` however often it is asked."""
        self.clock += 1 + int(dice.random() * max(0, END - self.clock) / 16)
        return self.clock


class Space:
    """Everybody's life, told as statements; `truth` holds what each profile must end with."""

    def __init__(self, dice: Dice, people: list[Person]) -> None:
        self._dice = dice
        self._people = people
        self._lives: dict[str, Life] = {}
        self._pairs = count()

    @property
    def truth(self) -> Truth:
        """Final value per user and attribute, of everybody about whom anything was said."""
        return {id_: dict(life.values) for id_, life in self._lives.items() if life.values}

    def live(self, statements: int) -> list[Statement]:
        """Exactly that many statements: one about each person, then whatever happens."""
        told: list[Statement] = []
        for person in self._people[:statements]:
            self._lives[person.id] = Life(START + self._dice.below(120 * DAY))
            told.append(self._change(person))
        while len(told) < statements:
            told += self._episode(statements - len(told))
        return told

    def say_untimed(self, person: Person) -> Statement:
        """The one statement about somebody, to be sent without any time.

        Its time is that of the import, which would beat everything else said about them.
        """
        self._lives[person.id] = Life(START)
        place = START + self._dice.below(END - START)
        return self._state(person, self._some_computation(person), place, "untimed")

    def _episode(self, room: int) -> list[Statement]:
        dice = self._dice
        person = self._people[int(dice.random() ** 1.6 * len(self._people))]
        roll = dice.random()
        if roll < 0.045 and room >= 3:
            return self._flip_flop(person)
        if roll < 0.055 and room >= 2:
            return self._tie_by_arrival(person)
        if roll < 0.065 and room >= 2:
            return self._tie_by_line(person)
        if roll < 0.17:
            return [self._unchanged(person)]
        change = self._change(person)
        copies = dice.between(1, 3) if dice.chance(0.09) else 0
        return [change, *(self._copy(change) for _ in range(min(copies, room - 1)))]

    def _change(self, person: Person) -> Statement:
        computation = self._some_computation(person)
        at = self._lives[person.id].later(self._dice)
        return self._state(person, computation, at, self._name_of_change(person, computation))

    def _unchanged(self, person: Person) -> Statement:
        """A new message, newer, with the value that holds already."""
        life = self._lives[person.id]
        key = self._dice.pick(list(life.values))
        computation = next(one for one in COMPUTATIONS if one.key == key)
        at = life.later(self._dice)
        return self._state(person, computation, at, "unchanged", life.values[key])

    def _flip_flop(self, person: Person) -> list[Statement]:
        """Three changes of one membership within seconds, each arriving when it likes."""
        computation = self._dice.pick([one for one in COMPUTATIONS if one.value == "membership"])
        life = self._lives[person.id]
        life.later(self._dice)
        said = []
        for _ in range(3):
            life.clock += self._dice.between(20, 8 * SECOND)
            said.append(self._state(person, computation, life.clock, "flip_flop"))
        return said

    def _tie_by_arrival(self, person: Person) -> list[Statement]:
        """Two values of one moment: the one received later is meant, wherever its line is."""
        computation = self._some_computation(person)
        at = self._lives[person.id].later(self._dice)
        first = self._tied(person, computation, at, at + self._dice.between(50, 9 * SECOND))
        later = first.arrival + self._dice.between(1, 30 * SECOND)
        second = self._tied(person, computation, at, later)
        if self._dice.chance(0.5):
            return [replace(first, place=second.place + MINUTE), second]
        return [first, second]

    def _tie_by_line(self, person: Person) -> list[Statement]:
        """Two values of one moment, received at one moment: the later line is meant."""
        computation = self._some_computation(person)
        at = self._lives[person.id].later(self._dice)
        arrival = at + self._dice.between(50, 9 * SECOND)
        pair = next(self._pairs)
        first = self._tied(person, computation, at, arrival, pair=pair)
        second = self._tied(person, computation, at, arrival, pair=pair)
        apart = self._dice.pick((0, 0, HOUR, 2 * DAY))
        return [replace(first, repeatable=False), replace(second, place=second.place + apart)]

    def _tied(
        self,
        person: Person,
        computation: Computation,
        at: int,
        arrival: int,
        pair: int | None = None,
    ) -> Statement:
        value = self._next_value(person, computation)
        self._lives[person.id].values[computation.key] = value
        return Statement(
            person,
            computation,
            value,
            at,
            arrival,
            place=arrival,
            ingredient="tie_by_arrival" if pair is None else "tie_by_line",
            exact=True,
            pair=pair,
        )

    def _copy(self, change: Statement) -> Statement:
        """The same change for another identifier of the same person."""
        arrival = change.arrival + self._dice.between(0, 20 * SECOND)
        return Statement(
            change.person,
            change.computation,
            change.value,
            change.at,
            arrival,
            arrival,
            "fan_out",
        )

    def _state(
        self,
        person: Person,
        computation: Computation,
        at: int,
        ingredient: str,
        value: Scalar | None = None,
    ) -> Statement:
        """Make the value hold from `at` on, and say so."""
        if value is None:
            value = self._next_value(person, computation)
        self._lives[person.id].values[computation.key] = value
        late = self._dice.chance(0.04)
        delay = self._dice.between(10 * MINUTE, 3 * DAY) if late else self._dice.between(200, 15000)
        return Statement(person, computation, value, at, at + delay, at + delay, ingredient)

    def _some_computation(self, person: Person) -> Computation:
        """One at random, half of the time one that already has a value."""
        known = self._lives[person.id].values
        if known and self._dice.chance(0.5):
            key = self._dice.pick(list(known))
            return next(one for one in COMPUTATIONS if one.key == key)
        return self._dice.pick(COMPUTATIONS)

    def _name_of_change(self, person: Person, computation: Computation) -> str:
        if computation.value != "membership":
            return "trait"
        held = self._lives[person.id].values.get(computation.key)
        if held is None:
            return "first"
        return "exit" if held else "re_entry"

    def _next_value(self, person: Person, computation: Computation) -> Scalar:
        """A value that differs from the one that holds."""
        held = self._lives[person.id].values.get(computation.key)
        if computation.value == "membership":
            return not held if held is not None else not self._dice.chance(0.06)
        if computation.value == "flag":
            return not held if held is not None else self._dice.chance(0.5)
        while True:
            value = self._draw(computation)
            if value != held:
                return value

    def _draw(self, computation: Computation) -> Scalar:
        if computation.value == "text":
            return self._dice.pick(CATEGORIES)
        cents = self._dice.between(-5_000, 250_000)
        whole = self._dice.chance(0.3)
        return cents // 100 if whole else cents / 100
