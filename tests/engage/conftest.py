"""The shipped example, read and made anew once for all tests here."""

import gzip
from pathlib import Path

import pytest

import sandbox.engage.generate as generate


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The file that is part of the project."""
    return Path(generate.__file__).with_name("messages.ndjson.gz")


@pytest.fixture(scope="session")
def lines(shipped: Path) -> list[bytes]:
    """Its lines, in order."""
    return gzip.decompress(shipped.read_bytes()).split(b"\n")[:-1]


@pytest.fixture(scope="session")
def made() -> generate.Example:
    """What the generator makes at its defaults."""
    return generate.example()
