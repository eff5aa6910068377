"""The plant against the figures it was sized for, and against its own balances of energy and water."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from hil.plant.plant import LIQUID_SHARE, Layout, Plant
from hil.plant.settled import Hand, settled
from hil.plant.thermal import PG25, diverted, exchanger_kw

FULL_LOAD_KW = 8 * 130.0
REFERENCE = Layout.reference()
_kept: dict[float, Plant] = {}


def at_rest(load: float = 1.0, *, throttle: bool = False) -> Plant:
    """A plant at rest, TCS 30 and FWS 20 degrees; each call gives one of its own."""
    if load not in _kept:
        _kept[load] = settled(REFERENCE, load=load)
    plant = Plant(REFERENCE, load=load)
    plant.x[:] = _kept[load].x
    plant.throttle = throttle
    return plant


def seconds_until(plant: Plant, reached: Callable[[], bool], longest: float, step: float = 0.1) -> float:
    """Run until something holds; return how long that took."""
    started = plant.now
    while not reached():
        assert plant.now - started < longest, "never reached"
        plant.advance(step)
    return plant.now - started


def hot_times(plant: Plant, hand: Hand | None = None) -> list[float]:
    """Return when the hottest chip passes 87, 95 and 105 degrees."""
    found: list[float] = []
    for limit in (87, 95, 105):
        while plant.hottest_c < limit:
            if hand and abs(plant.now - round(plant.now)) < 0.01:
                hand.act()
            plant.advance(0.1)
            assert plant.now < 900
        found.append(plant.now)
    return found


# ------------------------------------------------------------ steady state


def test_full_load_settles_where_it_was_sized() -> None:
    plant = at_rest()
    rack = plant.racks[0]
    assert plant.flow_lpm == pytest.approx(1300, rel=0.01)
    assert [pump.speed for pump in plant.tcs_pumps] == pytest.approx([0.782] * 3, rel=0.01)
    assert plant.loop.head == pytest.approx(220, rel=0.01)
    assert plant.loop.rack_drop == pytest.approx(120, rel=0.01)
    assert plant.valve.position == pytest.approx(0.83, rel=0.01)
    assert plant.exchanger_kw == pytest.approx(884.5, rel=0.01)
    assert plant.exchanger_kw == pytest.approx(LIQUID_SHARE * FULL_LOAD_KW, rel=0.001)
    assert (plant.return_c, rack.water.coolant) == pytest.approx((40.1, 40.1), rel=0.01)
    assert (rack.water.plate, plant.hottest_c) == pytest.approx((58.1, 74.8), rel=0.01)
    assert [chiller.load for chiller in plant.facility.chillers] == pytest.approx([0.77] * 2, rel=0.01)
    assert plant.room.air_c == pytest.approx(32.9, rel=0.01)
    assert plant.pumps_kw == pytest.approx(9.9, rel=0.01)
    assert plant.chillers_kw == pytest.approx(174, rel=0.01)
    assert plant.total_kw == pytest.approx(1245, rel=0.01)
    assert plant.supply_c == pytest.approx(30, abs=0.02)
    assert plant.facility.supply_c == pytest.approx(20, abs=0.02)


def test_settled_plant_stays_where_it_is_and_begins_at_nought() -> None:
    plant = at_rest(0.6)
    assert (plant.now, plant.energy.total, plant.throttled_s) == (0, 0, 0)
    before = plant.supply_c
    plant.advance(300)
    assert plant.supply_c == pytest.approx(before, abs=0.02)
    assert all(chiller.starts == 0 for chiller in plant.facility.chillers)


@pytest.mark.parametrize(
    ("flow", "junction"), [(1.1, 72.9), (1.0, 74.9), (0.9, 77.2), (0.8, 80.0), (0.74, 82.0), (0.6, 88.1), (0.5, 94.3)]
)
def test_chips_by_flow(flow: float, junction: float) -> None:
    plant = at_rest()
    share = flow * 1300 / 60 / plant.loop.flow
    for pump in plant.tcs_pumps:
        pump.command *= share
    for _ in range(600):
        plant.valve.command = min(1.0, max(0.0, plant.valve.command + 0.004 * (plant.supply_c - 30)))
        plant.advance(1.0)
    assert plant.flow_lpm == pytest.approx(flow * 1300, rel=0.01)
    assert plant.hottest_c + 30 - plant.supply_c == pytest.approx(junction, rel=0.01)


# ------------------------------------------------------------ balances


def test_energy_is_neither_made_nor_lost() -> None:
    plant = at_rest(0.6)
    energy, before = plant.energy, plant.stored_kj
    for rack in plant.racks:
        rack.load = 1.0
    plant.advance(300)
    residual = plant.stored_kj - before - (energy.heat_in - energy.heat_out)
    assert abs(residual) <= 1e-6 * energy.heat_in
    supplied = energy.grid + energy.battery + energy.generator
    assert supplied == pytest.approx(energy.total, rel=1e-9)


@pytest.mark.parametrize("layout", [Layout.box(), Layout.container()], ids=["box", "container"])
def test_energy_of_other_layouts(layout: Layout) -> None:
    plant = settled(layout, load=0.8)
    before = plant.stored_kj
    plant.facility.external_c = 24.0
    plant.advance(300)
    residual = plant.stored_kj - before - (plant.energy.heat_in - plant.energy.heat_out)
    assert plant.energy.heat_in > 0
    assert abs(residual) <= 1e-6 * plant.energy.heat_in
    assert plant.hottest_c < 95


def test_water_is_neither_made_nor_lost() -> None:
    plant = at_rest()
    before = plant.level_litres
    plant.racks[3].leak_lps, plant.makeup = 0.2, True
    plant.advance(120)
    assert plant.level_litres == pytest.approx(before + plant.makeup_litres - plant.lost_litres, abs=1e-9)
    assert plant.pooled_litres == pytest.approx(plant.lost_litres, abs=1e-9)
    assert plant.makeup_litres == pytest.approx(10, rel=0.01)


def test_finer_steps_give_the_same_answer() -> None:
    coarse, fine = at_rest(0.1), at_rest(0.1)
    worst = 0.0
    for plant in (coarse, fine):
        for rack in plant.racks:
            rack.load = 1.0
        for pump in plant.tcs_pumps:
            pump.command = 0.7825
        plant.valve.command = 0.83
    for _ in range(240):
        coarse.advance(1.0)
        fine.advance(1.0, 0.005)
        for one, other in ((coarse.supply_c, fine.supply_c), (coarse.return_c, fine.return_c)):
            worst = max(worst, abs(one - other))
    assert worst <= 0.1


# ------------------------------------------------------------ hydraulics


@pytest.mark.parametrize(
    ("pumps", "speed", "flow"),
    [(3, 0.7825, 1300), (2, 0.7825, 1197), (2, 0.8505, 1300), (1, 0.8505, 963), (2, 1.0, 1529), (1, 1.0, 1132)],
)
def test_pump_combinations(pumps: int, speed: float, flow: float) -> None:
    plant = Plant(REFERENCE)
    for pump in plant.tcs_pumps[:pumps]:
        pump.run, pump.command = True, speed
    plant.advance(20)
    assert plant.flow_lpm == pytest.approx(flow, rel=0.01)


def test_flow_dies_with_all_pumps() -> None:
    plant = at_rest()
    for pump in plant.tcs_pumps:
        pump.tripped = True
    found = []
    plant.step()  # the figures count from the step after the one that trips them
    for seconds in (1, 1, 1, 2, 3):
        plant.advance(seconds)
        found.append(plant.flow_lpm)
    assert found == pytest.approx([757, 342, 148, 27, 2], rel=0.02, abs=1)


@pytest.mark.parametrize(
    ("load", "times"), [(1.0, [6.6, 9.0, 12.0]), (0.75, [10.3, 13.4, 17.5]), (0.5, [17.9, 22.9, 29.2])]
)
def test_chips_without_any_pump(load: float, times: list[float]) -> None:
    plant = at_rest(load)
    started = plant.now
    for pump in plant.tcs_pumps:
        pump.tripped = True
    assert [when - started for when in hot_times(plant)] == pytest.approx(times, abs=0.6)


def test_throttle_alone_does_not_save_the_chips() -> None:
    plant = at_rest(throttle=True)
    for pump in plant.tcs_pumps:
        pump.tripped = True
    assert seconds_until(plant, lambda: plant.hottest_c >= 95, 60) == pytest.approx(12.1, abs=0.4)
    assert seconds_until(plant, lambda: plant.hottest_c >= 105, 60) == pytest.approx(18.8 - 12.1, abs=0.7)
    plant.advance(1)
    assert plant.racks[0].latched_off
    assert plant.it_kw == 0
    assert plant.throttled_s > 0


def test_one_shut_rack() -> None:
    plant = at_rest()
    plant.racks[2].valve.command = plant.racks[2].valve.position = 0.0
    assert hot_times(plant) == pytest.approx([4.3, 6.7, 9.7], abs=0.4)
    assert plant.racks[0].junction_c < 76


def test_pump_faults() -> None:
    healthy = at_rest()
    for fault, value in (("no_flow", True), ("wear", 0.8), ("reversed", True), ("current_limit", 0.6)):
        plant = at_rest()
        pump = plant.tcs_pumps[0]
        setattr(pump, fault, value)
        plant.advance(10)
        assert plant.flow_lpm < 0.99 * healthy.flow_lpm, fault
        assert pump.running
        if fault == "no_flow":
            assert pump.speed == pytest.approx(healthy.tcs_pumps[0].speed)
            assert pump.power_kw == pytest.approx(0.25 * healthy.tcs_pumps[0].power_kw, rel=0.05)
        setattr(pump, fault, {"wear": 1.0, "current_limit": 1.0}.get(fault, False))
        plant.advance(20)
        assert plant.flow_lpm == pytest.approx(healthy.flow_lpm, rel=1e-3), fault


def test_drive_starts_late_ramps_and_stops() -> None:
    plant = Plant(REFERENCE)
    drive = plant.tcs_pumps[0]
    drive.run, drive.command = True, 0.8
    plant.advance(0.4)
    assert not drive.running
    plant.advance(10)
    assert drive.speed == pytest.approx(0.8)
    drive.command = 0.1
    plant.advance(10)
    assert drive.speed == pytest.approx(0.3), "a converter keeps to its lowest speed"
    drive.run = False
    plant.advance(4)
    assert drive.speed == 0
    assert not drive.running


def test_valve_faults() -> None:
    plant = Plant(REFERENCE)
    valve = plant.valve
    valve.jammed, valve.command = True, 0.5
    plant.advance(20)
    assert valve.position == valve.feedback == 0
    valve.lying = True
    plant.advance(20)
    assert valve.position == 0
    assert valve.feedback == pytest.approx(0.5)
    valve.jammed = valve.lying = False
    plant.advance(20)
    assert valve.position == valve.feedback == pytest.approx(0.5)
    valve.command = 0.503
    plant.advance(5)
    assert valve.position == pytest.approx(0.5), "inside its deadband"
    valve.fails_open, valve.slowness = True, 2.0
    plant.advance(15)
    assert valve.position == pytest.approx(0.75, abs=0.01)


def test_exchanger_gives_what_both_sides_can_take() -> None:
    heat = exchanger_kw(1300 / 60, 40.0, 20.0, 20.0)
    assert 0 < heat < 1300 / 60 * PG25 * 20
    assert exchanger_kw(1300 / 60, 40.0, 0.0, 20.0) == 0
    assert exchanger_kw(1300 / 60, 40.0, 20.0, 20.0, 0.7) < heat
    assert diverted(0.0) == pytest.approx(0.002)
    assert diverted(1.0) == pytest.approx(1.0)


# ------------------------------------------------------------ determinism


def trajectory(seed: int) -> bytes:
    plant = Plant(REFERENCE, seed=seed)
    plant.jobs.profile, plant.weather.follows = "random", True
    for pump in plant.tcs_pumps:
        pump.run, pump.command = True, 0.7
    for rack in plant.racks:
        rack.outlets = [True] * 8
    plant.advance(120)
    return bytes(plant.x.tobytes())


def test_same_seed_same_run_in_any_process() -> None:
    assert trajectory(7) == trajectory(7) != trajectory(8)
    code = (
        "import hashlib; from tests.hil.plant_test import trajectory; print(hashlib.sha256(trajectory(7)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("0", "1")
    }
    assert len(found) == 1
    import hashlib

    assert found == {hashlib.sha256(trajectory(7)).hexdigest() + "\n"}


def test_a_typing_slip_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Plant(REFERENCE).tcs_pumps[0].tripd = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="allowed are"):
        Layout([(0, 1)] * 17)
    with pytest.raises(ValueError, match="feeds 0 and 1"):
        Layout([(0, 2)])
    assert np.isfinite(Plant(REFERENCE).x[:10]).all()
