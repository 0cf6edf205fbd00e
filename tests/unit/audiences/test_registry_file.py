"""audiences.yaml: what it means, and everything that is wrong with it at once."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from worker.audiences import registry_yaml
from worker.audiences.cadence import Code, KnownKind, Lane, Policy
from worker.audiences.query.tree import Kind
from worker.audiences.registry import Registry, WrongRegistry, load_registry, read_registry

FULL = """\
policy: engage
lanes:
  realtime: {linger: 100ms, max_wait: 3s}
  batched: {every: 15m}
audiences:
  - key: vip
    query: "event('Order Completed').count() >= 3"
  - key: lapsed_30d
    query: |
      NOT event('Order Completed')
        .within(30 days).count() >= 1
    batched: {every: 8h}
  - key: accounts
    type: ACCOUNTS
    query: ANY event('x').count() >= 1
  - key: from_segment
    cadence: batched
    attribute: seg_vip
    on_exit: null
    enabled: false
traits:
  - key: spend_180
    query: event('Order Completed').sum(property('total'))
  - {key: ltv, kind: sql}
  - {key: renewal, kind: custom, iso_timestamps: false}
"""


def wrong(text: str) -> list[str]:
    """Every fault as `line: message`."""
    with pytest.raises(WrongRegistry) as caught:
        read_registry(text)
    return [line.removeprefix("audiences.yaml:") for line in caught.value.lines]


def audience(*fields: str) -> str:
    """A file with one audience, whose fields begin in line 3."""
    return "audiences:\n  - key: vip\n" + "".join(f"    {line}\n" for line in fields)


class TestMeaning:
    def test_everything_that_can_be_said(self) -> None:
        """Policy, lanes, audiences and traits are as the file says."""
        registry = read_registry(FULL)
        assert registry.policy is Policy.ENGAGE
        assert registry.lane_terms() == (100, 3_000, 900_000, 0)
        assert [one.key for one in registry.audiences] == [
            "vip", "lapsed_30d", "accounts", "from_segment",
        ]  # fmt: skip
        assert [one.kind for one in registry.traits] == [
            KnownKind.COMPUTED_TRAIT, KnownKind.SQL_TRAIT, KnownKind.CUSTOM,
        ]  # fmt: skip
        accounts = registry.entry("accounts")
        assert accounts is not None
        assert accounts.query is not None
        assert accounts.query.kind is Kind.ACCOUNTS

    def test_rules_for_the_engine(self) -> None:
        """Lane, interval, exit value and whether it is enabled; no rule for a custom trait."""
        assert read_registry(FULL).rules() == [
            ("vip", ("r", 0, "f", 1)),
            ("lapsed_30d", ("b", 28_800_000, "f", 1)),
            ("accounts", ("b", 0, "f", 1)),
            ("from_segment", ("b", 0, "n", 0)),
            ("spend_180", ("r", 0, "f", 1)),
            ("ltv", ("b", 0, "f", 1)),
        ]

    def test_attributes(self) -> None:
        """The key, unless the file says otherwise."""
        attributes = read_registry(FULL).attributes()
        assert attributes["from_segment"] == "seg_vip"
        assert attributes["vip"] == "vip"
        assert "renewal" not in attributes

    @pytest.mark.parametrize("text", ["audiences: []", "traits: []", "policy: personas", "{}"])
    def test_nothing_is_declared(self, text: str) -> None:
        """Empty lists declare nothing, and are said."""
        assert read_registry(text) == Registry()

    @pytest.mark.parametrize("text", ["", "# nothing", "---", "null", "audiences:", "traits:"])
    def test_nothing_is_said(self, text: str) -> None:
        """An empty file, or half of one, is wrong; only who fills it may begin with it."""
        with pytest.raises(WrongRegistry, match=r"write `(audiences|traits): \[\]`"):
            read_registry(text)
        assert read_registry(text, may_be_empty=True) == Registry()

    def test_neither_query_nor_cadence(self) -> None:
        """As good as undeclared: realtime."""
        decision = read_registry(audience()).decisions["vip"]
        assert decision.lane is Lane.REALTIME
        assert [one.code for one in decision.reasons] == [Code.REALTIME_BY_DEFAULT]

    def test_a_declared_cadence_wins(self) -> None:
        """The reading that disagrees is kept beside it."""
        text = audience("query: event('x').within(2 days).count() > 1", "cadence: realtime")
        decision = read_registry(text).decisions["vip"]
        assert decision.lane is Lane.REALTIME
        assert decision.disagrees
        assert decision.reading is not None
        assert decision.reading.lane is Lane.BATCHED

    def test_references_are_followed(self) -> None:
        """An audience inherits from those it refers to, in whatever order they are written."""
        text = (
            "audiences:\n  - key: b\n    query: trait('a') = 'true' OR trait('plan') = 'gold'\n"
            "  - key: a\n    query: trait('s') >= 1\n"
            "traits:\n  - key: s\n    query: event('x').within(3 days).count()\n"
        )
        (reason,) = read_registry(text).decisions["b"].reasons
        assert reason.code is Code.BATCHED_AUDIENCE
        assert reason.via == ("a", "s")

    def test_another_policy(self) -> None:
        """The same registry can be read under the other policy."""
        registry = read_registry(audience("query: event('x').within(2 days).count() > 1"))
        assert registry.decisions["vip"].lane is Lane.BATCHED
        assert registry.under(Policy.ENGAGE).decisions["vip"].lane is Lane.REALTIME

    def test_values_that_are_no_iso_timestamps(self) -> None:
        """A trait whose values are said not to be ISO makes comparing them batched."""
        text = (
            "policy: engage\naudiences:\n  - key: a\n    query: trait('t').within_next(2 days)\n"
            "traits:\n  - {key: t, kind: custom, iso_timestamps: false}\n"
        )
        (reason,) = read_registry(text).decisions["a"].reasons
        assert reason.code is Code.TRAIT_VALUES_NOT_ISO

    def test_every(self) -> None:
        """An audience's own interval, or the lane's."""
        registry = read_registry(FULL)
        assert registry.every(registry.entry("lapsed_30d")) == timedelta(hours=8)
        assert registry.every(registry.entry("vip")) == timedelta(minutes=15)

    def test_words_that_yaml_might_misread(self) -> None:
        """In quotes they are keys like any other."""
        text = "audiences: [{key: 'true'}, {key: '12'}, {key: 'null'}, {key: '2020-01-01'}]"
        assert list(read_registry(text).attributes()) == ["true", "12", "null", "2020-01-01"]


class TestVersion:
    @pytest.mark.parametrize(
        "other",
        [
            FULL + "# a remark\n",
            FULL.replace("event('Order Completed').count() >= 3", " event( 'Order Completed' )."
                         "count().at_least(3) "),
            FULL.replace("key: vip\n", "key: vip\n    enabled: true\n    attribute: vip\n"),
            FULL.replace("  - key: from_segment", "  - key: zz").replace("zz", "from_segment"),
            FULL.replace("{every: 15m}", "{every: 900s}"),
        ],
    )  # fmt: skip
    def test_the_same_meaning(self, other: str) -> None:
        """Files that say the same have the same version."""
        assert read_registry(other).version == read_registry(FULL).version

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (">= 3", ">= 4"), ("engage", "personas"), ("100ms", "101ms"), ("max_wait: 3s", ""),
            ("every: 15m", "every: 1h"), ("every: 8h", "every: 6h"), ("seg_vip", "seg_vips"),
            ("on_exit: null", "on_exit: false"), ("enabled: false", "enabled: true"),
            ("iso_timestamps: false", "iso_timestamps: true"), ("kind: sql", "kind: computed"),
            ("cadence: batched", "cadence: realtime"), ("30 days", "31 days"),
        ],
    )  # fmt: skip
    def test_another_meaning(self, before: str, after: str) -> None:
        """Whatever changes what the file means changes the version."""
        assert read_registry(FULL.replace(before, after)).version != read_registry(FULL).version


# One mistake each: text, line, words of the message.
MISTAKES = [
    ("polici: engage\n", 1, "'polici' is not known here. Did you mean `policy`?"),
    ("policy: persona\n", 1, "'persona' is not one of personas, engage. Did you mean `personas`?"),
    ("- key: a\n", 1, "The file must be a mapping"),
    ("just words\n", 1, "The file must be a mapping"),
    ("lanes: fast\n", 1, "lanes: must be a mapping with realtime, batched."),
    ("lanes:\n  realtme: {}\n", 2, "Did you mean `realtime`?"),
    ("lanes:\n  realtime: {linger: fast}\n", 2, "'fast' is not a duration"),
    ("lanes:\n  realtime: {linger: 200}\n", 2, "'200' is not a duration"),
    ("lanes:\n  realtime: {max_wait: 2d}\n", 2, "2d is longer than a day"),
    ("lanes:\n  batched: {every: 7h}\n", 2, "divide a day evenly"),
    ("lanes:\n  batched: {every: 0s}\n", 2, "divide a day evenly"),
    ("lanes:\n  batched: {every: 500ms}\n", 2, "at least 1s"),
    ("lanes:\n  batched: {every: [1h]}\n", 2, "must be a single value"),
    ("audiences: vip\n", 1, "must be a list"),
    ("audiences:\n  - vip\n", 2, "audiences, item 1: write `- key: ...`"),
    ("audiences:\n  - cadence: realtime\n", 2, "audiences, item 1: has no `key`."),
    ("audiences:\n  - key: 12\n", 2, "YAML takes 12 for a number; put it in quotes."),
    ("audiences:\n  - key: yes\n", 2, "YAML takes yes for yes or no; put it in quotes."),
    ("audiences:\n  - key: 2020-01-01\n", 2, "for a date; put it in quotes."),
    ("audiences:\n  - key: ''\n", 2, "key: is empty."),
    ("audiences:\n  - key: email\n", 2, "'email' is a Braze profile field"),
    ("audiences:\n  - key: $vip\n", 2, "may not begin with $"),
    ("audiences:\n  - key: ' vip'\n", 2, "spaces at its edges"),
    ('audiences:\n  - key: "a\\tb"\n', 2, "control characters"),
    (f"audiences:\n  - key: {'x' * 256}\n", 2, "is longer than 255 bytes"),
    ("audiences:\n  - key: a\n  - key: a\n", 3, "declared a second time; first in line 2"),
    ("audiences:\n  - &a {key: a}\n  - *a\n", 2, "declared a second time; first in line 2"),
    ("audiences: [{key: a}]\ntraits:\n  - key: a\n", 3, "declared a second time"),
    ("audiences:\n  - key: a\n  - key: b\n    attribute: a\n", 4, "the attribute of 'a' already"),
    (audience("cadense: batched"), 3, "vip: 'cadense' is not known here. Did you mean `cadence`?"),
    (audience("every: 8h"), 3, "Did you mean `batched: {every: 8h}`?"),
    (audience("cadence: BATCH"), 3, "Did you mean `batched`?"),
    (audience("type: users", "query: trait('a') = 1"), 3, "Did you mean `USERS`?"),
    (audience("type: LINKED", "cadence: batched"), 3, "not one of USERS, ACCOUNTS"),
    (audience("type: ACCOUNTS"), 3, "there is none. Write `cadence` instead."),
    (audience("attribute: dob"), 3, "'dob' is a Braze profile field"),
    (audience("enabled: maybe"), 3, "must be true or false, not 'maybe'"),
    (audience("on_exit: true"), 3, "must be false, or null"),
    (audience("batched: 8h"), 3, "vip: batched: must be a mapping with every."),
    (audience("batched: {every: 5h}"), 3, "vip: batched: every: must be at least 1s and divide"),
    (audience("query: 12"), 3, "YAML takes 12 for a number"),
    (audience("query: [a]"), 3, "must be a single value"),
    (audience("query: event('x').count()"), 3, "query: line 1, column"),
    (audience("query: trait('vip') = 'true'"), 3, "in a ring: vip -> vip"),
    (audience("iso_timestamps: true"), 3, "'iso_timestamps' is not known here"),
    (audience("cadence: realtime", "cadence: batched"), 4, "a second time; the first is in line 3"),
    ("traits:\n  - key: t\n    query: event('x').count() > 1\n", 3, "t: query: line 1"),
    ("traits:\n  - key: t\n    on_exit: null\n", 3, "'on_exit' is not known here"),
    ("traits:\n  - key: t\n    kind: sqll\n", 3, "Did you mean `sql`?"),
    ("traits:\n  - {key: t, kind: sql, query: x}\n", 2, "an SQL trait is computed in the ware"),
    ("traits:\n  - {key: t, kind: custom, cadence: batched}\n", 2, "a custom trait is not synced"),
    ("policy: engage\n---\npolicy: engage\n", 2, "a second document"),
    ("policy: *nothing\n", 1, "`*nothing` is not defined before this place."),
    ("audiences: &a [*a]\n", 1, "`*a` is not defined before this place."),
    ("policy: !secret engage\n", 1, "Tags are not used here; remove '!secret'."),
    ("policy: engage\n? [a]\n: b\n", 2, "A key must be a single word."),
    ("audiences:\n  - {<<: 1, key: a}\n", 2, "`<<` takes a mapping."),
    ("[" * 1_000, 1, "nested more than 20 levels"),
    ("policy: 'engage\n", 1, "This is not YAML"),
    ("a: b: c\n", 1, "This is not YAML"),
]  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "words"), MISTAKES, ids=[f"{i}" for i in range(len(MISTAKES))]
    )
    def test_each_has_its_line(self, text: str, line: int, words: str) -> None:
        """A mistake is said once, with the line where it stands and what would be right."""
        found = [said for said in wrong(text) if words in said]
        assert len(found) == 1, wrong(text)
        assert found[0].startswith(f"{line}: ") or "not YAML" in words

    def test_all_at_once(self) -> None:
        """Mistakes in different places are all in one message, in the order of the file."""
        text = (
            "policy: x\nlanes: {batched: {every: 7h}}\naudiences:\n  - key: email\n"
            "  - key: a\n    query: trait('b') = 'true'\n  - key: b\n"
            "    query: trait('a') = 'true'\n  - key: c\n    query: event('x').count() >=\n"
            "  - key: d\n    query: trait('e') = 1\n  - key: e\n    query: trait('d') = 1\n"
            "traits:\n  - key: t\n    colour: red\n"
        )
        assert [int(said.partition(":")[0]) for said in wrong(text)] == [1, 2, 4, 6, 10, 12, 17]

    def test_rings_are_spelled_out(self) -> None:
        """Every ring, from its first key round to it again."""
        text = "audiences:\n" + "".join(
            f"  - key: {a}\n    query: trait('{b}') = 'true'\n" for a, b in ("ab", "bc", "ca")
        )
        assert wrong(text)[0].endswith("in a ring: a -> b -> c -> a")

    def test_a_refused_query_is_pictured(self) -> None:
        """The query's own line with a caret, and what was perhaps meant."""
        with pytest.raises(WrongRegistry) as caught:
            read_registry(audience("query: event('x').coun() >= 1"), "my.yaml")
        assert str(caught.value).splitlines()[:3] == [
            "my.yaml:3: vip: query: line 1, column 12: There is no function `coun`.",
            "      event('x').coun() >= 1",
            "                 ^^^^",
        ]
        assert "Did you mean `count`?" in str(caught.value)

    def test_a_block_query_points_into_the_block(self) -> None:
        """In a `|` text the line of the file is that of the mistake itself."""
        text = audience("query: |", "  trait('a') = 1", "  AND trat('b') = 1")
        assert wrong(text)[0].startswith("5: vip: query: line 2, column 5:")

    def test_faults_are_bounded(self) -> None:
        """A thousand mistakes are not a thousand screens."""
        text = "audiences:\n" + "  - {key: email}\n" * 1_000
        with pytest.raises(WrongRegistry) as caught:
            read_registry(text)
        assert str(caught.value).endswith("and 900 more")
        assert len(caught.value.faults) == 1_000


class TestYaml:
    def test_anchors_and_merge_keys(self) -> None:
        """They mean what YAML says; what stands there itself comes first."""
        text = (
            "audiences:\n  - &base {key: a, cadence: batched, batched: &slow {every: 8h}}\n"
            "  - {<<: *base, key: b}\n  - {key: c, batched: *slow}\n"
        )
        rules = dict(read_registry(text).rules())
        assert rules["a"] == rules["b"] == ("b", 28_800_000, "f", 1)
        assert rules["c"] == ("r", 28_800_000, "f", 1)

    @pytest.mark.parametrize("loader", [yaml.SafeLoader, registry_yaml._LOADER])
    def test_both_parsers(self, loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyYAML with and without its C library reads the same, faults too."""
        monkeypatch.setattr(registry_yaml, "_LOADER", loader)
        assert read_registry("# \u00e9\n" + FULL).version == read_registry(FULL).version
        assert wrong("policy: x\naudiences:\n  - {<<: 1, key: 'email'}\n") == [
            "1: policy: 'x' is not one of personas, engage.",
            "3: `<<` takes a mapping.",
            "3: email: key: 'email' is a Braze profile field; choose another name.",
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "x" * 5_000_001,
            "a: &a {b: 1}\nx: {<<: [" + "*a," * 150_000 + "]}",
            "a: [" + "x," * 250_000 + "]",
            "\ud800",
            "a\x00b",
            "policy: \ud83d",
            "audiences:\n" + "".join(f"  - key: a{n}\n" for n in range(2_001)),
        ],
        ids=["large", "aliases", "long", "surrogate", "nul", "half", "many"],
    )
    @pytest.mark.timeout(20)
    def test_too_much_is_refused(self, text: str) -> None:
        """Size, nodes and entries are bounded; what no YAML can hold is refused."""
        assert len(wrong(text)) >= 1

    @pytest.mark.timeout(20)
    def test_aliases_do_not_explode(self) -> None:
        """The well-known bomb of nested aliases is just a few odd keys."""
        lines = ["a0: &a0 [x]"] + [
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
        ]
        assert len(wrong("\n".join(lines))) == 12


class TestLoading:
    def test_no_file(self, tmp_path: Path) -> None:
        """A file that does not exist declares nothing."""
        assert load_registry(tmp_path / "none.yaml") == Registry()

    def test_the_message_names_the_file(self, tmp_path: Path) -> None:
        """Every line of the message begins with the path."""
        path = tmp_path / "a.yaml"
        path.write_text("policy: x\nlanes: 3\n")
        with pytest.raises(WrongRegistry) as caught:
            load_registry(path)
        assert all(line.startswith(f"{path}:") for line in str(caught.value).splitlines())

    @pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"x" * 5_000_001])
    def test_no_text(self, tmp_path: Path, content: bytes) -> None:
        """What is no text, or too large, is refused by name."""
        path = tmp_path / "a.yaml"
        path.write_bytes(content)
        with pytest.raises(WrongRegistry, match=re.escape(str(path))):
            load_registry(path)

    def test_a_folder(self, tmp_path: Path) -> None:
        """A folder is no file."""
        with pytest.raises(WrongRegistry, match="cannot be read"):
            load_registry(tmp_path)
