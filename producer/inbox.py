"""Appends envelopes to the inbox; returning means they are durable, as the server is set up.

The script is the only writer: an envelope's id is looked up, the mark is checked, and the
entry, the ledger and the id are written in one step. A repeat answers with the first entry.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, cast

from redis import Redis

from producer.envelopes import Addressed
from producer.refusals import InboxFull, MemoryFull, WrongServer
from producer.server import MEMORY_FULL, errors_said
from worker.contract import (
    CHECK_KEY,
    CHECK_LIFE_MS,
    PARTITIONS_KEY,
    append_key,
    inbox_key,
    ledger_key,
)
from worker.durations import to_ms

ENVELOPES_PER_CALL = 16  # a few MB at most: the server does nothing else meanwhile
MEMORY_LOOK_SECONDS = 1.0

# KEYS: the inbox (stream), the ledger (hash), then for each envelope its append key (string).
# ARGV: high water, life of an append key in ms, then for each envelope its JSON and its count.
# Returns for each envelope in order its entry id and 1 if it was there before; it ends early
# where the inbox is full, so that a later envelope never overtakes a refused one.
# XADD comes first among the writes: a server out of memory refuses there, and nothing happened.
APPEND = """
local answer = {}
for i = 3, #KEYS do
  local id = redis.call('GET', KEYS[i])
  if id then
    answer[#answer + 1] = id
    answer[#answer + 1] = 1
  else
    if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then break end
    local count = ARGV[2 * i - 2]
    id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[2 * i - 3], 'n', count)
    if count ~= '0' then redis.call('HINCRBY', KEYS[2], 'accepted', count) end
    redis.call('SET', KEYS[i], id, 'PX', ARGV[2])
    answer[#answer + 1] = id
    answer[#answer + 1] = 0
  end
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an envelope stands in its inbox; `was_there` if an earlier call put it there."""

    envelope_id: str
    entry_id: str
    was_there: bool


class Inbox:
    """The inboxes of all partitions, as a producer sees them. Not for several threads at once."""

    def __init__(
        self,
        client: Redis,
        *,
        partitions: int,
        high_water: int,
        memory_high_water: float,
        append_memory: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._script = client.register_script(APPEND)
        self._partitions = partitions
        self._high_water = high_water
        self._memory_high_water = memory_high_water
        self._append_memory_ms = to_ms(append_memory)
        self._clock = clock
        self._memory_seen_at: float | None = None
        self._memory_is_full = False
        self._is_checked = False

    def append(self, envelopes: Sequence[Addressed]) -> list[Appended]:
        """Append all, those of one partition in order; answers in the order given.

        Raises a ProducerRefused if one was not taken: earlier ones may have been, and the
        whole call may be repeated.
        """
        if not envelopes:
            return []
        by_partition: dict[int, list[Addressed]] = defaultdict(list)
        for envelope in envelopes:
            by_partition[envelope.partition].append(envelope)
        taken: dict[tuple[int, str], Appended] = {}
        with errors_said():
            self._check_partitions()
            self._check_memory()
            for partition, ours in by_partition.items():
                waiting = iter(ours)
                while chunk := list(islice(waiting, ENVELOPES_PER_CALL)):
                    for appended in self._append(partition, chunk):
                        taken[partition, appended.envelope_id] = appended
        return [taken[envelope.partition, envelope.envelope_id] for envelope in envelopes]

    def check(self) -> None:
        """Whether an append would be taken now. Raises the ProducerRefused that it would meet."""
        with errors_said():
            self._check_partitions()
            self._check_memory()
            self._client.set(CHECK_KEY, "1", px=CHECK_LIFE_MS)
            for partition in range(self._partitions):
                if self._client.xlen(inbox_key(partition)) >= self._high_water:
                    raise self._is_full()

    def remembers(self, partition: int, envelope_id: str) -> bool:
        """True if the envelope was appended here, and not longer ago than ids are remembered."""
        with errors_said():
            return self._client.exists(append_key(partition, envelope_id)) == 1

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _append(self, partition: int, envelopes: list[Addressed]) -> list[Appended]:
        keys = [inbox_key(partition), ledger_key(partition)]
        keys += [append_key(partition, envelope.envelope_id) for envelope in envelopes]
        arguments: list[Any] = [self._high_water, self._append_memory_ms]
        for envelope in envelopes:
            arguments += [envelope.body, envelope.count]
        answer = self._script(keys=keys, args=arguments)
        if len(answer) < 2 * len(envelopes):
            raise self._is_full()
        return [
            Appended(envelope.envelope_id, answer[2 * i].decode(), answer[2 * i + 1] == 1)
            for i, envelope in enumerate(envelopes)
        ]

    def _is_full(self) -> InboxFull:
        return InboxFull(
            f"The inbox holds {self._high_water:,} envelopes that no worker has applied yet, "
            "so nothing more is accepted. Start workers (`persona-sync up`), or wait for "
            "them; then send again."
        )

    def _check_partitions(self) -> None:
        """A user's changes must not be spread over two partitions; looked at once."""
        if self._is_checked:
            return
        stored = cast(bytes | None, self._client.get(PARTITIONS_KEY))
        if stored is not None and stored != str(self._partitions).encode():
            raise WrongServer(
                f"This server was set up with {stored.decode(errors='replace')} partition(s), "
                f"but PERSONA_SYNC_PARTITIONS is {self._partitions}. Give producers and workers "
                "the number of the first start."
            )
        self._is_checked = True

    def _check_memory(self) -> None:
        now = self._clock()
        if self._memory_seen_at is None or now - self._memory_seen_at >= MEMORY_LOOK_SECONDS:
            memory = self._client.info("memory")
            limit = int(memory.get("maxmemory", 0))
            used = int(memory.get("used_memory", 0))
            self._memory_is_full = limit > 0 and used / limit >= self._memory_high_water
            self._memory_seen_at = now
        if self._memory_is_full:
            raise MemoryFull(MEMORY_FULL)
