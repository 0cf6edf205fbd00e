"""The budget of data points in words: what of it is spent, and which settings bound it."""

from collections.abc import Mapping

from console.paper import many


def spent_said(bounds: Mapping[str, int | None], today: int) -> str:
    """`701 data points today, of 1,000 in all`. What is spent of all audiences together stands
    beside the bound of each only if it is told from it."""
    said = f"{many(today, 'data point')} today, "
    each = f"{bounds['per_audience']:,} for each audience" if bounds["per_audience"] else ""
    if bounds["per_day"]:
        return f"{said}of {bounds['per_day']:,} in all" + (f", {each}" if each else "")
    return f"{said}all audiences together; the bound is {each}"


def settings_of(bounds: Mapping[str, int | None]) -> list[str]:
    """The settings whose bounds are in force."""
    names = {
        "per_day": "PERSONA_SYNC_DATA_POINTS_PER_DAY",
        "per_audience": "PERSONA_SYNC_DATA_POINTS_PER_AUDIENCE_PER_DAY",
    }
    return [setting for name, setting in names.items() if bounds[name]]
