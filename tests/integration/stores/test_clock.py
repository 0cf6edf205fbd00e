"""One clock for all stores: the server's, or whichever a test puts in its place."""

from typing import Any

from redis import Redis

from worker.audiences.registry import read_registry
from worker.settings import Settings
from worker.stored import make_stores
from worker.stores.server import now_ms

LONG_AGO = 1_000_000_000_000


def stores_at(client: Redis, now: int) -> Any:
    """The stores of a deployment whose clock stands still."""
    return make_stores(Settings(), client, clock=lambda: now)


def test_every_store_goes_by_the_clock_that_is_given(client: Redis) -> None:
    """What is published, ordered, entered, said and beaten has its time, in scripts and beside."""
    stores = stores_at(client, LONG_AGO)
    stores.publication.publish(read_registry("audiences: [{key: vip}]"), "text", "here")
    stores.publication.retire("vip", "false", "me")
    stores.publication.note_fault("broken", "here")
    stores.publication.catch_up(0)
    stores.mode.begin_shadow(stores.mode.read(), 0)
    stores.allowance.stop("valve")
    stores.in_force.publish("w", {})
    stores.workers.beat("w")
    stores.workers.ticked()
    published = stores.publication.read()
    assert published.fault is not None
    assert {
        stores.allowance.now_ms(),
        stores.notices.now_ms(),
        published.at_ms,
        published.fault.at_ms,
        stores.publication.orders()["vip"].at_ms,
        stores.mode.read().since_ms,
        stores.allowance.destination().stopped_at_ms,
        stores.in_force.latest().at_ms,
    } == {LONG_AGO}
    assert (stores.workers.alive(), stores.workers.tick_age_ms()) == (1, 0)
    assert stores_at(client, LONG_AGO + 60_000).workers.tick_age_ms() == 60_000


def test_without_one_it_is_the_servers(client: Redis) -> None:
    """Whatever this machine takes the time to be."""
    before = now_ms(client)
    now = make_stores(Settings(), client).allowance.now_ms()
    assert before <= now <= now_ms(client)


def test_a_partition_that_goes_by_what_is_published_is_asked_two_questions(client: Redis) -> None:
    """A tick looks at each partition: what it has, and what is published; and nothing more."""
    stores = make_stores(Settings(), client)
    stores.publication.publish(read_registry("audiences: [{key: vip}]"), "text", "here")
    stores.publication.catch_up(0)
    before = client.info("commandstats")["cmdstat_hget"]["calls"]
    assert stores.publication.catch_up(0) is None
    assert client.info("commandstats")["cmdstat_hget"]["calls"] == before + 2
