"""Who is in the space: ordinary ids, and a few that break careless code.

Every id is valid: a person here must end up with a profile under exactly this id. No id has
blanks at its edges, since what an id with such blanks means is not agreed anywhere.
"""

from dataclasses import dataclass

LONGEST_ID = 987
"""Bytes of UTF-8 an external id of Braze may have."""

NUMBERS = ("12", "1000001", "1000002", "1000003", "20250714", "4294967296", "9007199254740993")
"""Ids that producers write as JSON numbers; the last is no exact double."""

ODD_IDS = (
    "Ada Lovelace",
    "two  blanks",
    "ada",
    "ADA",
    "zoë@example.com",
    "jos\u00e9",
    "jose\u0301",
    "用户-42",
    "пользователь 7",
    "👩\u200d🚀 crew",
    'say "hi"',
    "o'brien",
    "back\\slash",
    "tab\there",
    "a/b/../c",
    "50% off",
    "a+b",
    "a&b=c",
    "#hash",
    "what?",
    "{curly}",
    "user:1|2,3;4",
    "0012",
    "007",
    "true",
    "null",
    "1e3",
    "long-" + "x" * (LONGEST_ID - 5),
    "長" * (LONGEST_ID // 3),
)
"""Among them pairs that differ by letter case, by Unicode form and by leading zeros only."""


@dataclass(frozen=True, slots=True)
class Person:
    """One identified user."""

    number: int
    id: str
    numeric: bool = False
    """Mostly sent as a JSON number; the profile is the one of the same digits as text."""


def population(size: int) -> list[Person]:
    """That many people, the odd ones first, no id twice."""
    ids = [(id_, True) for id_ in NUMBERS] + [(id_, False) for id_ in ODD_IDS]
    ids += [(f"u{number}", False) for number in range(1, size - len(ids) + 1)]
    return [Person(number, *entry) for number, entry in enumerate(ids[:size])]
