"""The file audiences.yaml while somebody looks at it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from worker.audiences.registry import WrongRegistry
from worker.audiences.registry_file import RegistryFile

VIP = "audiences: [{key: vip}]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "audiences.yaml"


def write(path: Path, text: str, at: int) -> None:
    """Write it, and let it be as old as is said."""
    path.write_text(text)
    os.utime(path, ns=(at, at))


class TestChanged:
    def test_the_first_look_reads(self, path: Path) -> None:
        """What a process finds at its start; then nothing until it is another."""
        write(path, VIP, 1)
        file = RegistryFile(path, timedelta(seconds=90))
        reading = file.changed()
        assert reading is not None
        assert reading.text == VIP
        assert reading.registry.entry("vip")
        assert reading.registry.lane_terms()[3] == 90_000
        assert file.changed() is None
        assert file.last == reading

    def test_another_content_is_read_once_it_rests(self, path: Path) -> None:
        """A file that is being written is left alone until it was the same twice."""
        write(path, VIP, 1)
        file = RegistryFile(path)
        file.changed()
        write(path, "audiences: [{key: half", 2)
        assert file.changed() is None
        write(path, "audiences: [{key: whole}]\n", 3)
        assert file.changed() is None
        reading = file.changed()
        assert reading is not None
        assert reading.registry.entry("whole")

    def test_a_file_that_was_just_written_rests_first(self, path: Path) -> None:
        """Half a file is not read because its writer pauses, however often it is seen."""
        now = 10**18
        write(path, VIP, 1)
        file = RegistryFile(path, clock=lambda: now)
        file.changed()
        write(path, "audiences: [{key: half}]\n", now)
        now += 2_900_000_000
        assert [file.changed() for _ in range(3)] == [None, None, None]
        write(path, "audiences: [{key: whole}]\n", now)
        now += 2_900_000_000
        assert [file.changed() for _ in range(3)] == [None, None, None]
        now += 200_000_000
        reading = file.changed()
        assert reading is not None
        assert reading.registry.entry("whole")

    def test_an_empty_file_is_wrong(self, path: Path) -> None:
        """A file that says nothing is refused like one that is gone; an empty list is not."""
        write(path, VIP, 1)
        file = RegistryFile(path)
        file.changed()
        write(path, "# to be written\n", 2)
        assert file.changed() is None
        with pytest.raises(WrongRegistry, match="says nothing"):
            file.changed()
        write(path, "audiences: []\n", 3)
        assert file.changed() is None
        assert file.changed() is not None

    def test_the_same_content_again_is_nothing(self, path: Path) -> None:
        """A file that was only touched, or written anew as it was, says nothing new."""
        write(path, VIP, 1)
        file = RegistryFile(path)
        file.changed()
        write(path, VIP, 2)
        assert [file.changed() for _ in range(3)] == [None, None, None]

    def test_a_broken_file_is_said_once(self, path: Path) -> None:
        """Each wrong content is wrong once, and the last good one is kept."""
        write(path, VIP, 1)
        file = RegistryFile(path)
        good = file.changed()
        write(path, "audiences: [{kee: vip}]\n", 2)
        assert file.changed() is None
        with pytest.raises(WrongRegistry, match=":1: "):
            file.changed()
        assert [file.changed() for _ in range(2)] == [None, None]
        assert file.last == good
        write(path, VIP, 3)
        assert file.changed() is None
        again = file.changed()
        assert again is not None, "the fault is over, and somebody must be told"
        assert again.text == VIP

    def test_a_file_that_is_gone_is_wrong(self, path: Path) -> None:
        """Nobody means by removing it that all audiences become realtime."""
        write(path, VIP, 1)
        file = RegistryFile(path)
        file.changed()
        path.unlink()
        assert file.changed() is None
        with pytest.raises(WrongRegistry, match="is gone"):
            file.changed()
        assert file.changed() is None
        write(path, VIP, 2)
        assert file.changed() is None
        assert file.changed() is not None

    def test_a_file_that_was_never_there_says_nothing(self, path: Path) -> None:
        """Everything is undeclared, until there is one."""
        file = RegistryFile(path)
        reading = file.changed()
        assert reading is not None
        assert reading.registry.entries == ()
        assert file.changed() is None
        write(path, VIP, 1)
        file.changed()
        reading = file.changed()
        assert reading is not None
        assert reading.registry.entry("vip")
