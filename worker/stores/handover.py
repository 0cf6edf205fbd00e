"""Enters a mode at a worker's start. What a shadow acknowledged is never taken as truth unasked.

Whoever changes the mode must be alone: workers of the other mode are refused, because they would
go on sending, or go on saying that they sent. See docs/decisions/0010-shadow-mode.md.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.pipeline.notices import many
from worker.stores.ledger import Ledger
from worker.stores.memberships import Memberships
from worker.stores.mode import Adopt, Mode, ModeStore, Step, StoredMode, step
from worker.stores.seeding import Page, Place, Seeding
from worker.stores.workers import Workers

COUNT_SECONDS = 5.0  # a worker that only says what it would cost does not count for longer


_FOR_EVER = 2**53  # ms; the greatest whole number that Lua tells from the next


class NotHandedOver(Exception):
    """The worker may not start in this mode now. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What entering did: `adopted` is 'trust', 'forget' or ''; `values` of `users` concerned."""

    mode: Mode
    adopted: str = ""
    users: int = 0
    values: int = 0


class Handover:
    """From the mode that the workers last ran in to the one that they are to run in."""

    def __init__(
        self,
        mode: ModeStore,
        memberships: Memberships,
        seeding: Seeding,
        ledger: Ledger,
        workers: Workers,
        partitions: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._memberships = memberships
        self._seeding = seeding
        self._ledger = ledger
        self._workers = workers
        self._partitions = partitions
        self._clock = clock

    def enter(self, wanted: Mode, adopt: Adopt | None) -> Entered:
        """Take the steps to `wanted`. Raises NotHandedOver; then nothing has changed.

        Harmless if many workers do it at once, and if one is killed midway: the next goes on.
        """
        while True:
            # In this order: a worker of the wanted mode beats only after the mode is stored.
            alive, stored = self._workers.alive(), self._mode.read()
            what = step(stored.mode, wanted, adopt)
            if what is Step.NOTHING:
                return Entered(wanted)
            is_first_live = wanted == "live" and stored.mode in ("", "forgetting")
            if alive and not is_first_live:
                running = stored.mode or "live"
                raise NotHandedOver(
                    f"Still running in {running} mode: {many(alive, 'worker')}. Stop all of them "
                    f"before the first starts in {wanted} mode; one that was killed counts for "
                    "10 s more."
                )
            done = self._take(what, stored)
            if done is not None:
                return done

    def _take(self, what: Step, stored: StoredMode) -> Entered | None:
        """One step; None if another worker was faster, so that it has to be looked at anew."""
        values = self._ledger.balance(self._partitions).values
        if what is Step.BEGIN_LIVE:
            return Entered("live") if self._mode.begin_live() else None
        if what is Step.BEGIN_SHADOW:
            return Entered("shadow") if self._mode.begin_shadow(stored, values) else None
        if what is Step.GO_ON_FORGETTING:
            return self._forget()
        if what is Step.ASK:
            self._ask(stored)
        # Claims of workers that were killed in shadow: nothing of them was sent.
        open_claims = [
            (partition, claim)
            for partition in range(self._partitions)
            for claim in self._memberships.open_claims(partition)
        ]
        trusts = what is not Step.FORGET
        over = self._mode.trust if trusts else self._mode.begin_to_forget
        if not over(stored, values):
            return None
        for partition, claim in open_claims:
            self._memberships.end_unsent(partition, claim)
        return Entered("live", "trust" if what is Step.TRUST else "") if trusts else self._forget()

    def _ask(self, stored: StoredMode) -> None:
        """Raise NotHandedOver with what it would cost, unless the shadow acknowledged nothing."""
        until = self._clock() + COUNT_SECONDS
        users = values = 0
        is_whole = True
        for partition, page in self._all_pages():
            is_whole = self._clock() <= until
            if not is_whole:
                break
            found = self._seeding.forget(
                partition, page.users, stored.since_ms, _FOR_EVER, only_count=True
            )
            users, values = users + found[0], values + found[1]
        if is_whole and not values:
            return
        at_least = "" if is_whole else "at least "
        since = datetime.fromtimestamp(stored.since_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise NotHandedOver(
            f"The workers ran in shadow mode since {since}: {at_least}{many(values, 'value')} of "
            f"{many(users, 'user')} count as delivered, and Braze was sent none of them. Say what "
            "that is worth before going live:\n"
            "  PERSONA_SYNC_ADOPT_SHADOW=trust   another sync kept Braze in step meanwhile; these "
            "values are not sent again\n"
            "  PERSONA_SYNC_ADOPT_SHADOW=forget  they are all sent: "
            f"{at_least}{many(users, 'user')}, {many(values, 'data point')}\n"
            "Or go on in shadow: PERSONA_SYNC_MODE=shadow."
        )

    def _forget(self) -> Entered:
        """Forget piece by piece; a worker that was killed has noted how far it came."""
        stored = self._mode.read()
        users = values = 0
        partition, place = self._noted()
        while partition < self._partitions and stored.mode == "forgetting":
            for page in self._seeding.pages(partition, place):
                found = self._seeding.forget(
                    partition, page.users, stored.since_ms, stored.until_ms
                )
                users, values = users + found[0], values + found[1]
                if page.after:
                    self._mode.scanned(f"{partition}:{page.after}")
            partition, place = partition + 1, self._seeding.beginning()
            self._mode.scanned(f"{partition}:{place}")
        self._mode.forgotten()
        return Entered("live", "forget", users, values)

    def _all_pages(self) -> Iterator[tuple[int, Page]]:
        for partition in range(self._partitions):
            for page in self._seeding.pages(partition, self._seeding.beginning()):
                yield partition, page

    def _noted(self) -> tuple[int, Place]:
        partition, _, place = self._mode.scan_mark().partition(":")
        return int(partition or 0), self._seeding.place(place)
