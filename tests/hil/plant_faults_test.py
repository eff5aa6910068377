"""How the plant fails: losses of water and cold, leaks, the room, and each against the figures it was sized for."""

from __future__ import annotations

import statistics

import pytest

from hil.plant import slots as at
from hil.plant.plant import WATER_SHARE, Layout, Plant
from hil.plant.settled import Hand, settled
from hil.plant.thermal import PG25, diverted, exchanger_kw
from tests.hil.plant_test import at_rest, hot_times, seconds_until


def hold(plant: Plant, supply_c: float = 30.0) -> None:
    """Command the valve as the exchanger's own equations want it: control without fault."""
    heat = plant.loop.flow * PG25 * (plant.return_c - supply_c)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        water = plant.facility.flow * WATER_SHARE * diverted(middle)
        if exchanger_kw(plant.loop.flow, plant.return_c, water, plant.facility.supply_c) < heat:
            low = middle
        else:
            high = middle
    plant.valve.command = high


def test_facility_water_lost() -> None:
    plant = at_rest()
    plant.facility.pumps[0].tripped = True
    plant.advance(8)
    assert plant.supply_c == pytest.approx(plant.return_c, abs=1.0)
    plant.advance(30)
    before = plant.supply_c
    plant.advance(40)
    assert (plant.supply_c - before) / 40 == pytest.approx(0.35, rel=0.15)
    lost = at_rest()
    lost.facility.pumps[0].tripped = True
    assert hot_times(lost, Hand(lost, 30.0)) == pytest.approx([39, 61, 89], abs=2.5), "the pump coasts for two seconds"


@pytest.mark.parametrize(
    ("litres", "warm", "warmer", "hot"), [(1000, 79, 103, 190), (2000, 131, 167, 284), (4000, 234, 294, 469)]
)
def test_both_chillers_lost(litres: float, warm: float, warmer: float, hot: float) -> None:
    plant = at_rest()
    plant.x[at.BUFFER_L] = litres
    for chiller in plant.facility.chillers:
        chiller.tripped = True
    found: dict[int, float] = {}
    while plant.hottest_c < 87:
        hold(plant)
        plant.advance(0.5)
        for limit in (32, 35):
            if plant.supply_c >= limit:
                found.setdefault(limit, plant.now)
    assert [found[32], found[35], plant.now] == pytest.approx([warm, warmer, hot], rel=0.03)


@pytest.mark.parametrize(
    ("lps", "times"), [(0.05, [381, 763, 1049, 1141]), (0.2, [95, 191, 262, 290]), (0.8, [24, 48, 66, 76])]
)
def test_leak_empties_the_reservoir_and_then_the_loop(lps: float, times: list[float]) -> None:
    plant = at_rest()
    plant.level_litres, plant.racks[3].leak_lps = 60.0, lps
    found = []
    for level in (40, 20, 5):
        seconds_until(plant, lambda level=level: plant.level_litres <= level, 2000)  # type: ignore[misc]
        found.append(plant.now)
    assert not plant.level_made
    seconds_until(plant, lambda: plant.hottest_c >= 87, 300)
    assert [*found, plant.now] == pytest.approx(times, rel=0.01, abs=3.5)
    assert plant.suction_kpa < 60
    assert plant.racks[3].rope_wet
    assert not plant.racks[2].rope_wet


def test_rope_wets_late_and_a_shut_valve_stops_a_racks_leak() -> None:
    plant = at_rest()
    rack, rope = plant.racks[3], plant.sensors["leak_rope_4"]
    rack.leak_lps = 0.8
    wet = seconds_until(plant, lambda: rope.value == 1, 30)
    assert 5 < wet < 21
    rack.outlets = [False] * 8
    rack.valve.command = 0.0
    plant.advance(16)
    level = plant.level_litres
    plant.advance(10)
    assert plant.level_litres == level
    rack.leak_lps = 0.0
    rack.zone_dry()
    plant.advance(1)
    assert rope.value == 0


def test_makeup_locks_after_three_minutes() -> None:
    plant = at_rest()
    plant.leak_lps, plant.makeup = 0.1, True
    plant.advance(179)
    assert not plant.makeup_locked
    plant.advance(2)
    assert plant.makeup_locked
    given = plant.makeup_litres
    plant.advance(10)
    assert plant.makeup_litres == given == pytest.approx(15, rel=0.01)


def test_rear_door_fans_lost() -> None:
    plant = at_rest()
    plant.room.fans_lost = True
    found = []
    for seconds in (30, 30, 60):
        plant.advance(seconds)
        found.append(plant.room.air_c)
    assert found == pytest.approx([41.8, 49, 61], rel=0.02)


def test_open_door_brings_moisture_down_to_condensation() -> None:
    plant = at_rest()
    assert plant.condensation_margin_k > 8
    plant.room.infiltration_kg_s, plant.outdoor_dew_point_c = 0.5, 24.0
    cold = seconds_until(plant, lambda: plant.condensation_margin_k < 0, 1800, 5.0)
    assert 300 < cold < 730
    plant.advance(600)
    assert plant.condensate_litres > 0
    assert plant.dew_point_c < 24
    plant.room.door_valve = 0.0
    plant.advance(1)
    assert plant.condensation_margin_k == pytest.approx(plant.supply.outlet - plant.dew_point_c, abs=0.1)


# ------------------------------------------------------------ chillers and their water


def started_facility() -> Plant:
    plant = Plant(Layout.reference(), load=0.5)
    plant.facility.pumps[0].run, plant.facility.pumps[0].command = True, 0.85
    for rack in plant.racks:
        rack.outlets = [True] * 8
    plant.advance(20)
    return plant


def test_chiller_takes_its_time_and_keeps_off_after_a_stop() -> None:
    plant = started_facility()
    chiller = plant.facility.chillers[0]
    chiller.run = True
    assert seconds_until(plant, lambda: chiller.running, 100) == pytest.approx(60, abs=0.2)
    assert chiller.load == pytest.approx(0.2, abs=0.01)
    plant.advance(350)
    chiller.run = False
    plant.advance(1)
    assert not chiller.running
    assert chiller.power_kw < 1
    chiller.run = True
    again = seconds_until(plant, lambda: chiller.running, 800)
    assert again == pytest.approx(660, abs=2), "ten minutes of rest, and a minute to start"
    assert chiller.starts == 2


def test_chiller_needs_water_and_power() -> None:
    plant = at_rest()
    pump, (first, second) = plant.facility.pumps[0], plant.facility.chillers
    pump.tripped = True
    plant.advance(5)
    assert first.running
    assert second.running
    pump.tripped = False
    plant.advance(20)
    assert first.running, "an outage shorter than the filter of its flow switch"
    pump.tripped = True
    plant.advance(11)
    assert not first.running
    assert not second.running
    pump.tripped = False
    plant.advance(590)
    assert not first.running
    plant.advance(90)
    assert first.running
    assert first.starts == 1
    second.unpowered = True
    plant.advance(1)
    assert not second.powered
    assert not second.running


def test_chiller_rests_by_its_own_thermostat_when_there_is_too_little_heat() -> None:
    plant = settled(Layout.reference(), load=0.6)
    for rack in plant.racks:
        rack.load = 0.05
    both = plant.facility.chillers
    seconds_until(plant, lambda: not any(chiller.compressor_on for chiller in both), 1800, 1.0)
    assert all(chiller.running for chiller in both), "enabled all the same"
    stopped = plant.now
    seconds_until(plant, lambda: any(chiller.compressor_on for chiller in both), 3600, 1.0)
    assert plant.now - stopped >= 659


def test_coefficient_of_performance_at_its_rating() -> None:
    plant = settled(Layout.reference(), load=1.0, ambient_c=35.0)
    chiller = plant.facility.chillers[0]
    part = 0.85 + 0.55 * chiller.load - 0.40 * chiller.load**2
    assert chiller.heat_kw / chiller.power_kw / part == pytest.approx(4.8, rel=0.01)


def test_dry_cooler_helps_only_in_cold_air() -> None:
    plant = at_rest()
    plant.facility.dry_cooler.auto = True
    plant.advance(60)
    assert plant.facility.dry_cooler.heat_kw == 0, "the water that comes back is colder than the air"
    plant.ambient_c = 10.0
    plant.advance(300)
    assert plant.facility.dry_cooler.heat_kw > 400
    assert plant.energy.heat_in - plant.energy.heat_out == pytest.approx(
        plant.stored_kj - at_rest().stored_kj, rel=1e-6
    )


def test_water_from_outside_follows_its_profile() -> None:
    plant = settled(Layout.box())
    plant.facility.follow([(0, 20, 400), (100, 30, 200)])
    plant.advance(50)
    assert plant.facility.external_c == pytest.approx(25, abs=0.05)
    plant.advance(100)
    assert (plant.facility.external_c, plant.facility.external_lpm) == pytest.approx((30, 200))
    with pytest.raises(ValueError, match="rising"):
        plant.facility.follow([(5, 20, 400), (5, 30, 200)])


@pytest.mark.parametrize(("deadband", "spread"), [(0.0, 0.027), (0.004, 0.06)])
def test_six_hours_under_noise_without_drift(deadband: float, spread: float) -> None:
    """Feed-forward with a clamped trim on what the transmitters show; the valve's dead band is most of what is left."""
    plant = at_rest(0.7)
    plant.valve.deadband = deadband
    integral, found = 0.0, []
    for second in range(6 * 3600):
        shown = statistics.median(plant.sensors[f"supply_temp_{k}"].value for k in (1, 2, 3))
        integral = min(2.0, max(-2.0, integral + 0.06 * (shown - 30)))
        hold(plant, 30 - 0.6 * (shown - 30) - integral)
        plant.advance(1.0)
        if second >= 600:
            found.append(plant.supply_c)
    half = len(found) // 2
    assert statistics.pstdev(found) <= spread
    assert statistics.mean(found[:half]) == pytest.approx(statistics.mean(found[half:]), abs=0.01)
