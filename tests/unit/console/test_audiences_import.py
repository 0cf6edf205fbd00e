"""`persona-sync audiences import`: what Segment says comes into the file, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from console.cli import app
from worker.audiences.cadence import Lane
from worker.audiences.query.tree import Kind
from worker.audiences.registry import Registry, load_registry

FILE = """\
# Ours.
policy: engage   # yes
audiences:
  # The best.
  - key: vip
    query: "event( 'Bought' ).count().at_least(3)"   # by hand
    enabled: false
  - key: old   # not in Segment any more
    cadence: realtime
traits: []
"""


def said(key: str, query: str | None = "event('Bought').count() >= 3", **more: Any) -> Any:
    """One audience as v1 has it."""
    audience = {
        "key": key,
        "name": f"The {key}",
        "enabled": True,
        "audienceType": "USERS",
        "computeCadence": {"type": "REALTIME"},
        "definition": {"query": query},
    }
    return {**audience, **more}


class File:
    """audiences.yaml in a folder of its own, and imports into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audiences.yaml"
        self._json = folder / "segment.json"

    def load(self, *audiences: Any, more: tuple[str, ...] = ()) -> Result:
        self._json.write_text(json.dumps({"data": {"audiences": audiences}}))
        return CliRunner().invoke(app, ["audiences", "import", str(self._json), *more])

    def fates(self, *audiences: Any) -> dict[str, str]:
        done = self.load(*audiences, more=("--json",))
        return {one["key"]: one["fate"] for one in json.loads(done.stdout)["audiences"]}

    @property
    def text(self) -> str:
        return self.path.read_bytes().decode()

    @property
    def registry(self) -> Registry:
        return load_registry(self.path)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    monkeypatch.setenv("PERSONA_SYNC_AUDIENCES", str(tmp_path / "audiences.yaml"))
    monkeypatch.setenv("PERSONA_SYNC_DATA_DIR", str(tmp_path / "data"))
    return File(tmp_path)


def test_a_new_file(file: File) -> None:
    """Without a file one is made: key, query, cadence, and the name as a remark."""
    assert file.load(said("vip"), said("late", computeCadence={"type": "BATCH"})).exit_code == 0
    assert file.text == (
        "audiences:\n"
        "  - key: vip  # The vip\n"
        "    query: \"event('Bought').count() >= 3\"\n"
        "    cadence: realtime\n"
        "  - key: late  # The late\n"
        "    query: \"event('Bought').count() >= 3\"\n"
        "    cadence: batched\n"
    )


def test_comments_order_and_the_rest_stay(file: File) -> None:
    """Only the lines that must change do; what Segment does not know is kept."""
    file.path.write_text(FILE)
    assert file.fates(said("new"), said("vip")) == {"new": "added", "vip": "updated"}
    assert file.text == FILE.replace(
        "# by hand\n", "# by hand\n    cadence: realtime\n"
    ).replace(
        "    cadence: realtime\ntraits",
        "    cadence: realtime\n  - key: new  # The new\n"
        "    query: \"event('Bought').count() >= 3\"\n    cadence: realtime\ntraits",
    )  # fmt: skip


def test_once_more_changes_nothing(file: File) -> None:
    """The second import finds everything as it is, and leaves the file alone."""
    file.path.write_text(FILE)
    stated = [
        said("vip"),
        said("new"),
        said("accounts", "ANY trait('a') = 1"),
        said("linked", None),
    ]
    file.load(*stated)
    once = file.path.stat()
    assert set(file.fates(*stated).values()) == {"unchanged"}
    again = file.path.stat()
    assert (again.st_ino, again.st_mtime_ns) == (once.st_ino, once.st_mtime_ns)


def test_another_query_replaces_ours(file: File) -> None:
    """What Segment computes is what counts; the same query in other words stays as written."""
    file.path.write_text(FILE)
    file.load(said("vip", "event('Bought').count() >= 4"))
    assert "query: \"event('Bought').count() >= 4\"   # by hand" in file.text


def test_a_dry_run_writes_nothing(file: File) -> None:
    """It shows the difference instead."""
    file.path.write_text(FILE)
    done = file.load(said("vip"), more=("--dry-run",))
    assert done.exit_code == 0
    assert "+    cadence: realtime" in done.stdout
    assert file.text == FILE


def test_another_output(file: File, tmp_path: Path) -> None:
    """`--output` names the file that is read and written."""
    other = tmp_path / "other.yaml"
    file.load(said("vip"), more=("--output", str(other)))
    assert load_registry(other).entry("vip") is not None
    assert not file.path.exists()


def test_standard_input(file: File) -> None:
    """`-` is standard input."""
    text = json.dumps({"data": {"audience": said("vip")}})
    assert CliRunner().invoke(app, ["audiences", "import", "-"], input=text).exit_code == 0
    assert file.registry.entry("vip") is not None


def test_accounts(file: File) -> None:
    """The type is written where it is not USERS; v1 and alpha say it in different places."""
    query = "ANY event('x').count() >= 1"
    alpha = {"key": "alpha", "definition": {"query": query, "type": "ACCOUNTS"}}
    file.load(said("v1", query, audienceType="ACCOUNTS"), alpha)
    for key in ("v1", "alpha"):
        entry = file.registry.entry(key)
        assert entry is not None
        assert entry.query is not None
        assert entry.query.kind is Kind.ACCOUNTS


@pytest.mark.parametrize(
    ("stated", "note"),
    [
        (said("x", "event('x'", computeCadence={"type": "BATCH"}), "its query cannot be read"),
        (said("x", audienceType="LINKED", computeCadence={"type": "BATCH"}), "a Linked Audience"),
        (said("x", None, computeCadence={"type": "BATCH"}), "Segment gave no query"),
        (said("x", "event('x'", audienceType="ACCOUNTS", computeCadence=None), "on a schedule"),
        (said("x", audienceType="LINKED", computeCadence=None), "on a schedule"),
        (said("x", audienceType="NEW", computeCadence={"type": "BATCH"}), "'NEW' is not known"),
    ],
)
def test_what_we_cannot_read_is_kept_with_its_cadence(file: File, stated: Any, note: str) -> None:
    """No query is written, and the report says why."""
    done = file.load(stated)
    assert done.exit_code == 0
    assert note in done.stderr
    entry = file.registry.entry("x")
    assert entry is not None
    assert (entry.query, entry.declared) == (None, Lane.BATCHED)


@pytest.mark.parametrize(
    ("stated", "note"),
    [
        (said("email"), "Braze profile field"),
        (said("$x"), "may not begin with $"),
        ({"name": "No key", "definition": {"query": "x"}}, "it has no key"),
        (said("seg_vip"), "is the attribute of 'vip'"),
        (said("spend"), "has a trait of this key"),
    ],
)
def test_what_cannot_be_synced_is_left_out(file: File, stated: Any, note: str) -> None:
    """It is reported, the others are taken over, and the exit code is 1."""
    file.path.write_text("audiences: [{key: vip, attribute: seg_vip}]\ntraits: [{key: spend}]\n")
    done = file.load(stated, said("good"))
    assert done.exit_code == 1
    assert note in done.stderr
    assert file.registry.entry("good") is not None
    assert len(file.registry.audiences) == 2


def test_twice_in_one_list(file: File) -> None:
    """The first counts."""
    assert file.fates(said("a"), said("a", "trait('x') = 1")) == {"a": "left_out"}
    (entry,) = file.registry.audiences
    assert entry.query is not None
    assert entry.query.text.startswith("event")


def test_whether_it_is_enabled(file: File) -> None:
    """A new one follows Segment; ours stays as it is, and the difference is mentioned."""
    file.path.write_text(FILE)
    done = file.load(said("vip"), said("off", enabled=False))
    assert "enabled in Segment and disabled here" in done.stderr
    assert [one.is_enabled for one in file.registry.audiences] == [False, True, False]


def test_an_unknown_cadence(file: File) -> None:
    """A word that is new is passed over, and reported."""
    done = file.load(said("a", computeCadence={"type": "HOURLY"}))
    assert "'HOURLY'" in done.stderr
    assert file.registry.audiences[0].declared is None


def test_a_ring_is_refused(file: File) -> None:
    """If queries would refer to each other in a ring, nothing is written."""
    done = file.load(said("a", "trait('b') = 1"), said("b", "trait('a') = 1"))
    assert done.exit_code != 0
    assert not file.path.exists()


def test_a_form_that_cannot_be_edited(file: File) -> None:
    """An alias that two audiences share is not changed under their hands."""
    text = "audiences:\n  - {key: a, cadence: &c batched}\n  - {key: b, cadence: *c}\n"
    file.path.write_text(text)
    done = file.load(said("a"))
    assert done.exit_code == 1
    assert "cannot be edited in place" in done.stderr
    assert file.text == text


def test_more_pages_are_mentioned(file: File, tmp_path: Path) -> None:
    """One page of several is not taken for all."""
    path = tmp_path / "page.json"
    page = {"data": {"audiences": [said("a")], "pagination": {"next": "x"}}}
    path.write_text(json.dumps(page))
    done = CliRunner().invoke(app, ["audiences", "import", str(path)])
    assert "other pages" in done.stderr


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '"\\ud800"', '{"errors": []}'])
def test_no_audiences(file: File, tmp_path: Path, content: str) -> None:
    """Something else is refused with exit code 2."""
    path = tmp_path / "page.json"
    path.write_text(content)
    assert CliRunner().invoke(app, ["audiences", "import", str(path)]).exit_code == 2
    assert not file.path.exists()


def test_a_file_that_is_not_there(file: File) -> None:
    """Wrong use."""
    assert CliRunner().invoke(app, ["audiences", "import", "none.json"]).exit_code == 2


def test_permissions_and_links_stay(file: File, tmp_path: Path) -> None:
    """The file that a link leads to is replaced, with the permissions it had."""
    real = tmp_path / "real.yaml"
    real.write_text(FILE)
    real.chmod(0o640)
    file.path.symlink_to(real)
    file.load(said("vip"))
    assert file.path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "cadence: realtime\n    enabled" in real.read_text()
