"""The plant's power: breakers, feeds, transfer, battery, generator, jobs; and its transmitters."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from hil.plant.plant import Layout, Plant
from hil.plant.sensors import MODES
from tests.hil.plant_test import at_rest, seconds_until


@pytest.mark.parametrize(
    ("share", "cold", "hot"),
    [(1.25, 509, 457), (1.45, 231, 193), (2.0, 89, 70), (2.55, 50, 39), (5.0, 12, 9)],
)
def test_branch_breaker_times(share: float, cold: float, hot: float) -> None:
    found = []
    for before in (0.0, 0.6):
        plant = Plant(Layout.reference(), load=0.0)
        plant.step()
        branch = plant.racks[5].branches[0]
        branch.heat, branch.fault_amps = before**2, share * 200
        found.append(seconds_until(plant, lambda branch=branch: not branch.closed, 600))  # type: ignore[misc]
    assert found == pytest.approx([cold, hot], rel=0.01, abs=0.5)


def test_branch_breaker_bears_a_fifth_more_and_opens_at_once_on_a_short() -> None:
    plant = Plant(Layout.reference(), load=0.0)
    bearing, shorted = plant.racks[0].branches
    bearing.fault_amps, shorted.fault_amps = 1.19 * 200, 8 * 200
    plant.step()
    assert not shorted.closed
    assert shorted.heat < 0.1
    plant.advance(3600)
    assert bearing.closed
    shorted.fault_amps = 0
    shorted.reset()
    plant.advance(1)
    assert shorted.closed


def test_overloaded_rack_on_one_feed_loses_its_branch() -> None:
    plant = at_rest()
    rack = plant.racks[5]
    rack.outlets = [True] * 4 + [False] * 4
    plant.advance(1)
    assert rack.branches[0].amps == pytest.approx(185, rel=0.01)
    assert rack.power_kw == pytest.approx(130), "one feed carries all"
    assert sum(rack.branches[0].phase_amps) / 3 == pytest.approx(rack.branches[0].amps, rel=1e-3)
    rack.branches[0].heat = 0.36
    rack.load = 1.3 * 200 / 184.6
    assert seconds_until(plant, lambda: not rack.branches[0].closed, 600) == pytest.approx(334, rel=0.02)
    plant.advance(0.1)
    assert rack.power_kw == 0


def test_shelves_and_feeds() -> None:
    plant = Plant(Layout([(0, 0, 1, 1)] * 8), load=0.5)
    plant.racks[2].outlets = [True, False, False, True]
    plant.racks[3].outlets = [True, True, False, False]
    plant.step()
    assert plant.feed_kw(0) == pytest.approx(3 * 130 * 0.5 / 2)
    assert plant.feed_kw(1) == pytest.approx(130 * 0.5 / 2)
    assert plant.it_kw == pytest.approx(plant.feed_kw(0) + plant.feed_kw(1))
    plant.racks[2].outlets = [True] * 4
    plant.step()
    assert plant.racks[2].power_kw == pytest.approx(65)
    assert 0.48 < plant.racks[2].outlet_kw(0) * 4 / 65 / 2 < 0.52


def test_inrush_is_short() -> None:
    plant = Plant(Layout.reference(), load=0.0)
    rack = plant.racks[0]
    rack.outlets[0] = True
    plant.step()
    assert rack.branches[0].amps == pytest.approx(300 / 4)
    plant.advance(0.35)
    assert rack.branches[0].amps == 0


def test_lost_feed_costs_the_racks_nothing_and_half_the_machines() -> None:
    plant = at_rest()
    plant.feeds[0].lost = True
    plant.step()
    assert plant.it_kw == pytest.approx(1040)
    plant.advance(1)
    assert plant.racks[0].branches[1].amps == pytest.approx(185, rel=0.01)
    assert [pump.powered for pump in plant.tcs_pumps] == [False, True, False]
    plant.advance(1.1)
    assert [pump.powered for pump in plant.tcs_pumps] == [False, True, True], "transferred within 2 s"
    assert [chiller.running for chiller in plant.facility.chillers] == [False, True]
    assert not plant.facility.pumps[0].powered
    assert plant.controller_powered
    plant.feeds[0].lost = False
    plant.advance(1)
    assert plant.tcs_pumps[0].powered


def test_all_load_on_one_feed_stays_below_its_main_breaker() -> None:
    plant = at_rest()
    plant.feeds[1].lost = True
    plant.step()
    assert plant.feeds[0].amps / 2000 == pytest.approx(0.89, abs=0.08)
    plant.advance(60)
    assert plant.feeds[0].breaker_closed


def test_controller_holds_up_for_thirty_seconds() -> None:
    plant = at_rest()
    for feed in plant.feeds:
        feed.lost = True
    plant.advance(29.9)
    assert plant.controller_powered
    plant.advance(0.2)
    assert not plant.controller_powered
    assert plant.it_kw == 0


@pytest.mark.parametrize(("soc", "minutes"), [(70, 10.5), (50, 7.0), (45, 6.1)])
def test_ride_through(soc: float, minutes: float) -> None:
    plant = at_rest()
    plant.soc_pct, plant.generator.auto, plant.grid.lost = soc, False, True
    took = seconds_until(plant, lambda: plant.soc_pct <= 10, 900)
    assert took / 60 == pytest.approx(minutes, rel=0.01)
    assert plant.it_kw == pytest.approx(1040)
    assert plant.grid_kw == 0


def test_pod_goes_dark_when_the_battery_is_empty_or_off() -> None:
    plant = at_rest()
    plant.generator.auto, plant.battery.tripped, plant.grid.lost = False, True, True
    plant.advance(0.1)
    assert plant.it_kw == 0
    assert not plant.tcs_pumps[0].powered
    plant.grid.lost = False
    plant.advance(1)
    assert plant.it_kw == pytest.approx(1040)


def test_generator_takes_over_in_a_ramp() -> None:
    plant = at_rest()
    plant.grid.lost = True
    plant.advance(59)
    assert plant.generator.kw == 0
    plant.advance(80)
    assert plant.generator.kw == pytest.approx(plant.total_kw, rel=0.01)
    assert plant.generator.step_kw == 0, "never all at once"
    plant.grid.lost = False
    plant.advance(60)
    assert plant.generator.kw == 0
    assert plant.grid_kw == pytest.approx(plant.total_kw, rel=0.01)


def test_battery_limits_ramps_and_import() -> None:
    plant = at_rest(0.6)
    plant.jobs.profile, plant.jobs.period_s, plant.jobs.level, plant.jobs.low = "square", 2.0, 1.0, 0.35
    plant.jobs.jitter = 0.0
    swings = {}
    for mode in (0, 2):
        plant.battery.mode = mode
        plant.advance(30)
        found = []
        for _ in range(40):
            before = plant.energy.grid
            plant.advance(0.5)
            found.append((plant.energy.grid - before) / 0.5)
        swings[mode] = max(found) - min(found)
    assert swings[0] == pytest.approx(676, rel=0.02)
    assert swings[2] <= swings[0] / 6, "half-second means; what is left is the inverter's own lag"
    plant.jobs.profile, plant.battery.mode, plant.grid.import_cap_kw = "manual", 0, 500
    plant.advance(5)
    assert plant.grid_kw == pytest.approx(500, abs=1)


# ------------------------------------------------------------ jobs


def test_cap_is_heard_late_and_followed_slowly() -> None:
    plant = at_rest()
    plant.cluster.cap = 0.5
    plant.advance(4)
    assert plant.it_kw == pytest.approx(1040)
    plant.advance(4 + 5)
    assert plant.it_kw == pytest.approx(520)
    plant.cluster.cap = 1.0
    plant.advance(6 + 10)
    assert 520 + 0.15 * 1040 < plant.it_kw < 520 + 0.25 * 1040
    plant.cluster.refuses, plant.cluster.cap = True, 0.2
    plant.advance(40)
    assert plant.it_kw == pytest.approx(1040)
    plant.racks[3].cap = 0.4
    plant.advance(15)
    assert [round(rack.power_kw) for rack in plant.racks[2:4]] == [130, 52]


def test_training_swings_dips_and_crashes() -> None:
    plant = at_rest()
    plant.jobs.profile, plant.jobs.checkpoint_every_s = "training", 60.0
    phases, powers = set(), []
    for _ in range(1500):
        plant.advance(0.1)
        phases.add(plant.jobs.phase)
        powers.append(plant.it_kw)
    assert phases == {"running", "checkpoint"}
    assert min(powers) == pytest.approx(0.25 * 1040, rel=0.03)
    assert 0.7 < statistics.mean(powers) / 1040 < 0.9
    plant.jobs.crash(30)
    plant.advance(2)
    assert plant.it_kw == pytest.approx(104, rel=0.03)
    plant.advance(30)
    assert plant.jobs.phase == "running"
    with pytest.raises(ValueError, match="training"):
        plant.jobs.profile = "nap"


# ------------------------------------------------------------ transmitters


def test_transmitters_show_the_truth_within_their_class() -> None:
    plant = at_rest()
    plant.advance(60)
    for name, sensor in plant.sensors.items():
        slack = {"temp": 0.6, "power": 0.03 * abs(sensor.truth) + 0.3, "flow": 0.03 * abs(sensor.truth)}
        allowed = next((value for word, value in slack.items() if word in name), 4.0)
        assert abs(sensor.value - sensor.truth) <= allowed, (name, sensor.value, sensor.truth)
    assert {f"supply_temp_{k}" for k in (1, 2, 3)} <= set(plant.sensors)


def test_noise_comes_once_a_device_period() -> None:
    plant = at_rest()
    sensor = plant.sensors["supply_temp_1"]
    sensor.quantum = 0.0
    seen = []
    for _ in range(4000):
        plant.step()
        seen.append(sensor.value)
    changes = sum(before != after for before, after in itertools.pairwise(seen))
    assert changes == pytest.approx(4000 * 0.05 / 0.5, abs=2)
    assert statistics.pstdev(seen) == pytest.approx(0.03, rel=0.2)


@pytest.mark.parametrize("mode", MODES)
def test_ways_of_a_transmitter_to_fail(mode: str) -> None:
    plant = at_rest()
    plant.advance(30)
    sensor, healthy = plant.sensors["return_temp_1"], plant.return_c
    amount = {"stuck_at": 29.8, "drift": 0.5, "spike": 20.0, "delayed": 10.0, "chatter": 5.0}.get(mode)
    sensor.fail(mode, amount)
    assert sensor.mode == mode
    plant.tcs_pumps[0].tripped = plant.tcs_pumps[1].tripped = True
    seen = []
    for _ in range(800 if mode == "spike" else 200):
        plant.advance(0.1)
        seen.append(sensor.value)
    last, truth = seen[-1], plant.return_c
    assert truth > healthy + 0.5
    expected = {
        "stuck": abs(last - healthy) < 0.4 and len(set(seen)) == 1,
        "stuck_at": last == pytest.approx(29.8),
        "drift": last - truth == pytest.approx(10, abs=1.5),
        "spike": max(seen) > truth + 15 and statistics.median(seen) < truth + 1,
        "invalid": math.isnan(last),
        "sign_swap": last == pytest.approx(-truth, abs=1.5),
        "scaled": last == pytest.approx(10 * truth, rel=0.05),
        "delayed": truth > last - 0.5,
        "dropout": len(set(seen)) == 1 and not sensor.present,
        "chatter": set(seen[10:]) == {0.0, 1.0},
    }.get(mode, abs(last - truth) < 1.5)
    assert expected, (last, truth)
    sensor.heal()
    plant.advance(2)
    assert sensor.mode == "none"
    assert sensor.present
    assert abs(sensor.value - plant.return_c) < 1.5
    with pytest.raises(ValueError, match="stuck_at"):
        sensor.fail("sulk")
