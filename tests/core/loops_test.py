"""Loops by themselves: the climbing reference, steady outputs on toggling digits, hunting."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from controller.core.blocks import Play
from controller.core.hunting import TURNS, WINDOW_S, Hunting, Turns
from controller.core.image import Image
from controller.core.loops import FlowLoop, HeatSeen, SupplyTempLoop
from controller.core.points import good
from tests.core.model import reference_plan

TCS = reference_plan().pod.tcs


def seen(supply_c: float, return_c: float, it_kw: float = 1040.0, water_c: float = 20.0) -> HeatSeen:
    return HeatSeen(supply_c, return_c, water_c, 1300.0, 1300.0, it_kw)


def test_digits_that_toggle_do_not_move_the_valve() -> None:
    loop, found = SupplyTempLoop(TCS), []
    for scan in range(600):
        digit = 0.1 * (scan // 5 % 2)
        found.append(loop.step(seen(29.95 + digit, 40.0 + digit), 30.0, 20.0, 80.0, scan / 5))
    settled = found[100:]
    assert max(settled) - min(settled) < 0.05


def test_the_reference_follows_a_cold_supply_down_and_climbs_back() -> None:
    loop = SupplyTempLoop(TCS)
    for scan in range(100):
        assert loop.step(seen(22.0, 22.0, it_kw=0.0), 30.0, 20.0, 0.0, scan / 5) < 1.0
    assert loop.reference_c is not None
    assert loop.reference_c < 22.2
    opened = loop.step(seen(23.0, 27.0), 30.0, 20.0, 0.0, 20.2)
    assert opened > 20.0, "on its way before the setpoint is reached"
    for scan in range(102, 600):
        loop.step(seen(30.0, 40.0), 30.0, 20.0, 80.0, scan / 5)
    assert loop.reference_c == 30.0


def test_a_lower_setpoint_counts_at_once() -> None:
    loop = SupplyTempLoop(TCS)
    loop.step(seen(30.0, 40.0), 30.0, 20.0, 80.0, 0.0)
    loop.step(seen(30.0, 40.0), 26.0, 20.0, 80.0, 0.2)
    assert loop.reference_c == 26.0


def test_pumps_whose_speed_is_not_known_teach_the_flow_loop_nothing() -> None:
    """Their line is in noise and they went to full speed by themselves: the trim must not wind down meanwhile."""
    loop = FlowLoop(TCS)
    asked = loop.step(1300.0, 1290.0, 3, 0.0, 30.0, stands_pct=70.0)
    for scan in range(1, 300):
        speed = loop.step(1300.0, 1660.0, 3, scan / 5, 30.0, stands_pct=None)
        assert speed == asked
    for scan in range(300, 310):
        speed = loop.step(1300.0, 1290.0, 3, scan / 5, 30.0, stands_pct=asked)
    assert asked < speed < asked + 1.0, "the error counts again when the pumps are where they were asked to be"


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=50), st.floats(0.01, 5))
def test_play_is_never_further_off_than_half_its_width(values: list[float], width: float) -> None:
    play = Play(width)
    for value in values:
        assert abs(play.step(value) - value) <= width / 2 + 1e-9


def swinging(period_s: float, size_pct: float, seconds: float = 400.0) -> list[bool]:
    turns = Turns()
    return [turns.step(50 + size_pct * math.sin(2 * math.pi * s / period_s), float(s)) for s in range(round(seconds))]


def test_an_output_that_swings_is_found_and_a_quiet_one_is_not() -> None:
    assert any(swinging(40.0, 5.0))
    assert not any(swinging(40.0, 1.0)), "too small"
    assert not any(swinging(2.5 * WINDOW_S / TURNS, 20.0)), "too slow"


def test_a_loop_that_follows_its_load_does_not_hunt() -> None:
    pod = reference_plan().pod
    steady, following = Hunting(pod), Hunting(pod)
    told = []
    for second in range(400):
        swing = math.sin(2 * math.pi * second / 40)
        readings = {f"{pod.tcs.valve}.position": good(50 + 8 * swing, float(second))}
        flat = Image({**readings, "pod.it_power": good(800.0, float(second))}, float(second))
        moved = Image({**readings, "pod.it_power": good(800.0 + 300 * swing, float(second))}, float(second))
        told.append(
            [hunts.step(image)["pod.valve_hunting"].value for hunts, image in ((steady, flat), (following, moved))]
        )
    assert any(first for first, _ in told)
    assert not any(second for _, second in told)
