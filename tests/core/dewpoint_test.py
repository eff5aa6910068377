"""The dew point ahead of time, and the water of the rear doors."""

from __future__ import annotations

import random

import pytest

from controller.core.dewpoint import DewLead, DoorLoop
from tests.core.model import reference_plan


def ahead_k(rate_k_per_min: float, noise_k: float = 0.0) -> list[float]:
    """Return what ten minutes of a rising dew point give, one figure a second."""
    lead, dice = DewLead(60.0), random.Random(1)
    return [lead.step(12.0 + rate_k_per_min * s / 60 + dice.gauss(0, noise_k), float(s)) for s in range(600)]


def test_a_steady_dew_point_needs_no_lead() -> None:
    assert ahead_k(0.0) == [0.0] * 600
    assert max(ahead_k(0.0, noise_k=0.04)) < 0.2


def test_a_rising_one_is_met_a_minute_ahead() -> None:
    assert ahead_k(1.0)[-1] == pytest.approx(1.0 - 0.3, abs=0.05)
    assert ahead_k(3.0)[-1] == pytest.approx(3.0 - 0.3, abs=0.1)


def test_a_falling_or_unknown_one_needs_none() -> None:
    assert ahead_k(-1.0)[-1] == 0.0
    lead = DewLead(60.0)
    for second in range(60):
        lead.step(12.0 + second / 20, float(second))
    assert lead.step(None, 60.0) == 0.0
    assert lead.step(20.0, 61.0) == 0.0, "what comes back is no rise"


def test_doors_lose_their_water_while_their_coils_would_sweat() -> None:
    doors = DoorLoop(reference_plan().pod.room)
    assert doors.step(20.0, 30.0, 12.0)
    assert not doors.step(20.0, 30.0, 20.1), "2.4 K left"
    assert not doors.step(20.0, 30.0, 19.3), "3.2 K, but it needs 3.3 to open"
    assert doors.step(20.0, 30.0, 19.1)


def test_hot_air_opens_the_doors_whatever_they_sweat() -> None:
    doors = DoorLoop(reference_plan().pod.room)
    assert doors.step(20.0, 36.0, 24.0), "not shut in air of 35.5"
    assert not doors.step(20.0, 35.0, 24.0)
    assert not doors.step(20.0, 37.0, 24.0)
    assert doors.step(20.0, 38.0, 24.0), "before IT is capped at 40"


@pytest.mark.parametrize("unknown", [0, 1, 2])
def test_what_is_not_known_opens_the_doors(unknown: int) -> None:
    doors = DoorLoop(reference_plan().pod.room, shut=True)
    seen: list[float | None] = [20.0, 30.0, 24.0]
    seen[unknown] = None
    assert doors.step(*seen)
