"""Composition: settings become the routes of one process, and their lifetime."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import Route, Router

from producer.doorbell import Doorbell
from producer.http.appender import Appender
from producer.http.asked import Asked
from producer.http.auth import FreshSecrets, Secrets, basic_user
from producer.http.door import Door, Endpoint, Handler, not_found
from producer.http.door_counts import DoorCounts
from producer.http.health import Readyz, healthz
from producer.http.ingest import KINDS
from producer.http.intake import Intake
from producer.http.limits import Room
from producer.http.metrics import Board, Row
from producer.http.openapi import document
from producer.http.replies import Declined, Reply
from producer.http.ringer import Ringer
from producer.http.tracking import Tracking
from producer.http.webhook import Webhook
from producer.inbox import Inbox
from producer.server import connect
from worker.settings import Settings, WrongSettings

# Our own repeats come within moments; who sends again after a 503 sends another envelope.
_APPEND_MEMORY = timedelta(minutes=1)


def make_app(settings: Settings, row: Row) -> Router:
    """The application of one process. Connects when first used. Raises NothingRunning or
    WrongSettings."""
    secrets = FreshSecrets(lambda: Secrets.read(settings))
    counts = DoorCounts()
    ringer = Ringer(_doorbell(settings))
    appender = Appender(_inbox(settings), counts, ringer.ask, row, partitions=settings.partitions)
    intake = Intake(appender, counts, secrets, row, settings.producer_body_timeout)
    door = Door(Room(settings.producer_bytes_held), row)
    tracking = Tracking(intake)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        appender.start()
        ringer.start()
        yield
        await asyncio.to_thread(appender.close)
        await asyncio.to_thread(ringer.close)

    def route(path: str, name: str, handler: Handler, method: str = "POST") -> Route:
        return Route(path, Endpoint(door, name, method, handler))

    return Router(
        [
            route("/v1/batch", "batch", tracking.batch),
            *(route(f"/v1/{kind}", kind, partial(tracking.single, kind)) for kind in KINDS),
            route("/v1/import", "import", tracking.batch),
            route("/webhooks/segment", "webhook", Webhook(intake, settings.webhook_bytes)),
            route("/healthz", "healthz", healthz, "GET"),
            route("/readyz", "readyz", Readyz(appender), "GET"),
            route("/openapi.json", "openapi", openapi(secrets.now), "GET"),
        ],
        redirect_slashes=False,
        default=Endpoint(door, "other", "", not_found),
        lifespan=lifespan,
    )


def metrics_app(board: Board) -> Router:
    """What listens at PERSONA_SYNC_PRODUCER_METRICS_BIND, and nowhere else."""
    registry = board.registry()

    async def metrics(asked: Asked) -> Reply:
        return Reply(200, generate_latest(registry), content_type=CONTENT_TYPE_LATEST.encode())

    # Scrapes count among no one's requests.
    door = Door(Room(0), Board(1).row(0))
    return Router(
        [Route("/metrics", Endpoint(door, "metrics", "GET", metrics))],
        redirect_slashes=False,
        default=Endpoint(door, "other", "", not_found),
    )


def openapi(secrets: Callable[[], Secrets]) -> Handler:
    """`/openapi.json`, for who has a write key or the webhook's token."""
    body = orjson.dumps(document())

    async def handler(asked: Asked) -> Reply:
        authorization, known = asked.header(b"authorization"), secrets()
        user = basic_user(authorization)
        is_source = user is not None and known.write_keys.source_of(user) is not None
        if not is_source and not known.has_token(authorization):
            raise Declined(
                401,
                "unauthorized",
                "Send a write key as the user of HTTP Basic authentication.",
                ((b"www-authenticate", b'Basic realm="persona-sync", charset="UTF-8"'),),
            )
        return Reply(200, body)

    return handler


def _inbox(settings: Settings) -> Inbox:
    seconds = settings.producer_append_timeout.total_seconds()
    try:
        client = connect(settings.server_url(), answer_timeout=seconds, connect_timeout=seconds)
    except ValueError:  # its message may hold a part of the password
        raise WrongSettings(
            "PERSONA_SYNC_REDIS_URL is not a URL such as redis://:PASSWORD@HOST:6379/0; "
            "write / # ? @ in a password as %2F %23 %3F %40."
        ) from None
    return Inbox(
        client,
        partitions=settings.partitions,
        high_water=settings.inbox_high_water,
        memory_high_water=settings.memory_high_water,
        append_memory=_APPEND_MEMORY,
    )


def _doorbell(settings: Settings) -> Doorbell:
    return Doorbell(connect(settings.server_url()), settings.celery_broker_url())
