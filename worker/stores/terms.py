"""The terms that scripts are run with: spans and limits, the same for all workers."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Terms:
    """Rules of delivery, from the settings.

    `points_per_day`, and the same for each audience: None is no bound. `counts_flips`:
    memberships that change are counted by hour.
    """

    gap: timedelta = timedelta(seconds=5)
    hold: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=30)
    journal_bytes: int = 16_000_000
    undeclared_limit: int = 1_000
    points_per_day: int | None = None
    points_per_audience: int | None = None
    partitions: int = 1
    counts_flips: bool = False

    @property
    def has_budget(self) -> bool:
        """True if data points are bounded."""
        return self.points_per_day is not None or self.points_per_audience is not None

    def limits(self, partition: int) -> tuple[int | str, int | str]:
        """A partition's even share of both bounds, as scripts are given them; '' is no bound.

        The shares add up to the bound exactly.
        """
        return self._share(self.points_per_day, partition), self._share(
            self.points_per_audience, partition
        )

    def _share(self, whole: int | None, partition: int) -> int | str:
        if whole is None:
            return ""
        even, rest = divmod(whole, self.partitions)
        return even + (partition < rest)
