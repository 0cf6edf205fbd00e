"""Opens the sockets and serves them: in this process, or in several."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from producer.http import access_log
from producer.http.app import make_app, metrics_app
from producer.http.auth import Secrets
from producer.http.connection import guarded
from producer.http.metrics import Board, Row
from producer.http.processes import Processes
from worker.settings import Settings, WrongSettings, split_address

# Longer than an append may take; shorter than compose and `up` wait for a stop.
STOP_SECONDS = 5.0
_LATER_SECONDS = 5.0  # for what is left then: counts, the last doorbell
_BACKLOG = 1_024
# Between the event loop and the thread that appends; at Python's 5 ms each append would take them
# several times.
_SWITCH_SECONDS = 0.0005


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0 if all that was accepted was also
    answered. Raises WrongSettings or NothingRunning before anything is opened."""
    access_log.configure(settings.log_level, settings.log_format)
    _check(settings)
    sockets = [_listen(settings.producer_bind, "PERSONA_SYNC_PRODUCER_BIND")]
    if settings.producer_metrics_bind:
        name = "PERSONA_SYNC_PRODUCER_METRICS_BIND"
        sockets.append(_listen(settings.producer_metrics_bind, name))
    processes = settings.producer_processes
    # One row for each, and one for who watches them.
    board = Board(processes + 1)
    structlog.get_logger().info(
        "listening", address=settings.producer_bind, processes=processes, **_sources(settings)
    )
    if processes == 1:
        return _run(settings, board, sockets, 0, None)
    watched = Processes(
        processes,
        lambda number, lifeline: _run(settings, board, sockets, number, lifeline),
        lambda: board.row(processes).count("process_restarts_total"),
    )
    return watched.keep(STOP_SECONDS + _LATER_SECONDS)


def _check(settings: Settings) -> None:
    Secrets.read(settings)
    if not settings.takes_segment:
        raise WrongSettings(
            "Nobody may send: set PERSONA_SYNC_WRITE_KEYS to `source:key` for Segment's libraries, "
            "or PERSONA_SYNC_SHARED_SECRET for its webhook; or both."
        )
    settings.server_url()
    settings.celery_broker_url()


def _sources(settings: Settings) -> dict[str, bool]:
    """What is set up, for the first line of the log."""
    return {
        "takes_v1": bool(settings.write_keys_text()),
        "takes_webhook": bool(settings.shared_secret_text()),
        "takes_webhook_batches": bool(
            settings.shared_secret_text() and settings.webhook_token_text()
        ),
    }


def _listen(address: str, name: str) -> socket.socket:
    host, port = split_address(address) or ("", 0)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
        opened.listen(_BACKLOG)
    except OSError as error:
        raise WrongSettings(
            f"{name}: {address} cannot be opened: {error.strerror or error}. Is another program "
            "there? Choose another port, or an address of this machine."
        ) from None
    opened.setblocking(False)
    return opened


def _run(
    settings: Settings,
    board: Board,
    sockets: list[socket.socket],
    number: int,
    lifeline: int | None,
) -> int:
    """One process, to its end."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    row = board.row(number)
    row.clear_gauges()
    apps: list[ASGIApp] = [make_app(settings, row), metrics_app(board)]
    rows = [row, Board(1).row(0)]  # scrapes count among no one's requests
    servers = [
        _Server(_config(settings, app, counts), opened)
        for app, counts, opened in zip(apps, rows, sockets, strict=False)
    ]
    # What is there now stays: to look through it for garbage again and again costs 50 ms each time.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(servers, lifeline))
    return 0


def _config(settings: Settings, app: ASGIApp, row: Row) -> uvicorn.Config:
    seconds = settings.producer_body_timeout.total_seconds()
    return uvicorn.Config(
        app,
        http=guarded(settings.producer_connections, seconds, row),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(settings.producer_idle_connection.total_seconds()),
        timeout_graceful_shutdown=int(STOP_SECONDS),
    )


class _Server(uvicorn.Server):
    """uvicorn's server, without its way with signals: a stop that was asked for is no failure."""

    def __init__(self, config: uvicorn.Config, opened: socket.socket) -> None:
        super().__init__(config)
        self.opened = opened

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `_serve`'s."""
        yield


async def _serve(servers: list[_Server], lifeline: int | None) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    def parent_is_gone() -> None:
        assert lifeline is not None
        loop.remove_reader(lifeline)
        os.close(lifeline)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if lifeline is not None:
        loop.add_reader(lifeline, parent_is_gone)
    await asyncio.gather(*(server.serve(sockets=[server.opened]) for server in servers))
