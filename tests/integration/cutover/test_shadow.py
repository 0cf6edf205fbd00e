"""Shadow mode: everything is counted and nothing is sent; going live takes nothing for granted."""

import json
import re
from typing import Any

import pytest

from worker.braze.shadow import ShadowBraze
from worker.contract import CANNOT_START_CODE
from worker.pipeline.outcome import Verdict
from worker.stored import make_stores
from worker.stores.handover import NotHandedOver
from worker.stores.mode import Step, step
from worker.stores.seeding import Seeding

Cutover = Any


def shadow_run(cutover: Cutover, users: int = 3) -> None:
    """A shadow in which these users enter `vip`."""
    deployment = cutover.deployment
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(users)])
    worker = deployment.worker(mode="shadow")
    deployment.drain(worker)


def cost(refusal: Any) -> list[str]:
    """The numbers that a refusal names."""
    return re.findall(r"(\d[\d,]*) (values|users|data points)", str(refusal.value))


class TestShadow:
    def test_nothing_is_sent_and_everything_counted(self, cutover: Cutover) -> None:
        """Changes are delivered in the books, in full requests, and Braze sees none of them."""
        shadow_run(cutover, 200)
        assert cutover.sandbox.report()["by_path"].get("/users/track", 0) == 0
        ledger = cutover.deployment.ledger()
        assert (ledger["delivered"], ledger["values"], ledger["objects"]) == (200, 200, 200)

    def test_the_allowance_is_respected(self, cutover: Cutover) -> None:
        """Requests take their turn as if they were made."""
        shadow_run(cutover, 200)
        counts = make_stores(cutover.deployment.settings()).allowance.counts()
        assert (counts["requests"], counts["objects"], counts["status:201"]) == (3, 200, 3)

    def test_only_differences_count(self, cutover: Cutover) -> None:
        """What a shadow acknowledged is acknowledged while it lasts: the numbers are real ones."""
        shadow_run(cutover)
        cutover.deployment.put("u0", vip=True)
        cutover.deployment.put("u1", vip=False)
        cutover.deployment.drain(cutover.deployment.worker(mode="shadow"))
        assert cutover.deployment.ledger()["values"] == 4

    def test_neither_endpoint_nor_key_is_needed(self, cutover: Cutover) -> None:
        """A shadow runs before there is an account to send to."""
        bare = {"braze_endpoint": None, "braze_api_key_file": None}
        cutover.deployment.put("u1", vip=True)
        worker = cutover.deployment.worker(mode="shadow", **bare)
        cutover.deployment.drain(worker)
        assert cutover.deployment.ledger()["delivered"] == 1

    def test_status_shows_it(self, cutover: Cutover) -> None:
        """Nobody takes a shadow for the real thing, and its values for ones that Braze took."""
        assert cutover.command("status", "--json").json["mode"] == "live"
        shadow_run(cutover)
        report = cutover.command("status", "--json").json
        assert report["mode"] == "shadow"
        assert (report["data_points"], report["shadow_data_points"]) == (0, 3)
        nothing = {"state": "shadow", "reason": None, "until": None}
        assert (report["destination"], report["deletions"]["braze"]) == (nothing, nothing)
        assert cutover.command("trace", "u0", "--json").json["destination"] == nothing
        said = cutover.command("status").out
        assert "SHADOW - everything is computed and counted, nothing is sent" in said
        assert "connected" not in said
        assert "nothing is sent to it: this is a shadow" in said
        assert "0 taken by Braze; 3 counted in shadow, never sent" in said

    def test_every_answer_says_it(self, cutover: Cutover) -> None:
        """What a shadow acknowledged is never shown as what Braze holds, for whoever asks."""
        shadow_run(cutover)
        counted = "was counted, and never reached Braze"
        assert cutover.command("trace", "u0", "--json").json["mode"] == "shadow"
        assert counted in cutover.command("trace", "u0").out
        (vip,) = cutover.command("audiences", "list", "--json").json["undeclared"]
        assert (vip["state"], vip["said"]) == ("up_to_date", "up to date in the shadow")
        assert cutover.command("audiences", "list", "--json").json["mode"] == "shadow"
        for command in (("audiences", "list"), ("status",)):
            said = cutover.command(*command).out
            assert counted in said
            assert "up to date in the shadow" in said

    @pytest.mark.parametrize("wait", [(), ("--wait",)], ids=["begun", "waited for"])
    def test_a_flush_promises_nothing(self, cutover: Cutover, wait: tuple[str, ...]) -> None:
        """0 means that Braze is current; with nothing waiting a shadow cannot say so, either."""
        shadow_run(cutover)
        done = cutover.command("flush", "vip", "--json", *wait)
        assert (done.code, done.json["up_to_date"], done.json["users"]) == (1, False, 0)
        assert [one["code"] for one in done.json["in_the_way"]][-1] == "shadow"
        assert "up to date" not in cutover.command("flush", "vip", *wait).out

    def test_a_resync_is_begun_and_not_fine(self, cutover: Cutover) -> None:
        """Exit code 1 with what was begun, and the shadow in the way; the help says so."""
        shadow_run(cutover)
        done = cutover.command("resync", "vip", "--yes", "--json")
        assert (done.code, done.json["begun"]) == (1, True)
        assert "shadow" in [one["code"] for one in done.json["in_the_way"]]
        help_ = " ".join(cutover.command("resync", "--help").out.split())
        assert "such as a pause or a shadow: what was begun stands" in help_

    def test_a_resumed_shadow_sends_nothing_all_the_same(self, cutover: Cutover) -> None:
        """A pause of a shadow is one; whoever lifts it is not told that sending goes on."""
        shadow_run(cutover)
        cutover.command("pause")
        assert cutover.command("status", "--json").json["destination"]["state"] == "paused"
        assert "nothing reaches Braze all the same" in cutover.command("resume").out

    def test_a_worker_that_wakes_too_late_delivers_nothing(self, cutover: Cutover) -> None:
        """Frozen in shadow and thawed when others are live, it says "not sent", and stops."""
        shadow_run(cutover)
        late = cutover.deployment._workers[-1]
        live = cutover.deployment.worker(adopt_shadow="trust")
        cutover.deployment.put("new", vip=True)
        late.accept()
        tally = late.flush()
        assert (tally.delivered, tally.retry) == (0, 1)
        cutover.deployment.drain(live)
        assert cutover.sandbox.attributes("new") == {"vip": True}
        assert cutover.sandbox.report()["values"] == 1

    def test_an_answer_for_each_object(self) -> None:
        """What the client answers is read as success for every object of the body."""
        reply = ShadowBraze(lambda: True, list).track(b'{"attributes":[{"external_id":"a"},{}]}')
        assert reply.status == 201
        assert json.loads(reply.body) == {"message": "success", "attributes_processed": 2}


class TestGoingLive:
    def test_it_is_refused_with_what_it_would_cost(self, cutover: Cutover) -> None:
        """Without a word of the operator no worker starts live on a shadow's data."""
        shadow_run(cutover)
        cutover.deployment.put("u0", gold=True)
        cutover.deployment.drain(cutover.deployment.worker(mode="shadow"))
        with pytest.raises(NotHandedOver) as refusal:
            cutover.deployment.worker()
        assert cost(refusal) == [
            ("4", "values"), ("3", "users"), ("3", "users"), ("4", "data points"),
        ]  # fmt: skip
        said = str(refusal.value)
        assert "PERSONA_SYNC_ADOPT_SHADOW=trust" in said
        assert "PERSONA_SYNC_ADOPT_SHADOW=forget" in said
        assert cutover.sandbox.report()["requests"] == 0
        assert cutover.command("status", "--json").json["mode"] == "shadow"

    def test_a_worker_process_says_so_and_ends(self, cutover: Cutover, start: Any) -> None:
        """The message is what an operator reads in the worker's log."""
        shadow_run(cutover)
        part = start()
        part._process.wait(30)
        assert part.code == CANNOT_START_CODE
        assert "PERSONA_SYNC_ADOPT_SHADOW=forget" in part.said()
        assert "Traceback" not in part.said()

    def test_trust_sends_nothing_again(self, cutover: Cutover) -> None:
        """Another sync kept Braze in step: only what changes from now on is sent."""
        shadow_run(cutover)
        cutover.braze_holds({f"u{n}": {"vip": True} for n in range(3)})
        worker = cutover.deployment.worker(adopt_shadow="trust")
        cutover.deployment.drain(worker)
        assert cutover.sandbox.report()["requests"] == 0
        cutover.deployment.put("u1", vip=False)
        cutover.deployment.drain(worker)
        cutover.deployment.assert_right()
        report = cutover.command("status", "--json").json
        assert (report["mode"], report["data_points"], report["shadow_data_points"]) == (
            "live", 1, 3,
        )  # fmt: skip

    def test_forget_sends_everything_once(self, cutover: Cutover) -> None:
        """Braze gets every value of the shadow, as many data points as were announced."""
        shadow_run(cutover, 200)
        worker = cutover.deployment.worker(adopt_shadow="forget")
        cutover.deployment.drain(worker)
        cutover.deployment.assert_right()
        report = cutover.sandbox.report()
        assert (report["values"], report["values_unchanged"], report["requests"]) == (200, 0, 3)
        ledger = cutover.deployment.ledger()
        assert (ledger["delivered"], ledger["resent"]) == (200, 200)
        shown = cutover.command("status", "--json").json
        assert (shown["data_points"], shown["shadow_data_points"]) == (200, 200)

    def test_what_still_waits_is_not_counted_twice(self, cutover: Cutover) -> None:
        """A change that the shadow did not come to is delivered live, as any other."""
        shadow_run(cutover)
        cutover.deployment.put("u0", vip=False)
        cutover.deployment._workers[-1].accept()
        cutover.deployment.drain(cutover.deployment.worker(adopt_shadow="forget"))
        cutover.deployment.assert_right()
        ledger = cutover.deployment.ledger()
        assert (ledger["delivered"], ledger["resent"]) == (4, 2)

    def test_batched_values_wait_for_their_boundary(self, cutover: Cutover) -> None:
        """Forgotten values go out in the lane of their audience."""
        cutover.deployment.put("u1", nightly=True)
        deployment = cutover.deployment
        deployment.drain(deployment.worker(mode="shadow"), batched=True)
        worker = deployment.worker(adopt_shadow="forget")
        assert list(deployment.client.zrange("ps1:{0}:bt:ready", 0, -1)) == [b"u1"]
        deployment.drain(worker, batched=True)
        deployment.assert_right()

    def test_what_braze_acknowledged_before_the_shadow_stays(self, cutover: Cutover) -> None:
        """Only what was acknowledged within the shadow is forgotten."""
        deployment = cutover.deployment
        deployment.put("old", vip=True)
        deployment.drain(deployment.worker())
        shadow_run(cutover)
        deployment.drain(deployment.worker(adopt_shadow="forget"))
        assert cutover.sandbox.values("old", "vip") == [True]
        deployment.assert_right()

    def test_what_an_import_said_in_the_shadow_stays(self, cutover: Cutover) -> None:
        """Cut-over in one go: import what Braze holds, watch in shadow, forget, send the rest."""
        at = "2026-01-01T00:00:00Z"
        members = [cutover.message(f"m{n}", "vip", True, at) for n in range(5)]
        cutover.braze_holds({f"m{n}": {"vip": True} for n in range(5)})
        cutover.import_acknowledged(*members)
        shadow_run(cutover)
        cutover.deployment.drain(cutover.deployment.worker(adopt_shadow="forget"))
        assert cutover.sandbox.report()["values"] == 3

    def test_an_empty_shadow_needs_no_answer(self, cutover: Cutover) -> None:
        """Nothing was acknowledged, so there is nothing to decide."""
        cutover.deployment.worker(mode="shadow")
        cutover.deployment.put("u1", vip=True)
        cutover.deployment.drain(cutover.deployment.worker())
        cutover.deployment.assert_right()

    def test_workers_of_the_other_mode_must_be_gone(self, cutover: Cutover) -> None:
        """Neither way may both kinds run: who is still alive is named, and nothing changes."""
        shadow_run(cutover)
        stores = cutover.deployment._workers[-1].stores
        stores.workers.beat("host:1")
        with pytest.raises(NotHandedOver, match="in shadow mode: 1 worker"):
            cutover.deployment.worker(adopt_shadow="forget")
        stores.workers.leave("host:1")
        cutover.deployment.worker(adopt_shadow="trust")
        stores.workers.beat("host:2")
        with pytest.raises(NotHandedOver, match="in live mode: 1 worker"):
            cutover.deployment.worker(mode="shadow")
        cutover.deployment.worker()

    def test_claims_of_killed_shadow_workers_were_not_sent(self, cutover: Cutover) -> None:
        """They end at once, and their values are sent once."""
        deployment = cutover.deployment
        deployment.put("u1", vip=True)
        worker = deployment.worker(mode="shadow", adopt_shadow="forget")

        def killed(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        worker.change_tools(braze=type("Dead", (), {"track": killed})())
        with pytest.raises(KeyboardInterrupt):
            deployment.drain(worker)
        (claim,) = deployment.client.hkeys("ps1:{0}:claim")
        live = deployment.worker(adopt_shadow="forget")
        assert deployment.client.hlen("ps1:{0}:claim") == 0
        late = [(0, Verdict.DELIVERED, "")]
        assert worker.stores.memberships.settle(0, claim.decode(), late).users == 0
        deployment.drain(live)
        assert cutover.sandbox.values("u1", "vip") == [True]


class TestForgetting:
    def test_it_goes_on_where_it_was_killed(
        self, cutover: Cutover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed in the middle, the next start does the rest, and each value is sent once."""
        shadow_run(cutover, 4_000)
        whole, pages = Seeding.forget, 0

        def killed(self: Seeding, *given: Any, **more: Any) -> tuple[int, int]:
            nonlocal pages
            pages += 1
            if pages > 2:
                raise KeyboardInterrupt
            return whole(self, *given, **more)

        monkeypatch.setattr(Seeding, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            cutover.deployment.worker(adopt_shadow="forget")
        monkeypatch.undo()
        assert cutover.command("status", "--json").json["mode"] == "forgetting"
        began = len(set(cutover.deployment.client.zrange("ps1:{0}:rt:ready", 0, -1)))
        assert 0 < began < 4_000
        # It has begun, so it is not asked again what the shadow is worth.
        worker = cutover.deployment.worker()
        assert cutover.deployment.client.zcard("ps1:{0}:rt:ready") == 4_000
        cutover.deployment.drain(worker, within=60)
        report = cutover.sandbox.report()
        assert (report["values"], report["values_unchanged"]) == (4_000, 0)
        cutover.deployment.assert_right()

    def test_a_slower_starter_undoes_nothing(self, cutover: Cutover) -> None:
        """What was acknowledged live is not forgotten by a worker that is still at it."""
        shadow_run(cutover)
        deployment = cutover.deployment
        until = deployment.client.time()
        worker = deployment.worker(adopt_shadow="forget")
        deployment.drain(worker)
        stored = worker.stores.mode.read()
        assert stored.until_ms >= until[0] * 1000
        users = [f"u{n}" for n in range(3)]
        assert worker.stores.seeding.forget(0, users, stored.since_ms, stored.until_ms) == (0, 0)
        assert cutover.sandbox.report()["values"] == 3

    def test_back_into_shadow_midway(self, cutover: Cutover) -> None:
        """What was not forgotten yet is the new shadow's, so that it can be forgotten later."""
        shadow_run(cutover)
        deployment = cutover.deployment
        stores = make_stores(deployment.settings(), client=deployment.client)
        stored = stores.mode.read()
        assert stores.mode.begin_to_forget(stored, 3)
        deployment.worker(mode="shadow")
        assert stores.mode.read().since_ms == stored.since_ms
        deployment.drain(deployment.worker(adopt_shadow="forget"))
        assert cutover.sandbox.report()["values"] == 3
        deployment.assert_right()


@pytest.mark.parametrize(
    ("stored", "wanted", "adopt", "expected"),
    [
        ("", "live", None, Step.BEGIN_LIVE),
        ("", "shadow", None, Step.BEGIN_SHADOW),
        ("live", "live", "forget", Step.NOTHING),
        ("shadow", "shadow", "trust", Step.NOTHING),
        ("live", "shadow", "trust", Step.BEGIN_SHADOW),
        ("shadow", "live", None, Step.ASK),
        ("shadow", "live", "trust", Step.TRUST),
        ("shadow", "live", "forget", Step.FORGET),
        ("forgetting", "live", None, Step.GO_ON_FORGETTING),
        ("forgetting", "live", "trust", Step.GO_ON_FORGETTING),
        ("forgetting", "shadow", None, Step.BEGIN_SHADOW),
    ],
)
def test_every_step(stored: str, wanted: Any, adopt: Any, expected: Step) -> None:
    """From each stored mode to each wanted one there is one step."""
    assert step(stored, wanted, adopt) is expected
