"""Who may send: parsing, comparing, and following the files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

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
        assert Secrets(WriteKeys([]), (), ("old", "t0ken")).has_token(header) is is_right

    def test_no_token_is_nobodys(self) -> None:
        """If none is set up, an empty one does not fit."""
        assert not Secrets(WriteKeys([]), (), ()).has_token(b"Bearer ")


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

    def test_two_of_each_while_one_is_replaced(self, tmp_path: Path) -> None:
        """Commas or line ends between them, as between write keys: no moment of refusals."""
        (tmp_path / "secret").write_text("old\n new \n")
        settings = Settings(shared_secret_file=tmp_path / "secret", webhook_token=SecretStr("a,b"))
        secrets = Secrets.read(settings)
        assert (secrets.shared_secrets, secrets.webhook_tokens) == (("old", "new"), ("a", "b"))

    def test_an_emptied_file_takes_nothing_away(self, tmp_path: Path) -> None:
        """A file is empty for a moment while it is written: the last value stays, the log says it
        once, and what else has changed is taken up."""
        files = {name: tmp_path / name for name in ("keys", "secret", "token")}
        for name, file in files.items():
            file.write_text("web:k1" if name == "keys" else name)
        settings = Settings(
            write_keys_file=files["keys"],
            shared_secret_file=files["secret"],
            webhook_token_file=files["token"],
        )
        clock = Clock()
        secrets = FreshSecrets(lambda: Secrets.read(settings), clock=clock)
        files["secret"].write_text("")
        files["token"].write_text("new")
        with capture_logs() as lines:
            for clock.now in (1.0, 2.0, 3.0):
                found = secrets.now()
        assert (found.shared_secrets, found.webhook_tokens) == (("secret",), ("new",))
        (line,) = lines
        assert "PERSONA_SYNC_SHARED_SECRET_FILE" in line["reason"]
        files["secret"].write_text("next")
        clock.now = 4.0
        assert secrets.now().shared_secrets == ("next",)

    @pytest.mark.parametrize("text", ["nonsense", None, b"\xff\xfe"])
    def test_a_broken_file_changes_nothing(self, text: str | bytes | None, tmp_path: Path) -> None:
        """What was valid stays so while somebody mends the file."""
        (tmp_path / "keys").write_text("web:k1\n")
        clock = Clock()
        secrets = self.make(tmp_path, clock)
        if text is None:
            (tmp_path / "keys").unlink()
        else:
            (tmp_path / "keys").write_bytes(text if isinstance(text, bytes) else text.encode())
        clock.now = 1.0
        assert secrets.now().write_keys.source_of(b"k1") == "web"

    def test_wrong_secrets_are_no_start(self, tmp_path: Path) -> None:
        """At the start a person is there to read it."""
        with pytest.raises(WrongSettings):
            self.make(tmp_path, Clock())
