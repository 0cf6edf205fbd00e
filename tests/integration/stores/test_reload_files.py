"""Rule 21: the file changes while workers run; a broken one breaks nothing."""

from pathlib import Path
from typing import Any

import pytest

from worker.audiences.registry import WrongRegistry
from worker.audiences.registry_file import RegistryFile
from worker.pipeline import facts
from worker.pipeline.notices import notice_of
from worker.reload import Pace, Reload
from worker.stores.publication import Publication
from worker.stores.rulebook import Rulebook

VIP = "audiences: [{key: vip, cadence: realtime}]\n"
NIGHTLY = "audiences: [{key: vip, cadence: batched}]\n"
RENAMED = "audiences: [{key: vip, cadence: realtime, attribute: seg_vip}]\n"


class Process:
    """One worker process with a file of its own."""

    def __init__(self, world: Any, folder: Path, host: str, text: str) -> None:
        self.path = folder / f"{host}.yaml"
        self.path.write_text(text)
        self.said: list[facts.Fact] = []
        self.book = Rulebook(world.scripts)
        publication = Publication(world.scripts, self.book)
        file = RegistryFile(self.path)
        self.reload = Reload(file, publication, self.said.append, host, pace=Pace(10, 2.0))
        self.reload.begin()

    def tick(self, times: int = 2) -> list[str]:
        """Ticks come to this process; the facts that it says."""
        self.said.clear()
        for _ in range(times):
            self.reload.look()
        return [fact.name for fact in self.said]

    def write(self, text: str) -> None:
        """Somebody writes the file."""
        self.path.write_text(text)


@pytest.fixture
def process(world: Any, tmp_path: Path) -> Process:
    """A worker that has started with a good file."""
    return Process(world, tmp_path, "one", VIP)


class TestTick:
    def test_rule_21_a_changed_file_is_taken_up_by_all(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """One process sees its file change; the others go by it without a look at theirs."""
        other = Process(world, tmp_path, "two", VIP)
        assert process.tick() == []
        process.write(NIGHTLY)
        assert process.tick() == ["registry_published"]
        (published,) = process.said
        assert (published.moved, published.host) == ("vip", "one")
        assert published.version == world.publication.version()
        world.say(world.change("u", "vip", True, world.now))
        assert set(world.lists("u")) == {"bt:ready"}
        assert other.tick() == []

    def test_rule_21_two_files_do_not_flap(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """During a rolling deployment the worker with the older file undoes nothing."""
        newer = Process(world, tmp_path, "two", NIGHTLY)
        version = world.publication.version()
        for _ in range(3):
            assert process.tick() == []
            assert newer.tick() == []
        assert world.publication.version() == version
        process.write(RENAMED)
        assert process.tick() == ["registry_published"]
        assert newer.tick() == []
        assert world.publication.read().by == "one"

    def test_rule_21_a_broken_file_keeps_the_old_registry(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """It is said once, with its line, and in a notice; a good file ends it."""
        version = world.publication.version()
        process.write("audiences:\n  - {key: vip, cadens: batched}\n")
        assert process.tick(3) == ["registry_broken"]
        notice = notice_of(process.said[0])
        assert notice is not None
        assert "one.yaml:2: " in notice.text
        assert "stays in force" in notice.text
        fault = world.publication.read().fault
        assert fault is not None
        assert (fault.by, fault.at_ms) == ("one", world.now)
        assert "one.yaml:2: " in fault.text
        assert world.publication.version() == version
        assert world.rulebook.read(0).rules.rule("vip").lane == "r"
        process.write(VIP)
        assert process.tick() == []
        assert world.publication.read().fault is None

    def test_a_file_that_is_gone_keeps_the_old_registry(self, world: Any, process: Process) -> None:
        """Removed by mistake, it is missed; put back, it is fine."""
        process.path.unlink()
        assert process.tick() == ["registry_broken"]
        assert world.rulebook.read(0).rules.of.keys() == {"vip"}
        process.write(VIP)
        process.tick()
        assert world.publication.read().fault is None

    def test_rule_21_a_start_with_a_broken_file_is_refused(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """A worker does not start with a file that it cannot read; the others go on."""
        version = world.publication.version()
        with pytest.raises(WrongRegistry):
            Process(world, tmp_path, "three", "audiences: 3\n")
        assert world.publication.version() == version

    def test_rule_21_a_file_that_declares_a_retired_key_is_broken(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """The key cannot be used again, neither by a running worker nor by one that starts."""
        world.publication.retire("vip", "false", "me")
        assert process.tick() == ["registry_published"]
        process.write(NIGHTLY)
        assert process.tick() == ["registry_broken"]
        assert "vip was retired by me" in process.said[0].reason
        with pytest.raises(WrongRegistry, match="closed for good"):
            Process(world, tmp_path, "four", NIGHTLY)
        process.write("audiences: [{key: other}]\n")
        assert process.tick() == ["registry_published"]

    def test_rule_21_a_file_waits_for_a_name_and_is_taken_up_by_itself(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """A retired key is still sent under it: that is said once, and no worker need stay away."""
        world.say(world.change("u", "vip", True, world.now))
        world.flush()
        world.later(10_000)
        world.publication.retire("vip", "null", "me")
        process.tick()
        process.write("audiences: [{key: new, attribute: vip}]\n")
        assert process.tick(3) == ["registry_broken"]
        started = Process(world, tmp_path, "two", "audiences: [{key: new, attribute: vip}]\n")
        assert world.publication.read().declared.of.keys() == {"vip"}
        world.sweep()
        assert world.flush() == {"u": {"vip": "null"}}
        assert started.tick(1) == ["registry_published"]
        assert world.publication.read().declared.of.keys() == {"new"}
        assert world.publication.read().fault is None
        assert process.tick() == []

    def test_rule_21_what_is_new_is_what_the_file_names(self, world: Any, process: Process) -> None:
        """Orders of undeclared keys are not new keys; intervals and shadows are said."""
        world.say(world.change("u", "loose", True, world.now))
        world.publication.retire("loose", "null", "me")
        assert process.tick() == ["registry_published", "sweep_begun"]
        assert (process.said[0].added, process.said[0].removed) == ("", "")
        world.say(world.change("u", "brandnew", True, world.now))
        process.write("audiences: [{key: nb, attribute: brandnew}, {key: vip, cadence: batched}]\n")
        process.tick()
        said = process.said[0]
        assert (said.added, said.moved, said.shadowed) == ("nb", "vip", "brandnew")
        notice = notice_of(said)
        assert notice is not None
        assert "not sent, for another key has the attribute: brandnew" in notice.text
        process.write(
            "audiences:\n  - {key: nb, attribute: brandnew}\n"
            "  - {key: vip, cadence: batched, batched: {every: 8h}}\n"
        )
        process.tick()
        assert (process.said[0].added, process.said[0].timed) == ("", "vip")

    def test_rule_21_a_worker_starts_with_the_file_of_before_the_retirement(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """A restart with the file that is in force is fine: it says nothing new."""
        world.publication.retire("vip", "false", "me")
        Process(world, tmp_path, "two", VIP)
        assert world.rulebook.read(0).rules.rule("vip").retired == "false"

    def test_a_server_that_lost_its_data_is_told_again(self, world: Any, process: Process) -> None:
        """What was published is lost with the server's data; a tick publishes it again."""
        world.client.flushall()
        assert process.tick(1) == ["registry_published"]
        assert world.rulebook.read(0).rules.of.keys() == {"vip"}

    def test_rule_13_a_registry_that_a_failover_forgot_is_published_again(
        self, world: Any, process: Process, tmp_path: Path
    ) -> None:
        """The server is as it was before the file changed: who published it publishes it again."""
        other = Process(world, tmp_path, "two", VIP)
        before = {name: world.client.dump(name) for name in world.client.keys("*")}
        process.write(NIGHTLY)
        assert process.tick() == ["registry_published"]
        world.client.flushall()
        for name, dumped in before.items():
            world.client.restore(name, 0, dumped)
        assert other.tick() == []
        assert process.tick() == ["registry_published"]
        assert world.rulebook.read(0).rules.rule("vip").lane == "b"
        assert process.tick() == []

    def test_rule_21_a_resync_says_what_it_will_cost(self, world: Any, process: Process) -> None:
        """Users, data points, requests and time at the pace allowed, and what is left behind."""
        world.say(*(world.change(f"u{n}", "vip", True, world.now) for n in range(25)))
        world.flush()
        process.write(RENAMED)
        assert process.tick() == ["registry_published", "sweep_begun"]
        begun = process.said[1]
        assert (begun.work, begun.audience) == ("resync", "vip")
        assert (begun.users, begun.points, begun.requests, begun.seconds) == (25, 25, 3, 1.5)
        notice = notice_of(begun)
        assert notice is not None
        assert "25 users, 25 data points, 3 requests" in notice.text
        assert "The attribute vip keeps its last values in Braze." in notice.text
        assert world.sweeps.unfinished(0), "it has begun"
