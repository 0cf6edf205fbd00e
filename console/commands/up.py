"""`persona-sync up`: the whole system on this machine, until Ctrl-C."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from redis import Redis

from console.checks.producer import ways_in
from console.checks.server import dangers
from console.checks.settings import strange_variables
from console.data_folder import unusable
from console.local_server import forget_stale_address
from console.stack import local_parts, producer_lives, shown_url
from console.supervisor import Part, Supervisor
from console.up_lock import LOCK_FILE
from producer.http.auth import Secrets
from worker.audiences.registry import load_registry
from worker.braze.instances import rest_url
from worker.settings import Settings, WrongSettings
from worker.stored import check_version
from worker.stores.keys import CHECK


def up_command(
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Worker processes.")] = 1,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Threads of each worker.")
    ] = 32,
) -> None:
    """Run everything on this machine: server, HTTP producer, workers, beat. Ctrl-C stops it.

    A part that dies is started again. With PERSONA_SYNC_REDIS_URL set, that server is used. The
    HTTP producer runs if PERSONA_SYNC_WRITE_KEYS or PERSONA_SYNC_SHARED_SECRET is set. Exits 1 if
    a part that it cannot do without dies too often, or cannot start.
    """
    settings = Settings.load()
    for name, todo in strange_variables(os.environ):
        print(f"{name} is no setting, and has no effect. {todo}", file=sys.stderr)
    endpoint = _check(settings)
    warnings = [f"DANGER: {found.detail}. {found.todo}" for found in dangers(settings)]
    for warning in warnings:
        print(warning, file=sys.stderr)
    with _only_one(settings):
        parts = local_parts(
            settings,
            workers=workers,
            concurrency=concurrency,
            takes_http=settings.takes_segment,
        )
        supervisor = Supervisor(
            parts, on_ready=lambda: _say_ready(settings, endpoint, warnings), stamp=_stamp
        )
        _say_starting(parts, settings)
        try:
            code = supervisor.run()
        finally:
            if settings.is_embedded:
                forget_stale_address(settings.data_dir)
    print(f"{_stamp()}Stopped. What was accepted is kept and goes on with the next start.")
    raise typer.Exit(code)


def _check(settings: Settings) -> str:
    """Where changes go, once everything needed is right.

    Otherwise raises WrongSettings, UnknownInstance, WrongRegistry, UnfitServer, or redis-py's
    errors if a configured Redis does not answer, or takes no writes.
    """
    if settings.mode == "shadow":
        endpoint = "nobody: this is shadow mode, everything is counted and nothing is sent"
    elif not settings.braze_endpoint:
        raise WrongSettings(
            "Set PERSONA_SYNC_BRAZE_ENDPOINT to your Braze instance, such as US-01 or EU-01, "
            "or to its REST URL."
        )
    else:
        endpoint = rest_url(settings.braze_endpoint)
        settings.api_key()
    load_registry(settings.registry_file())
    Secrets.read(settings)
    if not settings.is_embedded:
        with Redis.from_url(settings.server_url()) as client:
            check_version(client)
            client.set(CHECK, 1, px=1_000)  # a replica answers, and takes no writes
    return endpoint


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """One `up` for a data folder: two would write one schedule and answer to one name."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(settings.data_dir / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise unusable(settings.data_dir, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise WrongSettings(
            f"`persona-sync up` already runs in {settings.data_dir}. Stop it first, or set "
            "PERSONA_SYNC_DATA_DIR to another folder."
        ) from None
    try:
        yield
    finally:
        os.close(lock)


def _stamp() -> str:
    """What `up`'s own lines begin with: the moment, in the form of the workers' log."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} "


def _say_starting(parts: list[Part], settings: Settings) -> None:
    names = ", ".join(part.name for part in parts)
    print(f"{_stamp()}Starting {names}. Data: {settings.data_dir.absolute()}", flush=True)


def _say_ready(settings: Settings, endpoint: str, warnings: list[str]) -> None:
    print(
        "\n"
        f"{_stamp()}Ready. Changes go to {endpoint}\n"
        f"  server   {shown_url(settings.server_url())}\n"
        f"  segment  {_door(settings)}\n"
        "  next     persona-sync import FILE     take in a file of Segment messages\n"
        "           persona-sync status          what waits, what was delivered\n"
        "           persona-sync trace USER      where one user is\n"
        "  stop     Ctrl-C\n" + "".join(f"\n{warning}\n" for warning in warnings),
        flush=True,
    )


def _door(settings: Settings) -> str:
    """Where Segment may send, or what to set so that it may."""
    if not settings.takes_segment:
        return "nobody may send: set PERSONA_SYNC_WRITE_KEYS or PERSONA_SYNC_SHARED_SECRET (README)"
    if not producer_lives(settings):
        return f"the producer does not run at {settings.producer_bind}: its last lines are above"
    ways = ways_in(Secrets.read(settings))
    return f"http://{settings.producer_bind}: {', '.join(ways)}"
