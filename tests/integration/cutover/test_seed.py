"""`seed`: what Braze holds already is read within the limits, and only the rest is sent."""

import re
import signal
from datetime import timedelta
from typing import Any

import pytest

from console.seeding import Stuck
from tests.integration.flow.support import eventually
from worker.stored import make_stores
from worker.stores.seeding import Progress

Cutover = Any


def members(cutover: Cutover, count: int, held: int | None = None, start: int = 0) -> None:
    """Users of whom nobody knows what Braze holds; the first `held` are members there already."""
    deployment = cutover.deployment
    users = [f"u{n}" for n in range(start, start + count)]
    cutover.braze_holds({user: {"vip": True} for user in users[:held]})
    deployment.send([deployment.change(user, "vip", True) for user in users])
    deployment._workers[0].accept() if deployment._workers else deployment.worker().accept()


class TestReading:
    def test_only_the_rest_is_sent(self, cutover: Cutover) -> None:
        """Exactly as many data points are saved as are announced, and the books balance."""
        members(cutover, 170, held=120)
        estimate = cutover.seeder().estimate(None)
        assert (estimate.known, estimate.users, estimate.values, estimate.requests) == (
            170, 170, 170, 4,
        )  # fmt: skip
        done = cutover.seeder().run(None, go_on=True)
        assert done == Progress(170, 50, 4, 170, 120, 50, 0)
        assert cutover.exports() == 4
        deployment = cutover.deployment
        deployment.drain(deployment._workers[0])
        report = cutover.sandbox.report()
        assert (report["values"], report["values_unchanged"]) == (50, 0)
        assert deployment.ledger()["unchanged"] == 120
        deployment.assert_right()

    def test_declared_names(self, cutover: Cutover) -> None:
        """An audience is read under its Braze attribute, and its exit as it is written."""
        (cutover.folder / "audiences.yaml").write_text(
            "audiences:\n"
            "  - {key: vip, attribute: seg_vip}\n"
            "  - {key: gone_is_null, on_exit: null}\n"
        )
        cutover.braze_holds({"u1": {"seg_vip": True}, "u2": {"vip": True}})
        deployment = cutover.deployment
        deployment.put("u1", vip=True, gone_is_null=False)
        deployment.put("u2", vip=True)
        worker = deployment.worker()
        worker.accept()
        done = cutover.seeder().run(None, go_on=True)
        assert (done.equal, done.to_send) == (2, 1)
        deployment.drain(worker)
        assert cutover.sandbox.values("u2", "seg_vip") == [True]
        assert cutover.sandbox.report()["values"] == 1

    def test_only_these_users(self, cutover: Cutover) -> None:
        """A list is read in its order; strangers and those who are known cost nothing."""
        members(cutover, 10)
        seeder = cutover.seeder()
        users = ["u3", "stranger", "u1"]
        estimate = seeder.estimate(users)
        assert (estimate.known, estimate.users) == (3, 2)
        done = seeder.run(users, go_on=True)
        assert (done.users, done.requests) == (2, 1)
        assert cutover.state("u3", "vip").acknowledged == "true"
        assert cutover.state("u2", "vip").acknowledged is None
        cutover.deployment.meant.clear()

    def test_scalars_are_compared_as_they_are_sent(self, cutover: Cutover) -> None:
        """450.0 is 450, "true" is not true; what no change can have stays unknown."""
        held = {"a": 450.0, "b": "true", "c": [1], "d": "gold", "e": None}
        cutover.braze_holds({"u1": held})
        cutover.deployment.put("u1", a=450, b=True, c="x", d="gold", e="x")
        cutover.deployment.worker().accept()
        done = cutover.seeder().run(None, go_on=True)
        assert (done.values, done.equal, done.to_send) == (4, 2, 2)
        assert cutover.state("u1", "c").acknowledged is None
        assert cutover.state("u1", "e").acknowledged == "null"

    def test_no_profile_is_made_for_an_exit_as_null(self, cutover: Cutover) -> None:
        """Whom Braze does not know, of him nothing is set; so nothing has to be removed."""
        cutover.deployment.put("u1", gone_is_null=False)
        worker = cutover.deployment.worker()
        worker.accept()
        done = cutover.seeder().run(None, go_on=True)
        assert (done.no_profile, done.equal) == (1, 1)
        cutover.deployment.drain(worker)
        assert cutover.sandbox.profiles() == {}


class TestLimits:
    def test_never_more_than_the_limit(self, cutover: Cutover) -> None:
        """Evenly spaced: in no minute more than allowed, and none of the time wasted."""
        members(cutover, 100)
        begun = cutover.clock.now
        moments: list[float] = []
        seeder = cutover.seeder(
            ids_per_request=10,
            per_minute=5,
            show=lambda progress, waiting: moments.append(cutover.clock.now),
        )
        assert seeder.run(None, go_on=True).requests == 10
        sent = moments[1:]
        for first, sixth in zip(sent, sent[5:], strict=False):
            assert sixth - first >= 60 - 1e-6
        assert cutover.clock.now - begun == pytest.approx(9 * 12)

    def test_a_429_is_waited_out(self, cutover: Cutover) -> None:
        """As long as Braze asks; the same users are asked for again, and nothing is lost."""
        members(cutover, 3)
        cutover.sandbox.configure(
            export_rate_limit={"limit": 0, "window_s": 3600},
            rate_limit={"header_form": "mau"},
        )
        waits: list[str] = []

        def show(progress: Progress, waiting: str) -> None:
            if waiting:
                waits.append(waiting)
                cutover.sandbox.configure(export_rate_limit={"limit": None})

        seeder = cutover.seeder(show=show)
        done = seeder.run(None, go_on=True)
        assert (done.users, done.requests, seeder.limited) == (3, 1, 1)
        assert cutover.exports() == 2
        (asked,) = re.findall(r"going on in ([\d,]+) s", waits[0])
        assert sum(cutover.clock.slept) >= int(asked.replace(",", "")) - 1

    def test_a_429_that_says_nothing(self, cutover: Cutover) -> None:
        """Then it backs off by itself, for as long as it takes."""
        members(cutover, 3)
        cutover.sandbox.configure(
            export_rate_limit={"limit": 0, "window_s": 1}, rate_limit={"header_form": "none"}
        )
        waits = 0

        def show(progress: Progress, waiting: str) -> None:
            nonlocal waits
            waits += bool(waiting)
            if waits == 12:
                cutover.sandbox.configure(export_rate_limit={"limit": None})

        seeder = cutover.seeder(show=show)
        assert seeder.run(None, go_on=True).users == 3
        assert seeder.limited == 12
        assert max(cutover.clock.slept) <= 60

    def test_trouble_is_repeated_and_then_given_up(self, cutover: Cutover) -> None:
        """After eight tries in a row it says so; what was read before is kept."""
        members(cutover, 60)
        cutover.reading._base_url = "http://127.0.0.1:1"
        with pytest.raises(Stuck, match="has not answered 8 times in a row"):
            cutover.seeder().run(None, go_on=True)
        cutover.reading._base_url = cutover.sandbox.url
        assert cutover.seeder().run(None, go_on=True).users == 60

    def test_a_key_without_permission(self, cutover: Cutover) -> None:
        """One request is enough to know, and the message names the permission."""
        members(cutover, 3)
        cutover.sandbox.configure(permissions=["users.track"])
        with pytest.raises(Stuck, match=r"users\.export\.ids"):
            cutover.seeder().try_access()
        assert cutover.exports() == 1


class TestDelayedExport:
    def test_what_we_sent_ourselves_is_not_believed_too_early(self, cutover: Cutover) -> None:
        """Braze took the value and lost the answer; its export does not show it yet, so it is not
        asked, nothing is counted as read, and the person hears from when on it can be."""
        deployment = cutover.deployment
        cutover.braze_holds({"u1": {"vip": False}})
        worker = deployment.hasty_worker()
        cutover.sandbox.fault("reset_after")
        deployment.put("u1", vip=True)
        worker.accept()
        eventually(lambda: worker.flush().unknown, what="the lost answer")
        deployment.put("u1", vip=False)
        worker.accept()
        cutover.sandbox.configure(export_delay_s=3600)
        hour = timedelta(hours=1)
        lagging = cutover.seeder(lag=hour)
        estimate = lagging.estimate(None)
        assert (estimate.known, estimate.users, estimate.values) == (1, 0, 0)
        assert (estimate.fresh.users, estimate.fresh.values) == (1, 1)
        assert 0 < estimate.fresh.from_ms - cutover.server_ms() - 3_600_000 < 60_000
        assert lagging.run(None, go_on=True) == Progress()
        for _ in range(2):
            done = cutover.command("seed", "--yes", "--json", braze_export_lag="1h")
            assert (done.code, done.json["users"], done.json["left"]) == (0, 0, 0), done.err
            fresh = done.json["too_fresh"]
            assert (fresh["users"], fresh["values"]) == (1, 1)
        said = cutover.command("seed", braze_export_lag="1h").out
        assert "Nothing to read" in said
        assert "1 value of 1 user was sent a short while ago with an unknown end" in said
        assert f"seed again after {fresh['again_at']}" in said
        assert cutover.exports() == 0
        deployment.drain(worker)
        assert cutover.sandbox.attributes("u1") == {"vip": False}

    def test_who_can_be_read_is_read_beside(self, cutover: Cutover) -> None:
        """Values that cannot be believed yet hold nobody up, and are in no estimate of savings."""
        deployment = cutover.deployment
        worker = deployment.hasty_worker()
        cutover.sandbox.fault("reset_after")
        deployment.put("u1", vip=True)
        worker.accept()
        eventually(lambda: worker.flush().unknown, what="the lost answer")
        members(cutover, 2, held=2, start=10)
        done = cutover.command("seed", "--yes", "--json")
        assert "may save up to 2 data points" in done.err
        report = done.json
        assert (report["users"], report["data_points_saved"], report["left"]) == (2, 2, 0)
        assert report["too_fresh"]["values"] == 1
        deployment.drain(worker)

    def test_what_was_acknowledged_stays(self, cutover: Cutover) -> None:
        """An export from before our request says nothing about it."""
        members(cutover, 3)
        worker = cutover.deployment._workers[0]
        cutover.deployment.put("u1", vip=False)
        cutover.deployment.drain(worker)
        cutover.sandbox.configure(export_delay_s=3600)
        assert cutover.seeder().run(None, go_on=True).users == 0
        assert cutover.state("u1", "vip").acknowledged == "false"


class TestInterrupted:
    def test_it_goes_on_and_asks_nobody_twice(self, cutover: Cutover) -> None:
        """Stopped after any request and started again: the counts are those of one reading."""
        members(cutover, 230, held=100)

        def killed(progress: Progress, waiting: str) -> None:
            if progress.requests == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cutover.seeder(show=killed).run(None, go_on=True)
        done = cutover.seeder().run(None, go_on=True)
        assert done == Progress(230, 130, 5, 230, 100, 130, 0)
        assert cutover.exports() == 5
        # A reading that came to its end is over: the next begins anew, and finds nothing.
        assert cutover.seeder().run(None, go_on=True) == Progress()

    def test_many_pages(self, cutover: Cutover) -> None:
        """Requests are filled across the pages of the scan, also after an interruption."""
        members(cutover, 2_600, held=2_600)

        def killed(progress: Progress, waiting: str) -> None:
            if progress.requests == 30:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cutover.seeder(show=killed).run(None, go_on=True)
        assert b"place" in cutover.deployment.client.hgetall("ps1:{0}:seed")
        done = cutover.seeder().run(None, go_on=True)
        assert (done.users, done.equal) == (2_600, 2_600)
        assert done.requests == 52
        assert cutover.exports() == 52

    def test_a_restarted_server_has_other_cursors(self, cutover: Cutover) -> None:
        """A cursor of a server that is gone is not used: the scan begins again."""
        members(cutover, 2_100, held=2_100)

        def killed(progress: Progress, waiting: str) -> None:
            if progress.requests == 30:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cutover.seeder(show=killed).run(None, go_on=True)
        cutover.deployment.client.hset("ps1:{0}:seed", "place", "another-run:7")
        done = cutover.seeder().run(None, go_on=True)
        assert (done.users, done.equal, cutover.exports()) == (2_100, 2_100, 42)

    def test_killed_and_started_again(self, cutover: Cutover) -> None:
        """SIGKILL in the middle: it stays paused, and the same command does the rest."""
        members(cutover, 120, held=120)
        slow = {"braze_ids_per_export": "10", "braze_exports_per_minute": "600"}
        process = cutover.begin("seed", "--yes", **slow)
        client = cutover.deployment.client
        eventually(lambda: int(client.hget("ps1:{0}:seed", "users") or 0) >= 30)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        destination = make_stores(cutover.deployment.settings()).allowance.destination()
        assert (destination.stop, destination.why) == ("operator", "seed")
        done = cutover.command("seed", "--yes", "--json", **slow)
        assert done.code == 0, done.err
        report = done.json
        assert (report["finished"], report["resumed"], report["users"]) == (True, True, 120)
        assert report["data_points_saved"] == 120
        assert report["destination"]["state"] == "connected"
        cutover.deployment.drain(cutover.deployment._workers[0])
        assert cutover.sandbox.report()["requests"] == 0

    def test_ctrl_c(self, cutover: Cutover) -> None:
        """It says how to go on, and that sending stays paused until then."""
        members(cutover, 120)
        process = cutover.begin(
            "seed", "--yes", braze_ids_per_export="10", braze_exports_per_minute="240"
        )
        client = cutover.deployment.client
        eventually(lambda: int(client.hget("ps1:{0}:seed", "users") or 0) >= 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        status = cutover.command("status", "--json").json
        assert status["destination"]["reason"].startswith("operator: seed")
        assert cutover.command("resume").code == 0
        cutover.deployment.drain(cutover.deployment._workers[0])
        cutover.deployment.assert_right()


class TestCommand:
    def test_it_says_first_what_it_takes(self, cutover: Cutover) -> None:
        """Users, requests, minutes and data points; unasked it does nothing, with exit code 2."""
        members(cutover, 120)
        done = cutover.command("seed", braze_exports_per_minute="1")
        assert done.code == 2
        said = " ".join(done.err.split())
        assert "120 of 120 users have values of which nobody knows what Braze holds" in said
        assert "3 requests, about 3 minutes at 1 a minute" in said
        assert "may save up to 120 data points" in said
        assert "Braze's export lags behind its writes" in said
        assert cutover.exports() == 0

    def test_sending_is_paused_meanwhile(self, cutover: Cutover) -> None:
        """While it reads, nothing is sent; after that it goes on by itself."""
        members(cutover, 120, held=60)
        process = cutover.begin(
            "seed", "--yes", "--by", "ann", braze_ids_per_export="10",
            braze_exports_per_minute="600",
        )  # fmt: skip
        client = cutover.deployment.client
        eventually(lambda: int(client.hget("ps1:{0}:seed", "users") or 0) >= 20)
        assert cutover.deployment._workers[0].flush().ended == "stopped"
        assert process.wait(30) == 0
        cutover.deployment.drain(cutover.deployment._workers[0])
        report = cutover.sandbox.report()
        assert (report["values"], report["values_unchanged"]) == (60, 0)

    def test_a_pause_of_somebody_else_stays(self, cutover: Cutover) -> None:
        """Who paused before is not overruled, and is named at the end."""
        members(cutover, 3)
        assert cutover.command("pause", "--why", "audit", "--by", "bob").code == 0
        done = cutover.command("seed", "--yes")
        assert done.code == 0, done.err
        assert "Data points saved: 3." in done.out
        assert "audit" in done.out
        status = cutover.command("status", "--json").json
        assert status["destination"]["reason"].startswith("operator: audit (by bob")

    def test_a_refused_key_pauses_nothing(self, cutover: Cutover) -> None:
        """It ends with 1, says what to do, and leaves everything as it was."""
        members(cutover, 3)
        cutover.sandbox.configure(permissions=["users.track"])
        done = cutover.command("seed", "--yes", "--json")
        assert done.code == 1
        assert "users.export.ids" in done.err
        assert done.json["finished"] is False
        assert cutover.command("status", "--json").json["destination"]["state"] == "connected"

    def test_users_from_a_file_and_from_standard_input(self, cutover: Cutover) -> None:
        """An id a line; each is read once."""
        members(cutover, 5)
        (cutover.folder / "ids").write_text("u1\nu2\n\nu1\n")
        done = cutover.command("seed", "--users", "ids", "--yes", "--json")
        assert (done.code, done.json["users"]) == (0, 2)
        done = cutover.command("seed", "--users", "-", "--yes", "--json", stdin="u3\nu2\n")
        assert (done.code, done.json["users"], done.json["known"]) == (0, 1, 2)
        assert cutover.command("seed", "--users", "-", stdin="u4\n").code == 2
        assert cutover.command("seed", "--users", "nowhere", "--yes").code == 2

    def test_nothing_to_read(self, cutover: Cutover) -> None:
        """Then nobody is asked, and nothing paused."""
        done = cutover.command("seed")
        assert done.code == 0
        assert "Nothing to read" in done.out
        assert cutover.exports() == 0

    def test_without_an_endpoint(self, cutover: Cutover) -> None:
        """A missing setting is wrong use."""
        done = cutover.command("seed", braze_endpoint=None)
        assert done.code == 2
        assert "PERSONA_SYNC_BRAZE_ENDPOINT" in done.err
