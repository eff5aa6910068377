"""How long answers take: counts in buckets, so that a year of them costs no more than a minute. Pure."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_MS = (
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    7.0,
    10.0,
    15.0,
    20.0,
    30.0,
    50.0,
    70.0,
    100.0,
    200.0,
    500.0,
    1000.0,
    2000.0,
    5000.0,
)


class Histogram:
    """Times by bucket.

    Attributes:
        counts: how many were up to each of BOUNDS_MS, and in the last place how many were longer.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, 1000 * seconds)] += 1

    def quantile_ms(self, share: float) -> float:
        """Return the bound in ms that at least ``share`` of all times keep; infinity beyond the last, 0 without any."""
        total, seen = sum(self.counts), 0
        if not total:
            return 0.0
        for bound, count in zip((*BOUNDS_MS, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= share * total:
                return bound
        return float("inf")
