"""The timetable's time: small delays change no order, great ones do, and a late wake-up counts for nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fieldbus.pace import AHEAD_S, BEHIND_S, Pace
from hil.bench import plans

SERIAL = plans.serial("line", 19200)
SILENCE_S = 0.002
MS = 0.001


def order(costs_ms: Sequence[int], periods_ms: Sequence[int], late_s: Callable[[], float], paced: bool) -> list[int]:
    """Return which read was chosen when, by earliest deadline; the line takes ``late_s()`` longer than planned."""
    pace, now, chosen = Pace(SERIAL, SILENCE_S), 0.0, []
    due = [0.0] * len(costs_ms)
    while len(chosen) < 300:
        at = pace.at(now) if paced else now
        ready = [i for i, release in enumerate(due) if release <= at + 1e-9]
        if not ready:
            pace.rest()
            now = max(now, min(due) + abs(late_s()))
            pace.set(min(due), now)
            continue
        first = min(ready, key=lambda i: (round(due[i] + periods_ms[i] * MS, 6), i))
        due[first] += periods_ms[first] * MS * max(1, (at - due[first] + 1e-9) // (periods_ms[first] * MS))
        took_s = costs_ms[first] * MS + late_s()
        pace.kept(costs_ms[first] * MS, took_s)
        now += took_s
        chosen.append(first)
    return chosen


def shaken(seed: int) -> Callable[[], float]:
    """Return delays as a busy machine has them: some tenths of a millisecond, seldom a few whole ones."""
    dice = random.Random(seed)
    return lambda: dice.uniform(-0.2, 0.2) * MS + (dice.uniform(0, 3 * MS) if dice.random() < 0.01 else 0.0)


READS = st.lists(st.tuples(st.integers(10, 40), st.sampled_from([100, 200, 400])), min_size=2, max_size=6)


@given(READS, st.integers(0, 1000))
def test_small_delays_change_no_order(reads: list[tuple[int, int]], seed: int) -> None:
    costs, periods = zip(*reads, strict=True)
    if sum(cost / period for cost, period in reads) > 0.95:
        return
    assert order(costs, periods, shaken(seed), paced=True) == order(costs, periods, lambda: 0.0, paced=True)


def test_without_it_they_do() -> None:
    """What the worker did when it went by the clock: the second read is free just when the first is released again."""
    costs, periods = (20, 80, 30), (100, 200, 200)
    still = order(costs, periods, lambda: 0.0, paced=False)
    assert any(order(costs, periods, shaken(seed), paced=False) != still for seed in range(5))
    assert all(order(costs, periods, shaken(seed), paced=True) == still for seed in range(5))


def test_a_great_delay_counts() -> None:
    pace = Pace(SERIAL, SILENCE_S)
    pace.kept(planned_s=0.02, took_s=0.5)
    assert pace.at(10.0) == pytest.approx(10.0 - BEHIND_S)
    pace.kept(planned_s=0.5, took_s=0.02)
    assert pace.at(10.0) == pytest.approx(10.0 + AHEAD_S + SILENCE_S)


def test_a_late_wake_up_counts_for_nothing() -> None:
    pace = Pace(SERIAL, SILENCE_S)
    pace.kept(planned_s=0.02, took_s=0.016)
    pace.rest()
    assert pace.at(10.0) < 10.0
    pace.set(9.998, 10.0)
    assert pace.at(10.0) == pytest.approx(9.998)


def test_a_network_goes_by_the_clock() -> None:
    pace = Pace(plans.tcp(502), 0.0)
    pace.kept(planned_s=0.02, took_s=0.001)
    pace.rest()
    assert pace.at(10.0) == 10.0
