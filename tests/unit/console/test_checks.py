"""What `check` concludes from an answer, a clock, an environment; no server, no network."""

import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from pydantic import SecretStr

from console.checks.braze import braze_clock, judge, look_at_braze
from console.checks.everything import (
    check_everything,
    named_as_set,
    secrets_of,
    without_secrets,
)
from console.checks.finding import Finding, from_outside
from console.checks.network import find_obstacle
from console.checks.server import clock_finding
from console.checks.settings import look_at_settings
from worker.pipeline.reply import Reply
from worker.settings import Settings, WrongSettings

EMPTY_ARRAY = b'{"message":"Valid data must be provided in the \'attributes\', ..."}'


def settings(**changes: object) -> Settings:
    return Settings(**{"braze_endpoint": "US-01", "braze_api_key": "key-12345678", **changes})


def shown(wrong: Settings) -> list[Finding]:
    """What `check` shows of these settings."""
    return check_everything(lambda: wrong)


class TestJudge:
    @pytest.mark.parametrize(
        ("status", "body", "way", "key"),
        [
            (400, EMPTY_ARRAY, True, True),
            (201, b'{"message":"success"}', True, True),
            (400, b'{"message":"what?"}', False, None),
            (400, b"<html>", False, None),
            (401, b'{"message":"Invalid API key: key-12345678"}', True, False),
            (403, b"", True, False),
            (404, b"", False, None),
            (301, b"", False, None),
            (429, b"", True, None),
            (500, b"", False, None),
            (200, b"not json", False, None),
            (200, b"{}", False, None),
            (422, EMPTY_ARRAY[:20], False, None),
        ],
    )
    def test_way_and_key_are_told_apart(
        self, status: int, body: bytes, way: bool, key: bool | None
    ) -> None:
        """Each status says something of the way there, of the key, or of both."""
        found = judge(Reply(status=status, body=body), "rest.example", 0.0)
        assert (found[0].ok, found[1].ok) == (way, key)
        assert all(item.todo for item in found if item.ok is False)
        assert not any("12345678" in item.detail for item in found)

    def test_the_expected_refusal_reads_as_good_news(self) -> None:
        """The probe is empty on purpose: its 400 is said to be expected."""
        way, _ = judge(Reply(status=400, body=EMPTY_ARRAY), "rest.example", 0.0)
        assert way.detail == "rest.example answers an empty request as expected (400)"

    def test_key_and_instance_are_both_named(self) -> None:
        """A 401 cannot tell them apart, so that neither is left out."""
        _, key = judge(Reply(status=401), "rest.example", 0.0)
        assert key.todo is not None
        assert "PERSONA_SYNC_BRAZE_API_KEY" in key.todo
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in key.todo

    def test_an_unpaid_bill_is_settled_with_braze(self) -> None:
        """A 402 says nothing of the address or of a proxy."""
        _, key = judge(Reply(status=402), "rest.example", 0.0)
        assert (key.ok, key.todo) == (False, "Settle it with Braze.")


class TestClocks:
    @pytest.mark.parametrize(
        ("off", "ok", "warns"),
        [(0.0, True, False), (1.5, True, False), (-10.0, True, True), (61.0, False, True)],
    )
    def test_small_large_and_huge(self, off: float, ok: bool, warns: bool) -> None:
        """A difference is fine, a warning, or bad, whichever clock is ahead."""
        found = clock_finding("server_clock", off, "the server's", 0.1)
        assert (found.ok, found.todo is not None) == (ok, warns)

    def test_date_is_whole_seconds(self) -> None:
        """A Date that was true a moment ago is no difference."""
        reply = Reply(status=400, headers={"date": formatdate(1_000_000, usegmt=True)})
        assert braze_clock(reply, 1_000_000.99).detail.endswith("agree")
        assert braze_clock(reply, 1_000_300.0).ok is False

    @pytest.mark.parametrize("date", [{}, {"date": "yesterday"}])
    def test_no_date(self, date: dict[str, str]) -> None:
        """Without a Date it could not be looked at."""
        assert braze_clock(Reply(status=400, headers=date), 0.0).ok is None


class TestSettings:
    def test_all_right(self) -> None:
        """One finding says that all are."""
        _, found = look_at_settings(settings, {})
        assert [(item.check, item.ok, item.todo) for item in found] == [("settings", True, None)]

    def test_each_missing_one_is_a_finding(self) -> None:
        """Endpoint, key, proxy and broker are named at once, not one after the other."""
        wrong = settings(
            braze_endpoint=None, braze_api_key="", braze_proxy="squid:3128", broker_url="http://x"
        )
        _, found = look_at_settings(lambda: wrong, {})
        assert [item.ok for item in found] == [False] * 4
        assert all(item.todo for item in found)

    def test_what_cannot_be_read_at_all(self) -> None:
        """Each line of the error is a finding, with what the setting is for."""

        def load() -> Settings:
            raise WrongSettings("PERSONA_SYNC_MODE: must be live or shadow\nA and B do not fit")

        found, findings = look_at_settings(load, {})
        assert found is None
        assert [item.ok for item in findings] == [False, False]
        assert "shadow" in str(findings[0].todo)

    def test_the_others_are_read_with_a_default_for_the_wrong(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is right stays as it is set; a rule that only shows then is told, too."""
        monkeypatch.setenv("PERSONA_SYNC_VALVE_SHARE", "7")
        monkeypatch.setenv("PERSONA_SYNC_CLAIM_LEASE", "1s")
        monkeypatch.setenv("PERSONA_SYNC_JOURNAL_BYTES", "123456")
        read, findings = look_at_settings(Settings.load, {})
        assert read is not None
        assert (read.settings.valve_share, read.settings.journal_bytes) == (0.2, 123_456)
        said = " ".join(item.detail for item in findings)
        assert "PERSONA_SYNC_VALVE_SHARE" in said
        assert "PERSONA_SYNC_CLAIM_LEASE" in said

    def test_a_wrong_broker_hides_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is bad, and everything else is looked at."""
        wrong = settings(broker_url=SecretStr("amqp://x"), redis_url=SecretStr("redis://h:1/0"))
        found = {item.check: item for item in shown(wrong)}
        assert (found["broker"].ok, "`settings`" in str(found["broker"].todo)) == (False, True)
        assert found["server"].ok is False
        assert found["server"].detail.startswith("h:1 ")

    def test_a_wrong_address_is_bad_once(self) -> None:
        """What needs the server follows from it, and is no second mistake."""
        found = {it.check: it for it in shown(settings(redis_url=SecretStr("amqp://x")))}
        assert (found["settings"].ok, found["server"].ok, found["broker"].ok) == (
            False, False, None,
        )  # fmt: skip

    def test_a_secrets_file_that_is_not_there(self, tmp_path: Path) -> None:
        """The variable that names it, and a file to put there, not a URL."""
        wrong = settings(redis_url_file=tmp_path / "nope")
        (found,) = look_at_settings(lambda: wrong, {})[1]
        assert found.detail.startswith(f"PERSONA_SYNC_REDIS_URL_FILE: {tmp_path / 'nope'} cannot ")
        assert (
            found.todo == "Let it be a file that this user may read, and that holds the Redis URL."
        )

    def test_a_key_of_two_lines(self, tmp_path: Path) -> None:
        """It is not empty, and its characters are right: it says what is wrong."""
        (tmp_path / "key").write_text("key-12345678\nanother-1234\n")
        (tmp_path / "key").chmod(0o600)
        (found,) = look_at_settings(lambda: settings(braze_api_key_file=tmp_path / "key"), {})[1]
        assert (found.ok, "more than one line" in found.detail) == (False, True)
        assert "in one line" in str(found.todo)

    def test_a_timeout_that_cannot_be_reached(self) -> None:
        """To connect for longer than a whole request may take is worth a look, if it was chosen."""
        odd = settings(braze_connect_timeout="20s", braze_request_timeout="10s")
        (found,) = look_at_settings(lambda: odd, {})[1]
        assert (found.ok, "PERSONA_SYNC_BRAZE_CONNECT_TIMEOUT" in found.detail) == (True, True)
        assert "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT" in str(found.todo)
        (found,) = look_at_settings(lambda: settings(braze_request_timeout="2s"), {})[1]
        assert found.todo is None

    def test_a_secret_for_all_to_read(self, tmp_path: Path) -> None:
        """A warning with the mode that it should have; none where nobody else comes to the file."""
        folder = Path(tempfile.mkdtemp(dir="/tmp"))  # where everybody may go
        folder.chmod(0o755)
        key = folder / "key"
        key.write_text("key-12345678")
        key.chmod(0o644)
        try:
            (found,) = look_at_settings(lambda: settings(braze_api_key_file=key), {})[1]
            assert (found.ok, found.todo) == (
                True, f"Let only the user read it under whom this runs: `chmod 600 {key}`.",
            )  # fmt: skip
            assert found.detail.startswith("PERSONA_SYNC_BRAZE_API_KEY_FILE: every user")
            for place, mode in ((key, 0o600), (folder, 0o700)):
                place.chmod(mode)
                (found,) = look_at_settings(lambda: settings(braze_api_key_file=key), {})[1]
                assert found.todo is None
                key.chmod(0o644)
        finally:
            shutil.rmtree(folder)

    def test_strange_variables(self) -> None:
        """Near misses are shown with what was meant; others of the machine are not our business."""
        environment = {"PERSONA_SYNC_BRAZE_ENDPONT": "x", "PERSONA_SYNC_LOG_LEVEL": "x", "HOME": ""}
        _, found = look_at_settings(settings, environment)
        assert [item.todo for item in found] == ["Did you mean PERSONA_SYNC_BRAZE_ENDPOINT?"]

    def test_a_shadow_needs_neither_endpoint_nor_key(self) -> None:
        """Nothing is sent: what is missing for it is no mistake, and Braze is not looked at."""
        shadow = settings(mode="shadow", braze_endpoint=None, braze_api_key=None)
        _, found = look_at_settings(lambda: shadow, {})
        assert [item.ok for item in found] == [True]
        assert {item.ok for item in look_at_braze(shadow)} == {None}


class TestNames:
    def test_the_variable_in_use_is_named(self, tmp_path: Path) -> None:
        """Who keeps the key in a file is sent to the file's variable, the others are not."""
        todo = "Check PERSONA_SYNC_BRAZE_API_KEY and PERSONA_SYNC_REDIS_URL."
        wrong = Finding("x", False, "", todo)
        (found,) = named_as_set([wrong], settings(braze_api_key_file=tmp_path / "key"))
        assert found.todo == "Check PERSONA_SYNC_BRAZE_API_KEY_FILE and PERSONA_SYNC_REDIS_URL."
        (found,) = named_as_set([wrong], settings())
        assert found.todo == todo

    def test_who_is_told_of_both_is_told_of_both(self, tmp_path: Path) -> None:
        """A sentence that names the file's variable already stays as it is."""
        todo = "Set PERSONA_SYNC_BRAZE_API_KEY, or PERSONA_SYNC_BRAZE_API_KEY_FILE to a file."
        wrong = Finding("x", False, "", todo)
        assert named_as_set([wrong], settings(braze_api_key_file=tmp_path / "key")) == [wrong]


class TestSecrets:
    def test_all_are_known(self) -> None:
        """The key, and every password of a URL, also as a URL writes it."""
        found = secrets_of(
            settings(
                redis_url=SecretStr("redis://:pass%40word@127.0.0.1:1/0"),
                broker_url=SecretStr("redis://u:other@127.0.0.1:1/0"),
                braze_proxy="http://me:proxy-pw@127.0.0.1:1",
            )
        )
        assert found == {"key-12345678", "pass%40word", "pass@word", "other", "proxy-pw"}

    def test_none_is_shown(self) -> None:
        """Wherever one got into what somebody else said, it is blotted out."""
        told = Finding("x", False, f"says: {from_outside('my-key!')}", from_outside("use my-key"))
        (found,) = without_secrets([told], {"my-key"})
        assert (found.detail, found.todo) == ("says: ***!", "use ***")

    @pytest.mark.parametrize("key", ["answers", "key", "e", "PERSONA_SYNC_BRAZE_ENDPOINT"])
    def test_our_own_words_stay(self, key: str) -> None:
        """A key may be a word that our sentences use, or a letter: they are shown as they are."""
        wrong = settings(braze_endpoint="nowhere", braze_api_key=key)
        for other in (settings(braze_endpoint="nowhere"), wrong):
            assert [f"{it.check} {it.detail} {it.todo}" for it in shown(wrong)] == [
                f"{it.check} {it.detail} {it.todo}" for it in shown(other)
            ]

    def test_what_is_hardly_a_secret_stays(self) -> None:
        """Blotting out a letter or two would tell more than it hides."""
        (found,) = without_secrets(
            [Finding("x", False, from_outside("a server"))], {"", "s", "ser"}
        )
        assert found.detail == "a server"

    def test_a_key_in_the_place_of_the_endpoint(self) -> None:
        """What was put into the wrong variable is not shown because of that."""
        wrong = settings(braze_endpoint="key-12345678")
        assert not any("key-12345678" in f"{item.detail} {item.todo}" for item in shown(wrong))
        assert any("'***' is not a Braze instance" in item.detail for item in shown(wrong))

    def test_a_password_that_breaks_its_url(self) -> None:
        """A URL that cannot be read is never repeated."""
        wrong = settings(redis_url=SecretStr("redis://:pa/ss#word@host:x/0"))
        findings = check_everything(lambda: wrong)
        assert not any("word@" in f"{item.detail} {item.todo}" for item in findings)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class TestObstacles:
    def test_free_way(self, silent: str) -> None:
        """Where a connection can be made, nothing is in the way."""
        assert find_obstacle(f"http://{silent}", None, 1.0) is None

    def test_silence_in_the_handshake(self, silent: str) -> None:
        """A handshake that nobody answers ends in time."""
        found = find_obstacle(f"https://{silent}", None, 0.1)
        assert found is not None
        assert found.detail.startswith("TLS: ")

    def test_a_proxy_that_is_none(self) -> None:
        """Something that hangs up on CONNECT is a proxy's trouble."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(1)

            def hang_up() -> None:
                taken, _ = listening.accept()
                with taken:
                    taken.recv(1_000)

            thread = threading.Thread(target=hang_up, daemon=True)
            thread.start()
            proxy = f"http://127.0.0.1:{listening.getsockname()[1]}"
            found = find_obstacle("https://rest.iad-01.braze.com", proxy, 1.0)
            thread.join(5)
        assert found is not None
        assert found.detail.startswith("proxy: ")
