"""The composition root: settings -> stores, client, policies -> Flow. Connects, and checks that
every edge can carry what is asked of it, before anything is taken on."""

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from worker.audiences.registry import WrongRegistry
from worker.audiences.registry_file import RegistryFile
from worker.braze.client import TRACK_PATH, BrazeClient
from worker.braze.deletes import DELETE_PATH, Deletes
from worker.braze.instances import UnknownInstance, rest_url
from worker.braze.shadow import ShadowBraze
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
from worker.stored import Stores, UnfitServer, check_server, connect, make_stores
from worker.stores.handover import Entered, Handover, NotHandedOver
from worker.stores.identity import ServerIdentity
from worker.stores.in_force import Value
from worker.stores.server import Clock
from worker.stores.workers import this_process
from worker.sweeping import Sweeping
from worker.tools import DeliveryPolicy, Tools
from worker.watch import Courier, Watch

SCRAPE_SECONDS = 2.0  # Prometheus gives up after ten


# Why a process cannot start, each with a message that says what to do.
CANNOT_START = (
    WrongSettings, NothingRunning, WrongRegistry, UnknownInstance, UnfitServer, NotHandedOver
)  # fmt: skip


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


def load_engine(ring: Callable[[str, int], None]) -> Engine:
    """`make_engine` with the settings of the environment."""
    return make_engine(Settings.load(), ring)


def make_engine(
    settings: Settings, ring: Callable[[str, int], None], clock: Clock | None = None
) -> Engine:
    """Wire one worker process, and check its edges. `clock`: see `make_stores`.

    Raises what CANNOT_START lists, with what to do; redis' ConnectionError if the server cannot
    be reached.
    """
    # What can be wrong without a server is said first.
    base_url = "" if settings.mode == "shadow" else _base_url(settings)
    file = RegistryFile(settings.registry_file(), settings.batched_offset, time.time_ns)
    file.changed()
    alive = _alive_file(settings)
    identity = ServerIdentity(settings.partitions, settings.braze_request_timeout)
    stores = _stores_made_ready(settings, identity, clock)
    entered = make_handover(stores, settings.partitions).enter(settings.mode, settings.adopt_shadow)
    stores.in_force.publish(this_process(), rules_of(settings))
    stop, metrics, noted = threading.Event(), ProcessMetrics(), Noted()
    record = Recorder([log_fact, metrics, noted])
    _say_entered(entered, record)
    reload = _reload(settings, file, stores, record)
    reload.begin()
    braze, deletes = _braze(settings, stores, base_url, record, stop), _deletes(settings, base_url)
    recollection = Recollection(stores.memberships, identity, boot_seconds, settings.server_memory)
    tools = _tools(settings, stores, braze, recollection, record, stop)
    flow = Flow(
        tools, stores.inbox, stores.bells, make_watch(settings, stores, noted, record), ring,
        _flow_policy(settings), _forgetting(stores, tools, deletes), reload,
        Sweeping(stores.sweeps, record, boot_seconds, tools.wait),
    )  # fmt: skip
    reader = make_reader(settings, clock)
    metrics.registry.register(ServerCollector(reader))
    address = settings.metrics_address()
    endpoint = Endpoint(address, metrics.registry, record) if address else None
    return Engine(flow, stores, braze, stop, record, metrics, reader, endpoint, alive, deletes)


def _stores_made_ready(settings: Settings, identity: ServerIdentity, clock: Clock | None) -> Stores:
    """The stores of a worker, on a server that was found fit, with inboxes that can be read."""
    client = connect(settings.server_url(), identity=identity)
    stores = make_stores(settings, client, identity, clock)
    check_server(client, settings.partitions)
    for partition in range(settings.partitions):
        stores.inbox.prepare(partition)
    return stores


def _reload(settings: Settings, file: RegistryFile, stores: Stores, record: Recorder) -> Reload:
    return Reload(
        file,
        stores.publication,
        record,
        this_process(),
        settings.partitions,
        Pace(settings.braze_objects_per_request, settings.braze_requests_per_second),
    )


def _forgetting(stores: Stores, tools: Tools, deletes: Deletes | None) -> Forgetting:
    forwarding = None
    if deletes:
        forwarding = Forwarding(tools, stores.delete_allowance, stores.forwards, deletes)
    return Forgetting(stores.deletions, stores.erasure, tools.record, tools.clock, forwarding)


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


def make_reader(settings: Settings, clock: Clock | None = None) -> ServerReader:
    """Reads the server for a scrape, over connections that no task waits for."""
    client = connect(settings.server_url(), SCRAPE_SECONDS, SCRAPE_SECONDS)
    stores = make_stores(settings, client, clock=clock)
    return ServerReader(client, stores, settings.partitions)


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
