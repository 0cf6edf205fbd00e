"""The producer's register of metrics and the board that its processes share."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from producer.http.metrics import METRICS, REGISTER, Board
from worker.metric import Kind, Layer, Metric, NotRegistered

ROOT = Path(__file__).parents[4]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


class TestEntries:
    @each_metric
    def test_names_follow_the_conventions(self, metric: Metric) -> None:
        """Our prefix, snake case, `_total` for counters only, base units at the end."""
        assert re.fullmatch(r"persona_sync_producer_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.layer is Layer.PRODUCER
        assert bool(metric.edges) == (metric.kind is Kind.HISTOGRAM)

    @each_metric
    def test_it_says_what_it_is_and_what_to_do(self, metric: Metric) -> None:
        """Meaning and advice are sentences on one line, and fit a table."""
        for said in (metric.meaning, metric.todo):
            assert re.fullmatch(r"[^|\n]{10,}\.", said)

    @each_metric
    def test_its_series_are_bounded(self, metric: Metric) -> None:
        """However long it runs and whatever comes in, a metric has few series."""
        assert metric.most_series <= 200

    def test_a_name_is_registered_once(self) -> None:
        """No two metrics share a name."""
        assert len(REGISTER) == len(METRICS)


class TestBoard:
    def test_rows_are_added_up(self) -> None:
        """Whichever process is asked tells the sum of all."""
        board = Board(2)
        board.row(0).count("requests_total", route="batch", status="200")
        board.row(1).count("requests_total", 2, route="batch", status="200")
        board.row(1).set("held_bytes", 7)
        assert board.value("requests_total", route="batch", status="200") == 3
        assert board.value("held_bytes") == 7

    def test_processes_share_it(self) -> None:
        """What a forked child counts is seen by its parent."""
        program = """
import os
from producer.http.metrics import Board
board = Board(2)
if not (pid := os.fork()):
    board.row(1).count("appends_total", 5)
    os._exit(0)
os.waitpid(pid, 0)
print(board.value("appends_total"))
"""  # in a process without threads, as the producer forks
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "5.0\n", done.stderr

    def test_a_replaced_process_goes_on(self) -> None:
        """Counters never go back; what was under way is not any more."""
        board = Board(1)
        row = board.row(0)
        row.count("appends_total", 5)
        row.set("requests_in_progress", 3)
        board.row(0).clear_gauges()
        assert board.value("appends_total") == 5
        assert board.value("requests_in_progress") == 0

    def test_prometheus_reads_it(self) -> None:
        """The text form holds every metric, histograms with cumulative buckets."""
        board = Board(1)
        for value in (0.0005, 0.003, 99.0):
            board.row(0).observe("append_duration_seconds", value)
        text = generate_latest(board.registry()).decode()
        families = {one.name: one for one in text_string_to_metric_families(text)}
        assert {f"{name}_total" if f"{name}_total" in REGISTER else name for name in families} == {
            *REGISTER
        }
        found = families["persona_sync_producer_append_duration_seconds"].samples
        buckets = {one.labels["le"]: one.value for one in found if "le" in one.labels}
        assert (buckets["0.001"], buckets["0.005"], buckets["5.0"], buckets["+Inf"]) == (1, 2, 2, 3)
        total = next(one.value for one in found if one.name.endswith("_sum"))
        assert total == pytest.approx(99.0035)

    def test_what_is_not_foreseen_is_other(self) -> None:
        """A strange status is no new series."""
        board = Board(1)
        board.row(0).count("requests_total", route="batch", status="299")
        assert board.value("requests_total", route="batch", status="other") == 1

    def test_what_is_not_registered_fails(self) -> None:
        """Neither an unknown name nor an unknown label can be counted."""
        row = Board(1).row(0)
        with pytest.raises(NotRegistered, match="producer_invented"):
            row.count("invented")
        with pytest.raises(NotRegistered, match="has the labels"):
            row.count("appends_total", user="u1")
