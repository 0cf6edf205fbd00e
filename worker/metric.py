"""What a metric is: its name, labels and meaning, and what to do when it looks bad.

Shared by the engine's register (worker/observe/metrics.py) and the HTTP producer's
(producer/http/metrics.py). What is in neither cannot be emitted.
"""

from dataclasses import dataclass
from enum import StrEnum

# Stands for every value that this version does not know; each label may have it.
OTHER = "other"
PREFIX = "persona_sync_"


class NotRegistered(Exception):
    """A metric or a label is not in the register, or another layer emits it. Register it in
    worker/observe/metrics.py or producer/http/metrics.py with its meaning and what to do, then
    run docs/generate.py."""


class Kind(StrEnum):
    """What Prometheus calls the type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Layer(StrEnum):
    """Who emits a metric."""

    SERVER = "server"
    PROCESS = "process"
    PRODUCER = "producer"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and all the values it can have. `said` is shown where they are too many to list.

    `most`: the values are not known here; whoever reads them gives at most so many, and `other`.
    """

    name: str
    values: tuple[str, ...]
    said: str = ""
    most: int = 0

    def allows(self, value: str) -> bool:
        """True if it may be emitted."""
        return bool(self.most) or value in (*self.values, OTHER)

    def bounded(self, value: str) -> str:
        """The value, or `other` if it is not foreseen."""
        return value if self.allows(value) else OTHER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `edges` are the upper edges of a histogram's buckets, without the infinite."""

    name: str
    kind: Kind
    layer: Layer
    unit: str
    meaning: str
    todo: str
    labels: tuple[Label, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def most_series(self) -> int:
        """How many series it can have at most, from one process."""
        series = len(self.edges) + 3 if self.edges else 1
        for label in self.labels:
            series *= (label.most or len(label.values)) + 1
        return series

    def place(self, **given: str) -> tuple[str, ...]:
        """The label values in order. Raises NotRegistered for other names or other values."""
        if set(given) != set(self.label_names):
            raise NotRegistered(f"{self.name} has the labels {self.label_names}, not {(*given,)}.")
        for label in self.labels:
            if not label.allows(given[label.name]):
                raise NotRegistered(f"{self.name} foresees no such value of {label.name}.")
        return tuple(given[name] for name in self.label_names)
