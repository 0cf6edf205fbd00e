"""Every measure of `make bench`, on a very small scale: that it runs, and that its sums are right.

How fast anything is, is not looked at here.
"""

from typing import Any

import pytest

from benchmarks import measures, results, run
from benchmarks.http_load import http_load
from benchmarks.stack import Shape, Stack
from benchmarks.standards import FLOORS, PEERS, SMALLER_IS_BETTER


class TestMeasures:
    """Each starts the whole system and ends it again."""

    def test_throughput(self) -> None:
        """Every change has one end, and nothing is sent that Braze had."""
        found = measures.throughput(Shape(threads=8), changes=2_000, users=300)
        assert sum(found["ends"].values()) == 2_000
        assert found["ends"]["delivered"] == found["values_sent"] > 0
        assert found["unchanged_values_sent"] == 0
        assert found["cpu_us_per_change"] > 0

    def test_memory(self) -> None:
        """Bytes of a user are of a believable size, envelopes apart."""
        found = measures.memory(users=3_000)
        assert 50 < found["bytes_per_user"] < 2_000
        assert found["append_ids_bytes"] > 0

    @pytest.mark.parametrize("batch", [1, 20])
    def test_http(self, batch: int) -> None:
        """Every request is answered with 200, and messages are counted by batches."""
        found = http_load(batch, processes=1, connections=4, seconds=0.5)
        assert found["not_200"] == 0
        messages = pytest.approx(found["requests_per_second"] * batch, rel=0.01)
        assert found["messages_per_second"] == messages
        assert found["requests_per_second"] > 0

    @pytest.mark.slow
    def test_freshness(self) -> None:
        """Times ascend from p50 to p99, and are not shorter than Braze takes."""
        found = measures.freshness(rate=200, seconds=3, users=5_000)
        assert 50 <= found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]

    @pytest.mark.slow
    def test_requests(self) -> None:
        """Users per second are requests times the users in each."""
        found = measures.requests_per_second(10, users=5_000, threads=8, seconds=2)
        assert found["users_per_second"] == pytest.approx(
            10 * found["requests_per_second"], rel=0.1
        )

    @pytest.mark.slow
    def test_starvation(self) -> None:
        """All batched users are due before realtime is measured beside them."""
        found = measures.starvation(batched=5_000, rate=100, seconds=3)
        assert found["batched_users_due"] == 5_000
        assert found["p95_beside_quiet"] > 0


class TestStack:
    """What is started for a measure."""

    def test_workers_that_cannot_start_are_told_of(self, tmp_path: Any) -> None:
        """With what they said, and not after a minute of waiting."""
        stack = Stack(tmp_path, Shape(threads=2, audiences="audiences: nonsense\n"))
        with pytest.raises(RuntimeError, match=r"did not start:[^$]*audiences"), stack.running():
            pass


class TestReport:
    """What is made of the figures."""

    def test_floors_and_peers_name_measures_that_there_are(self) -> None:
        """A renamed measure cannot lose its floor in silence."""
        assert set(FLOORS) | set(PEERS) <= set(measures.MEASURES)

    def test_a_miss_is_found_on_both_sides(self) -> None:
        """Too little of what is to be large, too much of what is to be small."""
        name = "throughput, 0 ms Braze, 1 worker"
        floors = {figure: floor for figure, (floor, _) in FLOORS[name].items()}
        assert run.misses({name: floors}) == []
        for figure, floor in floors.items():
            worse = floor + 1 if figure in SMALLER_IS_BETTER else floor - 1
            (missed,) = run.misses({name: {**floors, figure: worse}})
            assert figure in missed

    def test_the_middle_run_is_shown_whole(self) -> None:
        """Numbers of one run belong together: they are not mixed with another's."""
        runs = [{"first": n, "second": -n} for n in (3, 1, 2)]
        assert run.median(runs) == {"first": 2, "second": -2}

    def test_the_spread_of_what_has_a_floor_is_shown(self) -> None:
        """A median of runs that differ much is to be read as one."""
        name = "freshness, 500 changes/s"
        runs = [{"p50_ms": n, "p95_ms": 9, "users": n} for n in (3_000, 1, 2)]
        for one in runs:
            one["p99_ms"] = 9
        assert run.spread(name, runs[:1]) == {}
        figures = {**run.median(runs), **run.spread(name, runs)}
        assert figures["spread"] == {"p50_ms": [1, 3_000]}
        values = {row[1]: row[2] for row in results.rows({name: figures})}
        assert values == {"p50_ms": "2 (1 to 3,000)", "p95_ms": "9", "p99_ms": "9", "users": "2"}

    def test_the_newest_of_each_measure_is_shown(self, tmp_path: Any, monkeypatch: Any) -> None:
        """Measures that were run apart stand together, each with its conditions."""
        monkeypatch.setattr(results, "RESULTS", tmp_path)
        machine = {"cpu": "x", "cores": 2, "python": "3", "load_at_start": 0, "pace_ms": [1, 2, 3]}
        for at, measured in (
            ("2026-01-01T10:00:00Z", {"a": {"f": 1}, "b": {"f": 1}}),
            ("2026-01-01T11:00:00Z", {"a": {"f": 2}}),
        ):
            made = {"at": at, "commit": "c" * 40, "machine": machine, "repeat": 1}
            results.kept({**made, "measures": measured})
        found = results.newest()
        assert {name: figures["f"] for name, (figures, _) in found.items()} == {"a": 2, "b": 1}
        assert found["b"][1]["at"].endswith("10:00:00Z")
