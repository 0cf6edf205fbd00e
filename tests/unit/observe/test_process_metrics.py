"""What a process counts from its facts."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from worker.metric import Layer
from worker.observe.metrics import METRICS
from worker.observe.process_metrics import DrainEnded, ProcessMetrics
from worker.pipeline import facts
from worker.pipeline.facts import Fact


@pytest.fixture
def process() -> ProcessMetrics:
    """A process that has seen nothing yet."""
    return ProcessMetrics()


def value(process: ProcessMetrics, name: str, **labels: str) -> float | None:
    return process.registry.get_sample_value(f"persona_sync_worker_{name}", labels)


@pytest.mark.parametrize(
    ("fact", "name", "labels", "counted"),
    [
        (facts.EnvelopeApplied(clamped=3), "envelopes_total", {"outcome": "applied"}, 1),
        (facts.EnvelopeApplied(clamped=3), "changes_clamped_total", {}, 3),
        (facts.EnvelopeRefused(), "envelopes_total", {"outcome": "refused"}, 1),
        (facts.EnvelopeFailed(), "envelopes_total", {"outcome": "failed"}, 1),
        (facts.ClaimVoid(users=5), "claims_void_total", {}, 1),
        (facts.ClaimGone(users=5), "claims_gone_total", {}, 1),
        (facts.BellFailed(), "bells_failed_total", {}, 1),
        (
            DrainEnded(task="persona_sync.accept", ended="done"),
            "drains_total",
            {"task": "accept", "end": "done"},
            1,
        ),
    ],
)
def test_a_fact_is_counted(
    process: ProcessMetrics, fact: Fact, name: str, labels: dict[str, str], counted: int
) -> None:
    """Each fact adds to its own metric; before it, the series was there with 0."""
    assert value(process, name, **labels) == 0
    process(fact)
    assert value(process, name, **labels) == counted


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ({"delivered": 2}, "delivered"),
        ({"delivered": 1, "retry": 1}, "retry"),
        ({"delivered": 1, "retry": 1, "dead": 1}, "refused"),
        ({"delivered": 1, "dead": 1, "unknown": 1}, "unknown"),
        ({}, "delivered"),
    ],
)
def test_a_request_is_counted_by_its_worst(
    process: ProcessMetrics, verdicts: dict[str, int], outcome: str
) -> None:
    """One request adds one to one outcome, and its duration to its lane."""
    process(facts.RequestEnded(lane="realtime", status="201", seconds=0.3, **verdicts))
    assert value(process, "requests_total", outcome=outcome) == 1
    assert value(process, "request_duration_seconds_sum", lane="realtime") == 0.3
    assert value(process, "request_duration_seconds_bucket", lane="realtime", le="0.2") == 0
    assert value(process, "request_duration_seconds_bucket", lane="realtime", le="0.4") == 1
    assert value(process, "request_duration_seconds_count", lane="batched") == 0


def test_other_facts_are_passed_over(process: ProcessMetrics) -> None:
    """A fact that no metric is made of changes nothing."""
    before = ours(process)
    process(facts.DestinationStopped(reason="valve"))
    process(Fact())
    assert ours(process) == before


def test_names_are_those_of_the_register(process: ProcessMetrics) -> None:
    """All registered metrics of the process are exposed, from the start, and no other of ours."""
    names = {family.name for family in text_string_to_metric_families(text(process))}
    mine = {m.name.removesuffix("_total") for m in METRICS if m.layer is Layer.PROCESS}
    assert {name for name in names if name.startswith("persona_sync_")} == mine
    assert {"process_resident_memory_bytes", "python_info", "python_gc_objects_collected"} <= names


def test_processes_are_apart() -> None:
    """Two engines of one Python process do not count into each other."""
    one, other = ProcessMetrics(), ProcessMetrics()
    one(facts.BellFailed())
    assert value(other, "bells_failed_total") == 0


def text(process: ProcessMetrics) -> str:
    return generate_latest(process.registry).decode()


def ours(process: ProcessMetrics) -> list[str]:
    return [line for line in text(process).splitlines() if line.startswith("persona_sync_")]
