"""What was read from requests, packed into envelopes in the order in which it came. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from producer.envelopes import Addressed
from worker.contract import MAX_CHANGES_PER_ENVELOPE, Change, Changes, Deletion, partition_of

Item = Change | Deletion


def packed(items: Iterable[Item], *, partitions: int, new_id: Callable[[], str]) -> list[Addressed]:
    """Envelopes of at most 500 changes; within a partition, a deletion keeps its place between
    what was said before it and after it."""
    out: list[Addressed] = []
    runs: dict[int, list[Change]] = defaultdict(list)

    def close(partition: int) -> None:
        if run := runs.pop(partition, None):
            out.append(Addressed.of(Changes(id=new_id(), changes=run), partition))

    for item in items:
        partition = partition_of(item.user_id, partitions)
        if isinstance(item, Deletion):
            close(partition)
            out.append(Addressed.of(item, partition))
            continue
        runs[partition].append(item)
        if len(runs[partition]) == MAX_CHANGES_PER_ENVELOPE:
            close(partition)
    for partition in sorted(runs):
        close(partition)
    return out
