"""A latency histogram: buckets whose bounds double, cheap enough for every commit."""

from bisect import bisect_left
from typing import Final

BOUNDS_US: Final = tuple(100 << i for i in range(15))
"""Upper bounds in microseconds: 0.1 ms … 1.6 s; what is longer goes to one more bucket."""


class Histogram:
    """Counts of durations. One thread observes; others may read at any time."""

    __slots__ = ("counts", "highest_us", "total_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.total_us = 0
        self.highest_us = 0

    def observe(self, duration_us: int) -> None:
        """Count one duration, in microseconds."""
        self.counts[bisect_left(BOUNDS_US, duration_us)] += 1
        self.total_us += duration_us
        self.highest_us = max(self.highest_us, duration_us)

    @property
    def count(self) -> int:
        """How many durations were observed."""
        return sum(self.counts)

    def quantile_us(self, q: float) -> int:
        """An upper bound of the `q` quantile (0…1), in microseconds; 0 if nothing was observed."""
        left = q * self.count
        for bound, n in zip(BOUNDS_US, self.counts, strict=False):
            left -= n
            if left <= 0:
                return min(bound, self.highest_us)
        return self.highest_us
