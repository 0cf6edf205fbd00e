"""Keys that nobody declared: how many are registered, and which keys are known at all."""

from collections.abc import Sequence

from worker.stores.keys import key
from worker.stores.server import Server


class Undeclared:
    """Reads what is registered; scripts register a key when it is first seen or declared."""

    def __init__(self, client: Server) -> None:
        self._client = client

    def count(self, partition: int) -> int:
        """How many keys are registered that nobody has declared."""
        return int(self._client.hget(key(partition, "meta"), "undeclared") or 0)

    def known(self, partition: int, names: Sequence[str]) -> set[str]:
        """Those of the keys that are registered, declared or not."""
        if not names:
            return set()
        ids = self._client.hmget(key(partition, "attrs"), names)
        return {name for name, id_ in zip(names, ids, strict=True) if id_ is not None}
