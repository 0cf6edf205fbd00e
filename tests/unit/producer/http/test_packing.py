"""Items to envelopes: nothing lost, order kept around a deletion, bounded."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.http.packing import Item, packed
from worker.contract import ENVELOPE, Change, ChangeClass, Changes, Deletion, partition_of


def change(user: str, place: int) -> Change:
    return Change(
        user_id=user,
        attribute="vip",
        value=True,
        event_at=None,
        place=place,
        change_class=ChangeClass.AUDIENCE,
    )


def deletion(user: str, number: int) -> Deletion:
    return Deletion(id=f"d{number}", user_id=user)


def story(items: list[Item], partitions: int) -> dict[int, list[str]]:
    """What is said in each partition, in order, read back from the envelopes' JSON."""
    numbers = count()
    told: dict[int, list[str]] = {}
    for envelope in packed(items, partitions=partitions, new_id=lambda: f"e{next(numbers)}"):
        read = ENVELOPE.validate_json(envelope.body)
        said = told.setdefault(envelope.partition, [])
        if isinstance(read, Changes):
            assert 1 <= len(read.changes) == envelope.count <= 500
            said += [f"{one.user_id}{one.place}" for one in read.changes]
        else:
            assert isinstance(read, Deletion)
            assert envelope.count == 0
            said.append(f"{read.user_id} goes")
    return told


ITEMS = st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60)


class TestPacked:
    @settings(deadline=None, database=None, derandomize=True)
    @given(ITEMS, st.sampled_from([1, 3]))
    def test_every_partition_hears_all_in_order(
        self, drawn: list[tuple[str, bool]], partitions: int
    ) -> None:
        """Changes and deletions of a partition come in the order in which they were given."""
        items: list[Item] = []
        meant: dict[int, list[str]] = {}
        for number, (user, goes) in enumerate(drawn):
            items.append(deletion(user, number) if goes else change(user, number))
            said = f"{user} goes" if goes else f"{user}{number}"
            meant.setdefault(partition_of(user, partitions), []).append(said)
        assert story(items, partitions) == meant

    def test_long_runs_are_cut(self) -> None:
        """At most 500 changes in an envelope."""
        items: list[Item] = [change("a", number) for number in range(1_201)]
        counts = [one.count for one in packed(items, partitions=1, new_id=lambda: "e")]
        assert counts == [500, 500, 201]

    def test_nothing_is_nothing(self) -> None:
        """No items, no envelopes."""
        assert packed([], partitions=1, new_id=lambda: "e") == []
