"""The file of users that `seed` is given: what is said of one that cannot be read."""

from pathlib import Path

import pytest
import typer

from console.commands.seeding import _listed


def test_users_are_named_once(tmp_path: Path) -> None:
    """One a line, in their order; empty lines are nobody."""
    (tmp_path / "ids").write_text("b\na\n\nb \n")
    assert _listed(str(tmp_path / "ids")) == ["b", "a"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name and why, once, and no number of an error."""
    file = tmp_path / "nope"
    with pytest.raises(typer.BadParameter) as caught:
        _listed(str(file))
    assert caught.value.message == f"{file} cannot be read: No such file or directory"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Nothing of what is in it is shown."""
    (tmp_path / "ids").write_bytes(b"\xff\xfe")
    with pytest.raises(typer.BadParameter, match="is not UTF-8 text"):
        _listed(str(tmp_path / "ids"))
