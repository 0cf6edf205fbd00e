"""Why a command gives no answer: one form for all of them, whatever went wrong."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from console.asking import asked, insist
from console.cli import SUBCOMMANDS, _load, main
from console.refused import Refused


class TestRefused:
    def test_the_message_is_the_reason(self) -> None:
        """A sentence is enough for both; what else is known stands beside it."""
        refused = Refused(1, "unknown", "Nobody knows vipp.", near=["vip"])
        assert str(refused) == "Nobody knows vipp."
        assert refused.as_json() == {
            "error": {"code": "unknown", "reason": "Nobody knows vipp.", "near": ["vip"]}
        }

    def test_what_was_done_before_is_kept(self) -> None:
        """Of a command that stopped midway the document says how far it came, too."""
        refused = Refused(1, "stuck", "Braze is away.", "away").after({"users": 3})
        assert refused.as_json() == {"users": 3, "error": {"code": "stuck", "reason": "away"}}


class TestAsked:
    def test_yes_asks_nobody(self) -> None:
        """With --yes it is done."""
        assert asked("Drop it?", yes=True)
        insist("Drop it?", yes=True)

    def test_nobody_is_there(self) -> None:
        """Without a terminal it is not done; who cannot say what it would be wants --yes."""
        assert not asked("Drop it?", yes=False)
        with pytest.raises(typer.BadParameter, match="give --yes"):
            insist("Drop it?", yes=False)


class Ended(NamedTuple):
    """What a call left."""

    code: object
    out: str
    err: str


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """The command, in a folder with some bad files and at a server that is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "braze.key").write_text("a-key")
    (tmp_path / "members.ndjson").write_text("{}\n")
    (tmp_path / "page.json").write_text("[")
    for name, value in (
        ("REDIS_URL", "redis://127.0.0.1:1/0"),
        ("BRAZE_ENDPOINT", "US-01"),
        ("BRAZE_API_KEY_FILE", "braze.key"),
        ("DATA_DIR", "data"),
    ):
        monkeypatch.setenv(f"PERSONA_SYNC_{name}", value)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["persona-sync", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, *capsys.readouterr())

    return run


# Each command that prints a document, given something it cannot do; with exit and error code.
AWAY, WRONG = (1, "trouble"), (2, "wrong_use")
FAILING: dict[tuple[str, ...], tuple[int, str]] = {
    ("demo", "one-too-many"): WRONG,
    ("send", "u", "vip", "true"): AWAY,
    ("import", "none.ndjson"): (2, "no_file"),
    ("import", "."): (2, "cannot_read"),
    ("import", "members.ndjson", "--patience", "1ms"): (1, "gave_up"),
    ("status",): AWAY,
    ("trace", "u"): AWAY,
    ("forget", "u", "--yes"): AWAY,
    ("seed", "--yes"): AWAY,
    ("check", "one-too-many"): WRONG,
    ("pause",): AWAY,
    ("resume",): AWAY,
    ("flush", "vip"): AWAY,
    ("resync", "vip"): AWAY,
    ("audiences", "validate", "none.yaml"): (2, "no_file"),
    ("audiences", "list", "one-too-many"): WRONG,
    ("audiences", "explain", "nobody"): (1, "not_declared"),
    ("audiences", "explain", "--query", "event("): (2, "query_refused"),
    ("audiences", "import", "none.json"): (2, "cannot_read"),
    ("audiences", "import", "page.json"): (2, "not_json"),
    ("audiences", "import", "braze.key"): (2, "not_json"),
    ("audiences", "disable", "vip"): AWAY,
    ("audiences", "enable", "vip"): AWAY,
    ("audiences", "retire", "vip", "--set", "null"): AWAY,
    ("dead-letters", "list"): AWAY,
    ("dead-letters", "replay", "--older-than", "soon"): WRONG,
    ("dead-letters", "drop"): AWAY,
    ("dead-letters", "export", "."): AWAY,
}


@pytest.mark.parametrize("arguments", FAILING, ids=" ".join)
def test_a_failure_is_a_document_too(
    call: Callable[..., Ended], arguments: tuple[str, ...]
) -> None:
    """With --json one document on standard output, beside the sentence on standard error."""
    without, done = call(*arguments), call(*arguments, "--json")
    code, name = FAILING[arguments]
    error = json.loads(done.out)["error"]
    assert (without.code, done.code, error["code"]) == (code, code, name)
    assert error["reason"].strip()
    assert (done.err.splitlines()[-1], without.out) == (without.err.splitlines()[-1], "")


def test_no_command_that_prints_a_document_is_missing_here() -> None:
    """A new one has to say how it fails."""
    tried = {words[:2] if words[0] in _groups() else words[:1] for words in FAILING}
    assert {place for place, command in _commands() if _has_json(command)} == tried


def test_bytes_that_are_no_text(call: Callable[..., Ended]) -> None:
    """An argument that is not UTF-8 is wrong use, in the same form."""
    done = call("trace", "\udcff", "--json")
    assert (done.code, json.loads(done.out)["error"]["code"]) == (2, "wrong_use")


def _groups() -> dict[str, Any]:
    loaded = {name: _load(name, subcommand) for name, subcommand in SUBCOMMANDS.items()}
    return {name: found for name, found in loaded.items() if hasattr(found, "commands")}


def _commands() -> list[tuple[tuple[str, ...], Any]]:
    groups = _groups()
    alone = [((name,), _load(name, it)) for name, it in SUBCOMMANDS.items() if name not in groups]
    inner = [
        ((name, one), command)
        for name, group in groups.items()
        for one, command in group.commands.items()
    ]
    return [*alone, *inner]


def _has_json(command: Any) -> bool:
    return any("--json" in option.opts for option in command.params)
