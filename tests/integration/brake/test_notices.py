"""Facts that are worth a person's notice: kept, shown by `status`, not said again and again."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from console.cli import app
from worker.bootstrap import Engine, make_engine
from worker.pipeline import facts
from worker.pipeline.schedule import Lane
from worker.settings import Settings, WrongSettings

Make = Callable[..., Any]
SENDER = "ps1:{a}:notices:sender"


class TestKept:
    def test_a_stop_and_its_end(self, make: Make) -> None:
        """Refused credentials are a notice with what to do; so is that it goes on."""
        world = make()
        world.crowd(2)
        world.braze.status = 401
        world.later(200)
        world.flow.flush(0, Lane.REALTIME)
        assert [text.partition(":")[0] for text in world.texts()] == [
            "Nothing is sent to Braze any more"
        ]
        assert "PERSONA_SYNC_BRAZE_API_KEY" in world.texts()[0]
        world.braze.status = 201
        world.tick()
        assert world.texts()[0] == "Braze is sent to again: a test request was taken."
        assert len(world.texts()) == 2

    def test_the_same_stop_is_said_once(self, make: Make) -> None:
        """All threads run into a stop at once; a new one after it went on is said again."""
        world = make()
        stopped = facts.DestinationStopped(reason="wrong_address", todo="Look.")
        for _ in range(10):
            world.record(stopped)
        world.tick()
        assert len(world.texts()) == 1
        world.record(facts.DestinationResumed(by="probe"))
        world.record(stopped)
        world.tick()
        assert len(world.texts()) == 3

    def test_lost_workers_are_said_now_and_then(self, make: Make) -> None:
        """The first void claim is a notice, the others of the next minutes are not."""
        world = make()
        for n in range(3):
            world.crowd(1, first=n)
            world.later(200)
            world.claim()
            world.later(30_000)
            world.tick()
        assert len(world.said("claim_void")) == 3
        assert len(world.texts()) == 1
        assert "1 user in hand" in world.texts()[0]
        world.later(600_000)
        world.record(facts.WorkerLost(claims=1, users=3))
        world.tick()
        assert len(world.texts()) == 2

    def test_a_lost_worker_is_said_with_all_it_had(self, make: Make) -> None:
        """Its claims end together: one notice has the users of all of them."""
        world = make()
        world.crowd(300)
        world.later(200)
        for n in range(4):
            world.claim(id_=f"c{n}", objects=75)
        world.later(30_000)
        world.tick()
        assert [fact.users for fact in world.said("claim_void")] == [75] * 4
        (text,) = world.texts()
        assert "300 users in hand, in 4 requests" in text
        # It may well be alive, and the server have been away.
        assert "it ended, or could not reach the server" in text

    @pytest.mark.parametrize("status", [502, 503])
    def test_an_outage_that_lasts_and_its_end(self, make: Make, status: int) -> None:
        """Half a minute without an answer is a notice, once; so is the first answer after it."""
        world = make()
        world.crowd(2)
        world.braze.status = status
        since = world.now
        while world.now - since < 120_000:
            world.flow.flush(0, Lane.REALTIME)
            world.tick()
            if world.now - since < 29_000:
                assert world.texts() == []
        (text,) = world.texts()
        assert text.startswith("Nothing gets through to Braze for 3")
        assert f"it answers with an error ({status})" in text
        world.braze.status = 201
        while world.allowance.destination().answered_ms is None:
            assert world.now - since < 600_000
            world.now += 1_000
            world.flow.flush(0, Lane.REALTIME)
        world.tick()
        world.tick()
        assert len(world.texts()) == 2
        assert world.texts()[0].startswith("Braze is sent to again: it answers, after")
        (resumed,) = world.said("destination_resumed")
        assert resumed.by == "answer"

    def test_an_operators_pause_is_no_outage(self, make: Make) -> None:
        """While nothing was tried nothing failed: the half minute begins anew with the resume."""
        world = make()
        world.crowd(2)
        world.braze.status = 503
        while world.allowance.destination().state(world.now)[0] != "unreachable":
            world.now += 1_000
            world.flow.flush(0, Lane.REALTIME)
        world.allowance.hold("ann", "")
        world.now += 60_000
        world.tick()
        world.allowance.release()
        resumed = world.now
        while not world.texts():
            world.flow.flush(0, Lane.REALTIME)
            world.tick()
            assert world.now - resumed < 120_000
        assert world.now - resumed >= 30_000
        (fact,) = world.said("destination_unreachable")
        assert 30 <= fact.seconds <= (world.now - resumed) / 1000
        world.braze.status = 201
        while world.allowance.destination().answered_ms is None:
            assert world.now - resumed < 600_000
            world.now += 1_000
            world.flow.flush(0, Lane.REALTIME)
        world.tick()
        (fact,) = world.said("destination_resumed")
        assert fact.was_noticed
        assert fact.seconds <= (world.now - resumed) / 1000

    def test_a_short_trouble_ends_in_the_log_only(self, make: Make) -> None:
        """What narrowed all workers for seconds is over with a line, and wakes nobody."""
        world = make()
        world.crowd(2)
        world.braze.status = 502
        while not world.said("destination_slowed"):
            world.flow.flush(0, Lane.REALTIME)
            world.now += 1_000
        world.braze.status = 201
        while world.allowance.destination().answered_ms is None:
            world.flow.flush(0, Lane.REALTIME)
            world.now += 1_000
        world.tick()
        world.tick()
        assert [fact.by for fact in world.said("destination_resumed")] == ["answer"]
        assert world.texts() == []

    def test_other_facts_are_none(self, make: Make) -> None:
        """What is not worth a person's time is in the log only."""
        world = make()
        world.record(facts.DestinationSlowed(reason="rate_limited", seconds=3.0))
        world.record(facts.BellFailed(task="t", reason="r"))
        world.record(facts.NoticeNotSent(reason="status_500", tries=1))
        world.tick()
        assert world.texts() == []

    def test_the_list_is_bounded(self, make: Make) -> None:
        """Only the latest are kept."""
        world = make()
        for n in range(250):
            world.record(facts.BudgetReached(audience=f"a{n}", limit=1))
            world.watch.give()
        kept = world.notices.latest(1_000)
        assert len(kept) == 200
        assert kept[0].audience == "a249"

    def test_a_flood_without_a_tick_is_bounded(self, make: Make) -> None:
        """A process that cannot give notices keeps the latest hundred, and never blocks."""
        world = make()
        for n in range(250):
            world.record(facts.BudgetReached(audience=f"a{n}", limit=1))
        world.tick()
        assert len(world.texts()) == 100

    def test_a_server_that_is_away_loses_none(self, make: Make) -> None:
        """A notice that could not be kept is kept by the next tick."""
        world = make()
        world.record(facts.DestinationResumed(by="probe"))
        world.client.set("ps1:{a}:notices", "not a list")
        with pytest.raises(Exception, match="WRONGTYPE"):
            world.watch.give()
        world.client.delete("ps1:{a}:notices")
        world.watch.give()
        assert len(world.texts()) == 1


class TestProcess:
    @pytest.fixture
    def settings(self, quick: Any, tmp_path: Path) -> Callable[..., Settings]:
        """Settings of a worker that sends nothing, on an empty server."""
        with quick.client() as client:
            client.flushall()

        def made(**more: Any) -> Settings:
            registry = tmp_path / "audiences.yaml"
            registry.write_text("audiences: []\n")
            fields = {"redis_url": quick.url, "mode": "shadow", "audiences": registry}
            return Settings(**fields, **more)

        return made

    @pytest.fixture
    def start(self, settings: Callable[..., Settings]) -> Iterator[Callable[..., Engine]]:
        """Makes engines as a worker process does."""
        engines: list[Engine] = []

        def made(**more: Any) -> Engine:
            engines.append(make_engine(settings(**more), lambda task, partition: None))
            return engines[-1]

        yield made
        for engine in engines:
            engine.close()

    def test_status_shows_them(
        self,
        start: Callable[..., Engine],
        settings: Callable[..., Settings],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """`status` has the latest as a row, and all of them in its JSON; the budget beside."""
        engine = start(data_points_per_day=5_000)
        engine.record(facts.BudgetReached(audience="vip", limit=1_234))
        engine.flow.recover()
        url = settings().redis_url
        assert url is not None
        monkeypatch.setenv("PERSONA_SYNC_REDIS_URL", url.get_secret_value())
        monkeypatch.setenv("PERSONA_SYNC_DATA_POINTS_PER_DAY", "5000")
        said = CliRunner().invoke(app, ["status"]).output
        assert "1,234 data points" in " ".join(said.split())
        assert "0 data points today, of 5,000 in all" in " ".join(said.split())
        report = orjson.loads(CliRunner().invoke(app, ["status", "--json"]).output)
        (notice,) = report["notices"]
        assert notice["kind"] == "budget_reached"
        assert notice["audience"] == "vip"
        assert notice["at"].endswith("Z")
        assert "1,234" in notice["text"]
        assert report["budget"]["per_day"] == 5_000
        assert report["budget"]["held"] == []

    def test_a_worker_posts_what_it_notes(
        self, start: Callable[..., Engine], hook: Any, tmp_path: Path,
        caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """A fact of a real process arrives at the webhook; its address is in no log line."""
        file = tmp_path / "webhook"
        file.write_text(hook.url + "\n")
        with caplog.at_level(logging.DEBUG):
            engine = start(notice_webhook_file=file)
            engine.record(facts.DestinationStopped(reason="valve", todo="Look."))
            engine.flow.recover()
            _until(lambda: hook.got and not engine.stores.client.exists(SENDER))
            hook.status = 500
            engine.record(facts.DestinationResumed(by="probe"))
            engine.flow.recover()
            _until(lambda: len(hook.got) == 2 and not engine.stores.client.exists(SENDER))
        (path, kind, body), _ = hook.got
        assert path == "/services/T0/s3cr3t-path"
        assert kind == "application/json"
        assert orjson.loads(body) == {
            "text": "Nothing is sent to Braze any more: it refused too many objects (the valve). "
            "Look."
        }
        out = "".join(capfd.readouterr()) + caplog.text
        assert "s3cr3t" not in out
        assert "notice_not_sent" in out

    @pytest.mark.parametrize("url", ["http://example.com/x", "ftp://127.0.0.1/", "hooks", "https:"])
    def test_a_wrong_address_stops_the_start(self, start: Callable[..., Engine], url: str) -> None:
        """Plain http to another machine is refused, and the refusal does not tell the address."""
        with pytest.raises(WrongSettings, match="PERSONA_SYNC_NOTICE_WEBHOOK") as caught:
            start(notice_webhook=url)
        assert url not in str(caught.value).replace("https URL", "")


def _until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
