"""What `up` asks for before it starts anything."""

from pathlib import Path

import pytest

from console.commands.up import _check
from worker.settings import Settings, WrongSettings


def test_shadow_needs_neither_endpoint_nor_key() -> None:
    """A shadow sends nothing, so it needs no place to send to."""
    assert "nothing is sent" in _check(Settings(mode="shadow"))


def test_a_named_registry_must_be_there(tmp_path: Path) -> None:
    """A mistyped path would send what is disabled: it is refused."""
    settings = Settings(mode="shadow", audiences=tmp_path / "audience.yaml")
    with pytest.raises(WrongSettings, match=r"audience\.yaml"):
        _check(settings)
