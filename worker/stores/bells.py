"""Which doorbells are on their way: at most one for each task and partition.

A bell is cleared before its task reads, so that work which comes after is rung for again.
A bell that is lost expires.
"""

from worker.contract import BELL_LIFE_MS, bell_key
from worker.stores.server import Server


class Bells:
    """Marks in Redis; ringing itself is Celery's."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def take(self, task: str, partition: int) -> bool:
        """True if no bell was outstanding: the caller must ring now."""
        return bool(self._client.set(bell_key(partition, task), 1, nx=True, px=BELL_LIFE_MS))

    def clear(self, task: str, partition: int) -> None:
        """The bell was heard, or could not be rung."""
        self._client.delete(bell_key(partition, task))
