"""The file by which a worker shows that it is alive."""

from pathlib import Path

import pytest

from worker.observe.alive import AliveFile


def test_it_is_there_only_after_a_sign_of_life(tmp_path: Path) -> None:
    """What an earlier process left says nothing of this one, and is removed."""
    path = tmp_path / "alive"
    path.touch()
    alive = AliveFile(path)
    assert not path.exists()
    alive.touch()
    assert path.exists()


def test_a_place_that_cannot_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    """Otherwise a worker that is well would be taken for dead."""
    with pytest.raises(OSError, match="nowhere"):
        AliveFile(tmp_path / "nowhere" / "alive")


def test_a_touch_that_fails_harms_nobody(tmp_path: Path) -> None:
    """The file grows old, which is what is looked at."""
    folder = tmp_path / "folder"
    folder.mkdir()
    alive = AliveFile(folder / "alive")
    folder.rmdir()
    alive.touch()
    assert not folder.exists()
