"""Settings: read from the environment, refused by name, secrets never shown."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr

from worker.settings import NothingRunning, Settings, WrongSettings, read_address

SECRET = "hunter2-hunter2"
URL = f"redis://:{SECRET}@127.0.0.1:6379/0"
SECRETS = [
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's, and a folder without a server."""
    for name in os.environ:
        if name.startswith("PERSONA_SYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Sets variables, without their prefix, and reads the settings."""

    def set_all(**values: object) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"PERSONA_SYNC_{name.upper()}", str(value))
        return Settings.load()

    return set_all


def refused(put: Callable[..., Settings], **values: object) -> str:
    """The message that refuses these values."""
    with pytest.raises(WrongSettings) as caught:
        put(**values)
    return str(caught.value)


class TestPlainWords:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("partitions", "one", "must be a whole number"),
            ("braze_burst", "1.5", "must be a whole number"),
            ("valve_share", "x", "must be a number"),
            ("valve_share", "0", "must be more than 0"),
            ("valve_share", "2", "must be at most 1"),
            ("braze_bytes_per_request", "99999999", "must be at most 4194304"),
            ("journal_bytes", "1", "must be at least 100000"),
            ("update_existing_only", "maybe", "must be true or false"),
            ("mode", "off", "must be live or shadow"),
            ("log_level", "loud", "must be DEBUG, INFO, WARNING or ERROR"),
            ("claim_lease", "30", "'30' is not a duration; write a number and a unit"),
        ],
    )
    def test_what_would_be_right(
        self, put: Callable[..., Settings], name: str, value: str, said: str
    ) -> None:
        """The variable, and what it must be, as a person says it."""
        found = refused(put, **{name: value})
        assert found.startswith(f"PERSONA_SYNC_{name.upper()}: {said}")
        assert "Input" not in found


class TestReading:
    def test_defaults_are_those_of_the_facts(self) -> None:
        """Braze's limits and the rules' spans, with nothing set."""
        settings = Settings.load()
        assert settings.braze_objects_per_request == 75
        assert settings.braze_requests_per_second == 100
        assert settings.same_attribute_gap == timedelta(seconds=5)
        assert settings.ambiguous_hold == timedelta(seconds=30)
        assert settings.is_embedded

    def test_durations_are_written_with_units(self, put: Callable[..., Settings]) -> None:
        """200ms, 2s, 15m, 8h, 1d."""
        assert put(same_attribute_gap="200ms").same_attribute_gap == timedelta(seconds=0.2)

    @pytest.mark.parametrize("written", ["debug", "Debug", "DEBUG"])
    def test_words_are_taken_in_either_case(
        self, put: Callable[..., Settings], written: str
    ) -> None:
        """Nobody is stopped by the case of a level or a format."""
        settings = put(log_level=written, log_format="JSON")
        assert (settings.log_level, settings.log_format) == ("DEBUG", "json")

    def test_what_is_given_instead_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong variable that is replaced hides no other."""
        monkeypatch.setenv("PERSONA_SYNC_VALVE_SHARE", "7")
        assert Settings.load(valve_share=0.2).valve_share == 0.2

    def test_an_empty_variable_is_not_set(self, put: Callable[..., Settings]) -> None:
        """As compose files pass on what nobody has set."""
        assert put(same_attribute_gap="", redis_url="") == Settings()

    def test_what_is_unknown_is_left_alone(self, put: Callable[..., Settings]) -> None:
        """A variable of another program with our prefix does no harm."""
        assert put(something_else="x")

    def test_every_setting_says_what_it_is_for(self) -> None:
        """The documentation is made from the descriptions, and `check` prints them: no links."""
        for name, field in Settings.model_fields.items():
            assert field.description, name
            assert "](" not in field.description, name


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("partitions", "0"),
            ("partitions", "many"),
            ("braze_requests_per_second", "0"),
            ("braze_requests_per_second", "-5"),
            ("braze_requests_per_second", "fast"),
            ("braze_burst", "0"),
            ("braze_objects_per_request", "0"),
            ("braze_bytes_per_request", "5000000"),
            ("memory_high_water", "1.5"),
            ("valve_share", "0"),
            ("valve_verdicts", "0.5"),
            ("inbox_deliveries", "0"),
            ("journal_bytes", "1"),
            ("undeclared_limit", "-1"),
            ("update_existing_only", "perhaps"),
            ("log_format", "xml"),
        ],
    )
    def test_a_wrong_setting_is_named_without_its_value(
        self, put: Callable[..., Settings], name: str, value: str
    ) -> None:
        """One line: the variable, and what would be right."""
        marked = value if value[:1] in "-0123456789" else f"{value}-{SECRET}"
        said = refused(put, **{name: marked})
        assert said.startswith(f"PERSONA_SYNC_{name.upper()}: ")
        assert SECRET not in said
        assert "\n" not in said

    @pytest.mark.parametrize("value", ["5", "5 sec", "-1s", "soon"])
    @pytest.mark.parametrize("name", ["same_attribute_gap", "claim_lease", "drain_budget"])
    def test_a_span_without_a_unit_is_refused(
        self, put: Callable[..., Settings], name: str, value: str
    ) -> None:
        """A bare number is no duration."""
        said = refused(put, **{name: value})
        assert said.startswith(f"PERSONA_SYNC_{name.upper()}: ")
        assert "200ms, 2s, 15m, 8h or 1d" in said

    def test_all_wrong_settings_are_told_at_once(self, put: Callable[..., Settings]) -> None:
        """One line for each."""
        lines = refused(put, partitions=0, braze_burst=0, log_format="xml").splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            "PERSONA_SYNC_PARTITIONS",
            "PERSONA_SYNC_BRAZE_BURST",
            "PERSONA_SYNC_LOG_FORMAT",
        ]

    def test_a_lease_must_outlive_a_request(self, put: Callable[..., Settings]) -> None:
        """A claim may not end before its request does, margin included."""
        said = refused(put, claim_lease="10999ms", braze_request_timeout="10s")
        assert "PERSONA_SYNC_CLAIM_LEASE" in said
        assert "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT" in said
        assert put(claim_lease="11s")

    def test_rule_04_a_hold_must_outlive_a_request(self, put: Callable[..., Settings]) -> None:
        """What ended unknown may land until the request's time is over, and not after a value that
        was let go before."""
        said = refused(put, ambiguous_hold="9999ms", braze_request_timeout="10s")
        assert "PERSONA_SYNC_AMBIGUOUS_HOLD" in said
        assert "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT" in said
        assert put(ambiguous_hold="10s")


class TestSecrets:
    def test_there_are_secrets(self) -> None:
        """The two URLs hold passwords, and the key is one."""
        assert {"redis_url", "broker_url", "braze_api_key"} <= set(SECRETS)

    @pytest.mark.parametrize("name", SECRETS)
    def test_every_secret_has_a_file_form(self, name: str) -> None:
        """So that none need stand in the environment."""
        assert f"{name}_file" in Settings.model_fields

    def test_secrets_are_not_shown(self, put: Callable[..., Settings]) -> None:
        """Neither by printing the settings nor by writing them."""
        settings = put(redis_url=URL, broker_url=URL, braze_api_key=SECRET)
        assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"
        assert settings.api_key() == SECRET
        assert settings.server_url() == settings.celery_broker_url() == URL

    def test_files_are_read(self, put: Callable[..., Settings], tmp_path: Path) -> None:
        """A file may end with a newline."""
        (tmp_path / "url").write_text(f"{URL}\n")
        (tmp_path / "key").write_text(f"{SECRET}\n")
        settings = put(
            redis_url_file=tmp_path / "url",
            broker_url_file=tmp_path / "url",
            braze_api_key_file=tmp_path / "key",
        )
        assert settings.server_url() == settings.celery_broker_url() == URL
        assert settings.api_key() == SECRET
        assert not settings.is_embedded

    def test_a_key_that_is_replaced_is_taken_up(
        self, put: Callable[..., Settings], tmp_path: Path
    ) -> None:
        """The file is read each time."""
        (tmp_path / "key").write_text("old")
        settings = put(braze_api_key_file=tmp_path / "key")
        assert settings.api_key() == "old"
        (tmp_path / "key").write_text("new")
        assert settings.api_key() == "new"

    def test_a_missing_file_is_told(self, put: Callable[..., Settings], tmp_path: Path) -> None:
        """With its path."""
        settings = put(braze_api_key_file=tmp_path / "nowhere")
        with pytest.raises(WrongSettings, match="nowhere cannot be read"):
            settings.api_key()

    @pytest.mark.parametrize("name", SECRETS)
    @pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "no text"])
    def test_a_file_that_cannot_be_read_says_what_to_do(
        self, put: Callable[..., Settings], tmp_path: Path, name: str, content: bytes | None
    ) -> None:
        """The variable that names it, its path, why, and what it should be: for each secret."""
        file = tmp_path / "secret"
        if content:
            file.write_bytes(content)
        settings = put(**{f"{name}_file": file})
        with pytest.raises(WrongSettings) as caught:
            settings._secret(name)
        assert caught.value.said.startswith(f"PERSONA_SYNC_{name.upper()}_FILE: {file} cannot be ")
        assert caught.value.todo.startswith("Let it be a file that this user may read, and ")
        assert str(caught.value) == f"{caught.value.said}. {caught.value.todo}"

    def test_an_empty_file_is_told(self, put: Callable[..., Settings], tmp_path: Path) -> None:
        """With the variable that names it, and its path."""
        (tmp_path / "empty").touch()
        settings = put(braze_api_key_file=tmp_path / "empty")
        with pytest.raises(WrongSettings, match=r"API_KEY_FILE: .*/empty is empty\. Write"):
            settings.api_key()

    @pytest.mark.parametrize("values", [{}, {"braze_api_key": ""}])
    def test_a_missing_key_is_told(
        self, put: Callable[..., Settings], values: dict[str, str]
    ) -> None:
        """With both ways to give it."""
        with pytest.raises(WrongSettings, match="PERSONA_SYNC_BRAZE_API_KEY_FILE"):
            put(**values).api_key()

    @pytest.mark.parametrize("end", ["/redis/abc", "/abc", "/0/1", "/-1"])
    def test_a_database_is_a_number(self, put: Callable[..., Settings], end: str) -> None:
        """The client would take anything else for database 0, in silence."""
        settings = put(redis_url=f"redis://:{SECRET}@host:6379{end}")
        with pytest.raises(WrongSettings, match=r"PERSONA_SYNC_REDIS_URL.* number") as caught:
            settings.server_url()
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["redis://h", "redis://h/", "rediss://h:1/12", "unix:///run/redis.sock?db=2"]
    )
    def test_a_right_url_is_taken(self, put: Callable[..., Settings], url: str) -> None:
        """With a database's number, or without an end; a socket has a path."""
        assert put(redis_url=url).server_url() == url

    @pytest.mark.parametrize("url", [f"http://:{SECRET}@host", SECRET, f"redis://:{SECRET}@h:port"])
    def test_a_wrong_url_is_refused_unseen(self, put: Callable[..., Settings], url: str) -> None:
        """The message names the variable and shows no word of the URL."""
        settings = put(redis_url=url, broker_url=url)
        for ask, name in (
            (settings.server_url, "PERSONA_SYNC_REDIS_URL"),
            (settings.celery_broker_url, "PERSONA_SYNC_BROKER_URL"),
        ):
            with pytest.raises(WrongSettings, match=name) as caught:
                ask()
            assert SECRET not in str(caught.value)


class TestAddress:
    def test_nothing_running_says_what_to_do(self, put: Callable[..., Settings]) -> None:
        """Where it looked, how to start one, and how to name another."""
        with pytest.raises(NothingRunning) as caught:
            put(data_dir="some/folder").server_url()
        assert "some/folder" in str(caught.value)
        assert "persona-sync up" in str(caught.value)
        assert "PERSONA_SYNC_REDIS_URL" in str(caught.value)

    def test_a_running_servers_address_is_found(
        self, put: Callable[..., Settings], tmp_path: Path
    ) -> None:
        """The file in the data folder names a living process."""
        (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid(), "url": URL}))
        settings = put(data_dir=tmp_path)
        assert settings.server_url() == settings.celery_broker_url() == URL

    def test_a_stale_address_is_none(self, tmp_path: Path) -> None:
        """Once its process is gone, the file counts for nothing."""
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "server.json").write_text(json.dumps({"pid": gone.pid, "url": URL}))
        assert read_address(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": null}', "7"])
    def test_a_broken_address_is_none(self, tmp_path: Path, text: str) -> None:
        """A half-written file is no server."""
        (tmp_path / "server.json").write_text(text)
        assert read_address(tmp_path) is None
