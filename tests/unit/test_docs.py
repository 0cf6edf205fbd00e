"""The documentation says what the code does, as far as a program can tell."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from celery.bin.worker import worker as celery_worker
from typer.testing import CliRunner

from console.cli import SUBCOMMANDS, app
from producer.http.metrics import METRICS as OF_PRODUCER
from worker.audiences.registry import load_registry
from worker.contract import REASONS
from worker.delivery import TODO
from worker.metric import Metric
from worker.observe.metrics import METRICS
from worker.pipeline.reply import Trouble
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = {"settings.md", "refusals.md", "metrics.md"}
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(*pages: Path) -> str:
    return "\n".join(page.read_text() for page in pages)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def shell_lines(page: Path) -> Iterator[str]:
    """The command lines of a page's shell blocks, without comments."""
    for language, block in _FENCE.findall(page.read_text()):
        if language == "sh":
            yield from (line.partition(" #")[0].strip() for line in block.splitlines())


def commands(page: Path) -> Iterator[list[str]]:
    """Every `persona-sync ...` of a page, in shell blocks and in running text."""
    said = [*shell_lines(page), *_CODE.findall(_FENCE.sub("", page.read_text()))]
    for line in said:
        words = line.split()
        if words and words[0] == "persona-sync" and len(words) > 1:
            yield words[1:]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


class TestGenerated:
    def test_pages_are_up_to_date(self) -> None:
        """What docs/generate.py writes is what is there."""
        assert load_generator().stale() == []

    def test_a_stale_page_is_noticed(self, tmp_path: Path) -> None:
        """A page that is missing or differs is named."""
        generator = load_generator()
        assert generator.stale(tmp_path) == list(generator.PAGES)
        for name, page in generator.PAGES.items():
            (tmp_path / name).write_text(page() + "and more")
        assert generator.stale(tmp_path) == list(generator.PAGES)

    @pytest.mark.parametrize("name", Settings.model_fields)
    def test_every_setting_is_documented(self, name: str) -> None:
        """Each setting has a row with its variable and a reason."""
        row = re.search(
            rf"^`PERSONA_SYNC_{name.upper()}` \| .+ \| .+ \| \S.+$",
            text_of(DOCS / "settings.md"),
            re.MULTILINE,
        )
        assert row is not None

    def test_a_file_is_a_secrets_only_if_a_secret_goes_with_it(self) -> None:
        """Any other path is just a path."""
        page = text_of(DOCS / "settings.md")
        assert "`PERSONA_SYNC_ALIVE_FILE` | not set | path | " in page
        assert "`PERSONA_SYNC_WRITE_KEYS_FILE` | not set | path of a secret's file | " in page

    @pytest.mark.parametrize("code", REASONS)
    def test_every_refusal_is_documented(self, code: str) -> None:
        """Each code that a producer can give has a row with its reason."""
        assert f"`{code}` | {REASONS[code]}" in text_of(DOCS / "refusals.md")

    @pytest.mark.parametrize("metric", [*METRICS, *OF_PRODUCER], ids=lambda metric: metric.name)
    def test_every_metric_is_documented(self, metric: Metric) -> None:
        """Each metric has a row with its type, its labels, what it is and what to do."""
        (row,) = (
            line.split(" | ")
            for line in text_of(DOCS / "metrics.md").splitlines()
            if line.startswith(f"`{metric.name}` | ")
        )
        _, kind, labels, *said = row
        assert kind == f"{metric.kind}, {metric.unit}"
        assert re.findall(r"`(\w+)`: ", labels) == list(metric.label_names)
        assert said == [metric.meaning, metric.todo]

    def test_the_page_says_what_labels_hold(self) -> None:
        """No label is a user or a value; the one that is an audience's key is said to be."""
        labels = {name for metric in (*METRICS, *OF_PRODUCER) for name in metric.label_names}
        assert not labels & {"user", "user_id", "value", "key", "attribute"}
        page = " ".join(text_of(DOCS / "metrics.md").split())
        assert "No metric holds a user, a value of one, or a secret. The `audience` of some" in page

    def test_metrics_that_are_named_exist(self) -> None:
        """No page speaks of a metric that is not registered."""
        known = {
            metric.name + suffix
            for metric in (*METRICS, *OF_PRODUCER)
            for suffix in ("", *(("_bucket", "_sum", "_count") if metric.edges else ()))
        }
        named = set(re.findall(r"\bpersona_sync_\w+", text_of(*PAGES)))
        assert named <= known


class TestNames:
    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_settings_that_are_named_exist(self, page: Path) -> None:
        """No page speaks of a variable that is not read."""
        named = set(re.findall(r"PERSONA_SYNC_([A-Z_]+[A-Z])", page.read_text()))
        assert named <= {name.upper() for name in Settings.model_fields}

    @pytest.mark.parametrize("name", SUBCOMMANDS)
    def test_every_command_is_documented(self, name: str) -> None:
        """Each command is shown in the README or the runbook."""
        assert f"persona-sync {name}" in text_of(ROOT / "README.md", DOCS / "operations.md")

    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_commands_that_are_named_exist(self, page: Path) -> None:
        """No page tells anybody to run a command or an option that is not there."""
        for name, *rest in commands(page):
            assert name in SUBCOMMANDS
            group = [name, *(word for word in rest[:1] if not word.startswith("-"))]
            usage = CliRunner().invoke(app, [*group, "--help"]).output
            for option in (word for word in rest if word.startswith("--")):
                assert re.search(rf"{option}\b", usage), f"persona-sync {name} {option}"

    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_make_targets_that_are_named_exist(self, page: Path) -> None:
        """`make X` in a shell block is a target of the Makefile."""
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {line.split()[1] for line in shell_lines(page) if line.startswith("make ")}
        assert named <= targets

    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_worker_options_that_are_named_exist(self, page: Path) -> None:
        """`celery ... worker` is shown with options that Celery has."""
        known = {name for option in celery_worker.params for name in option.opts}
        for line in shell_lines(page):
            if line.startswith("celery ") and " worker " in line:
                options = re.findall(r" (--?[a-zA-Z-]+)", line.partition(" worker ")[2])
                assert set(options) <= known

    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_paths_that_are_named_exist(self, page: Path) -> None:
        """A path of the repository in running text is there."""
        for code in _CODE.findall(_FENCE.sub("", page.read_text())):
            if re.match(r"(worker|producer|console|sandbox|tests|docs)/\S*$", code):
                assert (ROOT / code).exists() or list(ROOT.glob(code)), code


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=shown)
    def test_links_resolve(self, page: Path) -> None:
        """Every link inside the repository leads to a file, and to a title in it."""
        for link in _LINK.findall(_FENCE.sub("", page.read_text())):
            if "://" in link:
                continue
            place, _, title = link.partition("#")
            target = (page.parent / place).resolve() if place else page
            assert target.exists(), link
            assert not title or title in anchors(target), link


class TestRunbook:
    @pytest.mark.parametrize("reason", [*TODO, *Trouble])
    def test_reasons_are_explained(self, reason: str) -> None:
        """Whatever stops the destination, the runbook says what to do."""
        assert f"`{reason}`" in text_of(DOCS / "operations.md")


class TestDecisions:
    @pytest.mark.parametrize("record", RECORDS, ids=shown)
    def test_a_record_has_its_parts(self, record: Path) -> None:
        """Context, one quotable decision, consequences, alternatives, what holds it; one page."""
        text = record.read_text()
        titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert titles == ["Context", "Decision", "Consequences", "Alternatives", "Held by"]
        assert len(re.findall(r"(?:^> .+\n)+", text, re.MULTILINE)) == 1
        assert len(text.splitlines()) <= 50

    def test_all_are_listed(self) -> None:
        """The list of decisions has every record, in order."""
        listed = _LINK.findall(text_of(DOCS / "decisions" / "README.md"))
        assert listed == [record.name for record in RECORDS]


class TestExample:
    def test_the_example_is_a_registry(self) -> None:
        """audiences.example.yaml can be used as it is."""
        registry = load_registry(ROOT / "audiences.example.yaml")
        assert len(registry.audiences) > 2


class TestForm:
    @pytest.mark.parametrize("page", [p for p in PAGES if p.name not in GENERATED], ids=shown)
    def test_lines_are_short(self, page: Path) -> None:
        """Prose has at most 100 characters a line; tables and blocks are as they are."""
        prose = _FENCE.sub("", page.read_text()).splitlines()
        assert [line for line in prose if len(line) > 100 and "|" not in line] == []


def test_help_is_click() -> None:
    """The help that is searched for options is that of the command itself."""
    result = CliRunner().invoke(app, ["import", "--help"])
    assert result.exit_code == 0
    assert "--source" in click.unstyle(result.output)
