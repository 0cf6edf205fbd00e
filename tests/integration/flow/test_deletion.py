"""Rule 22 end to end: deleted here, and with PERSONA_SYNC_FORWARD_DELETES in Braze, too."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import orjson
import pytest

from producer.envelopes import Addressed
from tests.integration.flow.support import Deployment, Worker, eventually
from worker.contract import Deletion, TaskName, inbox_key, key
from worker.pipeline.reply import Reply, Trouble
from worker.pipeline.schedule import Lane
from worker.stores.keys import DELETE_PERMITS

DELETE = "/users/delete"
_numbers = count(1)


def delete(deployment: Deployment, *users: str) -> None:
    """Append deletions as a producer does."""
    deployment.append(
        [Addressed.of(Deletion(id=f"d{next(_numbers)}", user_id=user), 0) for user in users]
    )
    for user in users:
        deployment.meant.pop(user, None)


def forwarding(deployment: Deployment, **changes: Any) -> Worker:
    """A worker that has Braze delete profiles, too."""
    return deployment.worker(forward_deletes=True, **changes)


def work_until(worker: Worker, holds: Callable[[], Any], within: float = 10.0) -> None:
    """Work as the queues would have it, until something holds."""

    def once() -> Any:
        worker.step()
        worker.flow.forward_deletes(0)
        return holds()

    eventually(once, within)


def waiting(worker: Worker) -> int:
    """Deletions that Braze has not taken."""
    return worker.stores.forwards.waiting(1)


def asked(deployment: Deployment) -> int:
    """Requests that came to /users/delete."""
    return int(deployment.sandbox.report()["by_path"].get(DELETE, 0))


class TestHere:
    def test_rule_22_deletion_envelope_is_applied(
        self, deployment: Deployment, worker: Worker
    ) -> None:
        """The user is gone, later changes are skipped, the others go on; no dead letter."""
        deployment.put("u", vip=True)
        deployment.put("other", vip=True)
        deployment.drain(worker)
        delete(deployment, "u")
        worker.accept()
        deployment.put("u", vip=False)
        deployment.meant.pop("u")
        deployment.put("other", vip=False)
        deployment.drain(worker)
        ledger = deployment.ledger()
        assert (ledger["deleted"], ledger["skipped"]) == (1, 1)
        assert worker.stores.memberships.trace(0, "u") == []
        assert worker.stores.dead_letters.size(0) == 0
        assert deployment.sandbox.attributes("u") == {"vip": True}
        (fact,) = worker.facts_named("user_deleted")
        assert (fact.attributes, fact.asks_braze) == (1, False)
        assert asked(deployment) == 0
        deployment.assert_right()

    def test_rule_22_user_deleted_while_refusals_are_traced_is_not_sent_again(
        self, deployment: Deployment, worker: Worker
    ) -> None:
        """Of a request that goes again in halves the deleted user is left out."""
        users = [f"u{n}" for n in range(8)]
        deployment.sandbox.fault("poison", match_user="u7", named=False, times=None)
        deployment.send([deployment.change(user, "vip", True) for user in users])
        worker.accept()
        sends = 0
        track = worker.tools.braze.track

        def deleting(body: bytes, **more: Any) -> Reply:
            nonlocal sends
            sends += 1
            ids = [item["external_id"] for item in json.loads(body)["attributes"]]
            if sends == 1:
                delete(deployment, "u0")
                worker.accept()
            else:
                assert "u0" not in ids, "sent after it was deleted"
            return track(body, **more)

        worker.change_tools(braze=_Braze(deleting, worker.tools.braze.probe))
        deployment.drain(worker)
        profiles = deployment.sandbox.profiles()
        assert set(profiles) == {f"u{n}" for n in range(1, 7)}
        assert deployment.ledger()["skipped"] == 1
        assert worker.facts_named("claim_gone") == []

    def test_journal_and_letters_are_erased_by_the_tick(
        self, deployment: Deployment, worker: Worker
    ) -> None:
        """No value of a stream names the user once ticks have gone by."""
        deployment.sandbox.fault("poison", match_user="someone", named=True, times=None)
        deployment.put("someone", vip=True)
        deployment.drain(worker)
        assert worker.stores.dead_letters.size(0) == 1
        delete(deployment, "someone")
        worker.accept()
        work_until(worker, lambda: not deployment.client.exists(key(0, "erase")))
        assert worker.stores.dead_letters.size(0) == 0
        for name in ("journal", "dead"):
            for _, fields in deployment.client.xrange(key(0, name)):
                assert not any(b"someone" in value for value in fields.values())
        assert [fact.users for fact in worker.facts_named("users_erased")] == [1]

    def test_dead_deletion_of_before_is_accepted_anew(
        self, deployment: Deployment, worker: Worker
    ) -> None:
        """A deletion that could not be applied once can be replayed."""
        deployment.put("u", vip=True)
        deployment.drain(worker)
        body = Deletion(id="d", user_id="u").model_dump_json()
        entry = deployment.client.xadd(inbox_key(0), {"e": body, "n": 0}).decode()
        worker.stores.inbox.read(0, 1)
        worker.stores.memberships.refuse_envelope(0, entry, "deletion_not_supported")
        (letter,) = worker.stores.dead_letters.read(0)
        from worker.stores.operators import Operators  # what the command does

        terms = worker.stores.memberships._terms
        operators = Operators(deployment.client, terms.gap, terms.journal_bytes)
        assert operators.requeue(0, [letter.id], "me", high_water=10)
        deployment.meant.pop("u")
        deployment.drain(worker)
        assert worker.stores.memberships.trace(0, "u") == []


class _Braze:
    def __init__(self, track: Callable[..., Reply], probe: Callable[[], Reply]) -> None:
        self.track = track
        self.probe = probe


class TestInBraze:
    def test_rule_22_profiles_go_fifty_at_a_time(self, deployment: Deployment) -> None:
        """All are asked for, in full requests; changes that come meanwhile do not revive them."""
        worker = forwarding(deployment)
        users = [f"u{n:03}" for n in range(120)]
        deployment.send([deployment.change(user, "vip", True) for user in [*users, "stays"]])
        deployment.drain(worker)
        delete(deployment, *users)
        worker.accept()
        deployment.send([deployment.change(user, "vip", False) for user in users])
        for user in users:
            deployment.meant.pop(user)
        work_until(worker, lambda: waiting(worker) == 0)
        assert set(deployment.sandbox.profiles()) == {"stays"}
        assert asked(deployment) == 3
        assert worker.stores.forwards.taken(1) == deployment.ledger()["deleted"] == 120
        assert deployment.ledger()["skipped"] == 120

    def test_rule_22_profile_of_a_request_under_way_does_not_come_back(
        self, deployment: Deployment
    ) -> None:
        """A write that lands late lands before Braze is asked to delete."""
        worker = forwarding(deployment)
        deployment.sandbox.fault("hang", apply=True, apply_after=0.6, seconds=1.0)
        deployment.put("u", vip=True)
        worker.accept()
        track = worker.tools.braze.track

        def deleting(body: bytes, **more: Any) -> Reply:
            delete(deployment, "u")
            worker.accept()
            return track(body, **more)

        worker.change_tools(braze=_Braze(deleting, worker.tools.braze.probe))
        eventually(lambda: worker.flush().requests, 5, "the request")
        assert waiting(worker) == 1
        work_until(worker, lambda: waiting(worker) == 0)
        assert deployment.sandbox.profiles() == {}
        assert deployment.ledger()["skipped"] == 1

    def test_bell_is_rung_and_the_tick_rings_again(self, deployment: Deployment) -> None:
        """Accept rings when Braze may be asked at once; else the tick does when it may."""
        worker = forwarding(deployment)
        delete(deployment, "nobody")
        worker.accept()
        assert (TaskName.FORWARD_DELETES, 0) in worker.rung
        worker.rung.clear()
        worker.stores.bells.clear(TaskName.FORWARD_DELETES, 0)
        assert TaskName.FORWARD_DELETES in worker.flow.recover().rung
        assert worker.flow.forward_deletes(0).taken == 1
        assert worker.flow.forward_deletes(0).ended == "empty"

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("status", {"status": 429}),
            ("status", {"status": 503}),
            ("status", {"status": 500}),
            ("html", {"status": 502}),
            ("reset_before", {}),
            ("reset_after", {}),
            ("cut", {}),
            ("hang", {"seconds": 1.0, "apply": True}),
        ],
    )
    def test_transient_trouble_is_never_given_up(
        self, deployment: Deployment, kind: str, options: dict[str, Any]
    ) -> None:
        """Whatever goes wrong, the deletion is asked for until Braze takes it; once is enough."""
        worker = forwarding(deployment)
        deployment.put("u", vip=True)
        deployment.drain(worker)
        deployment.sandbox.fault(kind, path=DELETE, times=2, **options)
        delete(deployment, "u")
        work_until(worker, lambda: worker.stores.forwards.taken(1) == 1, 20)
        assert deployment.sandbox.profiles() == {}
        assert asked(deployment) == 3
        assert worker.stores.dead_letters.size(0) == 0

    def test_one_refused_id_is_found_and_the_others_go(self, deployment: Deployment) -> None:
        """A 400 that names nobody is traced by halves; the refused one is a dead letter."""
        worker = forwarding(deployment)
        users = [f"u{n:02}" for n in range(20)]
        deployment.send([deployment.change(user, "vip", True) for user in users])
        deployment.drain(worker)
        deployment.sandbox.fault(
            "status", path=DELETE, status=400, match_user="u13", times=None,
            body={"message": "no such thing"},
        )  # fmt: skip
        delete(deployment, *users)
        work_until(worker, lambda: waiting(worker) == 0)
        assert set(deployment.sandbox.profiles()) == {"u13"}
        (letter,) = worker.stores.dead_letters.read(0)
        assert (letter.kind, letter.user_id, letter.reason) == ("deletion", "u13", "no such thing")
        assert (worker.stores.forwards.taken(1), asked(deployment)) == (19, 11)
        deployment.sandbox.no_faults()
        worker.stores.memberships.replay(0, letter.id)
        work_until(worker, lambda: waiting(worker) == 0)
        assert deployment.sandbox.profiles() == {}

    @pytest.mark.parametrize(
        ("answer", "most"),
        [
            ({"status": 413}, 5),
            ({"status": 400, "body": {"message": "Max input length exceeded"}}, 5),
        ],
    )
    def test_requests_found_too_large_stay_smaller(
        self, deployment: Deployment, answer: dict[str, Any], most: int
    ) -> None:
        """What is learned from one refusal holds for the next: no larger request is tried."""
        worker = forwarding(deployment)
        deployment.sandbox.fault("status", path=DELETE, times=1, **answer)
        delete(deployment, *(f"u{n}" for n in range(10)))
        work_until(worker, lambda: waiting(worker) == 0)
        before = asked(deployment)
        assert before == 3  # ten, and its halves
        delete(deployment, *(f"v{n}" for n in range(10)))
        work_until(worker, lambda: waiting(worker) == 0)
        users = [fact.users for fact in worker.facts_named("deletes_asked")]
        assert users[:3] == [10, 5, 5]
        assert max(users[3:]) <= most
        assert worker.stores.dead_letters.size(0) == 0

    @pytest.mark.parametrize(("status", "says"), [(404, "/users/delete"), (302, "redirect")])
    def test_a_wrong_address_says_what_to_do(
        self, deployment: Deployment, status: int, says: str
    ) -> None:
        """The stop names the setting and what was found at that address."""
        worker = forwarding(deployment)
        deployment.sandbox.fault("status", path=DELETE, status=status, times=None)
        delete(deployment, "u")
        work_until(worker, lambda: worker.facts_named("deletes_stopped"))
        (fact,) = worker.facts_named("deletes_stopped")
        assert says in fact.todo
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in fact.todo

    def test_limit_of_deletions_does_not_hold_up_deliveries(self, deployment: Deployment) -> None:
        """A 429 of /users/delete is about that endpoint only."""
        worker = forwarding(deployment)
        deployment.sandbox.fault(
            "status", path=DELETE, status=429, headers={"X-Ratelimit-Retry-After": "60"}
        )
        delete(deployment, "u")
        work_until(worker, lambda: asked(deployment) == 1)
        deployment.put("other", vip=True)
        deployment.drain(worker)
        assert deployment.sandbox.attributes("other") == {"vip": True}
        assert (waiting(worker), asked(deployment)) == (1, 1)
        now = worker.stores.allowance.now_ms()
        state, reason, until = worker.stores.delete_allowance.destination().state(now)
        assert (state, reason) == ("paused", "rate_limited")
        assert until is not None
        assert until > now + 50_000
        assert worker.stores.allowance.destination().until_ms == 0

    def test_missing_permission_stops_deletions_alone_and_a_new_key_resumes(
        self, deployment: Deployment
    ) -> None:
        """It is said what to do, deliveries go on, and nothing is burned."""
        worker = forwarding(deployment)
        deployment.sandbox.configure(permissions=["users.track"])
        deployment.put("u", vip=True)
        deployment.drain(worker)
        delete(deployment, "u")
        work_until(worker, lambda: worker.facts_named("deletes_stopped"))
        (fact, *_) = worker.facts_named("deletes_stopped")
        assert fact.reason == "forbidden_plan_or_key_permission"
        assert "users.delete" in fact.todo
        deployment.put("other", vip=True)
        deployment.drain(worker)
        assert worker.stores.allowance.destination().stop is None
        assert (waiting(worker), worker.stores.dead_letters.size(0)) == (1, 0)
        deployment.sandbox.configure(permissions=["users.track", "users.delete"])
        work_until(worker, lambda: waiting(worker) == 0)
        assert len(worker.facts_named("deletes_resumed")) == 1
        assert set(deployment.sandbox.profiles()) == {"other"}

    def test_killed_between_request_and_settling_asks_again(self, deployment: Deployment) -> None:
        """Nobody settled; after the lease another worker asks once more, which is harmless."""
        lost, other = forwarding(deployment), forwarding(deployment)
        deployment.put("u", vip=True)
        deployment.drain(other)
        delete(deployment, "u")
        other.accept()
        forwards = lost.stores.forwards
        (user,) = eventually(lambda: forwards.take(0, "lost", 50), 5, "the time to ask")
        deletes = lost.engine.deletes
        assert deletes is not None
        assert deletes.delete([user]).status == 201
        assert other.flow.forward_deletes(0).taken == 0
        work_until(other, lambda: waiting(other) == 0)
        assert asked(deployment) == 2
        assert deployment.sandbox.profiles() == {}

    def test_pause_of_an_operator_holds_deletions_too(self, deployment: Deployment) -> None:
        """Nothing at all is sent while the destination is stopped."""
        worker = forwarding(deployment)
        worker.stores.allowance.hold("me", "moving")
        delete(deployment, "u")
        worker.accept()
        assert worker.flow.forward_deletes(0).ended == "paused"
        assert TaskName.FORWARD_DELETES not in worker.flow.recover().rung
        assert asked(deployment) == 0
        worker.stores.allowance.release()
        work_until(worker, lambda: waiting(worker) == 0)

    def test_pause_that_comes_while_waiting_for_permission_is_seen(
        self, deployment: Deployment
    ) -> None:
        """An operator's pause is of everything, whichever endpoint had permission meanwhile."""
        worker = forwarding(deployment)
        forwarding_of = worker.flow._forgetting.forwarding
        assert forwarding_of is not None
        wait = forwarding_of._tools.wait

        def paused_meanwhile(seconds: float) -> bool:
            if seconds > 0:
                worker.stores.allowance.hold("me", "moving")
            return wait(seconds)

        forwarding_of._tools = replace(forwarding_of._tools, wait=paused_meanwhile)
        delete(deployment, "u")
        worker.accept()
        allowance = worker.stores.delete_allowance
        for n in range(allowance.policy.burst):
            allowance.reserve(f"other{n}", Lane.REALTIME, 0)
            allowance.give_back(f"other{n}")
        assert worker.flow.forward_deletes(0).ended == "paused"
        assert worker.stores.allowance.destination().stop == "operator"
        assert asked(deployment) == 0
        assert deployment.client.zcard(DELETE_PERMITS) == 0
        worker.stores.allowance.release()
        forwarding_of._tools = replace(forwarding_of._tools, wait=wait)
        work_until(worker, lambda: waiting(worker) == 0)

    def test_pause_that_comes_while_refusals_are_traced_is_seen(
        self, deployment: Deployment
    ) -> None:
        """Halves do not go out into an operator's pause; their users are asked for after it."""
        worker = forwarding(deployment)
        forwarding_of = worker.flow._forgetting.forwarding
        assert forwarding_of is not None
        real = forwarding_of._braze

        class Pausing:
            def delete(self, user_ids: Any, *, total: Any = None) -> Reply:
                worker.stores.allowance.hold("me", "moving")
                return Reply(status=400, body=b'{"message": "no such thing"}')

            probe = real.probe

        forwarding_of._braze = Pausing()
        delete(deployment, "u", "v")
        worker.accept()
        tally = worker.flow.forward_deletes(0)
        assert (tally.requests, tally.again) == (1, 2)
        assert deployment.client.zcard(DELETE_PERMITS) == 0
        forwarding_of._braze = real
        worker.stores.allowance.release()
        work_until(worker, lambda: waiting(worker) == 0)

    def test_who_was_named_is_refused_once(self, deployment: Deployment) -> None:
        """A reply that names one and not another: the named one ends, only the others go again."""
        worker = forwarding(deployment)
        forwarding_of = worker.flow._forgetting.forwarding
        assert forwarding_of is not None
        real, groups = forwarding_of._braze, []

        class NamesOne:
            def delete(self, user_ids: Any, *, total: Any = None) -> Reply:
                groups.append(list(user_ids))
                if len(groups) > 1:
                    return real.delete(user_ids, total=total)
                errors = [
                    {"type": "no such id", "input_array": "external_ids", "index": 0},
                    {"type": "something else"},
                ]
                said = {"message": "success", "errors": errors}
                return Reply(status=201, body=orjson.dumps(said))

            probe = real.probe

        forwarding_of._braze = NamesOne()
        users = [f"u{n}" for n in range(4)]
        delete(deployment, *users)
        worker.accept()
        work_until(worker, lambda: waiting(worker) == 0)
        first, *later = groups
        assert sorted(user for group in later for user in group) == sorted({*users} - {first[0]})
        assert sum(fact.refused for fact in worker.facts_named("deletes_asked")) == 1
        (letter,) = worker.stores.dead_letters.read(0)
        assert (letter.user_id, worker.stores.forwards.taken(1)) == (first[0], 3)

    def test_shadow_asks_nobody_and_keeps_the_queue(self, deployment: Deployment) -> None:
        """In shadow mode nothing is sent; going live, the deletions go out."""
        shadow = deployment.worker(
            mode="shadow", forward_deletes=True, braze_endpoint=None, braze_api_key_file=None
        )
        delete(deployment, "u")
        shadow.step()
        assert shadow.flow.forward_deletes(0).ended == "empty"
        assert (waiting(shadow), asked(deployment)) == (1, 0)

    def test_unusable_key_sends_nothing(self, deployment: Deployment) -> None:
        """An empty key file stops deletions until there is a key."""
        worker = forwarding(deployment)
        delete(deployment, "u")
        worker.accept()
        key_text = deployment.key_file.read_text()
        deployment.key_file.write_text("")
        assert worker.flow.forward_deletes(0).requests == 1
        assert asked(deployment) == 0
        assert worker.stores.delete_allowance.destination().stop == "no_key"
        # Who keeps the key in a file is sent to that file.
        (stopped,) = worker.facts_named("deletes_stopped")
        assert "PERSONA_SYNC_BRAZE_API_KEY_FILE" in stopped.todo
        deployment.key_file.write_text(key_text)
        work_until(worker, lambda: waiting(worker) == 0)

    def test_reply_without_a_status_is_asked_again(self, deployment: Deployment) -> None:
        """Never connected: nothing is lost, and three in a row narrow the endpoint only."""
        worker = forwarding(deployment, backoff_base="10ms", backoff_cap="50ms")
        delete(deployment, "u")
        worker.accept()
        forwarding_of = worker.flow._forgetting.forwarding
        assert forwarding_of is not None
        real, failures = forwarding_of._braze, 3

        class Away:
            def delete(self, user_ids: Any, *, total: Any = None) -> Reply:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    return Reply(trouble=Trouble.NOT_CONNECTED)
                return real.delete(user_ids, total=total)

            def probe(self) -> Reply:
                return real.probe()

        forwarding_of._braze = Away()
        work_until(worker, lambda: waiting(worker) == 0, 20)
        assert worker.stores.allowance.destination().failures == 0
        assert worker.stores.forwards.taken(1) == 1


def test_rule_22_real_workers_delete_here_and_in_braze(
    deployment: Deployment, start: Callable[..., Any]
) -> None:
    """Doorbells, queue, seats and tick do it without anybody's help."""
    start(forward_deletes="true")
    start(beat=True)
    deployment.send([deployment.change("u", "vip", True)], rings=True)
    eventually(lambda: deployment.sandbox.attributes("u"), 30, "the profile")
    body = Deletion(id="real", user_id="u")
    deployment.append([Addressed.of(body, 0)], rings=True)
    deployment.meant.clear()
    eventually(lambda: not deployment.sandbox.profiles(), 30, "the deletion")
    eventually(lambda: deployment.ledger()["forwarded"] == 1, 10, "its end")
    eventually(lambda: not deployment.client.exists(key(0, "erase")), 10, "erasing")
