"""The inbox: a stream of accepted envelopes, read by one consumer name for all workers.

An entry stays pending until the script that applies it acknowledges and deletes it. What a
lost worker had read is taken over after a while; the number of deliveries says how often it
was tried.
"""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from worker.contract import inbox_key
from worker.stores.server import Server

GROUP = "engine"
# One name for all: deleting a consumer would drop its pending entries for good.
CONSUMER = "worker"


@dataclass(frozen=True, slots=True)
class Entry:
    """One envelope as read: its id, its JSON, and how often it has been delivered."""

    id: str
    data: bytes
    deliveries: int = 1


class Inbox:
    """Reads one partition's stream at a time; appending is the producers' business."""

    def __init__(self, client: Server, takeover_ms: int) -> None:
        self._client = client
        self._takeover_ms = takeover_ms

    def prepare(self, partition: int) -> None:
        """Create the consumer group, reading from the beginning; harmless if it is there."""
        try:
            self._client.xgroup_create(inbox_key(partition), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def read(self, partition: int, count: int) -> list[Entry]:
        """Entries never delivered before, oldest first; empty if there are none."""
        key = inbox_key(partition)
        try:
            found = self._client.xreadgroup(GROUP, CONSUMER, {key: ">"}, count=count)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self.prepare(partition)
            return []
        streams = found.items() if isinstance(found, dict) else found or ()
        entries: list[Entry] = []
        for _, batches in streams:
            for item in batches:
                for id_, fields in item if isinstance(item, list) else [item]:
                    entries.append(_entry(id_, fields))
        return entries

    def take_over(self, partition: int, count: int) -> list[Entry]:
        """Entries that somebody read and did not apply in time, with their deliveries."""
        key = inbox_key(partition)
        idle = self._client.xpending_range(key, GROUP, "-", "+", count, idle=self._takeover_ms)
        if not idle:
            return []
        deliveries = {item["message_id"]: item["times_delivered"] for item in idle}
        claimed = self._client.xclaim(key, GROUP, CONSUMER, self._takeover_ms, list(deliveries))
        return [_entry(id_, fields, deliveries[id_] + 1) for id_, fields in claimed]

    def size(self, partition: int) -> int:
        """Envelopes accepted and not yet applied."""
        return int(self._client.xlen(inbox_key(partition)))

    def has_work(self, partition: int) -> bool:
        """True if there is something unread, or something to take over."""
        if not self.size(partition):
            return False
        pending = self._client.xpending(inbox_key(partition), GROUP)
        if self.size(partition) > pending["pending"]:
            return True
        idle = self._client.xpending_range(
            inbox_key(partition), GROUP, "-", "+", 1, idle=self._takeover_ms
        )
        return bool(idle)


def _entry(id_: bytes, fields: dict[bytes, bytes] | None, deliveries: int = 1) -> Entry:
    return Entry(id_.decode(), (fields or {}).get(b"e", b""), deliveries)
