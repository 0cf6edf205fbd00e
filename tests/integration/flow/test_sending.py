"""How one request is made and learned from: what all workers know after it (rules 5, 9, 10, 11)."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as ConnectionLost

from tests.integration.flow.support import Deployment, Worker, eventually
from worker.braze.client import UnusableKey
from worker.pipeline.outcome import Course, Outcome, Then, Verdict
from worker.pipeline.reply import Reply, Trouble
from worker.pipeline.schedule import Lane
from worker.sending import (
    RESUMED,
    Pause,
    ask,
    ask_again,
    holding,
    last_start_of,
    learn,
    send,
    try_again,
)
from worker.stores.keys import PERMITS
from worker.tools import DeliveryPolicy

BASE, CAP = timedelta(milliseconds=50), timedelta(milliseconds=400)


def permitted(worker: Worker) -> str:
    """A permit for one request."""
    tools = worker.tools
    permit, _, why = ask(tools, Lane.BATCHED, tools.clock() + 5)
    assert permit, why
    return permit


def learned(worker: Worker, reply: Reply, users: int = 1) -> tuple[Outcome, Pause | None]:
    """One request that was answered so, and what all have learned."""
    lesson = learn(worker.tools, send(worker.tools, permitted(worker), lambda: reply, users))
    return lesson.outcome, lesson.pause


def refusing(users: int) -> Reply:
    """All users are refused by name."""
    errors = [{"type": "no", "input_array": "attributes", "index": n} for n in range(users)]
    return Reply(status=201, body=orjson.dumps({"message": "success", "errors": errors}))


class TestLastStart:
    def test_rule_5_a_whole_request_fits_into_the_lease(self) -> None:
        """What begins at the last moment ends before the lease does, with time to settle."""
        policy = DeliveryPolicy(total=timedelta(seconds=10), lease=timedelta(seconds=30))
        assert last_start_of(policy, 100.0) + 10 < 130


class TestPermit:
    def test_whatever_is_raised_gives_the_place_back(self, worker: Worker, client: Redis) -> None:
        """An error between permission and report leaves nobody's place taken."""
        with pytest.raises(SystemExit), holding(worker.tools, permitted(worker)):
            raise SystemExit
        assert client.zcard(PERMITS) == 0

    def test_report_gives_the_place_back(self, worker: Worker, client: Redis) -> None:
        """A request that was made is under way until it is reported."""
        sent = send(worker.tools, permitted(worker), lambda: Reply(status=201), 1)
        assert client.zcard(PERMITS) == 1
        learn(worker.tools, sent)
        assert client.zcard(PERMITS) == 0

    def test_a_settling_that_fails_gives_both_places_back(
        self, deployment: Deployment, worker: Worker, client: Redis
    ) -> None:
        """The next permit is booked with the end of a request: if that fails, none stays taken."""
        allowance = worker.stores.allowance

        class Breaks:
            """The answer is lost after the server has done everything."""

            def __getattr__(self, name: str) -> Any:
                return getattr(allowance, name)

            def together(self, *steps: Any) -> list[Any]:
                allowance.together(*steps)
                raise ConnectionLost

        worker.change_tools(allowance=Breaks())
        deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(300)])
        worker.accept()

        def fails() -> bool:
            try:
                worker.flush()
            except ConnectionLost:
                return True
            return False

        eventually(fails)
        assert deployment.sandbox.report()["requests"] == 1
        assert client.zcard(PERMITS) == 0
        deployment.meant.clear()

    def test_nobody_with_users_in_hand_waits_for_a_stop(self, worker: Worker) -> None:
        """While everything is stopped there is no permit for a further request, at once."""
        worker.stores.allowance.stop("operator")
        began = worker.tools.clock()
        assert ask_again(worker.tools, Lane.REALTIME, began + 60) is None
        assert worker.tools.clock() - began < 1


class TestStops:
    @pytest.mark.parametrize(
        ("before", "status", "is_told"),
        [
            (None, 401, True),
            ("invalid_key_or_wrong_instance", 401, False),
            ("wrong_address", 401, True),
            ("operator", 401, False),
            ("valve", 401, False),
        ],
    )
    def test_rule_11_only_what_stopped_it_is_told(
        self, worker: Worker, client: Redis, before: str | None, status: int, is_told: bool
    ) -> None:
        """The same stop again is no news, and what a person stopped is not stopped by Braze."""
        sent = send(worker.tools, permitted(worker), lambda: Reply(status=status), 1)
        if before:
            worker.stores.allowance.stop(before)
        client.script_flush()  # a server that was restarted knows no script
        assert learn(worker.tools, sent).has_stopped is is_told


class TestPauses:
    def test_rule_11_key_that_cannot_be_sent_stops(self, worker: Worker) -> None:
        """Nothing is sent with it, and everything stops, for a reason of its own."""

        def post() -> Reply:
            raise UnusableKey("no key")

        lesson = learn(worker.tools, send(worker.tools, permitted(worker), post, 2))
        outcome = lesson.outcome
        assert (outcome.course, outcome.reason, lesson.pause) == (Course.STOP, "no_key", None)
        assert {item.verdict for item in outcome.items} == {Verdict.RETRY}
        assert worker.stores.allowance.destination().stop == outcome.reason

    def test_rule_9_429_that_says_nothing_is_backed_off_from(self, worker: Worker) -> None:
        """The wait is ours, for all; 429s narrow nobody."""
        outcome, pause = learned(worker, Reply(status=429))
        assert pause is not None
        assert (outcome.course, pause.failures) == (Course.WAIT, 0)
        assert BASE <= timedelta(seconds=pause.seconds) <= 2 * BASE
        destination = worker.stores.allowance.destination()
        assert (destination.reason, destination.width) == ("rate_limited", 0)

    def test_rule_17_wait_of_a_429_is_begun_by_its_report(self, worker: Worker) -> None:
        """All wait at least as long as Braze says, and a little longer, each deployment another."""
        before = worker.stores.allowance.now_ms()
        _, pause = learned(worker, Reply(status=429, headers={"retry-after": "7"}))
        assert pause is not None
        assert 7.0 <= pause.seconds <= 7.7
        waits = worker.stores.allowance.destination().until_ms - before
        assert waits >= pause.seconds * 1000 - 1

    @pytest.mark.parametrize(
        "reply", [Reply(status=503), Reply(trouble=Trouble.TIMEOUT), Reply(status=201)]
    )
    def test_rule_9_third_failure_in_a_row_narrows(self, worker: Worker, reply: Reply) -> None:
        """One is no trouble yet, and one row of them is told with its length."""
        assert learned(worker, reply)[1] is None
        assert learned(worker, reply)[1] is None
        assert worker.stores.allowance.destination().until_ms == 0
        _, pause = learned(worker, reply)
        assert pause is not None
        assert (pause.failures, timedelta(seconds=pause.seconds) <= CAP) == (3, True)
        destination = worker.stores.allowance.destination()
        assert destination.width == 1
        assert destination.until_ms > 0

    def test_wait_of_a_503_is_longer_than_the_back_off_after_it(self, worker: Worker) -> None:
        """Braze's own word counts, but never makes the wait shorter than ours."""
        for _ in range(2):
            learned(worker, Reply(status=503))
        _, pause = learned(worker, Reply(status=503, headers={"retry-after": "5"}))
        assert pause is not None
        assert (pause.seconds >= 5.0, pause.failures) == (True, 3)


class TestValve:
    def test_rule_10_who_was_refused_is_kept(self, deployment: Deployment) -> None:
        """The request that trips the valve gives nobody up, and nothing goes again at once."""
        worker = deployment.worker(valve_verdicts=10)
        outcome, pause = learned(worker, refusing(10), users=12)
        assert (outcome.course, outcome.then, outcome.reason) == (
            Course.STOP, Then.NOTHING, "valve"
        )  # fmt: skip
        assert pause is None
        verdicts = [(item.verdict, item.reason) for item in outcome.items]
        assert verdicts == [(Verdict.RETRY, "valve")] * 10 + [(Verdict.DELIVERED, "")] * 2


class TestTryAgain:
    class Braze:
        """Answers one thing, and counts how often it was asked."""

        def __init__(self, reply: Reply) -> None:
            self.reply, self.asked = reply, 0

        def probe(self) -> Reply:
            self.asked += 1
            return self.reply

    def test_rule_11_answer_resumes_and_silence_does_not(self, worker: Worker) -> None:
        """A mistake that is named is an answer; a refusal, trouble and silence are none."""
        allowance = worker.stores.allowance
        allowance.stop("wrong_address")
        for reply in (Reply(status=404), Reply(status=502), Reply(trouble=Trouble.TIMEOUT)):
            said = try_again(worker.tools, self.Braze(reply), allowance.now_ms(), -1)
            assert said not in ("", RESUMED)
        assert allowance.destination().stop == "wrong_address"
        braze = self.Braze(Reply(status=400))
        assert try_again(worker.tools, braze, allowance.now_ms(), -1) == RESUMED
        assert allowance.destination().stop is None

    @pytest.mark.parametrize("stop", [None, "valve", "operator"])
    def test_rule_11_person_s_stop_is_not_tried(self, worker: Worker, stop: str | None) -> None:
        """What a person is to look at, no answer lifts; and without a stop there is no request."""
        if stop:
            worker.stores.allowance.stop(stop)
        braze = self.Braze(Reply(status=201))
        assert try_again(worker.tools, braze, worker.stores.allowance.now_ms(), 0) == ""
        assert braze.asked == 0
