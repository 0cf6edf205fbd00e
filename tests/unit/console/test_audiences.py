"""`persona-sync audiences`: validate, list, explain, without any server."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from console.audiences_explained import Explained, as_json, as_text
from console.audiences_listed import SHORT
from console.cli import app
from worker.audiences.cadence import Code, KnownKeys, Lane, Policy, decide, read_cadence
from worker.audiences.query.parse import parse_audience
from worker.audiences.registry import Registry
from worker.settings import WrongSettings

FILE = """\
lanes: {batched: {every: 1h}}
audiences:
  - key: vip
    query: event('Order Completed').count() >= 3
  - key: lapsed
    query: NOT event('Order Completed').within(30 days).count() >= 1
    batched: {every: 8h}
    attribute: seg_lapsed
  - key: told
    query: event('Order Completed').within(30 days).count() >= 1
    cadence: realtime
    enabled: false
  - key: follows
    query: trait('lapsed') = 'true'
traits:
  - {key: ltv, kind: sql}
  - {key: birthday, kind: custom}
"""


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDIS_URL_FILE"):
        monkeypatch.delenv(f"PERSONA_SYNC_{name}", raising=False)
    (tmp_path / "audiences.yaml").write_text(FILE)
    monkeypatch.setenv("PERSONA_SYNC_AUDIENCES", str(tmp_path / "audiences.yaml"))
    monkeypatch.setenv("PERSONA_SYNC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")


def call(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["audiences", *arguments], input=given)


def document(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def explained(query: str, now_ms: int = 0, policy: Policy = Policy.PERSONAS) -> Explained:
    parsed = parse_audience(query)
    decision = decide(read_cadence(parsed, policy, KnownKeys()), None)
    return Explained.at(now_ms, None, policy, decision, parsed, Registry().every(None))


class TestValidate:
    def test_a_right_file(self) -> None:
        """Counts, and what disagrees; exit 0."""
        done = call("validate")
        assert done.exit_code == 0
        counts = "4 audiences and 2 traits; 2 realtime, 3 batched, 1 not synced."
        assert counts in done.stdout
        assert "told: declared; its query reads as batched: time window" in done.stdout

    def test_json(self) -> None:
        """The same as a document."""
        report = document("validate")
        assert report["ok"] is True
        assert report["disagreeing"] == ["told"]
        lanes = report["realtime"] + report["batched"] + report["not_synced"]
        assert lanes == report["audiences"] + report["traits"]

    def test_a_wrong_file(self, tmp_path: Path) -> None:
        """Everything that is wrong, with its lines; exit 1."""
        path = tmp_path / "wrong.yaml"
        path.write_text("policy: x\naudiences:\n  - key: a\n    query: event('x').coun() > 1\n")
        done = call("validate", str(path))
        assert done.exit_code == 1
        assert f"{path}:1: " in done.stderr
        assert f"{path}:4: " in done.stderr
        assert "^^^^" in done.stderr

    def test_a_wrong_file_as_json(self, tmp_path: Path) -> None:
        """Line and column in the file, and those in the query."""
        path = tmp_path / "wrong.yaml"
        path.write_text("audiences:\n  - key: a\n    query: event('x').coun() > 1\n")
        done = call("validate", str(path), "--json")
        assert done.exit_code == 1
        (fault,) = json.loads(done.stdout)["faults"]
        assert (fault["line"], fault["column"]) == (3, 12)
        assert fault["query"]["column"] == 12
        assert fault["query"]["suggestion"] == "Did you mean `count`?"

    def test_standard_input(self) -> None:
        """`-` is standard input."""
        assert call("validate", "-", given="policy: engage\n").exit_code == 0
        assert call("validate", "-", given="policy: engag\n").exit_code == 1

    def test_no_file(self, tmp_path: Path) -> None:
        """A file that is not there cannot be checked; exit 2."""
        assert call("validate", str(tmp_path / "none.yaml")).exit_code == 2


class TestList:
    def test_json(self) -> None:
        """Every key with its lane, interval, reasons and what was declared."""
        report = document("list")
        assert report["server"] is False
        assert report["undeclared"] == []
        rows = {row["key"]: row for row in report["audiences"]}
        assert list(rows) == ["vip", "lapsed", "told", "follows", "ltv", "birthday"]
        assert rows["lapsed"] == {
            "key": "lapsed", "kind": "audience", "attribute": "seg_lapsed", "lane": "batched",
            "every": "8h", "reasons": ["not_done_within"], "why": "not done within a time",
            "declared": None, "reads_as": "batched", "disagrees": False, "enabled": True,
            "members": None,
        }  # fmt: skip
        assert rows["told"]["disagrees"] is True
        assert (rows["told"]["lane"], rows["told"]["reads_as"]) == ("realtime", "batched")
        assert rows["follows"]["why"] == "batched audience lapsed"
        assert rows["birthday"]["lane"] is None

    def test_text(self) -> None:
        """The same as a table."""
        lines = call("list").stdout.splitlines()
        assert re.match(r"audience +attribute +lane +every +why", lines[0])
        assert re.match(r"told +realtime +declared; .* disabled: nothing is sent", lines[3])

    def test_a_named_file_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without it disabled audiences would be sent: it is not passed over."""
        monkeypatch.setenv("PERSONA_SYNC_AUDIENCES", "none.yaml")
        assert isinstance(call("list").exception, WrongSettings)

    def test_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a file nothing is declared, and that is said."""
        monkeypatch.delenv("PERSONA_SYNC_AUDIENCES")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "audiences.yaml").unlink()
        done = call("list")
        assert done.exit_code == 0
        assert "every audience is realtime" in done.stdout

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is shown all the same, and the silence is mentioned."""
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", "redis://127.0.0.1:1/0")
        done = call("list", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["server"] is False
        assert "does not answer" in done.stderr

    def test_every_code_has_a_short_form(self) -> None:
        """No reason is without words."""
        assert set(SHORT) == set(Code)


class TestExplain:
    def test_the_document(self) -> None:
        """Exactly these fields; the next boundary is a multiple of the interval."""
        found = document("explain", "lapsed")
        assert list(found) == [
            "key", "policy", "lane", "reasons", "next_flush_at", "every", "declared",
            "enabled", "disabled", "retired", "shadowed_by",
        ]  # fmt: skip
        (reason,) = found["reasons"]
        assert list(reason) == ["code", "fragment", "line", "column", "text", "via"]
        assert reason["code"] == "not_done_within"
        assert (reason["line"], reason["column"]) == (1, 1)
        assert reason["fragment"].startswith("NOT event(")
        assert found["every"] == "8h"
        assert re.search(r"T(00|08|16):01:30\.000Z$", found["next_flush_at"])

    def test_a_disabled_one_has_no_next_flush(self) -> None:
        """What the file disables is said to be, in the place of when it goes."""
        found = document("explain", "told")
        assert (found["enabled"], found["disabled"], found["next_flush_at"]) == (False, None, None)
        assert call("explain", "told").stdout.startswith(
            "told: realtime; disabled in audiences.yaml\n"
        )

    def test_a_shadowed_one_names_the_other(self) -> None:
        """The name of another key's attribute is none to explain by itself: nothing of it goes."""
        found = document("explain", "seg_lapsed")
        assert (found["shadowed_by"], found["next_flush_at"]) == ("lapsed", None)
        assert call("explain", "seg_lapsed").stdout.startswith(
            "seg_lapsed: realtime; shadowed by lapsed, which is sent under its name\n"
        )
        assert document("explain", "lapsed")["shadowed_by"] is None
        assert call("explain", "nobody").exit_code == 1

    def test_realtime_has_no_boundary(self) -> None:
        """Nothing is waited for."""
        found = document("explain", "vip")
        assert (found["lane"], found["next_flush_at"], found["every"]) == ("realtime", None, None)

    def test_the_boundary_follows_the_instant(self) -> None:
        """The first one strictly after it."""
        found = as_json(explained("event('x').within(2 days).count() > 1", 3_600_000))
        assert found["next_flush_at"] == "1970-01-01T02:00:00.000Z"

    def test_inherited_reasons_say_through_whom(self) -> None:
        """`via` names the keys, the nearest first."""
        (reason,) = document("explain", "follows")["reasons"]
        assert reason["via"] == ["lapsed"]

    def test_a_disagreement_is_shown(self) -> None:
        """The declared lane wins; how the query reads stands beside it."""
        found = document("explain", "told")
        assert (found["lane"], found["declared"]) == ("realtime", "realtime")
        assert "reads as batched: event_within" in found["reasons"][0]["text"]
        text = call("explain", "told").stdout
        assert "The file declares it realtime, and that wins." in text
        assert "^^^" in text

    def test_another_policy(self) -> None:
        """What is inherited is read under that policy, too."""
        query = "event('x').within(7 days).count() >= 1"
        assert document("explain", "--query", query)["lane"] == "batched"
        assert document("explain", "--query", query, "--policy", "engage")["lane"] == "realtime"

    def test_a_query_may_refer_to_the_file(self) -> None:
        """References of a query that is not in the file are resolved there."""
        found = document("explain", "--query", "trait('lapsed') = 'true'")
        assert found["key"] is None
        assert found["reasons"][0]["via"] == ["lapsed"]

    def test_a_broken_file_does_not_stop_a_query(self, tmp_path: Path) -> None:
        """It is explained without references, and that is said."""
        (tmp_path / "audiences.yaml").write_text("policy: [")
        done = call("explain", "--query", "trait('lapsed') = 'true'", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["lane"] == "realtime"
        assert "not followed" in done.stderr

    def test_traits_and_accounts(self) -> None:
        """The same query, said to be something else."""
        value = "event('x').within(7 days).count()"
        found = document("explain", "--query", value, "--trait")
        assert found["reasons"][0]["code"] == "sliding_window"
        found = document("explain", "--query", f"ANY {value} > 1", "--type", "ACCOUNTS")
        assert found["reasons"][0]["code"] == "account_level"

    def test_an_sql_trait(self) -> None:
        """A reason without a query has no place."""
        found = document("explain", "ltv")
        assert found["reasons"][0]["line"] is None
        assert "SQL trait" in call("explain", "ltv").stdout

    def test_a_refused_query(self) -> None:
        """Exit 2, and the place with a caret."""
        done = call("explain", "--query", "event('x').coun() > 1")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert "line 1, column 12" in done.stderr
        assert "^^^^" in done.stderr

    def test_a_refused_query_as_a_document(self) -> None:
        """With --json a refusal is one, too: a code, the reason, the position."""
        done = call("explain", "--query", "event('x').coun() > 1", "--json")
        assert done.exit_code == 2
        assert "There is no function `coun`." in done.stderr
        error = json.loads(done.stdout)["error"]
        assert error["code"] == "query_refused"
        assert error["reason"] == "There is no function `coun`."
        assert (error["line"], error["column"], error["offset"], error["length"]) == (1, 12, 11, 4)
        assert error["suggestion"] == "Did you mean `count`?"

    @pytest.mark.parametrize(
        ("arguments", "option"),
        [
            (["ALL event('x').count() > 1"], "with --type ACCOUNTS."),
            (["event('x').count()"], "with --trait."),
            (["event('x').count() > 1", "--trait"], "without --trait."),
        ],
    )
    def test_a_refusal_names_the_option_that_is_missing(
        self, arguments: list[str], option: str
    ) -> None:
        """A query that is only something else than was said: the option that says so."""
        done = call("explain", "--query", *arguments)
        assert done.exit_code == 2
        assert done.stderr.endswith(f"It can be read {option}\n")
        error = json.loads(call("explain", "--query", *arguments, "--json").stdout)["error"]
        assert error["option"] == f"It can be read {option}"

    def test_mistakes_elsewhere_do_not_stop_it(self, tmp_path: Path) -> None:
        """A key is explained though another entry is wrong, and that is said."""
        wrong = FILE + "  - {key: spoilt, query: event('x').coun()}\n"
        (tmp_path / "audiences.yaml").write_text(wrong)
        done = call("explain", "lapsed", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["lane"] == "batched"
        assert "mistakes in other entries" in done.stderr

    @pytest.mark.parametrize("key", ["vip", "spoilt", "nobody"])
    def test_mistakes_in_the_entry_itself_do(self, tmp_path: Path, key: str) -> None:
        """What it says cannot be known: refused with all that is wrong, never guessed."""
        wrong = FILE + "  - {key: spoilt, query: event('x').coun()}\n  - {key: vip}\n"
        (tmp_path / "audiences.yaml").write_text(wrong)
        done = call("explain", key)
        assert done.exit_code == 1
        assert "coun" in done.stderr
        error = json.loads(call("explain", key, "--json").stdout)["error"]
        assert error["code"] == "wrong_registry"

    def test_queries_in_a_ring_are_not_explained(self, tmp_path: Path) -> None:
        """Those that refer to each other have no answer; the others have theirs."""
        ring = FILE + (
            "  - {key: a, query: \"trait('b').count()\"}\n  - {key: b, query: trait('a')}\n"
        ).replace(".count()", "")
        (tmp_path / "audiences.yaml").write_text(ring)
        assert call("explain", "a").exit_code == call("explain", "b").exit_code == 1
        assert call("explain", "lapsed").exit_code == 0

    @pytest.mark.parametrize(
        ("key", "said"),
        [("lapse", "Did you mean lapsed?"), ("zzz", "realtime"), ("birthday", "no 'birthday'")],
    )
    def test_an_unknown_key(self, key: str, said: str) -> None:
        """Exit 1, with what was perhaps meant."""
        done = call("explain", key)
        assert done.exit_code == 1
        assert said in done.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            [], ["vip", "--query", "x"], ["vip", "--trait"], ["vip", "--type", "USERS"],
            ["vip", "--policy", "none"], ["--query", "x", "--type", "LINKED"],
        ],
    )  # fmt: skip
    def test_wrong_use(self, arguments: list[str]) -> None:
        """Exit 2 for what makes no sense together."""
        assert call("explain", *arguments).exit_code == 2


class TestUnderlining:
    def test_the_fragment_is_underlined(self) -> None:
        """The carets stand under the fragment of the reason."""
        lines = as_text(explained("event('x').within(7 days).count() >= 1")).splitlines()
        at = next(number for number, line in enumerate(lines) if "^" in line)
        marked = slice(lines[at].index("^"), lines[at].rindex("^") + 1)
        assert lines[at - 1][marked] == "within(7 days)"

    def test_several_reasons_are_numbered(self) -> None:
        """Each number stands at its underlining and at its sentence."""
        query = "event('x').within(7 days).count() > 1\nAND event('y').within(8 days).count() > 1"
        text = as_text(explained(query))
        assert text.count("[1]") == text.count("[2]") == 2

    @pytest.mark.parametrize("width", [40, 60, 200])
    def test_nothing_is_wider_than_the_screen(self, width: int) -> None:
        """Long queries are shown in pieces, with wide letters counted as two."""
        query = " AND ".join(f"event('長い名前{n}').within({n} days).count() > 1" for n in range(9))
        shown = explained(query)
        text = as_text(shown, width).splitlines()
        pieces = [line[4:] for line in text if line.startswith("    ") and "^" not in line]
        assert "".join(pieces).replace(" ", "") == query.replace(" ", "")
        assert all(len(piece) <= width - 4 for piece in pieces)

    def test_realtime_is_not_underlined(self) -> None:
        """There is nothing to point at."""
        shown = explained("event('x').count() > 1")
        assert shown.decision.lane is Lane.REALTIME
        assert "^" not in as_text(shown)
