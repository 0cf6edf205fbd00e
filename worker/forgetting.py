"""Deleted users: forgotten when their envelope is applied, the rest bit by bit with each tick.

A deletion takes the user's state, place in the lists and part of a claim at once. Dead letters and
journal are gone through afterwards, for a bounded time in each tick; whoever is killed over it is
gone on for by the next.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.forwarding import Forwarding
from worker.pipeline import facts
from worker.stores.deletions import Deleted, Deletions
from worker.stores.erasure import Erasure

# A tick has other things to do.
_ERASE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Forgetting:
    """`clock` is seconds. `forwarding` is None if Braze is not to be asked, or not now."""

    deletions: Deletions
    erasure: Erasure
    record: Callable[[facts.Fact], None]
    clock: Callable[[], float]
    forwarding: Forwarding | None = None

    def delete(self, partition: int, entry_id: str, user_id: str) -> Deleted:
        """Forget a user, and acknowledge the entry that asks for it."""
        deleted = self.deletions.delete(partition, entry_id, user_id)
        if deleted.is_applied:
            self.record(
                facts.UserDeleted(
                    entry=entry_id,
                    attributes=deleted.attributes,
                    skipped=deleted.skipped,
                    in_flight=deleted.in_flight,
                    asks_braze=deleted.ask_at_ms is not None,
                )
            )
        return deleted

    def go_on(self, partition: int, now_ms: int) -> None:
        """Erase some more of who was deleted; stop remembering whose time is over."""
        until = self.clock() + _ERASE_SECONDS
        if erased := self.erasure.go_on(partition, lambda: self.clock() >= until):
            self.record(facts.UsersErased(users=erased))
        self.deletions.trim(partition, now_ms)

    def has_to_ask(self, partition: int, until_ms: int) -> bool:
        """Whether Braze may be asked for somebody by then."""
        return self.forwarding is not None and self.forwarding.has_work(partition, until_ms)
