"""What runs and how it gets on: workers, the beat, the inbox, the lanes, the destination."""

from collections.abc import Mapping

from redis.exceptions import RedisError

from console.budget_shown import settings_of, spent_said
from console.checks.braze import WAIT
from console.checks.finding import Finding, all_unseen, bad, good, unseen
from console.checks.rules import look_at_rules
from console.destination import CONNECTED, SHADOW, as_shown, state_said
from console.instants import iso
from console.paper import many
from console.registry_shown import registry_shown, still_said
from console.standing import bounds_of, partitions_of
from worker.contract import BROKER_KEY_PREFIX, QUEUE_OF_TASK, inbox_key
from worker.delivery import TODO
from worker.pipeline.reply import Trouble
from worker.pipeline.schedule import Lane
from worker.settings import Settings, WrongSettings
from worker.stored import Stores
from worker.stores.allowance import OPERATOR
from worker.stores.budget import DAY_MS

RUNNING_CHECKS = (
    "workers",
    "settings_in_force",
    "registry",
    "mode",
    "beat",
    "inbox",
    "lanes",
    "destination",
    "budget",
    "dead_letters",
)
# The tick is the least urgent task, so a busy worker may be late with it.
TICK_LATE_MS = 30_000
INBOX_OLD_MS = 60_000
LANE_LATE_MS = 300_000
BELLS_MANY = 1_000
_NAMED = 5

_MEND = "Look at `persona-sync status`, and mend what keeps Braze from answering."
_NO_WAY = "Mend the way there: the line `braze` says where it ends."


def look_at_running(stores: Stores | None, settings: Settings, why: str = "") -> list[Finding]:
    """What the stores tell; without stores, `why` there are none."""
    if stores is None:
        return all_unseen(RUNNING_CHECKS, why)
    findings: list[Finding] = []
    looks = (
        _workers,
        look_at_rules,
        _registry,
        _mode,
        _beat,
        _inbox,
        _lanes,
        _destination,
        _budget,
        _dead_letters,
    )
    for name, look in zip(RUNNING_CHECKS, looks, strict=True):
        try:
            findings.append(look(stores, settings))
        except RedisError as error:
            findings.append(unseen(name, f"the server does not tell: {type(error).__name__}"))
    return findings


def _workers(stores: Stores, _: Settings) -> Finding:
    alive = stores.workers.alive()
    if alive:
        return good("workers", f"{alive} alive")
    return bad(
        "workers",
        "none has been heard of for 10 s: what is accepted stays in the inbox",
        "Start one: `persona-sync up`, or the service `worker` of docker-compose.yml.",
    )


def _beat(stores: Stores, _: Settings) -> Finding:
    age = stores.workers.tick_age_ms()
    if age is not None and age <= TICK_LATE_MS:
        return good("beat", f"its last tick was worked off {age / 1000:.1f} s ago")
    said = "no tick was ever worked off" if age is None else f"no tick for {age / 1000:,.0f} s"
    if not stores.workers.alive():
        return unseen("beat", f"{said}; without a worker nobody can tell why")
    return bad(
        "beat",
        f"{said}: batched changes and retries wait",
        "Start the beat: `persona-sync up`, or the service `beat` of docker-compose.yml; two are "
        "harmless.",
    )


def _inbox(stores: Stores, settings: Settings) -> Finding:
    sizes = [stores.inbox.size(partition) for partition in range(partitions_of(stores, settings))]
    fullest, now = max(sizes), stores.allowance.now_ms()
    since = [at for p in range(partitions_of(stores, settings)) if (at := _oldest_ms(stores, p))]
    age_ms = max(0, now - min(since, default=now))
    there = many(sum(sizes), "envelope")
    if sum(sizes):
        there += f", the oldest for {age_ms / 1000:,.0f} s"
    todo = "Start more workers, and look at their log for why they do not apply it."
    if fullest >= settings.inbox_high_water:
        return bad("inbox", f"{there}: it is full, senders are refused", todo)
    late = age_ms > INBOX_OLD_MS or fullest * 2 >= settings.inbox_high_water
    return good("inbox", there, todo if late else None)


def _oldest_ms(stores: Stores, partition: int) -> int | None:
    """When the first envelope of an inbox was appended: an entry's id begins with it."""
    found = stores.client.xrange(inbox_key(partition), count=1)
    return int(found[0][0].decode().partition("-")[0]) if found else None


def _lanes(stores: Stores, settings: Settings) -> Finding:
    now = stores.allowance.now_ms()
    due, first = 0, now
    for partition in range(partitions_of(stores, settings)):
        for lane in Lane:
            waiting = stores.memberships.waiting(partition, lane, now)
            due += waiting.due
            first = min(first, waiting.first_due_ms or now)
    there = f"{many(due, 'user')} due" + (
        f", the oldest for {(now - first) / 1000:,.0f} s" if due else ""
    )
    bells = _bells(stores, settings)
    if bells is not None and bells > BELLS_MANY:
        todo = "Start workers; the messages in Celery's queues carry no data, and pile up."
        return good("lanes", f"{there}; {bells:,} messages in Celery's queues", todo)
    late = now - first > LANE_LATE_MS
    return good("lanes", there, _MEND if late else None)


def _bells(stores: Stores, settings: Settings) -> int | None:
    """Messages in Celery's queues, where the broker is the same server."""
    try:
        if settings.celery_broker_url() != settings.server_url():
            return None
    except WrongSettings:
        return None  # the line `broker` says so
    queues = set(QUEUE_OF_TASK.values())
    return sum(int(stores.client.llen(BROKER_KEY_PREFIX + queue)) for queue in queues)


def _destination(stores: Stores, _: Settings) -> Finding:
    found, now = stores.allowance.destination(), stores.allowance.now_ms()
    shown = as_shown(found, stores.mode.read().mode, now)
    state, reason, stands = shown["state"], shown["reason"], state_said(**shown)
    if state == SHADOW:
        return good("destination", stands)
    if state == CONNECTED:
        return good("destination", f"{stands}: nothing holds it back")
    if found.stop == OPERATOR:
        todo = "When what it was paused for is over: `persona-sync resume`."
    elif found.stop == "valve":
        todo = (
            f"{TODO['valve']} (`persona-sync dead-letters list --summary`, `persona-sync resume`)"
        )
    elif found.stop:
        todo = TODO.get(found.stop, _MEND)
    elif state == "unreachable":
        todo = _NO_WAY if reason == Trouble.NOT_CONNECTED else WAIT
    else:
        return good("destination", f"{stands}; this passes")
    return bad("destination", stands, todo)


def _registry(stores: Stores, _: Settings) -> Finding:
    found = registry_shown(stores.publication.read())
    if found is None:
        return good("registry", "nothing is published: no worker has started yet")
    if found["fault"]:
        return bad(
            "registry",
            f"{found['fault']['text'].replace(chr(10), '; ')} "
            f"({found['fault']['by']}, since {found['fault']['since']}). {still_said(found)}",
            "Mend that file; it is taken up within seconds. `persona-sync audiences validate` "
            "shows each place.",
        )
    return good(
        "registry",
        f"version {found['version']}, {many(found['declares'], 'key')}, published "
        f"{found['published_at']} by {found['by']}",
    )


def _mode(stores: Stores, settings: Settings) -> Finding:
    mode = stores.mode.read().mode
    if mode == "shadow":
        return good(
            "mode",
            "shadow: everything is computed and counted, and nothing is sent to Braze",
            "To send, start all workers with PERSONA_SYNC_MODE=live, and say with "
            "PERSONA_SYNC_ADOPT_SHADOW what the shadow's values are worth.",
        )
    if mode == "forgetting":
        return good("mode", "going live: what shadow acknowledged is being made unknown")
    left = (
        "Unset PERSONA_SYNC_ADOPT_SHADOW: going live is over, and left set it decides unasked "
        "after the next shadow."
    )
    return good(
        "mode",
        "live: changes are sent to Braze" if mode else "no worker has started yet",
        left if mode == "live" and settings.mode == "live" and settings.adopt_shadow else None,
    )


def _budget(stores: Stores, settings: Settings) -> Finding:
    now, partitions = stores.allowance.now_ms(), partitions_of(stores, settings)
    bounds = bounds_of(stores, stores.in_force.latest())
    over = [item for item in stores.budget.held(partitions, now) if item.users]
    if over:
        names = ", ".join(item.audience for item in over[:_NAMED])
        more = f" and {len(over) - _NAMED:,} more" if over[_NAMED:] else ""
        waiting = many(sum(item.users for item in over), "user")
        return good(
            "budget",
            f"the data points of today are spent for {names}{more}: {waiting} held",
            f"They go on at {iso((now // DAY_MS + 1) * DAY_MS)}{_sooner(bounds)}.",
        )
    if not any(bounds.values()):
        return good("budget", "no bound on data points is set")
    return good("budget", spent_said(bounds, stores.budget.today(partitions, now)))


def _sooner(bounds: Mapping[str, int | None]) -> str:
    named = " or ".join(settings_of(bounds))
    return f"; to go on now, raise {named}, and restart the workers" if named else ""


def _dead_letters(stores: Stores, settings: Settings) -> Finding:
    count = sum(stores.dead_letters.size(p) for p in range(partitions_of(stores, settings)))
    todo = "See why with `persona-sync dead-letters list --summary`; replay or drop them."
    return good("dead_letters", f"{count:,}", todo if count else None)
