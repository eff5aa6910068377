"""Valves judged by where they stand and by the heat that leaves through them."""

from __future__ import annotations

import pytest

from controller.core.effect import Heat, Stroke, SupplyModel, ValveWatch
from controller.core.exchanger import COOLANT_KJ, Exchanger, coolant_kw, share_pct

EXCHANGER = Exchanger(330.0, 1300.0, 1200.0, COOLANT_KJ)
SCAN_S = 0.2


def balanced(supply: float, position: float, *, real: float | None = None, water: float = 20.0) -> Heat:
    """What is measured around an exchanger whose valve really stands at ``real``, with the supply at ``supply``."""
    share = share_pct(position if real is None else real, 30.0) / 100
    per_k = EXCHANGER.heat_kw(1300.0, 1.0, share, 0.0)
    taken = per_k * (supply - water) / (1 - per_k / coolant_kw(1300.0, 1.0, COOLANT_KJ))
    return Heat(supply, supply + taken / coolant_kw(1300.0, 1.0, COOLANT_KJ), water, 1300.0, position)


def moved(stroke: Stroke, command: float, positions: list[float | None], now: float = 0.0) -> list[bool]:
    return [stroke.step(command, position, now + n) for n, position in enumerate(positions)]


def test_a_valve_on_its_way_is_not_stuck() -> None:
    stroke = Stroke()
    assert not any(moved(stroke, 100.0, [float(3 * n) for n in range(34)]))
    assert not any(moved(stroke, 0.0, [99.0 - 3 * n for n in range(34)], 100.0))


def test_a_slow_valve_is_not_stuck_and_a_still_one_is() -> None:
    assert not any(moved(Stroke(), 100.0, [0.6 * n for n in range(60)]))
    stroke = Stroke()
    assert moved(stroke, 60.0, [40.0] * 8) == [False] * 5 + [True] * 3
    assert moved(stroke, 60.0, [43.0, 46.0, 49.0, 55.0], 8.0) == [False] * 4


def test_one_that_goes_the_wrong_way_is_stuck() -> None:
    assert moved(Stroke(), 100.0, [50.0 - n for n in range(8)])[-1]


def test_what_is_not_known_changes_nothing() -> None:
    stroke = Stroke()
    moved(stroke, 60.0, [40.0] * 8)
    assert stroke.step(60.0, None, 9.0)
    assert stroke.step(None, 40.0, 10.0)
    assert not stroke.step(44.0, 40.0, 11.0), "near enough: it is where it is sent"


def test_the_model_agrees_with_the_exchanger_and_learns_its_own_error() -> None:
    model = SupplyModel(EXCHANGER, 30.0)
    heat = balanced(30.0, 83.0)
    assert model.expected_c(heat) == pytest.approx(30.0, abs=0.01)
    biased = heat._replace(supply_c=30.5)
    for n in range(3000):
        model.learn(biased, n * SCAN_S)
    assert model.expected_c(biased) == pytest.approx(30.5, abs=0.05)
    before = model.offset_k
    for n in range(3000, 3600):
        model.learn(heat._replace(supply_c=33.0), n * SCAN_S)
    assert model.offset_k == before, "a fault is not learnt"


def watch() -> ValveWatch:
    return ValveWatch(SupplyModel(EXCHANGER, 30.0))


def run(one: ValveWatch, seconds: float, command: float, heat: Heat | None, now: float = 0.0) -> float | None:
    share = None
    for n in range(round(seconds / SCAN_S)):
        share = one.step(command, None if heat is None else heat.position_pct, heat, 30.0, now + n * SCAN_S)
    return share


def test_a_valve_that_does_what_it_says_has_no_limit() -> None:
    one = watch()
    assert run(one, 60, 83.0, balanced(30.0, 83.0)) is None
    assert run(one, 60, 83.0, balanced(33.0, 83.0), 60.0) is None, "warm, but as the valve stands: the load is too high"
    assert not one.no_effect


def test_a_lying_valve_is_found_by_the_heat_and_caps_to_what_really_leaves() -> None:
    one = watch()
    run(one, 60, 60.0, balanced(30.0, 60.0))
    share = run(one, 20, 90.0, balanced(33.0, 90.0, real=60.0), 60.0)
    assert one.no_effect
    assert share == pytest.approx(share_pct(60.0, 30.0) / 100, rel=0.02)
    assert run(one, 20, 90.0, balanced(30.0, 90.0), 80.0) is None
    assert not one.no_effect


def test_a_cold_supply_is_no_lost_effect() -> None:
    one = watch()
    run(one, 60, 20.0, balanced(24.0, 20.0, real=60.0))
    assert not one.no_effect


def test_a_stuck_valve_passes_what_it_stands_for_or_what_leaves() -> None:
    one = watch()
    assert run(one, 20, 90.0, balanced(30.0, 40.0)) == pytest.approx(share_pct(40.0, 30.0) / 100, rel=1e-3)
    more = run(one, 20, 90.0, balanced(30.0, 40.0, real=50.0), 20.0)
    assert more == pytest.approx(share_pct(50.0, 30.0) / 100, rel=0.02)
    assert one.step(90.0, 40.0, None, 30.0, 50.0) == pytest.approx(share_pct(40.0, 30.0) / 100)


def test_a_silent_valve_stands_where_it_was_seen() -> None:
    one = watch()
    assert one.step(90.0, None, None, 30.0, 0.0) is None
    assert one.step(90.0, None, None, 30.0, 6.0) is None, "it was never seen"
    one = watch()
    run(one, 20, 60.0, balanced(30.0, 60.0))
    one.step(None, None, None, 30.0, 20.0)
    assert one.step(None, None, None, 30.0, 26.0) == pytest.approx(share_pct(60.0, 30.0) / 100)
