"""Reading the fields of one mapping: each value is right, or a fault and left out."""

from datetime import timedelta

from worker.audiences.registry_faults import Faults, Place, meant, quoted
from worker.audiences.registry_yaml import Mapping, Node, Scalar, Sequence
from worker.durations import format_duration, parse_duration

DAY = timedelta(days=1)
_YES_NO = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_UNQUOTED = {
    "bool": "yes or no",
    "null": "nothing",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
}


class Fields:
    """The fields of one mapping. `name` begins each message about it."""

    def __init__(
        self,
        node: Mapping,
        name: str,
        known: tuple[str, ...],
        faults: Faults,
        others: dict[str, str] | None = None,
    ) -> None:
        self.node = node
        self.name = name
        self._faults = faults
        for pair in node.pairs:
            if pair.key.text not in known:
                guess = meant(pair.key.text, known, others) or f" Known are {', '.join(known)}."
                self.wrong(pair.key.place, "", f"{quoted(pair.key.text)} is not known here.{guess}")

    def wrong(self, place: Place, field: str, message: str) -> None:
        """Note a fault of a field, or of the whole."""
        said = ": ".join(part for part in (self.name, field, message) if part)
        self._faults.add(place, said)

    def place(self, field: str) -> Place:
        """Where the field's value is; without one, where the mapping begins."""
        pair = self.node.pair(field)
        return pair.value.place if pair else self.node.place

    def has(self, field: str) -> bool:
        """Whether the field is there with a value."""
        return self._value(field) is not None

    def text(self, field: str) -> str | None:
        """A text, not empty."""
        scalar = self._scalar(field)
        if scalar is None:
            return None
        if scalar.tag in _UNQUOTED:
            what = _UNQUOTED[scalar.tag]
            self.wrong(
                scalar.place, field, f"YAML takes {scalar.text[:60]} for {what}; put it in quotes."
            )
            return None
        if not scalar.text:
            self.wrong(scalar.place, field, "is empty.")
            return None
        return scalar.text

    def choice(
        self, field: str, options: tuple[str, ...], others: dict[str, str] | None = None
    ) -> str | None:
        """One of the words."""
        scalar = self._scalar(field)
        if scalar is None or scalar.text in options:
            return scalar.text if scalar else None
        guess = meant(scalar.text, options, others)
        self.wrong(
            scalar.place, field, f"{quoted(scalar.text)} is not one of {', '.join(options)}.{guess}"
        )
        return None

    def flag(self, field: str) -> bool | None:
        """True or false."""
        scalar = self._scalar(field)
        if scalar is None:
            return None
        if scalar.tag != "bool":
            self.wrong(scalar.place, field, f"must be true or false, not {quoted(scalar.text)}.")
            return None
        return _YES_NO[scalar.text.lower()]

    def duration(self, field: str) -> timedelta | None:
        """A span of time of at most a day."""
        scalar = self._scalar(field)
        if scalar is None:
            return None
        try:
            span = parse_duration(scalar.text[:100])
        except ValueError as error:
            self.wrong(scalar.place, field, f"{error}.")
            return None
        if span > DAY:
            self.wrong(scalar.place, field, f"{format_duration(span)} is longer than a day.")
            return None
        return span

    def interval(self, field: str) -> timedelta | None:
        """A span of time that divides a day, so that its boundaries are the same every day."""
        span = self.duration(field)
        if span is None or (span >= timedelta(seconds=1) and not DAY % span):
            return span
        self.wrong(
            self.place(field),
            field,
            "must be at least 1s and divide a day evenly: 10s, 15m, 1h, 8h, 1d.",
        )
        return None

    def section(self, field: str, known: tuple[str, ...]) -> "Fields | None":
        """The fields of a mapping inside this one."""
        value = self._value(field)
        if value is None:
            return None
        name = f"{self.name}: {field}" if self.name else field
        if isinstance(value, Mapping):
            return Fields(value, name, known, self._faults)
        self._faults.add(value.place, f"{name}: must be a mapping with {', '.join(known)}.")
        return None

    def items(self, field: str) -> tuple[Node, ...]:
        """The items of a list."""
        value = self._value(field)
        if value is None or isinstance(value, Sequence):
            return value.items if value else ()
        self.wrong(value.place, field, "must be a list; each item begins with `- key:`.")
        return ()

    def is_null(self, field: str) -> bool:
        """Whether the field is there, and null."""
        pair = self.node.pair(field)
        return pair is not None and _is_null(pair.value)

    def _value(self, field: str) -> Node | None:
        pair = self.node.pair(field)
        return None if pair is None or _is_null(pair.value) else pair.value

    def _scalar(self, field: str) -> Scalar | None:
        value = self._value(field)
        if value is None or isinstance(value, Scalar):
            return value
        self.wrong(value.place, field, "must be a single value.")
        return None


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.tag in ("null", "unknown")
