"""The generator: the same bytes for the same numbers, and the shipped file is its work."""

import ast
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox.engage.generate as generate
from sandbox.engage.dice import Dice
from sandbox.engage.space import COMPUTATIONS
from worker.audiences.registry import load_registry


class TestDeterminism:
    def test_same_seed_same_bytes(self):
        """Two runs agree, packed and not."""
        first, second = (generate.example(7, 1500, 200) for _ in range(2))
        assert first.content == second.content
        assert first.truth == second.truth
        assert generate.pack(first.content) == generate.pack(second.content)

    def test_another_process_agrees(self, tmp_path):
        """Hash seeds and import order have no say."""
        file = tmp_path / "m.ndjson.gz"
        for hash_seed in ("1", "2"):
            subprocess.run(
                [
                    *(sys.executable, "-m", "sandbox.engage.generate", "--seed", "7"),
                    *("--messages", "1500", "--users", "200", "--output", str(file)),
                ],
                check=True,
                env={"PYTHONHASHSEED": hash_seed},
                cwd=Path(generate.__file__).parents[2],
            )
            assert file.read_bytes() == generate.pack(generate.example(7, 1500, 200).content)

    def test_another_seed_is_another_file(self):
        """The seed matters."""
        assert generate.example(1, 500, 50).content != generate.example(2, 500, 50).content

    def test_chance_comes_from_random_alone(self, monkeypatch):
        """Only `random()` is promised to be stable across versions of Python."""
        for method in ("getrandbits", "randrange", "randint", "choice", "shuffle", "choices"):
            monkeypatch.setattr(random.Random, method, None)
        assert generate.example(3, 400, 40).lines

    def test_the_sequence_is_the_known_one(self):
        """A dice of seed 1 gives these numbers on every Python."""
        dice = Dice(1)
        assert [dice.below(100) for _ in range(5)] == [13, 84, 76, 25, 49]

    def test_packed_file_names_no_time_and_no_file(self):
        """The gzip header is the same wherever the file is made."""
        header = generate.pack(b"x")[:10]
        assert header[3] == 0
        assert header[4:8] == bytes(4)


class TestSizes:
    @pytest.mark.parametrize("messages", [250, 999, 4000])
    @pytest.mark.parametrize("users", [1, 40, 3000])
    def test_exactly_that_many_lines(self, messages, users):
        """`--messages` counts lines, whatever they hold."""
        made = generate.example(5, messages, users)
        assert made.content.count(b"\n") == messages == made.counts["lines"]

    def test_too_small_is_said(self, capsys):
        """No room for every fault: wrong use, in words."""
        with pytest.raises(SystemExit) as stopped:
            generate.main(["--messages", "20", "--output", "-"])
        assert stopped.value.code == 2
        assert "too few messages" in capsys.readouterr().err


class TestShippedFile:
    def test_is_what_the_generator_makes(self, lines, made):
        """Byte for byte, unpacked: the packing may differ between builds of zlib."""
        assert lines == [line.text for line in made.lines]

    def test_is_packed_as_the_generator_packs(self, shipped):
        """Same header as ours, and small enough for a repository."""
        packed = shipped.read_bytes()
        assert packed[:10] == generate.pack(b"x")[:10]
        assert len(packed) < 2_500_000

    def test_written_truth_is_the_truth(self, tmp_path):
        """`--truth` holds every profile and the counts."""
        truth = tmp_path / "truth.json.gz"
        output = tmp_path / "m.ndjson"
        sizes = ["--seed", "9", "--messages", "800", "--users", "90"]
        assert generate.main([*sizes, "--output", str(output), "--truth", str(truth)]) == 0
        whole = json.loads(gzip.decompress(truth.read_bytes()))
        assert whole["profiles"] == generate.truth(9, 800, 90)
        assert whole["counts"]["lines"] == len(output.read_bytes().splitlines())

    def test_audiences_file_declares_all_but_one(self, shipped):
        """audiences.yaml names what the space computes, in its lane; one is left out."""
        registry = load_registry(shipped.with_name("audiences.yaml"))
        for group, is_audience in ((registry.audiences, True), (registry.traits, False)):
            lanes = {entry.key: registry.decisions[entry.key].lane for entry in group}
            wanted = {
                one.key: one.cadence
                for one in COMPUTATIONS
                if one.declared and (one.value == "membership") == is_audience
            }
            assert lanes == wanted
        assert sum(not one.declared for one in COMPUTATIONS) == 1

    def test_lanes_are_read_from_queries(self, shipped):
        """All but a journey step have a query; one cadence is declared, against the reading."""
        registry = load_registry(shipped.with_name("audiences.yaml"))
        assert [one.key for one in registry.entries if one.query is None] == ["j_o_welcome_step_2"]
        assert [one.key for one in registry.entries if one.declared] == ["trial_user"]
        assert registry.decisions["trial_user"].disagrees


def test_imports_nothing_of_ours():
    """Two parties that agree must not share code: the standard library and orjson only."""
    allowed = {*sys.stdlib_module_names, "orjson"}
    for file in Path(generate.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.startswith("sandbox.engage.") or name.split(".")[0] in allowed
