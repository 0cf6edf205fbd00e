"""Law: the accept script is the pure fold, whatever the order, the repeats and the failures."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from worker.pipeline.fold import Desired, End, fold
from worker.stores.inbox import Entry

_users = st.sampled_from(["u1", "u2", "u3", "ü"])
_values = st.sampled_from([True, False, 450, 450.0, "x", ""])
# Few instants, so that ranks collide; 900 s ahead of the entry is clamped.
_instants = st.sampled_from([None, -50, -1, 0, 1, 900_000])


@st.composite
def _changes(draw: st.DrawFn) -> dict[str, Any]:
    value = draw(_values)
    return {
        "user": draw(_users),
        "attribute": draw(st.sampled_from(["a", "b"])),
        "value": value,
        "event": draw(_instants),
        "arrived": draw(st.sampled_from([None, None, -2, 0])),
        "place": draw(st.sampled_from([0, 0, 1, 7])),
    }


_envelopes = st.lists(st.lists(_changes(), min_size=1, max_size=5), min_size=1, max_size=6)
# What happens to the entry that is next: how the script ends, and what comes between.
_fates = st.lists(
    st.sampled_from(["fine", "fine", "torn", "torn", "wrong type", "flush"]),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=120,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(envelopes=_envelopes, fates=_fates, data=st.data())
def test_lua_equals_the_pure_fold(
    make_world: Callable[..., Any], envelopes: Any, fates: Any, data: st.DataObject
) -> None:
    """Desired values, ranks, open changes and every count are those of the pure fold."""
    world = make_world()
    for envelope in envelopes:
        world.append(*(_made(world, change) for change in envelope))
    entries = data.draw(st.permutations(world.inbox.read(0, 100)))
    pure: dict[tuple[str, str], Desired] = {}
    ends: Counter[End] = Counter()

    def take(entry: Entry, first: int, last: int) -> None:
        for user, changes in list(world.ingested(entry).users.items())[first:last]:
            for change in changes:
                place = (user, change.attribute)
                pure[place], caused = fold(pure.get(place), change)
                ends.update(caused)

    for number, entry in enumerate(entries):
        users, done = world.ingested(entry).users, 0
        for fate in (fates[number % len(fates)], fates[(number + 5) % len(fates)]):
            if fate == "flush":
                world.later(10_000)
                world.flush()
                for place, state in pure.items():
                    ends[End.DELIVERED] += state.is_open
                    pure[place] = replace(state, acknowledged=state.value, is_open=False)
            elif fate == "wrong type":
                _plant(world, entry, data.draw(st.sampled_from(sorted(users))))
            elif fate == "torn":
                # Those before the failing user are applied for good; the rest waits.
                at = data.draw(st.integers(done + 1, len(users)))
                world.break_accept(at)
                _fails(world, entry)
                world.break_accept(None)
                take(entry, done, at - 1)
                done = at - 1
        (again,) = [item for item in world.inbox.take_over(0, 100) if item.id == entry.id]
        before = Counter(ends)
        applied = world.apply(again)
        take(entry, done, len(users))
        assert applied.is_applied
        assert applied.superseded == ends[End.SUPERSEDED] - before[End.SUPERSEDED]
        assert applied.unchanged == ends[End.UNCHANGED] - before[End.UNCHANGED]
        assert not world.apply(entry).is_applied

    found = {
        (user, attribute): state
        for user, (attributes, _) in world.users().items()
        for attribute, state in attributes.items()
    }
    assert found.keys() == pure.keys()
    for place, state in pure.items():
        assert found[place].value == state.value
        assert found[place].rank == tuple(state.rank)
        assert found[place].is_open == state.is_open
        assert (found[place].acknowledged or None) == state.acknowledged
        assert bool(found[place].since) == state.differs
    balance = world.ledger()
    assert balance.ends == {end.value: ends[end] for end in End}
    assert balance.pending == sum(state.is_open for state in pure.values())
    assert world.inbox.size(0) == 0
    assert world.client.hlen("ps1:{0}:torn") == 0
    world.assert_exact()


def _made(world: Any, change: dict[str, Any]) -> dict[str, Any]:
    event, arrived = change["event"], change["arrived"]
    return world.change(
        change["user"],
        change["attribute"],
        change["value"],
        None if event is None else world.now + event,
        arrived_at=None if arrived is None else world.now + arrived,
        place=change["place"],
    )


def _plant(world: Any, entry: Entry, user: str) -> None:
    """A user's key of the wrong type fails the whole entry, and nothing of it is written."""
    name = f"ps1:{{0}}:u:{user}"
    kept = world.client.dump(name)
    world.client.set(name, "planted")
    before = world.everything()
    _fails(world, entry)
    assert world.everything() == before
    world.client.delete(name)
    if kept is not None:
        world.client.restore(name, 0, kept)


def _fails(world: Any, entry: Entry) -> None:
    try:
        world.apply(entry)
    except ResponseError:
        return
    raise AssertionError("the script did not fail")
