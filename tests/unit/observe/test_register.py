"""The register of metrics: complete, conventional, bounded, and the only way to emit."""

import re
from dataclasses import replace

import pytest

from worker.metric import OTHER, Kind, Layer, Metric, NotRegistered
from worker.observe.metrics import DRAIN, METRICS, REGISTER, _by_name, registered
from worker.observe.process_metrics import ProcessMetrics
from worker.observe.server_metrics import Sheet

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


class TestEntries:
    @each_metric
    def test_names_follow_the_conventions(self, metric: Metric) -> None:
        """Our prefix, snake case, `_total` for counters only, base units at the end."""
        assert re.fullmatch(r"persona_sync_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        if metric.unit in ("seconds", "Unix time"):
            assert metric.name.endswith("_seconds")
        assert not re.search(r"_(ms|millis|count|sum|bucket|created|info)$", metric.name)

    @each_metric
    def test_it_says_what_it_is_and_what_to_do(self, metric: Metric) -> None:
        """Meaning and advice are sentences on one line, and fit a table."""
        for said in (metric.meaning, metric.todo):
            assert re.fullmatch(r"[^|\n]{10,}\.", said) or said.endswith("?")
            assert "|" not in said

    @each_metric
    def test_its_series_are_bounded(self, metric: Metric) -> None:
        """However long it runs and whatever it sees, a metric has few series."""
        bound = 600 if metric.name == "persona_sync_braze_requests_total" else 100
        assert metric.most_series <= bound

    @each_metric
    def test_its_buckets_ascend(self, metric: Metric) -> None:
        """A histogram has buckets, in order; nothing else has any."""
        assert bool(metric.edges) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.edges) == sorted(set(metric.edges))

    def test_the_layer_is_in_the_name(self) -> None:
        """What one process has seen is `persona_sync_worker_...`: nobody adds up the others."""
        for metric in METRICS:
            is_process = metric.name.startswith("persona_sync_worker_")
            assert is_process == (metric.layer is Layer.PROCESS)

    def test_a_name_is_registered_once(self) -> None:
        """A second metric of the same name is refused."""
        assert len(REGISTER) == len(METRICS)
        with pytest.raises(NotRegistered, match="registered twice"):
            _by_name([*METRICS, replace(METRICS[0], meaning="Another.")])


class TestUnregistered:
    def test_unknown_name_fails(self) -> None:
        """Neither layer can emit what is not in the register."""
        with pytest.raises(NotRegistered, match="persona_sync_invented_total"):
            Sheet().put("persona_sync_invented_total", 1)
        with pytest.raises(NotRegistered, match="persona_sync_worker_invented_total"):
            ProcessMetrics().count("invented_total")

    def test_a_metric_is_emitted_in_one_layer(self) -> None:
        """What the process counts cannot be put by the server's reader, nor the other way."""
        with pytest.raises(NotRegistered, match="emitted by the process"):
            Sheet().put("persona_sync_worker_claims_gone_total", 1)
        with pytest.raises(NotRegistered, match="emitted by the server"):
            registered("persona_sync_inbox_entries", Layer.PROCESS)

    def test_wrong_labels_fail(self) -> None:
        """A label too many, too few, or of another name is refused, before anything is emitted."""
        sheet, process = Sheet(), ProcessMetrics()
        with pytest.raises(NotRegistered, match="has the labels"):
            sheet.put("persona_sync_inbox_entries", 1, user="u1")
        with pytest.raises(NotRegistered, match="has the labels"):
            sheet.put("persona_sync_lane_users", 1, lane="realtime")
        with pytest.raises(NotRegistered, match="has the labels"):
            process.count("envelopes_total", user="u1")
        with pytest.raises(NotRegistered, match="has the labels"):
            process.observe("request_duration_seconds", 1.0)

    def test_unforeseen_value_fails_or_is_other(self) -> None:
        """No value outside the register becomes a series; what comes from outside is `other`."""
        sheet = Sheet()
        with pytest.raises(NotRegistered, match="foresees no such value"):
            sheet.put("persona_sync_lane_users", 1, lane="vip", state="due")
        sheet.put_each("persona_sync_messages_refused_total", {"evil": 2, "worse": 3})
        (family,) = sheet.families()
        assert {s.labels["code"]: s.value for s in family.samples if s.value} == {OTHER: 5}

    def test_process_bounds_what_facts_say(self) -> None:
        """An end that this version does not know is counted as `other`."""
        process = ProcessMetrics()
        process.count("drains_total", task="accept", end="a new one")
        labels = {"task": "accept", "end": OTHER}
        assert process.registry.get_sample_value("persona_sync_worker_drains_total", labels) == 1
        assert "a new one" not in DRAIN.values
