"""PERSONA_SYNC_METRICS_BIND: an address, nothing, or a plain sentence."""

import pytest

from worker.settings import Settings, WrongSettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9464", ("::1", 9464)),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_read(
    monkeypatch: pytest.MonkeyPatch, text: str | None, address: tuple[str, int] | None
) -> None:
    """Host and port, IPv6 in brackets; unset or empty is off."""
    if text is not None:
        monkeypatch.setenv("PERSONA_SYNC_METRICS_BIND", text)
    assert Settings.load().metrics_address() == address


@pytest.mark.parametrize(
    "text", ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "h:0", "h:65536", "::1:9464", "http://h:1"]
)
def test_a_wrong_address_is_told_plainly(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The variable is named, and what would be right."""
    monkeypatch.setenv("PERSONA_SYNC_METRICS_BIND", text)
    with pytest.raises(WrongSettings, match=r"PERSONA_SYNC_METRICS_BIND: must be HOST:PORT, such"):
        Settings.load()
