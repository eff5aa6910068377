"""The plant against the figures it was sized for, and against its own energy balance."""

from __future__ import annotations

import pytest

from hil.plant.facility import Chiller
from hil.plant.hydraulics import Drive
from hil.plant.plant import LIQUID_SHARE, STEP_S, Plant
from hil.plant.thermal import PG25, diverted, exchanger_kw

FULL_LOAD_KW = 8 * 130.0


def run(plant: Plant, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        plant.step()


def plant_at(load: float, *, speed: float = 0.7825, start_c: float = 30.0, energised: bool = True) -> Plant:
    """A plant whose machines are told to run; racks on from the start."""
    plant = Plant([(0, 0, 1, 1)] * 8, load=load, start_c=start_c)
    for pump in plant.tcs_pumps:
        pump.run, pump.command = True, speed
    plant.facility.pumps[0].run, plant.facility.pumps[0].command = True, 0.85
    plant.valve.command = plant.valve.position = 0.83
    for chiller in plant.facility.chillers:
        chiller.run, chiller.start_s = True, 0.0
    for rack in plant.racks:
        rack.outlets = [energised] * 4
    return plant


@pytest.fixture(scope="module")
def settled() -> Plant:
    plant = plant_at(1.0)
    run(plant, 900)
    return plant


def test_full_load_settles_where_it_was_sized(settled: Plant) -> None:
    assert settled.flow_lpm == pytest.approx(1300, abs=5)
    assert settled.loop.head == pytest.approx(220, abs=3)
    assert settled.loop.rack_drop == pytest.approx(120, abs=2)
    assert settled.exchanger_kw == pytest.approx(LIQUID_SHARE * FULL_LOAD_KW, rel=0.02)
    assert settled.return_c - settled.supply_c == pytest.approx(10.2, abs=0.4)
    assert 28 < settled.supply_c < 32
    assert sum(settled.pump_kw(index) for index in range(3)) == pytest.approx(9.9, rel=0.05)
    assert 73 < settled.racks[0].water.junction < 77
    assert settled.facility.supply_c == pytest.approx(20, abs=1)


def test_energy_is_neither_made_nor_lost() -> None:
    plant = plant_at(1.0)
    run(plant, 60)
    before, given = plant.stored_kj, plant.energy.racks - plant.energy.chillers
    run(plant, 300)
    change = plant.energy.racks - plant.energy.chillers - given
    assert plant.stored_kj - before == pytest.approx(change, abs=1e-6 * plant.energy.racks)


def test_one_pump_of_three_lost_leaves_92_percent(settled: Plant) -> None:
    plant = plant_at(1.0)
    run(plant, 20)
    plant.tcs_pumps[1].tripped = True
    run(plant, 10)
    assert plant.flow_lpm == pytest.approx(0.92 * 1300, rel=0.01)
    assert not plant.tcs_pumps[1].running


def test_flow_is_gone_five_seconds_after_all_pumps() -> None:
    plant = plant_at(1.0)
    run(plant, 20)
    for pump in plant.tcs_pumps:
        pump.tripped = True
    run(plant, 1)
    assert plant.flow_lpm == pytest.approx(757, rel=0.05)
    run(plant, 4)
    assert plant.flow_lpm < 35


def test_supply_rises_a_third_of_a_kelvin_a_second_without_rejection() -> None:
    plant = plant_at(1.0)
    run(plant, 300)
    plant.valve.command = plant.valve.position = 0.0
    plant.facility.pumps[0].tripped = True
    run(plant, 60)
    before = plant.supply_c
    run(plant, 60)
    assert (plant.supply_c - before) / 60 == pytest.approx(0.35, abs=0.04)


def test_no_power_no_heat() -> None:
    plant = plant_at(1.0, start_c=25.0, energised=False)
    plant.valve.command = plant.valve.position = 0.0
    run(plant, 120)
    assert plant.it_kw == 0
    assert plant.supply_c <= 25.1
    assert plant.feed_kw(0) == plant.feed_kwh[1] == 0


def test_feeds_carry_the_outlets_on_them() -> None:
    plant = plant_at(0.5, energised=False)
    plant.racks[2].outlets = [True, False, False, True]
    plant.racks[3].outlets = [True, True, False, False]
    assert plant.feed_kw(0) == pytest.approx(3 * 130 * 0.5 / 4)
    assert plant.feed_kw(1) == pytest.approx(130 * 0.5 / 4)
    assert plant.it_kw == pytest.approx(plant.feed_kw(0) + plant.feed_kw(1))


def test_same_seed_same_run() -> None:
    first, second, other = (Plant([(0, 1)] * 2, seed=seed) for seed in (7, 7, 8))
    for plant in (first, second, other):
        run(plant, 5)
    values = [[sensor.value for sensor in plant.sensors.values()] for plant in (first, second, other)]
    assert values[0] == values[1] != values[2]


def test_shut_rack_valve_starves_its_rack_alone() -> None:
    plant = plant_at(0.6)
    run(plant, 10)
    before = plant.loop.rack_flows[1]
    plant.racks[0].valve.command = 0.0
    run(plant, 20)
    assert plant.loop.rack_flows[0] < 0.01 * before
    assert plant.loop.rack_flows[1] > before


def test_drive_starts_late_ramps_and_stops() -> None:
    drive = Drive(run=True, command=0.8)
    drive.step(0.4)
    assert not drive.running
    for _ in range(200):
        drive.step(0.05)
    assert drive.speed == pytest.approx(0.8)
    drive.command = 0.1
    for _ in range(200):
        drive.step(0.05)
    assert drive.speed == pytest.approx(0.3), "a converter keeps to its lowest speed"
    drive.run = False
    for _ in range(80):
        drive.step(0.05)
    assert drive.speed == 0
    assert not drive.running


def test_chiller_takes_its_time_and_keeps_off_after_a_stop() -> None:
    chiller = Chiller(run=True)
    for _ in range(59):
        chiller.step(25.0, 26.0, 30.0, 1.0)
    assert not chiller.running
    chiller.step(25.0, 26.0, 30.0, 1.5)
    assert chiller.running
    chiller.run = False
    chiller.step(25.0, 26.0, 30.0, 1.0)
    chiller.run = True
    for _ in range(500):
        chiller.step(25.0, 26.0, 30.0, 1.0)
    assert not chiller.running, "ten minutes between stop and start"
    for _ in range(101):
        chiller.step(25.0, 26.0, 30.0, 1.0)
    assert chiller.running


def test_exchanger_gives_what_both_sides_can_take() -> None:
    heat = exchanger_kw(1300 / 60, 40.0, 20.0, 20.0)
    assert 0 < heat < 1300 / 60 * PG25 * 20
    assert exchanger_kw(1300 / 60, 40.0, 0.0, 20.0) == 0
    assert exchanger_kw(1300 / 60, 40.0, 20.0, 20.0, fouling=0.7) < heat
    assert diverted(0.0) == pytest.approx(0.002)
    assert diverted(1.0) == pytest.approx(1.0)


def test_leak_empties_the_reservoir_and_takes_the_suction_with_it() -> None:
    plant = plant_at(0.6)
    plant.leak_lps = 0.8
    run(plant, 50)
    assert not plant.level_made
    run(plant, 25)
    assert plant.suction_kpa < 5
