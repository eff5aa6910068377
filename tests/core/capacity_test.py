"""Models of chips, loop, exchanger and chillers against figures of the plant that were worked out apart from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.capacity import (
    SECONDS_MAX,
    ChipEstimate,
    Cold,
    RackModel,
    exchanger_kw,
    loop_seconds,
    possible_flow_lpm,
    reserve_kw,
    share_pct,
)
from controller.core.exchanger import COOLANT_KJ, Exchanger, coolant_kw
from tests.core.model import reference_plan

COOLING = reference_plan().pod.cooling
RACK = RackModel(COOLING, 130.0, 110.5, 162.5, COOLANT_KJ)
EXCHANGER = Exchanger(330.0, 1300.0, 1200.0, COOLANT_KJ)


@pytest.mark.parametrize(
    ("flow", "chip_c"), [(1.1, 72.9), (1.0, 74.9), (0.9, 77.2), (0.8, 80.0), (0.6, 88.1), (0.5, 94.3), (0.45, 98.3)]
)
def test_chips_stand_where_the_plant_has_them(flow: float, chip_c: float) -> None:
    """Steady junctions at full power and a supply of 30 degrees, by share of the design flow."""
    assert 30 + RACK.rise_k(162.5 * flow) == pytest.approx(chip_c, abs=0.2)


@given(power=st.floats(0, 130), supply=st.floats(10, 60))
def test_the_least_flow_for_a_power_is_just_enough(power: float, supply: float) -> None:
    flow = RACK.flow_lpm(power, supply)
    assert flow <= RACK.design_lpm
    assert RACK.permit_kw(flow, supply) >= power - 1e-9 or flow == RACK.design_lpm
    less = flow - RACK.design_lpm / 500
    assert less < 0.05 * RACK.design_lpm or RACK.permit_kw(less, supply) <= power + 1e-9


@given(low=st.floats(0, 300), more=st.floats(0, 300), supply=st.floats(0, 120))
def test_more_flow_never_lowers_the_permit(low: float, more: float, supply: float) -> None:
    assert 0.0 <= RACK.permit_kw(low, supply) <= RACK.permit_kw(low + more, supply) + 1e-9 <= 130.0 + 1e-8


def test_a_permit_keeps_chips_at_their_limit() -> None:
    kw = RACK.permit_kw(81.25, 30.0)
    assert 30 + RACK.rise_k(81.25) * kw / 130 == pytest.approx(COOLING.chip_limit_c)
    assert RACK.permit_kw(162.5, COOLING.chip_limit_c + 1) == 0.0


def test_a_shut_branch_is_foreseen_before_the_plant_throttles() -> None:
    """The plant's chips reach 87 degrees 4.3 s after their branch is shut: the estimate must not be later."""
    chips = ChipEstimate(RACK)
    chips.step(130.0, 162.5, 30.0, 0.0)
    assert chips.seconds_to(87.0) == SECONDS_MAX, "steady and below"
    chips.step(130.0, 0.0, 30.0, 0.0)
    foreseen, now = chips.seconds_to(87.0), 0.0
    assert 2.0 < foreseen <= 4.3
    while chips.seconds_to(87.0) > 0:
        now += 0.2
        assert chips.step(130.0, 0.0, 30.0, now) >= 74.8
    assert now == pytest.approx(foreseen, abs=0.2)


def test_an_estimate_that_has_begun_nowhere_stands_at_its_steady_state() -> None:
    chips = ChipEstimate(RACK)
    assert chips.seconds_to(10.0) == SECONDS_MAX
    assert chips.seconds_to(-1.0) == 0.0


@pytest.mark.parametrize(
    ("flow", "speeds", "expected"),
    [
        (None, [80.0], None),
        (700.0, [], 700.0),
        (50.0, [10.0, 20.0], 50.0),
        (585.0, [50.0, 50.0], 1170.0),
        (1300.0, [78.25] * 3, 1404.0),
        (1500.0, [100.0], 1404.0),
    ],
)
def test_flow_at_full_speed(flow: float | None, speeds: list[float], expected: float | None) -> None:
    assert possible_flow_lpm(flow, speeds, 1404.0) == expected


def test_seconds_of_the_whole_loop() -> None:
    """Without rejection 884 kW warm 466 L by about half a kelvin a second."""
    assert loop_seconds(COOLANT_KJ * COOLING.coolant_l, 30.0, 45.0, 884.0, 0.0) == pytest.approx(
        15 / (884 / (466 * 1.017 * 3.95))
    )
    assert loop_seconds(COOLANT_KJ * COOLING.coolant_l, 30.0, 45.0, 884.0, 884.0) == SECONDS_MAX
    assert loop_seconds(COOLANT_KJ * COOLING.coolant_l, 30.0, 45.0, 884.0, 883.9) == SECONDS_MAX
    assert loop_seconds(COOLANT_KJ * COOLING.coolant_l, 45.0, 45.0, 0.0, 884.0) == 0.0


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
def test_what_the_exchanger_takes_leaves_the_supply_where_it_was_allowed(share: float) -> None:
    heat = exchanger_kw(EXCHANGER, 1300.0, share, 34.0, 82.0, 20.0)
    inlet = 34.0 + heat / coolant_kw(1300.0, 1.0, COOLANT_KJ)
    assert EXCHANGER.heat_kw(1300.0, inlet, share, 20.0) == pytest.approx(heat, rel=1e-6)


def test_the_exchanger_takes_nothing_without_flow_cold_or_water() -> None:
    assert exchanger_kw(EXCHANGER, 0.0, 1.0, 34.0, 82.0, 20.0) < 6.0
    assert exchanger_kw(EXCHANGER, 1300.0, 0.0, 34.0, 82.0, 20.0) == 0.0
    assert exchanger_kw(EXCHANGER, 1300.0, 1.0, 34.0, 82.0, 36.0) == 0.0


def test_reserve_of_a_hot_day_with_one_chiller_gone() -> None:
    """630 kW of the one that is left, and what the water takes until the other is repaired."""
    left = reserve_kw(COOLING, Cold(1, COOLING.repair_s), 650.0, 20.0, 20.0, 38.0, 1040.0)
    assert 630 < left < 660
    assert reserve_kw(COOLING, Cold(2, 0.0), 650.0, 20.0, 20.0, 38.0, 1040.0) > 1260
    assert reserve_kw(COOLING, Cold(0, 600.0), 650.0, 26.0, 20.0, 38.0, 0.0) == 0.0
    cool_night = reserve_kw(COOLING, Cold(0, 600.0), 650.0, 26.0, 20.0, 10.0, 500.0)
    assert cool_night == pytest.approx(0.7 * 111 * (26 + 500 / (1600 / 60 * 0.998 * 4.18) - 10))


@given(wait=st.floats(0, 3600), later=st.floats(0, 3600), ready=st.integers(0, 2))
def test_a_chiller_that_comes_later_never_raises_the_reserve(wait: float, later: float, ready: int) -> None:
    soon = reserve_kw(COOLING, Cold(ready, wait), 650.0, 21.0, 20.0, 30.0, 500.0)
    assert soon >= reserve_kw(COOLING, Cold(ready, wait + later), 650.0, 21.0, 20.0, 30.0, 500.0)


def test_shares() -> None:
    assert share_pct(65.0, 130.0) == 50.0
    assert share_pct(200.0, 130.0) == 100.0
    assert share_pct(0.0, 0.0) == 100.0
    assert math.isfinite(share_pct(-5.0, 130.0))
