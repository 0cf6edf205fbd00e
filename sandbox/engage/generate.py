"""An example file of Engage messages, and the truth it stands for, from a seed.

    python -m sandbox.engage.generate [--seed N] [--messages N] [--users N]
                                      [--output FILE.ndjson.gz | -] [--truth FILE.json.gz]

The same arguments give the same bytes on every Python (the packed file: on every Python with
the same zlib). The truth comes from the simulated lives, not from the lines.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sandbox.engage.dice import Dice
from sandbox.engage.disorder import Line, disordered, repeated
from sandbox.engage.messages import encode, message_of
from sandbox.engage.noise import REFUSED, SKIPPED, Noise
from sandbox.engage.people import Person, population
from sandbox.engage.space import Space, Statement, Truth

SEED = 20_251_122
MESSAGES = 40_000
USERS = 6_000
REPEATED_SOON, REPEATED_LATE, EMPTY, UNTIMED = 0.03, 0.015, 0.002, 0.0005
"""Shares of the file."""


@dataclass(frozen=True)
class Example:
    """A file's lines in order, and what every profile must hold after them."""

    seed: int
    messages: int
    users: int
    lines: list[Line]
    truth: Truth

    @cached_property
    def content(self) -> bytes:
        """The file, not packed; every line ends with a line feed."""
        return b"".join([line.text + b"\n" for line in self.lines])

    @cached_property
    def counts(self) -> dict[str, Any]:
        """How many lines of which kind were meant; each line is in exactly one of the totals."""
        outcomes = Counter(line.outcome for line in self.lines)
        accepted = Counter(line.ingredient for line in self.lines if line.outcome == "accepted")
        refused = {reason: outcomes[reason] for reason in sorted(REFUSED)}
        skipped = {reason: outcomes[reason] for reason in sorted(SKIPPED)}
        duplicates = accepted["repeated_soon"] + accepted["repeated_late"]
        return {
            "seed": self.seed,
            "messages": self.messages,
            "users": self.users,
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "lines": len(self.lines),
            "accepted": accepted.total(),
            "refused": sum(refused.values()),
            "skipped": sum(skipped.values()),
            "empty": outcomes["empty"],
            "changes": accepted.total() - duplicates,
            "duplicates": duplicates,
            "accepted_by_ingredient": dict(sorted(accepted.items())),
            "refused_by_reason": refused,
            "skipped_by_reason": skipped,
            "profiles": len(self.truth),
            "values": sum(map(len, self.truth.values())),
        }


def example(seed: int = SEED, messages: int = MESSAGES, users: int = USERS) -> Example:
    """The file of exactly `messages` lines about at most `users` people.

    Small files still hold every fault once, so below some 100 lines there is no room: ValueError.
    """
    dice = Dice(seed)
    people = population(users)
    space = Space(dice, people)
    noise = Noise(dice, people)
    lines = [Line(text, reason, reason, place) for text, reason, place in noise.lines(messages)]
    lines += [Line(b"", "empty", "empty", noise.place()) for _ in range(_share(EMPTY, messages))]
    soon, late = _share(REPEATED_SOON, messages), _share(REPEATED_LATE, messages)
    untimed = _share(UNTIMED, messages)
    room = messages - len(lines) - soon - late - untimed
    if room < 1 or not people:
        raise ValueError("too few messages or users: try at least 200 messages and 1 user")
    lines += [_spoken(statement, dice) for statement in space.live(room)]
    for number in range(untimed):
        lines.append(_spoken(space.say_untimed(Person(users + number, f"once-{number}")), dice))
    lines += list(repeated(lines, soon, late, dice))
    return Example(seed, messages, users, disordered(lines, dice), space.truth)


def truth(seed: int = SEED, messages: int = MESSAGES, users: int = USERS) -> Truth:
    """Final value per user and attribute, as the simulation meant it."""
    return example(seed, messages, users).truth


def pack(content: bytes) -> bytes:
    """Gzip without time or name."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


def truth_file(made: Example) -> bytes:
    """The truth with the counts, for those who do not have the seed."""
    whole = {"counts": made.counts, "profiles": made.truth}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _share(share: float, messages: int) -> int:
    return max(1, round(share * messages))


def _spoken(statement: Statement, dice: Dice) -> Line:
    text = encode(message_of(statement, dice), ascii_only=dice.chance(0.3))
    return Line(
        text,
        "accepted",
        statement.ingredient,
        statement.place,
        statement.repeatable,
        statement.pair,
    )


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """The three numbers that make a file."""
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--messages", type=int, default=MESSAGES, help="lines of the file")
    parser.add_argument("--users", type=int, default=USERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when written, 2 when the numbers make no file."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.engage.generate",
        description="Write an example file of Segment Engage messages.",
    )
    add_size_options(parser)
    default = Path(__file__).with_name("messages.ndjson.gz")
    parser.add_argument(
        "--output", default=str(default), help="packed if it ends with .gz; - for plain stdout"
    )
    parser.add_argument("--truth", help="also write what every profile must hold")
    options = parser.parse_args(arguments)
    try:
        made = example(options.seed, options.messages, options.users)
    except ValueError as trouble:
        parser.error(str(trouble))
    if options.output == "-":
        sys.stdout.buffer.write(made.content)
        sys.stdout.buffer.flush()
    else:
        _write(options.output, made.content)
    if options.truth:
        _write(options.truth, truth_file(made))
    return 0


def _write(path: str, content: bytes) -> None:
    Path(path).write_bytes(pack(content) if path.endswith(".gz") else content)


if __name__ == "__main__":
    sys.exit(main())
