"""All that a deployment keeps in Redis: connected, put together, and found fit to carry it."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.braze.deletes import IDS_MAX
from worker.contract import PARTITIONS_KEY
from worker.durations import to_ms
from worker.settings import Settings
from worker.stores.allowance import DELETE, Allowance, AllowancePolicy
from worker.stores.audience_books import AudienceBooks
from worker.stores.bells import Bells
from worker.stores.budget import Budget
from worker.stores.dead_letters import DeadLetters
from worker.stores.deletions import Deletions, DeletionTerms
from worker.stores.erasure import Erasure
from worker.stores.flips import Flips
from worker.stores.forwards import Forwards
from worker.stores.identity import ServerIdentity
from worker.stores.in_force import InForce
from worker.stores.inbox import Inbox
from worker.stores.journal import Journal
from worker.stores.ledger import Ledger
from worker.stores.memberships import Memberships
from worker.stores.mode import ModeStore
from worker.stores.notices import Notices
from worker.stores.publication import Publication
from worker.stores.rulebook import Rulebook
from worker.stores.scripts import Scripts
from worker.stores.seeding import Seeding
from worker.stores.server import Clock, Server
from worker.stores.sweeps import Sweeps
from worker.stores.terms import Terms
from worker.stores.workers import Workers

OLDEST_SERVER = (7, 0)


class UnfitServer(Exception):
    """The server cannot carry the engine. The message says what is wrong and what to do."""


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
    erasure: Erasure
    forwards: Forwards
    delete_allowance: Allowance


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
    clock: Clock | None = None,
) -> Stores:
    """The stores of a deployment. Connects lazily: nothing is sent yet.

    Whoever claims gives the `identity` that the client was made with. All go by the server's
    clock, or in a test by this one.
    """
    client = client or connect(settings.server_url())
    scripts = Scripts(client, clock)
    terms, policy = _terms(settings), _allowance_policy(settings)
    forgetting = DeletionTerms(settings.deletion_memory, settings.forward_deletes)
    rulebook = Rulebook(scripts, lambda: identity.epoch if identity else 0)
    return Stores(
        client=client,
        inbox=Inbox(client, to_ms(settings.inbox_takeover)),
        memberships=Memberships(scripts, terms, rulebook),
        rulebook=rulebook,
        publication=Publication(scripts, rulebook),
        sweeps=Sweeps(scripts, terms, settings.sweep_users),
        audience_books=AudienceBooks(client, rulebook),
        allowance=Allowance(scripts, policy),
        dead_letters=DeadLetters(client),
        journal=Journal(client),
        ledger=Ledger(client),
        bells=Bells(client),
        workers=Workers(client, clock),
        mode=ModeStore(scripts),
        seeding=Seeding(scripts, terms, rulebook),
        budget=Budget(scripts, terms),
        flips=Flips(client),
        notices=Notices(client, clock),
        in_force=InForce(client, clock),
        deletions=Deletions(scripts, terms, forgetting),
        erasure=Erasure(scripts),
        forwards=Forwards(scripts, terms.lease, remembers=forgetting.memory > timedelta(0)),
        delete_allowance=Allowance(scripts, replace(policy, **_DELETES), DELETE),
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
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


def _allowance_policy(settings: Settings) -> AllowancePolicy:
    return AllowancePolicy(
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
