"""Does a sandbox Braze hold what the generator meant?

    python -m sandbox.engage.oracle --input FILE --braze URL [--api-key-env NAME] [--json]
    python -m sandbox.engage.oracle --describe [--json]

What was meant comes from the simulation (by seed, or from a file written with `--truth`), never
from reading the lines. The input is only checked to be the file the truth belongs to. Exit codes:
0 all right, 1 something is wrong, 2 the question makes no sense or the sandbox cannot be read.
"""

import argparse
import gzip
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sandbox.engage.generate import add_size_options, example
from sandbox.engage.profiles import SandboxUnreadable, read_profiles

SAMPLES = 20


@dataclass
class Report:
    """The comparison. A profile is right, wrong or missing; a stranger is unexpected.

    A value is wrong if it differs, is not there, or was never meant to be there.
    """

    profiles_right: int = 0
    profiles_wrong: int = 0
    missing: int = 0
    unexpected: int = 0
    values_right: int = 0
    values_wrong: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    """The first wrong values; null stands for no value, which nobody ever means."""

    @property
    def is_right(self) -> bool:
        """True if every profile holds exactly what was meant."""
        return not (self.profiles_wrong or self.missing or self.unexpected)

    def differs(self, user_id: str, attribute: str | None, expected: Any, found: Any) -> None:
        """Keep it as a sample while there is room."""
        if len(self.samples) < SAMPLES:
            self.samples.append(
                {
                    "user_id": user_id,
                    "attribute": attribute,
                    "expected": expected,
                    "found": found,
                }
            )


def compare(
    meant: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Report:
    """Every profile on either side, in the order of the ids."""
    report = Report()
    for user_id in sorted(meant.keys() | found.keys()):
        wrong = _compare_values(report, user_id, meant.get(user_id, {}), found.get(user_id, {}))
        if user_id not in found:
            report.missing += 1
        elif user_id not in meant:
            report.unexpected += 1
            if not wrong:
                report.differs(user_id, None, None, found[user_id])
        elif wrong:
            report.profiles_wrong += 1
        else:
            report.profiles_right += 1
    return report


def _compare_values(
    report: Report, user_id: str, meant: Mapping[str, Any], found: Mapping[str, Any]
) -> int:
    wrong = 0
    for attribute in sorted(meant.keys() | found.keys()):
        expected, there = meant.get(attribute), found.get(attribute)
        if attribute in meant and attribute in found and same(expected, there):
            report.values_right += 1
            continue
        wrong += 1
        report.values_wrong += 1
        report.differs(user_id, attribute, expected, there)
    return wrong


def same(expected: object, found: object) -> bool:
    """450 is 450.0, but true is not 1 and "12" is not 12."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    return expected == found


@dataclass(frozen=True)
class Meaning:
    """What a file stands for: the counts of its lines and the profiles after it."""

    counts: dict[str, Any]
    profiles: dict[str, dict[str, Any]]

    def belongs_to(self, path: Path) -> bool:
        """True if the file, unpacked, is the one this was made with."""
        return hashlib.sha256(_unpacked(path)).hexdigest() == str(self.counts["sha256"])


def meaning(options: argparse.Namespace) -> Meaning:
    """From the truth file if one is named, else from the seed."""
    if options.truth:
        return Meaning(**orjson.loads(_unpacked(Path(options.truth))))
    made = example(options.seed, options.messages, options.users)
    return Meaning(made.counts, {id_: dict(values) for id_, values in made.truth.items()})


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the top of this file for its exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.engage.oracle",
        description="Compare a sandbox Braze with what the example messages mean.",
    )
    add_size_options(parser)
    parser.add_argument("--input", help="the file that was imported")
    parser.add_argument("--braze", help="address of the sandbox")
    parser.add_argument("--api-key-env", help="environment variable that holds the API key")
    parser.add_argument("--truth", help="written by the generator; instead of the seed")
    parser.add_argument("--describe", action="store_true", help="only say what the file holds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not options.describe and not (options.input and options.braze):
        parser.error("give --input and --braze, or --describe")
    try:
        meant = meaning(options)
        if options.input and not meant.belongs_to(Path(options.input)):
            parser.error(f"{options.input} is no file of this seed and size; name its --truth")
    except (OSError, EOFError, ValueError, TypeError, KeyError) as trouble:
        parser.error(str(trouble))
    if options.describe:
        print(_json(meant.counts) if options.json else _table(meant.counts))
        return 0
    try:
        key = os.environ.get(options.api_key_env) if options.api_key_env else None
        report = compare(meant.profiles, read_profiles(options.braze, key))
    except SandboxUnreadable as trouble:
        print(trouble, file=sys.stderr)
        return 2
    print(_json(asdict(report)) if options.json else _table(asdict(report)))
    return 0 if report.is_right else 1


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _table(values: Mapping[str, Any], indent: str = "") -> str:
    """One line per value; groups indented under their name."""
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += [f"{indent}{name}", _table(value, indent + "  ")]
        elif isinstance(value, list):
            rows += [f"{indent}{name}: {orjson.dumps(entry).decode()}" for entry in value]
        else:
            rows.append(f"{indent + name:<32} {value}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
