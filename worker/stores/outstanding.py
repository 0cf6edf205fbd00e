"""What of an audience is still to be sent: how far a flush, or work on many users, has come."""

from dataclasses import dataclass

from worker.stores.keys import key
from worker.stores.server import Server


@dataclass(frozen=True, slots=True)
class Outstanding:
    """`users` differ since before the moment that was asked for. `held`: who wait for a gap or a
    hold, maybe of another attribute; `over`: for the budget. The rest is due, in a request, or
    waits for its boundary. `sent`: data points ever. Of several partitions together."""

    users: int = 0
    held: int = 0
    over: int = 0
    sent: int = 0


class OutstandingUsers:
    """Counts them. Reads only."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def read(self, partitions: int, name: str | None, until_ms: int) -> Outstanding:
        """Of one key, or of all (None), in which a user counts once for each key."""
        found = [self._of(partition, name, until_ms) for partition in range(partitions)]
        return Outstanding(
            users=sum(one.users for one in found),
            held=sum(one.held for one in found),
            over=sum(one.over for one in found),
            sent=sum(one.sent for one in found),
        )

    def _of(self, partition: int, name: str | None, until_ms: int) -> Outstanding:
        ids = self._ids(partition, name)
        with self._client.pipeline(transaction=False) as together:
            for id_ in ids:
                dirty = key(partition, f"dirty:{id_}")
                together.zcount(dirty, "-inf", until_ms)
                for list_ in ("rt:held", "bt:held", f"over:{id_}"):
                    together.zintercard(2, [dirty, key(partition, list_)])
                together.hget(key(partition, "sent"), id_)
            raw = together.execute()
        users = held = over = sent = 0
        for at in range(0, len(raw), 5):
            left, realtime, batched, budget, points = (int(part or 0) for part in raw[at : at + 5])
            users += left
            held += min(left, realtime + batched)
            over += min(left, budget)
            sent += points
        return Outstanding(users, held, over, sent)

    def _ids(self, partition: int, name: str | None) -> list[str]:
        if name is None:
            return [id_.decode() for id_ in self._client.hkeys(key(partition, "names"))]
        id_ = self._client.hget(key(partition, "attrs"), name)
        return [] if id_ is None else [id_.decode()]
