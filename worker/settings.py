"""Every setting once, from the environment (`PERSONA_SYNC_...`), with its unit and reason.

Read by bootstrap, celery_app and the producers' entry; the pipeline never sees it. Secrets
have a `_FILE` form, and a secret's file is read again when it changes.
"""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.durations import Duration

ADDRESS_FILE = "server.json"

# What the file of each secret should hold.
_HOLDS = {
    "redis_url": "the Redis URL",
    "broker_url": "the broker's URL",
    "braze_api_key": "a REST API key with the permission users.track",
    "notice_webhook": "the webhook's URL",
    "write_keys": "the write keys",
    "shared_secret": "the shared secret",
    "webhook_token": "the token",
}


class NothingRunning(Exception):
    """No server is configured, and none runs in `data_dir`. The message says what to do."""

    def __init__(self, message: str, data_dir: Path | None = None) -> None:
        super().__init__(message)
        self.data_dir = data_dir


class WrongSettings(Exception):
    """A setting is missing or wrong. The message names the variable and what would be right; what
    to do is also apart, in `todo`, where it is a sentence of its own."""

    def __init__(self, said: str, todo: str = "") -> None:
        super().__init__(f"{said}. {todo}" if todo else said)
        self.said = said
        self.todo = todo


def _host_and_port(text: str) -> str:
    """HOST:PORT, with an IPv6 host in brackets; empty is as good as not set."""
    found = _ADDRESS.fullmatch(text)
    if text and not (found and 0 < int(found["port"]) < 65_536):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    return text


_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})", re.ASCII
)
HostPort = Annotated[str, AfterValidator(_host_and_port)]


def _upper(given: object) -> object:
    return given.strip().upper() if isinstance(given, str) else given


def _lower(given: object) -> object:
    return given.strip().lower() if isinstance(given, str) else given


class Settings(BaseSettings):
    """How one deployment runs. All its workers and producers share the same values."""

    model_config = SettingsConfigDict(
        env_prefix="PERSONA_SYNC_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    # --- where things are
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey, 7.0 or later; unset: the embedded server."
    )
    redis_url_file: Path | None = Field(None, description="A file that holds the Redis URL.")
    broker_url: SecretStr | None = Field(
        None, description="Celery's broker, never a Redis Cluster; unset: the same server."
    )
    broker_url_file: Path | None = Field(None, description="A file that holds the broker URL.")
    data_dir: Path = Field(
        Path(".persona-sync"),
        description="Where the embedded server keeps its data and its address.",
    )
    audiences: Path = Field(
        Path("audiences.yaml"),
        description="The registry of audiences and traits; absent: everything is undeclared.",
    )
    batched_offset: Duration = Field(
        timedelta(seconds=90),
        description="How long after the full interval (on the UTC clock) batched audiences go out. "
        "Braze's hourly limits begin anew at the full hour, when everybody who waited comes; this "
        "keeps clear of it.",
    )
    sweep_users: int = Field(
        250,
        ge=1,
        le=1_000,
        description="Users in one step of work on many (resync, flush, retire). The server does "
        "nothing else meanwhile: some milliseconds.",
    )
    partitions: int = Field(
        1, ge=1, le=1024, description="More than 1 only on a Redis Cluster; fixed at first start."
    )

    # --- Braze
    braze_endpoint: str | None = Field(
        None, description="An instance name such as US-01 or EU-01, or a REST URL."
    )
    braze_api_key: SecretStr | None = Field(
        None, description="A REST API key with the permission users.track."
    )
    braze_api_key_file: Path | None = Field(
        None, description="A file that holds the key; replaced while running, it is taken up."
    )
    braze_proxy: str | None = Field(
        None, description="HTTP proxy for calls to Braze; the environment's is never used."
    )
    braze_requests_per_second: float = Field(
        100.0,
        gt=0,
        le=10_000,
        description="The shared allowance of all workers. 100 is Segment's own cap for Engage, "
        "so the other users of the workspace keep their share.",
    )
    braze_burst: int = Field(
        10, ge=1, le=10_000, description="Requests that may start at once after a quiet time."
    )
    braze_objects_per_request: int = Field(
        75, ge=1, le=75, description="Braze's limit, all arrays together."
    )
    braze_bytes_per_request: int = Field(
        4_000_000, ge=10_000, le=4_194_304, description="Braze refuses bodies over 4 MB."
    )
    braze_connect_timeout: Duration = Field(
        timedelta(seconds=3),
        description="To connect; braze_request_timeout ends that in any case.",
    )
    braze_request_timeout: Duration = Field(
        timedelta(seconds=10), description="A whole request, from the connect to the last byte."
    )
    braze_idle_connection: Duration = Field(
        timedelta(seconds=4), description="A connection idle for longer is not used again."
    )
    update_existing_only: bool = Field(
        False, description="Never create a Braze profile; only change those that exist."
    )

    braze_exports_per_minute: int = Field(
        250,
        ge=1,
        le=2_400,
        description="How fast `seed` reads back. Braze allows 250 a minute, or 2,500 under older "
        "contracts, and never 40 a second.",
    )
    braze_ids_per_export: int = Field(
        50, ge=1, le=50, description="Users in one request of `seed`; 50 is Braze's limit."
    )
    braze_export_lag: Duration = Field(
        timedelta(minutes=5),
        description="By how much an export may lag behind what was written: a value whose last "
        "request ended unknown within it is not taken from an export.",
    )

    # --- cut-over
    mode: Literal["live", "shadow"] = Field(
        "live",
        description="live or shadow. In shadow everything is computed and counted, and nothing is "
        "sent to Braze; neither endpoint nor key is needed.",
    )
    adopt_shadow: Literal["trust", "forget"] | None = Field(
        None,
        description="What to make of values acknowledged in shadow when going live. trust: another "
        "sync kept Braze in step, they are true. forget: all are sent. Unset it afterwards.",
    )

    # --- rules of delivery
    same_attribute_gap: Duration = Field(
        timedelta(seconds=5),
        description="A different value of an attribute waits this long after the end of the "
        "last request, because Braze does not order requests.",
    )
    ambiguous_hold: Duration = Field(
        timedelta(seconds=30),
        description="The same after a request whose end is unknown: it may land late, so it must "
        "be at least braze_request_timeout.",
    )
    server_memory: Duration = Field(
        timedelta(seconds=10),
        description="How far back a server that was restarted or failed over may have forgotten: "
        "what was sent within it is compared with what the server still knows.",
    )
    claim_lease: Duration = Field(
        timedelta(seconds=30),
        description="A claim not settled by then is void and its values unknown; it must be "
        "longer than braze_request_timeout.",
    )
    future_tolerance: Duration = Field(
        timedelta(minutes=5), description="Event times further ahead than this are clamped."
    )
    undeclared_limit: int = Field(
        1_000, ge=0, description="How many undeclared audiences are registered on first sight."
    )
    inbox_takeover: Duration = Field(
        timedelta(seconds=15), description="An envelope read but not applied is taken over."
    )
    inbox_deliveries: int = Field(
        5, ge=1, description="After so many tries an envelope goes to the dead letters, whole."
    )
    inbox_high_water: int = Field(
        20_000, ge=1, description="Envelopes in a partition's inbox at which producers refuse."
    )
    memory_high_water: float = Field(
        0.85, gt=0, le=1, description="Share of the server's maxmemory at which they refuse."
    )
    append_memory: Duration = Field(
        timedelta(hours=24), description="How long an envelope's id is remembered."
    )
    valve_share: float = Field(
        0.2, gt=0, le=1, description="Share of refusals that pauses the destination."
    )
    valve_verdicts: int = Field(
        200, ge=1, description="The fewest verdicts within the window that can trip the valve."
    )
    valve_window: Duration = Field(timedelta(seconds=60), description="The valve's window.")
    transient_failures: int = Field(
        3, ge=1, description="So many transient failures in a row narrow all workers to a probe."
    )
    backoff_base: Duration = Field(
        timedelta(milliseconds=500), description="First wait of the back-off, doubled each time."
    )
    backoff_cap: Duration = Field(timedelta(seconds=60), description="Its longest wait.")
    probe_interval: Duration = Field(
        timedelta(seconds=30), description="How often refused credentials are tried again."
    )
    drain_budget: Duration = Field(
        timedelta(seconds=2),
        description="How long one accept or batched task works before it makes room.",
    )
    realtime_drain_budget: Duration = Field(
        timedelta(seconds=10), description="The same for a realtime task."
    )

    # --- deleted users
    deletion_memory: Duration = Field(
        timedelta(days=30),
        description="For so long changes of a deleted user are skipped. It should be longer than "
        "the oldest change that may still come, from a replay or a retry.",
    )
    forward_deletes: bool = Field(
        False,
        description="Have Braze delete the profiles of deleted users, too, for good. The key "
        "needs users.delete.",
    )

    # --- a brake on surprises
    data_points_per_day: int | None = Field(
        None,
        ge=1,
        description="Values that Braze may acknowledge in a UTC day, all together; what would go "
        "over waits for the next day. With several partitions each has an even share.",
    )
    data_points_per_audience_per_day: int | None = Field(
        None, ge=1, description="The same for each audience and trait; the others go on."
    )
    flip_notice_factor: float = Field(
        10.0,
        ge=0,
        description="A notice if so many times more memberships of an audience change in an hour "
        "than usual (and twice the most of any hour in two days). It holds nothing; 0: none.",
    )
    flip_notice_minimum: int = Field(
        1_000, ge=1, description="Fewer changes in an hour are never worth that notice."
    )
    notice_webhook: SecretStr | None = Field(
        None,
        description="Where notices are posted in Slack's format: https, or http on this machine.",
    )
    notice_webhook_file: Path | None = Field(
        None, description="A file that holds that URL; replaced while running, it is taken up."
    )

    # --- the HTTP producer
    write_keys: SecretStr | None = Field(
        None,
        description="Who may send to /v1: `source:key`, several with commas between. The source "
        "stands in the access log; the key goes into a Segment library. A source may have two keys "
        "while one is replaced.",
    )
    write_keys_file: Path | None = Field(
        None, description="A file that holds them; replaced while running, it is taken up."
    )
    shared_secret: SecretStr | None = Field(
        None,
        description="The Shared Secret of Segment's webhook, which signs what it sends. Two with a "
        "comma between while one is replaced; so a secret has none itself.",
    )
    shared_secret_file: Path | None = Field(
        None, description="A file that holds it; replaced while running, it is taken up."
    )
    webhook_token: SecretStr | None = Field(
        None,
        description="A bearer token that a webhook with batching must send as well, since Segment "
        "signs the first message of a batch only. Two with a comma between while one is replaced.",
    )
    webhook_token_file: Path | None = Field(
        None, description="A file that holds it; replaced while running, it is taken up."
    )
    producer_bind: HostPort = Field(
        "127.0.0.1:8000",
        description="HOST:PORT where the HTTP producer listens. It speaks plain HTTP: put what "
        "ends TLS in front of it.",
    )
    producer_metrics_bind: HostPort | None = Field(
        None,
        description="HOST:PORT where it serves Prometheus; unset: nowhere. It asks for no "
        "password, so keep it internal.",
    )
    producer_processes: int = Field(
        1, ge=1, le=64, description="Processes of the HTTP producer; one uses one core."
    )
    producer_append_timeout: Duration = Field(
        timedelta(seconds=1),
        description="How long the server may take to say that an append is on disk. Then the "
        "answer is 503; Segment gives a webhook 5s in all.",
    )
    producer_body_timeout: Duration = Field(
        timedelta(seconds=10), description="For a request's headers, and again for its body."
    )
    producer_idle_connection: Duration = Field(
        timedelta(seconds=65),
        description="A kept connection without a request is closed; longer than the 60s of usual "
        "load balancers, so that they do not meet a closed one.",
    )
    producer_connections: int = Field(
        1_000,
        ge=1,
        le=60_000,
        description="Connections of one process; further ones get 503, but for health checks.",
    )
    producer_bytes_held: int = Field(
        64_000_000,
        ge=1_000_000,
        description="Bytes of request bodies that one process holds at a time; over that 503.",
    )
    webhook_bytes: int = Field(
        16_000_000,
        ge=32_768,
        description="The longest webhook body: 4,000 messages, Segment's most, of 4 KB.",
    )

    # --- seeing
    journal_bytes: int = Field(
        16_000_000, ge=100_000, description="The journal's bound for each partition, in bytes."
    )
    metrics_bind: HostPort | None = Field(
        None,
        description="HOST:PORT where a worker serves Prometheus, such as 127.0.0.1:9464; unset: "
        "nowhere. It asks for no password, so keep it internal.",
    )
    alive_file: Path | None = Field(
        None,
        description="A file that a worker touches every 2 s while its main loop turns and the "
        "broker hears it, for a health check that costs nothing; one for each worker.",
    )
    log_level: Annotated[str, BeforeValidator(_upper)] = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )
    log_format: Annotated[str, BeforeValidator(_lower)] = Field(
        "console", pattern="^(console|json)$", description="console or json."
    )

    @model_validator(mode="after")
    def _lease_outlives_a_request(self) -> Self:
        if self.claim_lease < self.braze_request_timeout + timedelta(seconds=1):
            raise ValueError(
                "PERSONA_SYNC_CLAIM_LEASE must be at least 1s longer than "
                "PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT: a claim may not end before its request does"
            )
        return self

    @model_validator(mode="after")
    def _hold_outlives_a_request(self) -> Self:
        if self.ambiguous_hold < self.braze_request_timeout:
            raise ValueError(
                "PERSONA_SYNC_AMBIGUOUS_HOLD must be at least PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT: "
                "a request whose end is unknown may land as late as that, after another value"
            )
        return self

    @model_validator(mode="after")
    def _every_partition_has_a_share(self) -> Self:
        for name in ("data_points_per_day", "data_points_per_audience_per_day"):
            whole = getattr(self, name)
            if whole is not None and whole < self.partitions:
                raise ValueError(
                    f"PERSONA_SYNC_{name.upper()} must be at least PERSONA_SYNC_PARTITIONS: each "
                    "partition has a share of it"
                )
        return self

    @classmethod
    def load(cls, **instead: Any) -> Self:
        """Read the environment; `instead` is taken in the place of what it says. Raises
        WrongSettings, naming each variable that is wrong."""
        try:
            return cls(**instead)
        except ValidationError as error:
            raise WrongSettings("\n".join(_said(item) for item in error.errors())) from None

    def registry_file(self) -> Path:
        """Where the registry is. Raises WrongSettings if one was named that is not there."""
        if "audiences" in self.model_fields_set and not self.audiences.exists():
            raise WrongSettings(
                f"PERSONA_SYNC_AUDIENCES: there is no file {self.audiences}",
                "Without it every audience would be realtime and enabled; name the right file, or "
                "unset it.",
            )
        return self.audiences

    def server_url(self) -> str:
        """The Redis URL: as set, or the embedded server's address.

        Raises NothingRunning if neither is there.
        """
        configured = self._secret("redis_url")
        if configured:
            return _checked_url(configured, "PERSONA_SYNC_REDIS_URL")
        address = read_address(self.data_dir)
        if address is None:
            raise NothingRunning(
                f"No server is running in {self.data_dir}. Start one with `persona-sync up`, or "
                "set PERSONA_SYNC_REDIS_URL to your Redis or Valkey.",
                self.data_dir,
            )
        return address

    def celery_broker_url(self) -> str:
        """The broker's URL: as set, or the same server. Raises NothingRunning."""
        configured = self._secret("broker_url")
        if configured:
            return _checked_url(configured, "PERSONA_SYNC_BROKER_URL", *_SENTINEL)
        return self.server_url()

    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the door for Prometheus; None if there is none."""
        return split_address(self.metrics_bind)

    def write_keys_text(self) -> str | None:
        """The write keys as they are now: their file is read anew. Raises WrongSettings."""
        return self._secret("write_keys")

    def shared_secret_text(self) -> str | None:
        """The webhook's shared secret as it is now; its file is read anew. Raises WrongSettings."""
        return self._secret("shared_secret")

    def webhook_token_text(self) -> str | None:
        """The webhook's bearer token as it is now; its file is read anew. Raises WrongSettings."""
        return self._secret("webhook_token")

    @property
    def takes_segment(self) -> bool:
        """True if somebody may send to the HTTP producer: a write key or a shared secret is set."""
        return bool(self.write_keys_text() or self.shared_secret_text())

    @property
    def is_embedded(self) -> bool:
        """True if no Redis URL is set, so that the embedded server is the one to use."""
        return self._secret("redis_url") is None

    def api_key(self) -> str:
        """The Braze key as it is now: its file is read anew each time. Raises WrongSettings."""
        found = self._secret("braze_api_key")
        if not found and self.braze_api_key_file:
            raise WrongSettings(
                f"PERSONA_SYNC_BRAZE_API_KEY_FILE: {self.braze_api_key_file} is empty",
                f"Write {_HOLDS['braze_api_key']} into it.",
            )
        if not found:
            raise WrongSettings(
                "Set PERSONA_SYNC_BRAZE_API_KEY, or PERSONA_SYNC_BRAZE_API_KEY_FILE to a file "
                "that holds it: a REST API key with the permission users.track."
            )
        return found

    def named_as_set(self, text: str) -> str:
        """The same text; a secret that comes from a file goes by the variable of that file."""
        for name in type(self).model_fields:
            if name.endswith("_file") and getattr(self, name) is not None:
                variable = f"PERSONA_SYNC_{name.upper()}"
                if variable not in text:
                    text = re.sub(rf"\b{variable.removesuffix('_FILE')}\b", variable, text)
        return text

    def notice_webhook_url(self) -> str | None:
        """Where notices go as it is now: its file is read anew each time. Raises WrongSettings."""
        return self._secret("notice_webhook")

    def _secret(self, name: str) -> str | None:
        """The secret of that name: its file counts, if one is named. Raises WrongSettings."""
        file: Path | None = getattr(self, f"{name}_file")
        if file is not None:
            return _read_secret(name, file)
        value: SecretStr | None = getattr(self, name)
        return value.get_secret_value() or None if value else None


def split_address(text: str | None) -> tuple[str, int] | None:
    """Host and port of a checked HOST:PORT; None if there is none."""
    found = _ADDRESS.fullmatch(text or "")
    return (found["v6"] or found["host"], int(found["port"])) if found else None


def read_address(data_dir: Path) -> str | None:
    """The embedded server's URL if the process that the address file names still lives.

    A stale file (its process is gone) counts as no address. The URL holds a password.
    """
    try:
        address = json.loads((data_dir / ADDRESS_FILE).read_text())
        os.kill(int(address["pid"]), 0)
        return str(address["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_secret(name: str, file: Path) -> str | None:
    """What a secret's file holds, without the white space around it; None if that is nothing."""
    try:
        return file.read_text().strip() or None
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "it is not text"
    raise WrongSettings(
        f"PERSONA_SYNC_{name.upper()}_FILE: {file} cannot be read: {why}",
        f"Let it be a file that this user may read, and that holds {_HOLDS[name]}.",
    )


_SCHEMES = ("redis", "rediss", "unix")
_NUMBERED = ("redis", "rediss")  # what follows the host is a database's number
_SENTINEL = ("sentinel", "redis+socket")  # what Celery's broker understands beside those


def _checked_url(url: str, name: str, *more: str) -> str:
    """The URL if it is one. Raises WrongSettings without a word of it: it may hold a password."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in (*_SCHEMES, *more) and (parts.port or 1) > 0
        is_numbered = parts.scheme not in _NUMBERED or re.fullmatch(r"/?\d*", parts.path, re.ASCII)
    except ValueError:
        is_one = False
    if is_one and not is_numbered:
        # The client would take what it cannot read for database 0.
        raise WrongSettings(
            f"{name}: what follows the host is no number of a database",
            "Write it as redis://HOST:6379/0, or without an end for database 0.",
        )
    if not is_one:
        raise WrongSettings(
            f"{name} is not a URL such as redis://:PASSWORD@HOST:6379/0",
            "Set it to one; write / # ? @ in a password as %2F %23 %3F %40.",
        )
    return url


def _said(item: object) -> str:
    """One line for a wrong setting; never its value, which may be a secret."""
    assert isinstance(item, dict)
    name = "_".join(str(part) for part in item["loc"]).upper()
    reason = _reason(item)
    return f"PERSONA_SYNC_{name}: {reason}" if name else reason


def _reason(item: dict[str, Any]) -> str:
    """What would be right. Rules of our own say it themselves."""
    limits = item.get("ctx", {})
    match item["type"]:
        case "value_error":
            return str(item["msg"]).removeprefix("Value error, ")
        case "int_parsing" | "int_from_float" | "int_type":
            return "must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "must be a number"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "greater_than":
            return f"must be more than {limits['gt']:.10g}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']:.10g}"
        case "less_than_equal":
            return f"must be at most {limits['le']:.10g}"
        case "literal_error":
            return f"must be {limits['expected'].replace(chr(39), '')}"
        case "string_pattern_mismatch":
            words = limits["pattern"].strip("^$()").split("|")
            return f"must be {', '.join(words[:-1])} or {words[-1]}"
        case _:
            return "has a form that cannot be read"
