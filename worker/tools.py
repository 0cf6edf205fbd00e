"""What the shell of the engine is made of: the stores, Braze, and whatever would be taken from the
world. Put together once, in bootstrap; nothing is decided here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from worker.pipeline import facts
from worker.pipeline.reply import Reply
from worker.recollection import Recollection
from worker.stores.allowance import Allowance
from worker.stores.memberships import Memberships


class Probed(Protocol):
    """An endpoint that can be asked for nothing, to see whether it would be taken."""

    def probe(self) -> Reply: ...


class Braze(Probed, Protocol):
    """What delivering needs of the client: one call, one reply, no retries."""

    def track(self, body: bytes, *, total: timedelta | None = None) -> Reply: ...


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """`total` bounds a request, `lease` a claim. After `failures` in a row all workers narrow."""

    total: timedelta = timedelta(seconds=10)
    lease: timedelta = timedelta(seconds=30)
    failures: int = 3
    backoff_base: timedelta = timedelta(milliseconds=500)
    backoff_cap: timedelta = timedelta(seconds=60)
    longest_reservation_ms: int = 500
    # The same text, naming the variables by which the secrets of this deployment are set.
    named: Callable[[str], str] = str
    update_existing_only: bool = False


@dataclass(frozen=True, slots=True)
class Tools:
    """What the shell of the engine is made of. Time, waiting and chance are given, never taken.

    `clock`: seconds that go on while the machine sleeps. `wait(seconds)` returns True if the
    worker is to stop. `random` is uniform in [0, 1). `key_print` tells keys apart without
    telling them.
    """

    memberships: Memberships
    allowance: Allowance
    braze: Braze
    record: Callable[[facts.Fact], None]
    clock: Callable[[], float]
    wall: Callable[[], float]
    wait: Callable[[float], bool]
    random: Callable[[], float]
    key_print: Callable[[], str]
    recollection: Recollection
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
