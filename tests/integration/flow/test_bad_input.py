"""Rules 8 and 20: what cannot be applied ends in the dead letters, whole, and harms nobody else."""

import json
import signal
from typing import Any

import pytest

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.contract import inbox_key, key

GOOD: dict[str, Any] = {
    "user_id": "bad", "attribute": "vip", "value": True, "event_at": 1_700_000_000_000,
    "class": "audience",
}  # fmt: skip


def envelope(*changes: dict[str, Any], **rest: Any) -> str:
    """An envelope as JSON, right or wrong."""
    return json.dumps({"version": 1, "kind": "changes", "id": "x", "changes": changes} | rest)


BAD: dict[str, dict[str, Any]] = {
    "membership_is_text": {"e": envelope(GOOD, GOOD | {"value": "true"}), "n": 2},
    "membership_is_a_number": {"e": envelope(GOOD | {"value": 1}), "n": 1},
    "value_is_a_list": {"e": envelope(GOOD | {"class": "trait", "value": [1]}), "n": 1},
    "value_is_not_a_number": {"e": envelope(GOOD | {"class": "trait", "value": float("nan")})},
    "unknown_version": {"e": envelope(GOOD, version=2), "n": 1},
    "unknown_kind": {"e": envelope(GOOD, kind="wishes"), "n": 1},
    "unknown_field": {"e": envelope(GOOD | {"colour": "red"}), "n": 1},
    "no_changes": {"e": envelope(), "n": 0},
    "too_many_changes": {"e": envelope(*[GOOD] * 501), "n": 501},
    "user_id_is_a_number": {"e": envelope(GOOD | {"user_id": 7}), "n": 1},
    "user_id_too_long": {"e": envelope(GOOD | {"user_id": "ü" * 500}), "n": 1},
    "instant_is_text": {"e": envelope(GOOD | {"event_at": "yesterday"}), "n": 1},
    "broken_json": {"e": '{"version": 1, "kind": "chan', "n": 1},
    "not_an_object": {"e": "[1, 2, 3]", "n": 1},
    "no_text": {"e": b"\xff\xfe\x00", "n": 1},
    "nothing": {"e": "", "n": 1},
    "missing_field_e": {"other": "x", "n": 1},
    "missing_field_n": {"e": "not json"},
    "count_is_text": {"e": "not json", "n": "many"},
    "deep": {"e": "[" * 100_000, "n": 1},
    "lone_surrogate": {"e": envelope(GOOD).replace("bad", "\\ud800"), "n": 1},
    "ten_megabytes": {"e": "x" * 10_000_000, "n": 1},
    "deletion_of_nobody": {
        "e": json.dumps({"version": 1, "kind": "deletion", "id": "d", "user_id": ""})
    },
}


@pytest.mark.parametrize("name", BAD)
def test_rule_20_unusable_entry_ends_in_the_dead_letters_whole(
    name: str, deployment: Deployment, worker: Worker
) -> None:
    """It is kept with its reason, nothing of it is applied, and its neighbours are."""
    deployment.put("before", vip=True)
    deployment.put_raw(BAD[name])
    deployment.put("after", vip=True)
    deployment.drain(worker)
    deployment.assert_right()
    assert deployment.sandbox.attributes("bad") == {}
    (letter,) = worker.stores.dead_letters.read(0)
    assert letter.kind == "envelope"
    assert letter.reason
    sent = BAD[name].get("e", "")
    assert letter.envelope == (sent if isinstance(sent, bytes) else sent.encode())
    (fact,) = worker.facts_named("envelope_refused")
    assert len(fact.reason) < 200
    assert deployment.client.xlen(inbox_key(0)) == 0


def test_rule_20_reason_does_not_repeat_the_value(deployment: Deployment, worker: Worker) -> None:
    """A reason says where and how, never what: values are people's data."""
    deployment.put_raw({"e": envelope(GOOD | {"value": "a-personal-secret"}), "n": 1})
    deployment.drain(worker)
    (letter,) = worker.stores.dead_letters.read(0)
    assert "a-personal-secret" not in letter.reason
    assert "value" in letter.reason or "membership" in letter.reason or "change" in letter.reason


@pytest.mark.parametrize(
    "value", ["", "x" * 255, "Ωmega \u2028 \x00 🎈", 0, -1.5, 2**63, 450.0, True, '"\\'], ids=repr
)
def test_rule_20_scalar_of_a_trait_arrives_as_it_is(
    value: Any, deployment: Deployment, worker: Worker
) -> None:
    """Nothing is coerced on the way."""
    trait = deployment.change("u", "trait", "x").model_copy(update={"value": value})
    deployment.send([trait])
    deployment.drain(worker)
    assert deployment.sandbox.attributes("u") == {"trait": value}
    assert deployment.ledger()["delivered"] == 1


@pytest.mark.parametrize("user", ["a b", "ünï/cödé", '"quoted"', "{0}:*", "\x00\x01", "9" * 987])
def test_rule_20_any_user_id_is_only_an_id(
    user: str, deployment: Deployment, worker: Worker
) -> None:
    """An id with odd characters is nobody else's, and arrives as it is."""
    deployment.put(user, vip=True)
    deployment.drain(worker)
    assert deployment.sandbox.profiles() == {user: {"vip": True}}


def test_rule_8_abandoned_entry_is_taken_over(deployment: Deployment, worker: Worker) -> None:
    """What a lost worker had read and not applied, another applies after a while, once."""
    deployment.put("u", vip=True)
    deployment.put("v", vip=True)
    assert len(worker.stores.inbox.read(0, 10)) == 2
    assert worker.accept().envelopes == 0
    deployment.drain(worker)
    deployment.assert_right()
    assert deployment.ledger()["delivered"] == 2


def test_rule_8_entry_that_nobody_can_apply_is_given_up_whole(deployment: Deployment) -> None:
    """After so many deliveries it goes to the dead letters, and its neighbours are applied."""
    worker = deployment.worker(inbox_takeover="1ms", inbox_deliveries=3)
    deployment.client.set(key(0, "u:broken"), "no hash at all")
    deployment.put("broken", vip=True)
    deployment.put("fine", vip=True)
    deployment.meant.pop("broken")
    deployment.drain(worker)
    deployment.assert_right()
    (letter,) = worker.stores.dead_letters.read(0)
    assert (letter.kind, letter.reason) == ("envelope", "too_many_deliveries")
    assert len(worker.facts_named("envelope_failed")) == 3
    deployment.client.delete(key(0, "u:broken"))


def test_rule_8_entry_with_an_odd_count_stops_nobody(
    deployment: Deployment, worker: Worker
) -> None:
    """A number of changes that is none is no reason to try the entry for ever."""
    deployment.put("before", vip=True)
    deployment.put_raw({"e": "not json", "n": "0.5"})
    deployment.put("after", vip=True)
    eventually(lambda: worker.step() or len(deployment.sandbox.profiles()) == 2, 5)
    deployment.assert_right()
    assert deployment.client.xlen(inbox_key(0)) == 0


def test_rule_8_refused_messages_are_counted_at_the_door(
    deployment: Deployment, worker: Worker
) -> None:
    """An envelope of refusals counts, applies nothing, and is no change."""
    text = json.dumps(
        {
            "version": 1,
            "kind": "refusals",
            "id": "r",
            "refused": {"broken_json": 2},
            "skipped": {"no_user_id": 3},
        }
    )
    deployment.put_raw({"e": text, "n": 0})
    deployment.drain(worker)
    found = deployment.client.hgetall(key(0, "door"))
    assert found == {b"refused:broken_json": b"2", b"skipped:no_user_id": b"3"}


def test_rule_7_append_survives_a_killed_server(deployment: Deployment, worker: Worker) -> None:
    """What was accepted is there after the server was killed and started again."""
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(200)])
    deployment.server.end(signal.SIGKILL)
    deployment.server.start()
    deployment.client.connection_pool.disconnect()
    worker.stores.client.connection_pool.disconnect()
    eventually(lambda: deployment.client.ping(), 5)
    deployment.drain(worker)
    deployment.assert_right()
