"""ISO 8601 in the forms that Segment's libraries write."""

import pytest

from producer.instants import UnreadableInstant, read_instant
from worker.contract import INSTANT_MAX_MS

TEN_O_CLOCK = 1_795_341_600_000


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-22T10:00:00.000Z", TEN_O_CLOCK),
        ("2026-11-22T10:00:00Z", TEN_O_CLOCK),
        ("2026-11-22T10:00:00z", TEN_O_CLOCK),
        ("2026-11-22t10:00Z", TEN_O_CLOCK),
        ("2026-11-22 10:00:00", TEN_O_CLOCK),
        ("2026-11-22T12:00:00+02:00", TEN_O_CLOCK),
        ("2026-11-22T12:00:00+0200", TEN_O_CLOCK),
        ("2026-11-22T05:00:00-05", TEN_O_CLOCK),
        ("2026-11-22", TEN_O_CLOCK - 36_000_000),
        ("2026-11-22T10:00:00.1Z", TEN_O_CLOCK + 100),
        ("2026-11-22T10:00:00.12Z", TEN_O_CLOCK + 120),
        ("2026-11-22T10:00:00.9999Z", TEN_O_CLOCK + 999),
        ("2026-11-22T10:00:00.123456Z", TEN_O_CLOCK + 123),
        ("2026-11-22T10:00:00.123999999Z", TEN_O_CLOCK + 123),
        ("1970-01-01T00:00:00Z", 0),
        ("3000-01-01T00:00:00Z", INSTANT_MAX_MS),
    ],
)
def test_readable(written: str, instant: int) -> None:
    """Zones are respected, none means UTC, fractions are cut to milliseconds."""
    assert read_instant(written) == instant


@pytest.mark.parametrize(
    "written",
    [
        "", "now", "2026", "2026-11", "20261122T100000Z", "2026-W47-7", "2026-13-01",
        "2026-02-30", "2026-11-22T25:00:00Z", "2026-11-22T10", "2026-11-22x10:00:00",
        "2026-11-22T10:00:00.1234567890Z", "2026-11-22T10:00:00.Z", " 2026-11-22", "2026-11-22 ",
        "2026-11-22T10:00:00+25:00", "1969-12-31T23:59:59.999Z", "3000-01-01T00:00:00.001Z",
        "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "٢٠٢٦-11-22", "2026-11-22\n",
        "\ud800", 1_795_341_600, True, None, [], {},
    ],
)  # fmt: skip
def test_unreadable(written: object) -> None:
    """Everything else is refused, and nothing crashes."""
    with pytest.raises(UnreadableInstant):
        read_instant(written)
