"""Who may send: parsing, comparing, and following the files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from producer.http.auth import FreshSecrets, Secrets, WriteKeys, basic_user
from worker.settings import Settings, WrongSettings

SECRET = "hunter2-hunter2"


class TestWriteKeys:
    def test_each_key_names_its_source(self) -> None:
        """Several keys, one source for each; a source may have two while one is replaced."""
        keys = WriteKeys.parse("web:k1, app:k2,\nweb:k3\n")
        found = [keys.source_of(key) for key in (b"k1", b"k2", b"k3", b"k4", b"", b"k")]
        assert found == ["web", "app", "web", None, None, None]

    @pytest.mark.parametrize("text", [None, "", " , \n"])
    def test_none_is_nobody(self, text: str | None) -> None:
        """Without keys nobody gets in, least of all an empty key."""
        keys = WriteKeys.parse(text)
        assert not keys
        assert keys.source_of(b"") is None

    @pytest.mark.parametrize(
        "text", [SECRET, f":{SECRET}", "web:", f"web:{SECRET} {SECRET}", f"web:{SECRET}é"]
    )
    def test_nonsense_is_refused_without_repeating_it(self, text: str) -> None:
        """What stands there may be a key: it is not in the message."""
        with pytest.raises(WrongSettings, match="source:key") as caught:
            WriteKeys.parse(text)
        assert SECRET not in str(caught.value)

    def test_a_key_has_one_source(self) -> None:
        """Twice the same key would make it chance whose it is."""
        with pytest.raises(WrongSettings, match="twice"):
            WriteKeys.parse("web:k1,app:k1")


class TestBasic:
    @pytest.mark.parametrize(
        ("header", "user"),
        [
            (b"Basic YWJjMTIzOg==", b"abc123"),  # Segment docs, http-api
            (b"basic  YWJjMTIzOg== ", b"abc123"),
            (b"Basic YWJjMTIz", None),
            (b"Basic YWJjMTIzOnB3", None),
            (b"Basic !!!", None),
            (b"Bearer YWJjMTIzOg==", None),
            (b"", None),
        ],
    )
    def test_user_with_an_empty_password(self, header: bytes, user: bytes | None) -> None:
        """The colon is needed, a password is not taken for an empty one."""
        assert basic_user(header) == user


class TestToken:
    @pytest.mark.parametrize(
        ("header", "is_right"),
        [
            (b"Bearer t0ken", True),
            (b"bearer t0ken", True),
            (b"Bearer t0keN", False),
            (b"Bearer ", False),
            (b"t0ken", False),
            (b"Basic t0ken", False),
        ],
    )
    def test_bearer(self, header: bytes, is_right: bool) -> None:
        """The word and the token."""
        assert Secrets(WriteKeys([]), "", "t0ken").has_token(header) is is_right

    def test_no_token_is_nobodys(self) -> None:
        """If none is set up, an empty one does not fit."""
        assert not Secrets(WriteKeys([]), "", "").has_token(b"Bearer ")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestFresh:
    def make(self, folder: Path, clock: Callable[[], float]) -> FreshSecrets:
        settings = Settings(write_keys_file=folder / "keys")
        return FreshSecrets(lambda: Secrets.read(settings), clock=clock)

    def test_a_changed_file_is_taken_up(self, tmp_path: Path) -> None:
        """Within a second, without a restart."""
        (tmp_path / "keys").write_text("web:k1\n")
        clock = Clock()
        secrets = self.make(tmp_path, clock)
        (tmp_path / "keys").write_text("web:k2\n")
        assert secrets.now().write_keys.source_of(b"k1") == "web"
        clock.now = 1.0
        assert secrets.now().write_keys.source_of(b"k1") is None
        assert secrets.now().write_keys.source_of(b"k2") == "web"

    @pytest.mark.parametrize("text", ["nonsense", None])
    def test_a_broken_file_changes_nothing(self, text: str | None, tmp_path: Path) -> None:
        """What was valid stays so while somebody mends the file."""
        (tmp_path / "keys").write_text("web:k1\n")
        clock = Clock()
        secrets = self.make(tmp_path, clock)
        if text is None:
            (tmp_path / "keys").unlink()
        else:
            (tmp_path / "keys").write_text(text)
        clock.now = 1.0
        assert secrets.now().write_keys.source_of(b"k1") == "web"

    def test_wrong_secrets_are_no_start(self, tmp_path: Path) -> None:
        """At the start a person is there to read it."""
        with pytest.raises(WrongSettings):
            self.make(tmp_path, Clock())
