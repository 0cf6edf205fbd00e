"""The composition root: settings -> stores, client, policies -> Flow. Connects, and checks that
every edge can carry what is asked of it, before anything is taken on."""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.audiences.registry import WrongRegistry
from worker.audiences.registry_file import RegistryFile
from worker.braze.client import TRACK_PATH, BrazeClient
from worker.braze.deletes import DELETE_PATH, IDS_MAX, Deletes
from worker.braze.instances import UnknownInstance, rest_url
from worker.braze.shadow import ShadowBraze
from worker.contract import PARTITIONS_KEY
from worker.delivery import DeliveryPolicy, Tools
from worker.durations import format_duration, to_ms
from worker.flow import Flow, FlowPolicy
from worker.forgetting import Forgetting
from worker.forwarding import Forwarding
from worker.observe.alive import AliveFile
from worker.observe.endpoint import Endpoint
from worker.observe.logs import log_fact
from worker.observe.noted import Noted
from worker.observe.process_metrics import ProcessMetrics
from worker.observe.record import Recorder
from worker.observe.server_metrics import ServerCollector
from worker.observe.webhook import Webhook, is_webhook_url
from worker.outages import Outages
from worker.pipeline import facts
from worker.pipeline.surprise import SurprisePolicy
from worker.recollection import Recollection
from worker.reload import Pace, Reload
from worker.scrape import ServerReader
from worker.settings import NothingRunning, Settings, WrongSettings
from worker.stores.allowance import DELETE, Allowance, AllowancePolicy
from worker.stores.audience_books import AudienceBooks
from worker.stores.bells import Bells
from worker.stores.budget import Budget
from worker.stores.dead_letters import DeadLetters
from worker.stores.deletions import Deletions, DeletionTerms
from worker.stores.erasure import Erasure
from worker.stores.flips import Flips
from worker.stores.forwards import Forwards
from worker.stores.handover import Entered, Handover, NotHandedOver
from worker.stores.identity import ServerIdentity
from worker.stores.in_force import InForce, Value
from worker.stores.inbox import Inbox
from worker.stores.journal import Journal
from worker.stores.ledger import Ledger
from worker.stores.memberships import Memberships
from worker.stores.mode import ModeStore
from worker.stores.notices import Notices
from worker.stores.publication import Publication
from worker.stores.rulebook import Rulebook
from worker.stores.seeding import Seeding
from worker.stores.server import Server
from worker.stores.sweeps import Sweeps
from worker.stores.terms import Terms
from worker.stores.workers import Workers, this_process
from worker.sweeping import Sweeping
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
    rulebook: Rulebook
    publication: Publication
    sweeps: Sweeps
    audience_books: AudienceBooks
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
    in_force: InForce
    deletions: Deletions
    forwards: Forwards
    delete_allowance: Allowance


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
    alive: AliveFile | None = None
    deletes: Deletes | None = None

    def close(self) -> None:
        """Give back connections; requests under way should be over."""
        self.stop.set()
        if self.endpoint:
            self.endpoint.close()
        self.reader.close()
        self.braze.close()
        if self.deletes:
            self.deletes.close()
        self.stores.client.close()


def connect(
    url: str,
    reply_seconds: float = 10,
    connect_seconds: float = 3,
    identity: ServerIdentity | None = None,
) -> Server:
    """A client that never repeats a command by itself: a late reply is not a lost one.

    With an `identity`, no connection is used before it is known which server it leads to.
    """
    return Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=reply_seconds,
        socket_connect_timeout=connect_seconds,
        health_check_interval=25,
        redis_connect_func=identity.introduce if identity else None,
    )


def make_stores(
    settings: Settings,
    client: Server | None = None,
    identity: ServerIdentity | None = None,
) -> Stores:
    """The stores of a deployment. Connects lazily: nothing is sent yet.

    Whoever claims gives the `identity` that the client was made with.
    """
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
    def epoch() -> int:
        return identity.epoch if identity else 0

    rulebook = Rulebook(client, epoch=epoch)
    return Stores(
        client=client,
        inbox=Inbox(client, to_ms(settings.inbox_takeover)),
        memberships=Memberships(client, terms, rulebook, epoch=epoch),
        rulebook=rulebook,
        publication=Publication(client, rulebook),
        sweeps=Sweeps(client, terms, at_once=settings.sweep_users),
        audience_books=AudienceBooks(client, rulebook),
        allowance=Allowance(client, policy),
        dead_letters=DeadLetters(client),
        journal=Journal(client),
        ledger=Ledger(client),
        bells=Bells(client),
        workers=Workers(client),
        mode=ModeStore(client),
        seeding=Seeding(client, terms, rulebook),
        budget=Budget(client, terms),
        flips=Flips(client),
        notices=Notices(client),
        in_force=InForce(client),
        deletions=Deletions(
            client, terms, DeletionTerms(settings.deletion_memory, settings.forward_deletes)
        ),
        forwards=Forwards(
            client, settings.claim_lease, remembers=settings.deletion_memory > timedelta(0)
        ),
        delete_allowance=Allowance(client, replace(policy, **_DELETES), keys=DELETE),
    )


def make_fit_stores(settings: Settings) -> Stores:
    """The stores of a deployment whose server is new enough. Connects; raises UnfitServer."""
    stores = make_stores(settings)
    try:
        check_version(stores.client)
    except BaseException:
        stores.client.close()
        raise
    return stores


# Far below what Braze allows for /users/delete (Braze docs: api_limits): 500 users a second.
_DELETES: dict[str, Any] = {"rate": 10.0, "burst": 5, "objects": IDS_MAX}


def load_engine(ring: Callable[[str, int], None]) -> Engine:
    """`make_engine` with the settings of the environment."""
    return make_engine(Settings.load(), ring)


def make_engine(settings: Settings, ring: Callable[[str, int], None]) -> Engine:
    """Wire one worker process, and check its edges.

    Raises what CANNOT_START lists, with what to do; redis' ConnectionError if the server cannot
    be reached.
    """
    # What can be wrong without a server is said first.
    base_url = "" if settings.mode == "shadow" else _base_url(settings)
    file = RegistryFile(settings.registry_file(), settings.batched_offset)
    reading = file.changed()
    assert reading is not None, "the first look at a file always finds something"
    alive = _alive_file(settings)
    identity = ServerIdentity(settings.partitions, settings.braze_request_timeout)
    client = connect(settings.server_url(), identity=identity)
    stores = make_stores(settings, client=client, identity=identity)
    check_server(stores.client, settings.partitions)
    for partition in range(settings.partitions):
        stores.inbox.prepare(partition)
    entered = make_handover(stores, settings.partitions).enter(settings.mode, settings.adopt_shadow)
    stores.in_force.publish(this_process(), rules_of(settings))
    stop = threading.Event()
    metrics = ProcessMetrics()
    noted = Noted()
    record = Recorder([log_fact, metrics, noted])
    braze = _braze(settings, stores, base_url, record, stop)
    _say_entered(entered, record)
    reload = Reload(
        file,
        stores.publication,
        record,
        this_process(),
        settings.partitions,
        Pace(settings.braze_objects_per_request, settings.braze_requests_per_second),
    )
    reload.begin()
    recollection = Recollection(stores.memberships, identity, boot_seconds, settings.server_memory)
    tools = _tools(settings, stores, braze, recollection, record, stop)
    watch = make_watch(settings, stores, noted, record)
    deletes = _deletes(settings, base_url)
    forgetting = Forgetting(
        stores.deletions,
        Erasure(stores.client, stores.allowance.now_ms),
        record,
        boot_seconds,
        Forwarding(tools, stores.delete_allowance, stores.forwards, deletes) if deletes else None,
    )
    flow = Flow(
        tools, stores.inbox, stores.bells, watch, ring, _flow_policy(settings), forgetting,
        reload, Sweeping(stores.sweeps, record, boot_seconds, tools.wait),
    )  # fmt: skip
    reader = make_reader(settings)
    metrics.registry.register(ServerCollector(reader))
    address = settings.metrics_address()
    endpoint = Endpoint(address, metrics.registry, record) if address else None
    return Engine(flow, stores, braze, stop, record, metrics, reader, endpoint, alive, deletes)


def rules_of(settings: Settings) -> dict[str, Value]:
    """The settings that all workers should share, by name: numbers, spans and switches, the mode
    and the address of Braze. No other text, so that no secret can be among them."""
    shared: dict[str, Value] = {"mode": settings.mode, "braze_endpoint": _endpoint(settings)}
    for name, value in settings:
        if name in _OF_ONE_PROCESS or name.startswith(_OF_PRODUCERS):
            continue
        if isinstance(value, bool | int | float):
            shared[name] = value
        elif isinstance(value, timedelta):
            shared[name] = format_duration(value)
    return shared


# What the HTTP producer goes by; then other producers, and `seed`. The number of partitions is the
# server's to say.
_OF_PRODUCERS = ("producer_", "webhook_")
_OF_ONE_PROCESS = frozenset(
    {
        "partitions", "inbox_high_water", "memory_high_water", "append_memory",
        "braze_exports_per_minute", "braze_ids_per_export", "braze_export_lag",
    }
)  # fmt: skip


def _endpoint(settings: Settings) -> str | None:
    try:
        return rest_url(settings.braze_endpoint) if settings.braze_endpoint else None
    except UnknownInstance:
        return None


def _alive_file(settings: Settings) -> AliveFile | None:
    if settings.alive_file is None:
        return None
    try:
        return AliveFile(settings.alive_file)
    except OSError as error:
        raise WrongSettings(
            f"PERSONA_SYNC_ALIVE_FILE: {settings.alive_file} cannot be written: {error.strerror}. "
            "Name a file in a folder that the worker may write to, or unset it."
        ) from None


def _say_entered(entered: Entered, record: Recorder) -> None:
    record(
        facts.ModeEntered(
            level="warning" if entered.mode == "shadow" or entered.adopted else "info",
            mode=entered.mode,
            adopted=entered.adopted,
            users=entered.users,
            values=entered.values,
        )
    )


def _braze(
    settings: Settings, stores: Stores, base_url: str, record: Recorder, stop: threading.Event
) -> BrazeClient | ShadowBraze:
    """What requests go to: Braze, or in shadow mode nobody."""

    def end_shadow() -> None:
        record(facts.ShadowOver())
        stop.set()

    if settings.mode == "shadow":
        return ShadowBraze(stores.mode.is_shadow, end_shadow)
    return _client(settings, base_url)


def _tools(
    settings: Settings,
    stores: Stores,
    braze: BrazeClient | ShadowBraze,
    recollection: Recollection,
    record: Recorder,
    stop: threading.Event,
) -> Tools:
    return Tools(
        memberships=stores.memberships,
        allowance=stores.allowance,
        braze=braze,
        record=record,
        clock=boot_seconds,
        wall=time.time,
        wait=lambda seconds: stop.wait(seconds) if seconds > 0 else stop.is_set(),
        random=random.random,
        key_print=lambda: key_print(_key_or_nothing(settings)),
        recollection=recollection,
        policy=DeliveryPolicy(
            total=settings.braze_request_timeout,
            lease=settings.claim_lease,
            failures=settings.transient_failures,
            backoff_base=settings.backoff_base,
            backoff_cap=settings.backoff_cap,
            update_existing_only=settings.update_existing_only,
            named=settings.named_as_set,
        ),
    )


def _flow_policy(settings: Settings) -> FlowPolicy:
    return FlowPolicy(
        budget=settings.drain_budget.total_seconds(),
        realtime_budget=settings.realtime_drain_budget.total_seconds(),
        deliveries=settings.inbox_deliveries,
        future_tolerance_ms=to_ms(settings.future_tolerance),
        probe_interval_ms=to_ms(settings.probe_interval),
        partitions=settings.partitions,
    )


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


def _deletes(settings: Settings, base_url: str) -> Deletes | None:
    """What has profiles deleted; None if they are not to be. A shadow lets them wait."""
    if not settings.forward_deletes or settings.mode == "shadow":
        return None
    return Deletes(_client(settings, base_url, DELETE_PATH))


def _client(settings: Settings, base_url: str, path: str = TRACK_PATH) -> BrazeClient:
    return BrazeClient(
        base_url,
        lambda: _key_or_nothing(settings),
        connect=settings.braze_connect_timeout,
        total=settings.braze_request_timeout,
        idle=settings.braze_idle_connection,
        proxy=settings.braze_proxy,
        clock=boot_seconds,
        path=path,
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
        outages=Outages(stores.allowance, stores.notices, record),
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
    return ServerReader(client, stores, settings.partitions)


def check_server(client: Server, partitions: int) -> None:
    """Raise UnfitServer if the server is too old, or holds another number of partitions."""
    check_version(client)
    client.set(PARTITIONS_KEY, partitions, nx=True)
    stored = int(client.get(PARTITIONS_KEY) or 0)
    if stored != partitions:
        raise UnfitServer(
            f"This server's data has {stored} partition(s), PERSONA_SYNC_PARTITIONS says "
            f"{partitions}. The number is fixed at the first start: set it back to {stored}."
        )


def check_version(client: Server) -> None:
    """Raise UnfitServer if the server is too old. Changes nothing."""
    info = client.info("server")
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise UnfitServer(
            f"The server is Redis {version}; 7.0 or later is needed (scripts must be able to "
            "drain when memory is full). Use Redis 7.0 or later, Valkey, or the embedded server "
            "(`persona-sync up`)."
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
    "check_version",
    "connect",
    "load_engine",
    "make_engine",
    "make_fit_stores",
    "make_stores",
]
