"""Two independent readings agree: the simulated lives, and the lines sorted by rank.

The reader below knows only the rules for messages, nothing of the generator.
"""

import re
from collections import Counter
from datetime import datetime
from typing import Any

import orjson
import pytest

import sandbox.engage.generate as generate

MEMBERSHIP = {"audience", "journey_step"}
RESERVED = {"email", "first_name", "country", "dob", "phone", "gender"}
IMPORT_TIME = 1_790_000_000_000
ISO = re.compile(r"\d{4}-\d\d-\d\dT")


def read(lines: list[bytes]) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """Final values by rank, and how many lines ended in which way."""
    ends: Counter[str] = Counter()
    changes = []
    for number, line in enumerate(lines):
        verdict = read_line(line)
        if isinstance(verdict, str):
            ends[verdict] += 1
            continue
        ends["accepted"] += 1
        user, key, value, at, arrival = verdict
        changes.append(((at, arrival, number), user, key, value))
    profiles: dict[str, dict[str, Any]] = {}
    for _, user, key, value in sorted(changes, key=lambda change: change[0]):
        profiles.setdefault(user, {})[key] = value
    return profiles, ends


def read_line(line: bytes) -> str | tuple[str, str, Any, int, int]:
    """One change, or the reason why there is none."""
    if not line:
        return "empty"
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "broken_json"
    if not isinstance(message, dict):
        return "not_an_object"
    personas = (message.get("context") or {}).get("personas") or {}
    kind = personas.get("computation_class")
    kinds = MEMBERSHIP | {"trait", "computed_trait"}
    if message.get("type") not in ("identify", "track") or kind not in kinds:
        return "not_an_audience_message"
    key = personas.get("computation_key")
    if not key:
        return "missing_attribute_key"
    if key in RESERVED:
        return "reserved_attribute"
    if key.startswith("$"):
        return "invalid_attribute_name"
    if len(key.encode()) > 255:
        return "attribute_name_too_long"
    if message.get("userId") in (None, ""):
        return "no_user_id"
    user = str(message["userId"])
    if len(user.encode()) > 987:
        return "user_id_too_long"
    value = message["traits" if message["type"] == "identify" else "properties"].get(key)
    if kind in MEMBERSHIP and not isinstance(value, bool):
        return "membership_not_boolean"
    if not isinstance(value, bool | int | float | str):
        return "value_not_scalar"
    try:
        at, arrival = moments(message)
    except ValueError:
        return "unreadable_timestamp"
    return user, key, value, at, arrival


def moments(message: dict[str, Any]) -> tuple[int, int]:
    """Event time and arrival."""
    known = {
        name: milliseconds(message[name])
        for name in ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
        if name in message
    }
    arrival = known.get("receivedAt", IMPORT_TIME)
    if "timestamp" not in known:
        return arrival, arrival
    if "originalTimestamp" not in known and {"sentAt", "receivedAt"} <= known.keys():
        return arrival - (known["sentAt"] - known["timestamp"]), arrival
    return known["timestamp"], arrival


def milliseconds(text: str) -> int:
    """Since 1970; ValueError for anything but ISO 8601."""
    if not ISO.match(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


class TestShippedFile:
    def test_truth_is_what_the_lines_say(self, lines, made):
        """Every value of every user, and no user more."""
        profiles, _ = read(lines)
        assert profiles == made.truth
        assert orjson.dumps(profiles, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            made.truth, option=orjson.OPT_SORT_KEYS
        )

    def test_ends_are_what_was_meant(self, lines, made):
        """Each refusal, each skip and the accepted lines, as counted by the generator."""
        _, ends = read(lines)
        counts = made.counts
        meant = counts["refused_by_reason"] | counts["skipped_by_reason"]
        assert ends == meant | {"accepted": counts["accepted"], "empty": counts["empty"]}

    def test_import_time_decides_nothing_but_untimed_users(self, lines, made, monkeypatch):
        """Whenever the file is imported, the profiles are the same."""
        monkeypatch.setitem(globals(), "IMPORT_TIME", 1_767_300_000_000)
        assert read(lines)[0] == made.truth

    @pytest.mark.parametrize("careless", ["arrival", "line", "timestamp", "no_tie"])
    def test_careless_reading_is_found_out(self, lines, made, careless):
        """The file is hard enough: each usual mistake ends with wrong profiles."""
        best: dict[tuple[str, str], tuple[Any, Any]] = {}
        for number, line in enumerate(lines):
            verdict = read_line(line)
            if isinstance(verdict, str):
                continue
            user, key, value, at, arrival = verdict
            written = milliseconds(orjson.loads(line).get("timestamp", "2025-01-01T00:00Z"))
            rank = {
                "arrival": (arrival, number),
                "line": (number,),
                "timestamp": (written, arrival, number),
                "no_tie": (at,),
            }[careless]
            if (user, key) not in best or rank > best[user, key][0]:
                best[user, key] = (rank, value)
        wrong = sum(value != made.truth[user][key] for (user, key), (_, value) in best.items())
        assert wrong >= 20


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("messages", "users"), [(300, 1), (2500, 60), (1500, 900)])
def test_any_seed_agrees(seed, messages, users):
    """Also where few people have very long lives."""
    made = generate.example(seed, messages, users)
    profiles, ends = read([line.text for line in made.lines])
    assert profiles == made.truth
    assert ends["accepted"] == made.counts["accepted"]
