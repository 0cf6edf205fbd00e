"""What this process has seen, counted from its facts: a sink beside the log."""

from dataclasses import dataclass
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from worker.metric import Kind, Layer, Metric
from worker.observe.metrics import METRICS, registered
from worker.pipeline import facts
from worker.pipeline.facts import Fact, Level


@dataclass(frozen=True, slots=True)
class DrainEnded(Fact):
    """A Celery task came to its end; `ended` says why."""

    name: str = "drain_ended"
    level: Level = "debug"
    task: str = ""
    ended: str = ""


class ProcessMetrics:
    """Counts facts. Never blocks; never raises but for a name that is not registered."""

    def __init__(self) -> None:
        # Beside each counter the library would expose when it began, under a name of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            if metric.layer is Layer.PROCESS:
                self._make(metric)

    def __call__(self, fact: Fact) -> None:
        """Count one fact; facts that no metric is made of are passed over."""
        match fact:
            case facts.RequestEnded():
                self.observe("request_duration_seconds", fact.seconds, lane=fact.lane)
                self.count("requests_total", outcome=_outcome(fact))
            case facts.EnvelopeApplied():
                self.count("envelopes_total", outcome="applied")
                self.count("changes_clamped_total", fact.clamped)
            case facts.EnvelopeRefused():
                self.count("envelopes_total", outcome="refused")
            case facts.EnvelopeFailed():
                self.count("envelopes_total", outcome="failed")
            case facts.ClaimVoid():
                self.count("claims_void_total")
            case facts.ClaimGone():
                self.count("claims_gone_total")
            case facts.BellFailed():
                self.count("bells_failed_total")
            case DrainEnded():
                self.count("drains_total", task=fact.task.rpartition(".")[2], end=fact.ended)

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter `persona_sync_worker_<name>`."""
        name, values = _placed(name, labels)
        counter = self._counters[name]
        (counter.labels(*values) if values else counter).inc(by)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put a value into a histogram `persona_sync_worker_<name>`."""
        name, values = _placed(name, labels)
        histogram = self._histograms[name]
        (histogram.labels(*values) if values else histogram).observe(value)

    def _make(self, metric: Metric) -> None:
        name, says, labels = metric.name, metric.meaning, metric.label_names
        made: Counter | Histogram
        if metric.kind is Kind.HISTOGRAM:
            made = Histogram(name, says, labels, registry=self.registry, buckets=metric.edges)
            self._histograms[name] = made
        else:
            made = Counter(name, says, labels, registry=self.registry)
            self._counters[name] = made
        if labels:
            # Series that are there from the beginning have a rate from their first event on.
            for values in product(*(label.values for label in metric.labels)):
                made.labels(*values)


def _placed(name: str, labels: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    metric = registered(f"persona_sync_worker_{name}", Layer.PROCESS)
    bounds = {label.name: label.bounded for label in metric.labels}
    bounded = {k: bounds[k](value) if k in bounds else value for k, value in labels.items()}
    return metric.name, metric.place(**bounded)


def _outcome(fact: facts.RequestEnded) -> str:
    """The worst that became of a user of this request."""
    if fact.unknown:
        return "unknown"
    if fact.dead:
        return "refused"
    return "retry" if fact.retry else "delivered"
