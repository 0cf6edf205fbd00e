"""The Redis or Valkey server: there, fit, durable, never forgetting, writable, on time."""

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as ServerSlow

from console.checks.finding import Finding, all_unseen, bad, from_outside, good, unseen
from console.checks.network import refusal
from console.checks.refusals import NEWER, refused
from console.up_lock import is_held
from worker.settings import NothingRunning, Settings, WrongSettings
from worker.stored import OLDEST_SERVER, connect
from worker.stores.keys import CHECK, PARTITIONS_KEY
from worker.stores.server import Server

_TOLD_BY_INFO = ("server_persistence", "server_eviction", "server_memory")
AFTER_SERVER = (
    "server_version",
    *_TOLD_BY_INFO,
    "server_writable",
    "server_clock",
    "partitions",
)
SERVER_CHECKS = ("server", "broker", *AFTER_SERVER)

# Where clocks differ by more, times in reports mislead; by far more, fresh changes look old.
CLOCK_WARNING_SECONDS = 2.0
CLOCK_BAD_SECONDS = 60.0

_RIGHTS = (
    "Give the user all commands on keys ps1:*, and all channels (ACL: ~ps1:* &* +@all -@dangerous "
    "+info)."
)
_SEE_SETTINGS = "Mend what the line `settings` says of it."
_START = "Start one with `persona-sync up`, or set PERSONA_SYNC_REDIS_URL to your Redis or Valkey."


def look_at_server(
    settings: Settings, wall: Callable[[], float]
) -> tuple[Server | None, list[Finding]]:
    """A client if the server answers, and what was found. The caller closes the client."""
    client, first = _reach(settings)
    broker = _broker(settings, answers=client is not None)
    if client is None:
        return None, [first, broker, *all_unseen(AFTER_SERVER, "the server does not answer")]
    try:
        info = client.info()
    except NoPermissionError as error:
        info = {}
        told = [
            bad("server_version", f"no worker starts: {_said(error)}", _RIGHTS),
            *all_unseen(_TOLD_BY_INFO, "this user may not ask the server how it is"),
        ]
    except RedisError as error:
        found = all_unseen(AFTER_SERVER, f"the server does not tell: {_said(error)}")
        return client, [first, broker, *found]
    else:
        told = [
            _version(info),
            _persistence(client, info),
            _eviction(info),
            _memory(settings, info),
        ]
    return client, [
        first,
        broker,
        *told,
        _writable(client, info),
        _clock(client, wall),
        _partitions(client, settings),
    ]


def dangers(settings: Settings) -> list[Finding]:
    """How a configured server may lose what was accepted: none for the embedded one, nor for one
    that does not tell. Raises redis-py's errors if it does not answer."""
    if settings.is_embedded:
        return []
    with connect(settings.server_url()) as client:
        try:
            info = client.info()
        except ResponseError:
            return []
        return [found for found in (_persistence(client, info), _eviction(info)) if not found.ok]


def _reach(settings: Settings) -> tuple[Server | None, Finding]:
    try:
        url = settings.server_url()
    except NothingRunning:
        if is_held(settings.data_dir):
            said = f"the server in {settings.data_dir} is just being started by `persona-sync up`"
            return None, bad("server", said, "Check again in a few seconds; see what `up` prints.")
        return None, bad("server", f"no server is running in {settings.data_dir}", _START)
    except WrongSettings:
        return None, bad("server", "its address is set wrongly", _SEE_SETTINGS)
    finding = ping(url, "server", "PERSONA_SYNC_REDIS_URL")
    return (connect(url) if finding.ok else None), finding


def _broker(settings: Settings, *, answers: bool) -> Finding:
    """`answers`: the server does."""
    is_another = settings.broker_url is not None or settings.broker_url_file is not None
    try:
        broker = settings.celery_broker_url()
    except NothingRunning:
        return unseen("broker", "it is the same server, which is not running")
    except WrongSettings:
        if is_another:
            return bad("broker", "its address is set wrongly", _SEE_SETTINGS)
        return unseen("broker", "it is the same server, whose address is wrong")
    with suppress(NothingRunning, WrongSettings):
        if broker == settings.server_url():
            if not answers:
                return unseen("broker", "it is the same server, which does not answer")
            return good("broker", "the same server")
    if not broker.startswith(("redis://", "rediss://")):
        return unseen("broker", f"a {urlsplit(broker).scheme} address is not looked at")
    return ping(broker, "broker", "PERSONA_SYNC_BROKER_URL")


def ping(url: str, check: str, setting: str) -> Finding:
    """Whether a server answers; every way in which it does not, with what to do."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
    try:
        client = connect(url)
    except ValueError:
        return bad(check, f"{setting} cannot be read", f"Set {setting} to redis://HOST:6379/0.")
    try:
        with client:
            client.ping()
    except NoPermissionError as error:
        # The greeting was answered: user and password are right.
        said = f"{place} takes the login, but its user may not do what is needed: {_said(error)}"
        return bad(check, said, _RIGHTS)
    except AuthenticationError:
        return bad(
            check,
            f"{place} refuses the login",
            f"Put the right user and password into {setting}.",
        )
    except BusyLoadingError:
        return bad(check, f"{place} is loading its data", "Wait until it has, and check again.")
    except ServerSlow:
        return bad(
            check,
            f"{place} does not answer in time",
            f"See that the server is well and that {setting} names it; a firewall may be between.",
        )
    except RedisError as error:
        how = _network_trouble(error) or f"answers: {_said(error)}"
        todo = f"See that the server runs and that {setting} is right."
        if "unknown command" in str(error):
            how, todo = "does not know the greeting of Redis 6 and later", NEWER
        return bad(check, f"{place} {how}", todo)
    return good(check, f"{place} answers")


def _network_trouble(error: BaseException) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return "does not speak TLS as it should"
        if isinstance(seen, OSError | socket.gaierror):
            return refusal(seen)
        seen = seen.__cause__ or seen.__context__
    return None


def _version(info: Mapping[str, Any]) -> Finding:
    speaks = str(info.get("redis_version", "unknown"))
    name = "Redis"
    shown = speaks
    if "valkey_version" in info:
        name, shown = "Valkey", str(info["valkey_version"])
    numbers = tuple(int(part) for part in speaks.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_SERVER:
        return bad(
            "server_version",
            f"{name} {shown}; 7.0 or later is needed, for scripts that drain a full memory",
            NEWER,
        )
    return good("server_version", f"{name} {shown}")


def _persistence(client: Server, info: Mapping[str, Any]) -> Finding:
    check = "server_persistence"
    todo = "Set `appendonly yes` and `appendfsync always` on the server."
    if not info.get("aof_enabled"):
        return bad(check, "appendonly is off: a restart loses what was accepted", todo)
    if info.get("aof_last_write_status", "ok") != "ok":
        return bad(
            check,
            "the last write of the append-only file failed",
            "See the server's log, and whether its disk is full.",
        )
    try:
        policy = client.config_get("appendfsync").get("appendfsync")
    except ResponseError:
        return good(check, "appendonly is on; appendfsync is not shown by this server")
    if policy == "always":
        return good(check, "appendonly is on, appendfsync is always")
    lost = "about the last second" if policy == "everysec" else "up to half a minute"
    return good(
        check,
        f"appendonly is on, but appendfsync is {policy}: if the machine fails, {lost} of accepted "
        "changes is lost",
        "Set `appendfsync always` on the server, unless senders can send again.",
    )


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return good("server_eviction", "maxmemory-policy is noeviction")
    return bad(
        "server_eviction",
        f"maxmemory-policy is {policy}: with its memory full, the server throws away what was "
        "accepted",
        "Set `maxmemory-policy noeviction` on the server; one that others use as a cache is no "
        "place for this.",
    )


def _memory(settings: Settings, info: Mapping[str, Any]) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        but = "Set `maxmemory` below the machine's, so that senders are refused before it is full."
        return good(
            "server_memory",
            f"{_size(used)} used, no limit is set",
            None if settings.is_embedded else but,
        )
    share = used / limit
    shown = f"{_size(used)} of {_size(limit)} used ({share:.0%})"
    if share >= settings.memory_high_water:
        return bad(
            "server_memory",
            f"{shown}: from {settings.memory_high_water:.0%} on senders are refused",
            "Give the server more memory (`maxmemory`), or let the workers drain the inbox.",
        )
    return good("server_memory", shown)


def _writable(client: Server, info: Mapping[str, Any]) -> Finding:
    check = "server_writable"
    try:
        # Harmless: a key of its own, which is gone after a second. Scripts need rights of their
        # own, too.
        client.set(CHECK, 1, px=1_000)
        client.eval("return redis.call('EXISTS', KEYS[1])", 1, CHECK)
        _listen(client)
    except NoPermissionError as error:
        return bad(
            check,
            f"this user may not do what is needed: {_said(error)}",
            _RIGHTS,
        )
    except RedisError as error:
        found = refused(error, is_replica=info.get("role") == "slave")
        if found is not None:
            return bad(check, *found)
        return bad(check, f"a write was refused: {_said(error)}", "See the server's log.")
    return good(check, "it takes writes and scripts")


def _listen(client: Server) -> None:
    """As Celery does where it is asked how it is: without that right no worker does its work."""
    with client.pubsub() as channel:
        channel.psubscribe(CHECK)
        channel.get_message(timeout=2)  # what the server said to it


def _clock(client: Server, wall: Callable[[], float]) -> Finding:
    try:
        before = wall()
        seconds, micros = client.time()
        after = wall()
    except RedisError as error:
        return unseen("server_clock", f"the server does not tell: {_said(error)}")
    server = int(seconds) + int(micros) / 1e6
    # Nobody knows when between the two the server looked at its clock.
    off = server - min(max(server, before), after)
    return clock_finding("server_clock", off, "the server's", 0.1)


def clock_finding(check: str, off: float, whose: str, resolution: float) -> Finding:
    """A clock that is `off` seconds ahead of ours (behind, if negative)."""
    if abs(off) <= resolution:
        return good(check, f"{whose} clock and ours agree")
    said = f"{whose} clock is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} ours"
    todo = "Set both clocks by NTP (chrony, systemd-timesyncd); one of them is wrong."
    if abs(off) > CLOCK_BAD_SECONDS:
        return bad(check, said, todo)
    return good(check, said, todo if abs(off) > CLOCK_WARNING_SECONDS else None)


def _partitions(client: Server, settings: Settings) -> Finding:
    try:
        stored = client.get(PARTITIONS_KEY)
    except RedisError as error:
        return unseen("partitions", f"the server does not tell: {_said(error)}")
    if stored is None:
        return good("partitions", f"{settings.partitions}, to be fixed at the first start")
    if stored != str(settings.partitions).encode():
        return bad(
            "partitions",
            f"the server's data has {stored.decode(errors='replace')}, PERSONA_SYNC_PARTITIONS "
            f"says {settings.partitions}",
            f"Set PERSONA_SYNC_PARTITIONS to {stored.decode(errors='replace')}: it is fixed.",
        )
    return good("partitions", str(settings.partitions))


def _said(error: Exception) -> str:
    return from_outside(" ".join(str(error).split())[:200]) if str(error) else type(error).__name__


def _size(count: int) -> str:
    return f"{count / 1_048_576:,.0f} MiB" if count >= 1_048_576 else f"{count / 1024:,.0f} KiB"
