"""Concurrent requests share an append; each is answered after it; trouble is told at once."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from producer.envelopes import Addressed, Samples
from producer.http.appender import Appender
from producer.http.door_counts import DoorCounts
from producer.http.metrics import Board
from producer.http.packing import Item
from producer.refusals import InboxFull, ProducerRefused, ServerAway
from worker.contract import ENVELOPE, Change, ChangeClass, Changes, Refusals


class Shelf:
    """A store in memory. `gate` is open unless a test closes it; `trouble` is met by all."""

    def __init__(self) -> None:
        self.appended: list[list[Addressed]] = []
        self.trouble: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.is_closed = False

    def append(self, envelopes: Sequence[Addressed]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        self.check()
        self.appended.append(list(envelopes))

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def close(self) -> None:
        self.is_closed = True

    @property
    def users(self) -> list[list[str]]:
        """The users of each append that held changes."""
        read = [[ENVELOPE.validate_json(one.body) for one in some] for some in self.appended]
        return [
            [change.user_id for one in some if isinstance(one, Changes) for change in one.changes]
            for some in read
            if any(isinstance(one, Changes) for one in some)
        ]

    @property
    def refusals(self) -> list[Refusals]:
        read = [ENVELOPE.validate_json(one.body) for some in self.appended for one in some]
        return [one for one in read if isinstance(one, Refusals)]


def change(user: str) -> Change:
    return Change(
        user_id=user, attribute="vip", value=True, event_at=1, change_class=ChangeClass.AUDIENCE
    )


class Bench:
    def __init__(self) -> None:
        self.shelf = Shelf()
        self.counts = DoorCounts()
        self.rung: list[int] = []
        self.board = Board(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Appender]:
        appender = Appender(
            self.shelf, self.counts, self.rung.append, self.board.row(0), partitions=1
        )
        appender.start()
        try:
            yield appender
        finally:
            self.shelf.gate.set()
            await asyncio.to_thread(appender.close)


async def until(holds: Callable[[], object]) -> None:
    """Ask until it is so, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestSharing:
    def test_what_waits_together_is_appended_together(self, bench: Bench) -> None:
        """One append for all that came while the one before it was under way; in order."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.gate.clear()
                tasks = [asyncio.create_task(appender.append([change("first")]))]
                await until(bench.shelf.entered.is_set)
                for number in range(20):
                    tasks.append(asyncio.create_task(appender.append([change(f"u{number}")])))
                await asyncio.sleep(0)
                assert not any(task.done() for task in tasks)
                bench.shelf.gate.set()
                await asyncio.gather(*tasks)

        asyncio.run(story())
        assert bench.shelf.users == [["first"], [f"u{number}" for number in range(20)]]
        assert [len(some) for some in bench.shelf.appended] == [1, 1]
        assert bench.rung == [0, 0]
        assert bench.board.value("appended_requests_total") == 21

    def test_one_append_has_a_bounded_size(self, bench: Bench) -> None:
        """A flood is appended in several steps; the server does nothing else meanwhile."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.gate.clear()
                blocked = asyncio.create_task(appender.append([change("first")]))
                await until(bench.shelf.entered.is_set)
                many = [change(f"u{number}") for number in range(3_000)]
                tasks = [asyncio.create_task(appender.append(many)) for _ in range(5)]
                await asyncio.sleep(0)
                bench.shelf.gate.set()
                await asyncio.gather(blocked, *tasks)

        asyncio.run(story())
        assert [len(users) for users in bench.shelf.users] == [1, 9_000, 6_000]

    def test_closing_appends_what_was_given(self, bench: Bench) -> None:
        """A stop answers everybody who waits, and gives the connection back."""

        async def story() -> None:
            async with bench.running() as appender:
                waiting = asyncio.create_task(appender.append([change("last")]))
                await asyncio.sleep(0)
            await waiting

        asyncio.run(story())
        assert bench.shelf.users == [["last"]]
        assert bench.shelf.is_closed


class TestTrouble:
    @pytest.mark.parametrize("trouble", [ServerAway("away"), InboxFull("full")])
    def test_all_who_wait_are_told(self, trouble: ProducerRefused, bench: Bench) -> None:
        """And who comes after them is refused without waiting."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.trouble = trouble
                with pytest.raises(type(trouble)):
                    await appender.append([change("u1")])
                assert appender.trouble is trouble
                assert bench.board.value("taking") == 0
                bench.shelf.entered.clear()
                with pytest.raises(type(trouble)):
                    await appender.append([change("u2")])
                assert not bench.shelf.entered.is_set()

        asyncio.run(story())
        assert bench.shelf.users == []

    def test_it_ends_by_itself(self, bench: Bench) -> None:
        """The server is looked at, and messages are taken again."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.trouble = ServerAway("away")
                with pytest.raises(ServerAway):
                    await appender.append([change("u1")])
                bench.shelf.trouble = None
                await until(lambda: appender.trouble is None)
                await appender.append([change("u2")])
                assert bench.board.value("taking") == 1

        asyncio.run(story())
        assert bench.shelf.users == [["u2"]]

    def test_a_bug_in_the_store_is_told_too(
        self, bench: Bench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nobody waits for ever, and the next one is tried anew."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.trouble = RuntimeError("with a secret in it")
                with pytest.raises(ServerAway):
                    await appender.append([change("u1")])
                bench.shelf.trouble = None
                await appender.append([change("u2")])

        asyncio.run(story())
        said = capsys.readouterr().out
        assert "RuntimeError" in said
        assert "secret" not in said

    def test_a_bug_while_it_looks_does_not_end_it(
        self, bench: Bench, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whoever comes later is answered all the same."""

        async def story() -> None:
            async with bench.running() as appender:
                bench.shelf.trouble = ServerAway("away")
                with pytest.raises(ServerAway):
                    await appender.append([change("u1")])
                bench.shelf.trouble = ValueError("odd")
                await until(lambda: "appender_failed" in capsys.readouterr().out)
                bench.shelf.trouble = None
                await until(lambda: appender.trouble is None)
                await appender.append([change("u2")])

        asyncio.run(story())
        assert bench.shelf.users == [["u2"]]


class TestCounts:
    def skip(self, bench: Bench, by: int = 1) -> None:
        bench.counts.add("web", Counter(), Counter({"page": by}), Samples())

    def test_a_flood_becomes_few_envelopes(self, bench: Bench) -> None:
        """However many are skipped, an envelope a second; the sum is exact after a stop."""

        async def story() -> None:
            async with bench.running():
                for _ in range(10_000):
                    self.skip(bench)
                await until(lambda: bench.shelf.refusals)
                self.skip(bench, 5)

        asyncio.run(story())
        assert 1 <= len(bench.shelf.refusals) <= 10
        assert sum(one.skipped["page"] for one in bench.shelf.refusals) == 10_005

    def test_they_outlast_trouble_and_are_sent_as_they_were(self, bench: Bench) -> None:
        """The same envelope under the same id: if it did arrive, it is not counted twice."""
        ids: list[str] = []

        async def story() -> None:
            async with bench.running() as appender:
                append = bench.shelf.append

                def noted(envelopes: Sequence[Addressed]) -> None:
                    ids.extend(one.envelope_id for one in envelopes)
                    append(envelopes)

                bench.shelf.append = noted  # type: ignore[method-assign]
                bench.shelf.trouble = ServerAway("away")
                self.skip(bench, 3)
                await until(lambda: ids)
                bench.shelf.trouble = None
                await until(lambda: bench.shelf.refusals)
                assert appender.trouble is None or await _is_over(appender)

        async def _is_over(appender: Appender) -> bool:
            await until(lambda: appender.trouble is None)
            return True

        asyncio.run(story())
        assert [one.skipped for one in bench.shelf.refusals] == [{"page": 3}]
        assert len(ids) > 1
        assert len(set(ids)) == 1


def test_items_are_a_sequence() -> None:
    """A request without anything to append only asks whether it would be taken."""
    bench = Bench()

    async def story() -> None:
        async with bench.running() as appender:
            nothing: Sequence[Item] = ()
            await appender.append(nothing)
            await appender.check()
            bench.shelf.trouble = InboxFull("full")
            with pytest.raises(InboxFull):
                await appender.check()

    asyncio.run(story())
    assert bench.shelf.appended == []
