"""Repetition and the order in which lines arrive.

Nothing here may change what the file means: copies are exact, and only lines whose place
decides keep their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sandbox.engage.dice import Dice
from sandbox.engage.space import DAY, MINUTE

WINDOW = 150
"""Lines that may change places with each other."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file and what is meant to become of it."""

    text: bytes
    outcome: str
    """`accepted`, `empty`, or the reason of a refusal or a skip."""
    ingredient: str
    place: int
    repeatable: bool = False
    pair: int | None = None


def repeated(lines: list[Line], soon: int, late: int, dice: Dice) -> Iterable[Line]:
    """That many exact copies of repeatable lines, seconds and days after the first."""
    originals = [line for line in lines if line.repeatable]
    for ingredient, copies, reach in (
        ("repeated_soon", soon, 2 * MINUTE),
        ("repeated_late", late, 60 * DAY),
    ):
        for _ in range(copies if originals else 0):
            line = dice.pick(originals)
            place = line.place + dice.between(0, reach)
            yield replace(line, ingredient=ingredient, place=place, pair=None)


def disordered(lines: list[Line], dice: Dice) -> list[Line]:
    """The lines by place; some strays far away, the rest shuffled within windows."""
    strays = [
        replace(line, place=line.place + dice.between(-20 * DAY, 20 * DAY))
        if dice.chance(0.02)
        else line
        for line in lines
    ]
    strays.sort(key=lambda line: line.place)
    arranged: list[Line] = []
    for begin in range(0, len(strays), WINDOW):
        window = strays[begin : begin + WINDOW]
        dice.shuffle(window)
        arranged += window
    _restore_pairs(lines, arranged)
    return arranged


def _restore_pairs(told: list[Line], arranged: list[Line]) -> None:
    """Where two lines of a pair ended the wrong way round, let them change places."""
    first_of: dict[int, bytes] = {}
    for line in told:
        if line.pair is not None:
            first_of.setdefault(line.pair, line.text)
    places: dict[int, list[int]] = {}
    for index, line in enumerate(arranged):
        if line.pair is not None:
            places.setdefault(line.pair, []).append(index)
    for pair, (here, there) in places.items():
        if arranged[here].text != first_of[pair]:
            arranged[here], arranged[there] = arranged[there], arranged[here]
