"""Each difficulty is really in the shipped file, counted from its lines alone."""

from collections import Counter, defaultdict
from typing import Any

import orjson
import pytest

from sandbox.engage.noise import REFUSED, SKIPPED
from sandbox.engage.people import NUMBERS, ODD_IDS

KINDS = {"audience", "journey_step", "trait", "computed_trait"}


@pytest.fixture(scope="module")
def messages(lines: list[bytes], made: Any) -> list[dict[str, Any]]:
    """The accepted messages, in order."""
    return [
        orjson.loads(line)
        for line, meant in zip(lines, made.lines, strict=True)
        if meant.outcome == "accepted"
    ]


def key_of(message: dict[str, Any]) -> str:
    return message["context"]["personas"]["computation_key"]


def value_of(message: dict[str, Any]) -> Any:
    return (message.get("traits") or message.get("properties"))[key_of(message)]


class TestMessages:
    def test_both_types_and_all_classes(self, messages):
        """identify and track, for audiences, journeys and both names of traits."""
        seen = Counter(
            (one["type"], one["context"]["personas"]["computation_class"]) for one in messages
        )
        assert set(seen) == {(type_, kind) for type_ in ("identify", "track") for kind in KINDS}
        assert min(seen.values()) > 500

    def test_event_names_mean_nothing(self, messages):
        """Renamed events, and entries called otherwise than entered."""
        events = Counter(one["event"] for one in messages if one["type"] == "track")
        assert events["Audience Entered"] > 1000
        assert events["Audience Exited"] > 1000
        assert events["Order Completed"] > 100
        assert any(
            value_of(one) is False for one in messages if one.get("event") == "Audience Entered"
        )

    def test_audience_key_may_be_missing(self, messages):
        """Only computation_key can be relied on."""
        tracks = [one for one in messages if one["type"] == "track"]
        bare = [
            one for one in tracks if not {"audience_key", "trait_key"} & one["properties"].keys()
        ]
        assert len(bare) > 500

    def test_message_ids_look_like_engage(self, messages):
        """`personas_` and 27 characters; one id, one content."""
        ids = {one["messageId"] for one in messages}
        assert all(id_.startswith("personas_") and len(id_) == 36 for id_ in ids)

    def test_times_in_every_combination(self, messages):
        """Six ways to write the times, and none at all."""
        names = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
        seen = Counter("+".join(name for name in names if name in one) for one in messages)
        assert set(seen) == {
            "timestamp+receivedAt",
            "timestamp+originalTimestamp+sentAt+receivedAt",
            "timestamp+sentAt+receivedAt",
            "timestamp",
            "timestamp+sentAt",
            "receivedAt",
            "",
        }
        untimed = {one["userId"] for one in messages if not any(name in one for name in names)}
        assert 5 <= len(untimed) <= 50

    def test_untimed_users_say_one_thing(self, messages):
        """The time of the import decides nothing: nobody without times says two things."""
        said = defaultdict(set)
        for one in messages:
            said[str(one["userId"])].add(one["messageId"])
        for one in messages:
            if "timestamp" not in one and "receivedAt" not in one:
                assert len(said[str(one["userId"])]) == 1


class TestPeople:
    def test_every_odd_id_has_a_profile(self, made):
        """Each of them is valid, so each must arrive."""
        assert {*NUMBERS, *ODD_IDS} <= made.truth.keys()

    def test_numbers_come_as_numbers_and_as_text(self, messages):
        """A producer that writes 12 and one that writes "12" speak of one user."""
        for number in NUMBERS[:3]:
            kinds = {type(one["userId"]) for one in messages if str(one["userId"]) == number}
            assert kinds == {int, str}

    def test_longest_ids_are_at_the_limit(self):
        """987 bytes, once as letters and once as characters of three bytes."""
        assert [len(id_.encode()) for id_ in ODD_IDS[-2:]] == [987, 987]

    def test_traits_take_every_scalar(self, made):
        """Whole numbers, fractions, negative ones, text that looks like something else, flags."""
        values = [value for profile in made.truth.values() for value in profile.values()]
        assert {type(value) for value in values} == {bool, int, float, str}
        assert {"true", "12", "日用品"} <= {value for value in values if isinstance(value, str)}
        assert min(value for value in values if isinstance(value, float)) < 0


class TestTrouble:
    def test_each_ingredient_was_meant(self, made):
        """Enough of each to find a mistake."""
        least = {
            **dict.fromkeys(("first", "exit", "re_entry", "trait", "unchanged"), 1500),
            **dict.fromkeys(("fan_out", "flip_flop", "repeated_soon"), 1000),
            "repeated_late": 500,
            "tie_by_arrival": 200,
            "tie_by_line": 200,
            "untimed": 10,
        }
        seen = made.counts["accepted_by_ingredient"]
        assert seen.keys() == least.keys()
        assert {name for name in least if seen[name] < least[name]} == set()

    def test_exact_lines_come_again(self, lines):
        """Hundreds within a few windows, hundreds thousands of lines later."""
        first: dict[bytes, int] = {}
        distances = []
        for number, line in enumerate(lines):
            if line.startswith(b'{"type"'):
                distances.append(number - first.setdefault(line, number))
        assert sum(0 < distance < 500 for distance in distances) > 500
        assert sum(distance > 2000 for distance in distances) > 300

    def test_older_events_arrive_later(self, messages):
        """Disorder within one attribute of one user, near and far."""
        newest: dict[tuple[str, str], str] = {}
        back = 0
        for one in messages:
            corrected = "originalTimestamp" in one or "sentAt" not in one
            if not corrected or not one.get("timestamp", "").endswith("Z"):
                continue
            place = (str(one["userId"]), key_of(one))
            back += one["timestamp"] < newest.get(place, "")
            newest[place] = max(one["timestamp"], newest.get(place, ""))
        assert back > 200

    def test_one_change_comes_under_several_identifiers(self, messages):
        """Fan-out: same user, key, value and time under another message id."""
        said = defaultdict(set)
        named = 0
        for one in messages:
            place = (str(one["userId"]), key_of(one), value_of(one), one.get("timestamp"))
            said[place].add(one["messageId"])
            named += "anonymousId" in one or "@" in str(one.get("traits", one["context"]))
        assert sum(len(ids) > 1 for ids in said.values()) > 200
        assert named > 1000

    def test_ties_by_line_disagree_in_value(self, made):
        """The later line of a pair is meant, so the earlier one never comes again after it."""
        pairs = defaultdict(list)
        for line in made.lines:
            if line.pair is not None:
                pairs[line.pair].append(line.text)
        copies = Counter(line.text for line in made.lines)
        assert len(pairs) > 100
        for loser, winner in pairs.values():
            assert value_of(orjson.loads(loser)) != value_of(orjson.loads(winner))
            assert copies[loser] == 1

    @pytest.mark.parametrize("reason", [*REFUSED, *SKIPPED])
    def test_each_reason_in_all_its_varieties(self, made, reason):
        """More lines than varieties, and each variety makes its own lines."""
        texts = [line.text for line in made.lines if line.outcome == reason]
        assert len(texts) >= 20
        assert len(set(texts)) >= len((REFUSED | SKIPPED)[reason][1])

    def test_refused_lines_name_real_people_too(self, made):
        """So that letting one through shows as a wrong profile."""
        named = set()
        for line in made.lines:
            if line.outcome in REFUSED and line.outcome not in ("broken_json", "not_an_object"):
                named.add(str(orjson.loads(line.text).get("userId")))
        assert len(named & made.truth.keys()) > 100
        assert len(named - made.truth.keys()) > 100

    def test_nothing_lies_in_the_future(self, lines):
        """All times are before 2026, so nothing is clamped."""
        assert not any(b'"2026-' in line or b'"2027-' in line for line in lines)

    def test_empty_lines_are_there(self, lines):
        """And mean nothing."""
        assert sum(not line for line in lines) > 20
