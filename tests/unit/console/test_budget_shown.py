"""What is spent of a budget, beside the bounds that are set."""

import pytest

from console.budget_shown import settings_of, spent_said

DAY, EACH = "PERSONA_SYNC_DATA_POINTS_PER_DAY", "PERSONA_SYNC_DATA_POINTS_PER_AUDIENCE_PER_DAY"


@pytest.mark.parametrize(
    ("per_day", "each", "said", "named"),
    [
        (1_000, None, "701 data points today, of 1,000 in all", [DAY]),
        (
            None, 700,
            "701 data points today, all audiences together; the bound is 700 for each audience",
            [EACH],
        ),
        (1_000, 700, "701 data points today, of 1,000 in all, 700 for each audience", [DAY, EACH]),
    ],
)  # fmt: skip
def test_a_sum_is_never_beside_the_bound_of_one(
    per_day: int | None, each: int | None, said: str, named: list[str]
) -> None:
    """What all audiences spent reads as an overrun of none; only bounds in force are named."""
    bounds = {"per_day": per_day, "per_audience": each}
    assert spent_said(bounds, 701) == said
    assert settings_of(bounds) == named


def test_no_bound_names_nothing() -> None:
    """Where nothing is bound, there is no setting to raise."""
    assert settings_of({"per_day": None, "per_audience": None}) == []
