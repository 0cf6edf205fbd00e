"""Rule 10: a refusal is remembered by rank; a flood of refusals stops everything instead."""

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.contract import key


def refuse(deployment: Deployment, user: str) -> None:
    """Braze refuses this user from now on, by name."""
    deployment.sandbox.fault("poison", match_user=user, named=True, times=None)


def test_rule_10_refused_versions_are_no_difference_any_more(
    deployment: Deployment, worker: Worker
) -> None:
    """What was refused is dead-lettered with all it held, and not sent again by itself."""
    refuse(deployment, "u")
    deployment.put("u", vip=True, gold=True)
    deployment.drain(worker)
    (letter,) = worker.stores.dead_letters.read(0)
    assert (letter.user_id, letter.kind) == ("u", "object")
    assert sorted((name, value) for name, value, _ in letter.values) == [
        ("gold", "true"),
        ("vip", "true"),
    ]
    before = deployment.sandbox.report()["requests"]
    deployment.drain(worker)
    assert deployment.sandbox.report()["requests"] == before
    assert deployment.ledger()["dead"] == 2


def test_rule_10_other_attributes_of_a_refused_user_go_on(
    deployment: Deployment, worker: Worker
) -> None:
    """Only the refused versions are held back."""
    refuse(deployment, "u")
    deployment.put("u", vip=True)
    deployment.drain(worker)
    deployment.sandbox.no_faults()
    deployment.put("u", gold=True)
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"gold": True}


def test_rule_10_newer_change_lifts_the_mark(deployment: Deployment, worker: Worker) -> None:
    """A newer version of what was refused is sent."""
    refuse(deployment, "u")
    deployment.put("u", vip=True)
    deployment.drain(worker)
    deployment.sandbox.no_faults()
    deployment.put("u", vip=False)
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"vip": False}
    assert (deployment.ledger()["dead"], deployment.ledger()["delivered"]) == (1, 1)


def test_rule_10_replay_sends_the_newest_value(deployment: Deployment, worker: Worker) -> None:
    """A replay lifts the mark, and what goes out is what was said last."""
    refuse(deployment, "u")
    deployment.put("u", vip=True, gold=True)
    deployment.drain(worker)
    deployment.sandbox.no_faults()
    deployment.put("u", gold=False)
    deployment.drain(worker)
    (letter,) = worker.stores.dead_letters.read(0)
    assert worker.stores.memberships.replay(0, letter.id) == 1
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"vip": True, "gold": False}
    assert worker.stores.memberships.replay(0, letter.id) == -1


def test_rule_10_flood_of_refusals_trips_the_valve(deployment: Deployment) -> None:
    """Too many refusals stop the destination: users stay dirty; a person's resume delivers."""
    worker = deployment.worker(valve_verdicts=40, valve_share=0.2, braze_objects_per_request=20)
    deployment.send([deployment.change(f"a{n:03}", "vip", True) for n in range(30)])
    deployment.drain(worker)
    deployment.send([deployment.change(f"u{n:03}", "$bad", True) for n in range(200)])
    worker.accept()
    eventually(lambda: worker.flush().ended == "stopped", 5, "the valve")
    assert worker.stores.allowance.destination().stop == "valve"
    assert any(fact.reason == "valve" for fact in worker.facts_named("destination_stopped"))
    dead = deployment.ledger()["dead"]
    assert dead < 40
    assert deployment.client.zcard(key(0, "rt:ready")) == 200 - dead
    sent = deployment.sandbox.report()["requests"]
    assert worker.flow.recover().probed == ""
    assert worker.flush().requests == 0
    assert deployment.sandbox.report()["requests"] == sent
    # The cause is mended (here: the values are of no interest any more), and sending goes on.
    deployment.put("late", vip=True)
    worker.accept()
    other = deployment.worker(valve_verdicts=10_000)
    other.stores.allowance.resume()
    deployment.drain(other)
    assert deployment.sandbox.attributes("late") == {"vip": True}
    assert deployment.ledger()["dead"] == 200


def test_rule_10_few_refusals_among_many_do_not_trip_the_valve(deployment: Deployment) -> None:
    """A share below the bound is everyday life."""
    worker = deployment.worker(valve_verdicts=40, valve_share=0.2)
    deployment.send(
        [deployment.change(f"u{n:03}", "$bad" if n % 10 == 0 else "vip", True) for n in range(300)]
    )
    deployment.drain(worker)
    assert worker.stores.allowance.destination().stop is None
    assert (deployment.ledger()["dead"], deployment.ledger()["delivered"]) == (30, 270)
