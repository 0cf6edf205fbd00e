"""The composition root: settings -> stores, client, policies -> Flow. Connects, and checks that
every edge can carry what is asked of it, before anything is taken on."""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.audiences.registry import Registry, WrongRegistry, load_registry
from worker.braze.client import BrazeClient
from worker.braze.instances import UnknownInstance, rest_url
from worker.braze.shadow import ShadowBraze
from worker.contract import PARTITIONS_KEY
from worker.delivery import DeliveryPolicy, Tools
from worker.durations import to_ms
from worker.flow import Flow, FlowPolicy
from worker.observe.endpoint import Endpoint
from worker.observe.logs import log_fact
from worker.observe.noted import Noted
from worker.observe.process_metrics import ProcessMetrics
from worker.observe.record import Recorder
from worker.observe.server_metrics import ServerCollector
from worker.observe.webhook import Webhook, is_webhook_url
from worker.pipeline import facts
from worker.pipeline.surprise import SurprisePolicy
from worker.scrape import ServerReader
from worker.settings import NothingRunning, Settings, WrongSettings
from worker.stores.allowance import Allowance, AllowancePolicy
from worker.stores.bells import Bells
from worker.stores.budget import Budget
from worker.stores.dead_letters import DeadLetters
from worker.stores.flips import Flips
from worker.stores.handover import Handover, NotHandedOver
from worker.stores.inbox import Inbox
from worker.stores.journal import Journal
from worker.stores.ledger import Ledger
from worker.stores.memberships import Memberships
from worker.stores.mode import ModeStore
from worker.stores.notices import Notices
from worker.stores.seeding import Seeding
from worker.stores.server import Server
from worker.stores.terms import Terms
from worker.stores.workers import Workers
from worker.watch import Courier, Watch

OLDEST_SERVER = (7, 0)
SCRAPE_SECONDS = 2.0  # Prometheus gives up after ten


class UnfitServer(Exception):
    """The server cannot carry the engine. The message says what is wrong and what to do."""


# Why a process cannot start, each with a message that says what to do.
CANNOT_START = (
    WrongSettings, NothingRunning, WrongRegistry, UnknownInstance, UnfitServer, NotHandedOver
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything kept in Redis, for the engine and for those who look at it."""

    client: Server
    inbox: Inbox
    memberships: Memberships
    allowance: Allowance
    dead_letters: DeadLetters
    journal: Journal
    ledger: Ledger
    bells: Bells
    workers: Workers
    mode: ModeStore
    seeding: Seeding
    budget: Budget
    flips: Flips
    notices: Notices


@dataclass(frozen=True, slots=True)
class Engine:
    """One worker process: its flow, what it is made of, and how it is stopped."""

    flow: Flow
    stores: Stores
    braze: BrazeClient | ShadowBraze
    stop: threading.Event
    record: Recorder
    metrics: ProcessMetrics
    reader: ServerReader
    endpoint: Endpoint | None = None

    def close(self) -> None:
        """Give back connections; requests under way should be over."""
        self.stop.set()
        if self.endpoint:
            self.endpoint.close()
        self.reader.close()
        self.braze.close()
        self.stores.client.close()


def connect(url: str, reply_seconds: float = 10, connect_seconds: float = 3) -> Server:
    """A client that never repeats a command by itself: a late reply is not a lost one."""
    return Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=reply_seconds,
        socket_connect_timeout=connect_seconds,
        health_check_interval=25,
    )


def make_stores(
    settings: Settings, registry: Registry | None = None, client: Server | None = None
) -> Stores:
    """The stores of a deployment. Connects lazily: nothing is sent yet."""
    client = client or connect(settings.server_url())
    terms = Terms(
        gap=settings.same_attribute_gap,
        hold=settings.ambiguous_hold,
        lease=settings.claim_lease,
        journal_bytes=settings.journal_bytes,
        undeclared_limit=settings.undeclared_limit,
        points_per_day=settings.data_points_per_day,
        points_per_audience=settings.data_points_per_audience_per_day,
        partitions=settings.partitions,
        counts_flips=settings.flip_notice_factor > 0,
    )
    policy = AllowancePolicy(
        rate=settings.braze_requests_per_second,
        burst=settings.braze_burst,
        objects=settings.braze_objects_per_request,
        size=settings.braze_bytes_per_request,
        permit_life=settings.claim_lease,
        failures=settings.transient_failures,
        valve_share=settings.valve_share,
        valve_verdicts=settings.valve_verdicts,
        valve_window=settings.valve_window,
    )
    attributes = registry.attributes() if registry else None
    return Stores(
        client=client,
        inbox=Inbox(client, to_ms(settings.inbox_takeover)),
        memberships=Memberships(client, terms, attributes),
        allowance=Allowance(client, policy),
        dead_letters=DeadLetters(client),
        journal=Journal(client),
        ledger=Ledger(client),
        bells=Bells(client),
        workers=Workers(client),
        mode=ModeStore(client),
        seeding=Seeding(client, terms, attributes),
        budget=Budget(client, terms),
        flips=Flips(client),
        notices=Notices(client),
    )


def load_engine(ring: Callable[[str, int], None]) -> Engine:
    """`make_engine` with the settings of the environment."""
    return make_engine(Settings.load(), ring)


def make_engine(settings: Settings, ring: Callable[[str, int], None]) -> Engine:
    """Wire one worker process, and check its edges.

    Raises what CANNOT_START lists, with what to do; redis' ConnectionError if the server cannot
    be reached.
    """
    is_shadow = settings.mode == "shadow"
    base_url = "" if is_shadow else _base_url(settings)
    registry = load_registry(settings.registry_file())
    stores = make_stores(settings, registry)
    check_server(stores.client, settings.partitions)
    for partition in range(settings.partitions):
        stores.inbox.prepare(partition)
        stores.memberships.publish_registry(
            partition, registry.version, registry.lane_terms(), registry.rules()
        )
    entered = make_handover(stores, settings.partitions).enter(settings.mode, settings.adopt_shadow)
    stop = threading.Event()
    metrics = ProcessMetrics()
    noted = Noted()
    record = Recorder([log_fact, metrics, noted])

    def end_shadow() -> None:
        record(facts.ShadowOver())
        stop.set()

    braze = (
        ShadowBraze(stores.mode.is_shadow, end_shadow) if is_shadow else _client(settings, base_url)
    )
    record(
        facts.ModeEntered(
            level="warning" if is_shadow or entered.adopted else "info",
            mode=entered.mode,
            adopted=entered.adopted,
            users=entered.users,
            values=entered.values,
        )
    )
    tools = Tools(
        memberships=stores.memberships,
        allowance=stores.allowance,
        braze=braze,
        record=record,
        clock=boot_seconds,
        wall=time.time,
        wait=lambda seconds: stop.wait(seconds) if seconds > 0 else stop.is_set(),
        random=random.random,
        key_print=lambda: key_print(_key_or_nothing(settings)),
        policy=DeliveryPolicy(
            total=settings.braze_request_timeout,
            lease=settings.claim_lease,
            failures=settings.transient_failures,
            backoff_base=settings.backoff_base,
            backoff_cap=settings.backoff_cap,
            update_existing_only=settings.update_existing_only,
        ),
    )
    policy = FlowPolicy(
        budget=settings.drain_budget.total_seconds(),
        realtime_budget=settings.realtime_drain_budget.total_seconds(),
        deliveries=settings.inbox_deliveries,
        future_tolerance_ms=to_ms(settings.future_tolerance),
        probe_interval_ms=to_ms(settings.probe_interval),
        partitions=settings.partitions,
    )
    watch = make_watch(settings, stores, noted, record)
    flow = Flow(tools, stores.inbox, stores.bells, watch, ring, policy)
    reader = make_reader(settings)
    metrics.registry.register(ServerCollector(reader))
    address = settings.metrics_address()
    endpoint = Endpoint(address, metrics.registry, record) if address else None
    return Engine(flow, stores, braze, stop, record, metrics, reader, endpoint)


def make_handover(stores: Stores, partitions: int) -> Handover:
    """Enters a mode when a worker starts."""
    return Handover(
        stores.mode, stores.memberships, stores.seeding, stores.ledger, stores.workers, partitions
    )


def _base_url(settings: Settings) -> str:
    """Where Braze is. Raises if the endpoint or the key is missing."""
    if not settings.braze_endpoint:
        raise WrongSettings(
            "Set PERSONA_SYNC_BRAZE_ENDPOINT to your Braze instance (such as US-01) or REST URL."
        )
    base_url = rest_url(settings.braze_endpoint)
    settings.api_key()
    return base_url


def _client(settings: Settings, base_url: str) -> BrazeClient:
    return BrazeClient(
        base_url,
        lambda: _key_or_nothing(settings),
        connect=settings.braze_connect_timeout,
        total=settings.braze_request_timeout,
        idle=settings.braze_idle_connection,
        proxy=settings.braze_proxy,
        clock=boot_seconds,
    )


def make_watch(settings: Settings, stores: Stores, noted: Noted, record: Recorder) -> Watch:
    """What gives notices. Raises WrongSettings if the webhook's address cannot be one."""
    url = settings.notice_webhook_url()
    if url and not is_webhook_url(url):
        raise WrongSettings(
            "PERSONA_SYNC_NOTICE_WEBHOOK must be an https URL, or http on this machine."
        )
    webhook = Webhook(lambda: _webhook_or_nothing(settings))
    return Watch(
        budget=stores.budget,
        flips=stores.flips,
        notices=stores.notices,
        noted=noted,
        record=record,
        courier=Courier(stores.notices, webhook, record, random.random, _beside) if url else None,
        partitions=settings.partitions,
        policy=SurprisePolicy(settings.flip_notice_factor, settings.flip_notice_minimum),
    )


def _beside(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="notices", daemon=True).start()


def make_reader(settings: Settings) -> ServerReader:
    """Reads the server for a scrape, over connections that no task waits for."""
    client = connect(settings.server_url(), SCRAPE_SECONDS, SCRAPE_SECONDS)
    stores = make_stores(settings, client=client)
    return ServerReader(
        client=client,
        inbox=stores.inbox,
        memberships=stores.memberships,
        allowance=stores.allowance,
        dead_letters=stores.dead_letters,
        ledger=stores.ledger,
        workers=stores.workers,
        partitions=settings.partitions,
    )


def check_server(client: Server, partitions: int) -> None:
    """Raise UnfitServer if the server is too old, or holds another number of partitions."""
    info = client.info("server")
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise UnfitServer(
            f"The server is Redis {version}; 7.0 or later is needed (scripts must be able to "
            "drain when memory is full). Use Redis 7, Valkey, or the embedded server."
        )
    client.set(PARTITIONS_KEY, partitions, nx=True)
    stored = int(client.get(PARTITIONS_KEY) or 0)
    if stored != partitions:
        raise UnfitServer(
            f"This server's data has {stored} partition(s), PERSONA_SYNC_PARTITIONS says "
            f"{partitions}. The number is fixed at the first start: set it back to {stored}."
        )


def boot_seconds() -> float:
    """Seconds since boot, going on while the machine sleeps, so that a lease does too."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def key_print(api_key: str) -> str:
    """Tells one API key from another without telling the key: 8 hex digits of a digest."""
    return hashlib.sha256(b"persona-sync:" + api_key.encode()).hexdigest()[:8]


def _key_or_nothing(settings: Settings) -> str:
    # A key file that is being replaced may be missing for a moment; an empty key is refused
    # before anything is sent, and the probe finds the new one.
    try:
        return settings.api_key()
    except (WrongSettings, UnicodeDecodeError):
        return ""


def _webhook_or_nothing(settings: Settings) -> str:
    try:
        return settings.notice_webhook_url() or ""
    except (WrongSettings, UnicodeDecodeError):
        return ""


__all__ = [
    "CANNOT_START",
    "Engine",
    "Stores",
    "UnfitServer",
    "check_server",
    "connect",
    "load_engine",
    "make_engine",
    "make_stores",
]
