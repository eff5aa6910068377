"""Buckets of times against the times themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.fieldbus.histogram import BOUNDS_MS, Histogram


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_the_bound_above_the_true_one(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    ordered = sorted(1000 * one for one in seconds)
    enough = next(at for at in range(len(ordered)) if at + 1 >= share * len(ordered))
    above = next((bound for bound in BOUNDS_MS if ordered[enough] <= bound), float("inf"))
    assert histogram.quantile_ms(share) == above


def test_nothing_seen_is_nothing_told() -> None:
    assert Histogram().quantile_ms(0.99) == 0.0
