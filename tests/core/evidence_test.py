"""Evidence that takes a course of values: pumps that move nothing, leaks, a clogging strainer, branches, room air."""

from __future__ import annotations

import math
import random

import pytest

from controller.core.points import Value
from controller.core.sequences import RunState
from controller.core.watches import (
    LEARN_MOST,
    TRIP_HEAT,
    BranchWatch,
    Fall,
    LevelWatch,
    LoopWatch,
    Slope,
    idle_pumps,
)
from tests.core.model import reference_plan
from tests.core.protection_rig import SCAN_S, ProtectionRig

LEVEL, ROPE = "io_1.reservoir_level", "leak_1.zone_5_leak"
LITRES, LEVEL_NOISE_L = 60.0, 0.5


def drain(rig: ProtectionRig, litres_per_s: float, seconds: float, seed: int = 1) -> float | None:
    """Let the level fall as a noisy transmitter shows it each half second; return when something tripped."""
    noise, litres = random.Random(seed), float(rig.values[LEVEL] or 0.0) / 100 * LITRES
    start = rig.now
    for scan in range(round(seconds / SCAN_S)):
        litres -= litres_per_s * SCAN_S
        if scan % 3 == 0:
            shown = litres + noise.gauss(0.0, LEVEL_NOISE_L)
            rig.values[LEVEL] = 100 * round(shown / 0.5) * 0.5 / LITRES
        rig.step()
        if rig.interlocks.latched():
            return rig.now - start
    return None


# ---------------------------------------------------------------- leaks


def test_a_burst_is_located_by_flow() -> None:
    """0.8 L/s out of rack 4: its own meter shows a third more than its neighbours, and the level falls."""
    rig = ProtectionRig()
    rig.run(10)
    rig.values["rack_4.flow_share"] = 129.0
    took = drain(rig, 0.9, 10)
    assert took is not None
    assert took <= 5.0
    assert rig.interlocks.latched() == ["burst_rack_4"]
    assert rig.interlocks.racks_isolated() == {"rack_4"}
    assert not rig.interlocks.tripped(), "one rack goes off, not the pod"


def test_a_burst_at_the_cdu_trips_the_pod() -> None:
    rig = ProtectionRig()
    rig.run(10)
    rig.values["leak_1.leak"] = True
    took = drain(rig, 0.9, 15)
    assert took is not None
    assert rig.interlocks.latched() == ["leak_major"]
    assert rig.interlocks.tripped() == "burst at the CDU"
    assert rig.response.pumps_off


def test_the_panel_is_wet_too_when_a_rack_is() -> None:
    """The CDU's panel hears every rope: a wet rack is no burst at the CDU."""
    rig = ProtectionRig()
    rig.run(10)
    rig.values |= {"leak_1.leak": True, ROPE: True}
    drain(rig, 0.9, 15)
    assert "leak_major" not in rig.interlocks.latched()
    assert rig.interlocks.racks_isolated() == {"rack_4"}


def test_a_level_that_only_falls_isolates_nothing() -> None:
    rig = ProtectionRig()
    rig.run(10)
    assert drain(rig, 0.9, 10) is None
    assert "level_falling" in rig.interlocks.acting
    assert rig.response.hold_on


def test_noise_is_no_burst() -> None:
    rig = ProtectionRig()
    rig.values["rack_4.flow_share"] = 100.0
    for seed in range(5):
        assert drain(rig, 0.0, 120, seed) is None
        assert "level_falling" not in rig.interlocks.acting


def test_a_second_sign_confirms_a_leak_at_once() -> None:
    """A wet detector alone waits; with two litres gone within ten minutes it does not."""
    rig = ProtectionRig()
    rig.run(20)
    assert drain(rig, 0.05, 90) is None
    rig.values[ROPE] = True
    assert rig.acts_after("leak_sure_rack_4", 2.0) <= 1.0
    assert rig.interlocks.racks_isolated() == {"rack_4"}


def test_a_detector_that_dries_again_confirms_nothing() -> None:
    rig = ProtectionRig()
    rig.run(5)
    rig.values[ROPE] = True
    rig.run(20)
    rig.values[ROPE] = False
    rig.run(60)
    assert not rig.interlocks.latched()
    assert "wet_rack_4" in rig.interlocks.acting, "somebody is to look"


def test_a_chattering_detector_isolates_nothing() -> None:
    rig = ProtectionRig()
    for scan in range(round(600 / SCAN_S)):
        rig.values[ROPE] = scan % 2 == 0
        rig.step()
    assert not rig.interlocks.latched()


@pytest.mark.parametrize(("row", "isolates"), [("isolate_rack_4", {"rack_4"}), ("isolate_power_rack_4", set())])
def test_power_asked_off_leaves_the_water_alone(row: str, isolates: set[str]) -> None:
    rig = ProtectionRig()
    rig.step(asked=(row,))
    assert rig.interlocks.racks_tripped() == {"rack_4"}
    assert rig.interlocks.racks_isolated() == isolates
    rig.run(5)
    assert rig.interlocks.latched() == [row]


def test_a_lost_level_transmitter_tells_nothing() -> None:
    watch = LevelWatch(600.0)
    assert watch.step(90.0, 0.0) == Fall(0.0, 0.0, 0.0)
    assert watch.step(None, 1.0) == Fall()
    assert watch.step(10.0, 2.0).lost == 0.0, "what it shows when it is back is where it begins"


def test_what_was_lost_long_ago_counts_no_more() -> None:
    watch = LevelWatch(60.0)
    for second in range(30):
        watch.step(90.0, float(second))
    lost = [watch.step(80.0, float(second)).lost for second in range(30, 300)]
    assert max(lost) > 9.0
    assert lost[-1] < 0.1


# ---------------------------------------------------------------- pumps and loop


def without(pump: str, rig: ProtectionRig, flow_lpm: float) -> None:
    rig.values |= {f"{pump}.power": 0.6, "pod.flow": flow_lpm}


def test_a_pump_that_moves_nothing_is_named() -> None:
    rig = ProtectionRig()
    rig.run(60)
    without("pump_1", rig, 1197.0)
    took = rig.acts_after("no_flow_pump_1", 5.0)
    assert took >= rig.pod.protection.pump_no_flow_s - SCAN_S
    assert rig.response.pumps_lost == {"pump_1"}
    assert not rig.interlocks.latched()


@pytest.mark.parametrize(
    "changes",
    [
        {"pod.flow": 1197.0},
        {"pump_1.power": 0.6},
        {"pump_1.power": None, "pod.flow": 1197.0},
        {"pump_1.power": 0.6, "pump_1.speed": 40.0, "pod.flow": 1197.0},
    ],
    ids=["flow alone", "power alone", "power not known", "slower than its partners"],
)
def test_one_sign_stops_no_pump(changes: dict[str, Value | None]) -> None:
    rig = ProtectionRig()
    rig.run(60)
    rig.values |= changes
    rig.run(20)
    assert not rig.response.pumps_lost


def test_pumps_that_stand_nearly_still_are_not_compared() -> None:
    speeds = {"a": 30.0, "b": 30.0}
    assert idle_pumps({"a": 0.1, "b": 0.3}, speeds, 50.0) == set()
    assert idle_pumps({"a": 0.1, "b": 0.5}, speeds, 50.0) == {"a"}
    assert idle_pumps({"a": 0.1}, {"a": 30.0}, 50.0) == set(), "alone there is nobody to compare with"


def loop_flow_lpm(resistance: float, pumps: int, speed_pct: float) -> float:
    tcs = reference_plan().pod.tcs
    droop = tcs.pump_droop_kpa / (pumps * tcs.pump_rated_lpm) ** 2
    system = resistance * tcs.system_drop_kpa / tcs.flow_design_lpm**2
    return speed_pct / 100 * math.sqrt(tcs.pump_shutoff_kpa / (droop + system))


@pytest.mark.parametrize("pumps", [1, 2, 3])
@pytest.mark.parametrize("resistance", [0.8, 1.0, 1.5, 2.5])
def test_the_loops_resistance_is_found(pumps: int, resistance: float) -> None:
    watch = LoopWatch(reference_plan().pod.tcs)
    flow = loop_flow_lpm(resistance, pumps, 90.0)
    for scan in range(3000):
        seen = watch.step(flow, [90.0] * pumps, scan * SCAN_S)
    assert seen == pytest.approx(resistance)
    assert watch.known == pytest.approx(resistance, rel=0.01)
    assert not watch.jumped


def test_the_loops_resistance_is_bounded_whatever_is_measured() -> None:
    watch = LoopWatch(reference_plan().pod.tcs)
    for scan in range(5000):
        watch.step(300.0, [100.0], scan * SCAN_S)
    assert watch.known == LEARN_MOST


def test_nothing_is_learnt_while_speeds_move_or_flow_is_not_known() -> None:
    watch = LoopWatch(reference_plan().pod.tcs)
    for scan in range(500):
        assert watch.step(1000.0, [60.0 + scan % 40], scan * SCAN_S) is None
        assert watch.step(None, [60.0], scan * SCAN_S) is None
    assert watch.known == 1.0


def test_a_clogging_strainer_is_learnt_and_told() -> None:
    rig = ProtectionRig()
    rig.run(30)
    rig.values["pod.flow"] = loop_flow_lpm(1.4, 3, 78.25)
    took = rig.acts_after("strainer_clogged", 200.0)
    assert took > rig.pod.protection.resistance_high_s
    assert rig.evidence.readings(rig.now)["pod.loop_resistance"].value == pytest.approx(140.0, abs=10.0)
    assert not rig.response.limits


def test_silent_pumps_hold_the_load_where_it_is() -> None:
    rig = ProtectionRig()
    rig.values["pod.it_power"] = 700.0
    for pump in rig.pumps:
        pump.state = RunState.UNKNOWN
    rig.acts_after("pumps_silent", 12.0)
    rig.values["pod.it_power"] = 800.0
    rig.step()
    assert [limit.kw for limit in rig.response.limits] == [700.0]


# ---------------------------------------------------------------- slopes, branches, air


def test_a_slope_is_that_of_a_line() -> None:
    slope = Slope(6.0)
    found = [slope.step(50.0 - 1.5 * second, float(second)) for second in range(12)]
    assert found[3] is None
    assert found[-1] == pytest.approx(-1.5)
    assert slope.step(None, 12.0) is None
    assert slope.step(50.0, 13.0) is None, "it begins anew"


def test_a_value_seen_twice_counts_once() -> None:
    slope = Slope(6.0)
    for scan in range(40):
        slope.step(scan // 5 * 1.0, float(scan // 5))
    assert len(slope.seen) == 7


@pytest.mark.parametrize(("share", "opens_s"), [(1.45, 193), (2.0, 70), (2.55, 39)])
def test_a_branch_heats_up_as_its_breaker_does(share: float, opens_s: float) -> None:
    """From the rated current on, IEC 60947-2: the same thermal model as the bench's breaker."""
    watch = BranchWatch(200.0, 200.0)
    watch.step(200.0 * math.sqrt(0.5), 0.0)
    at = 0.0
    heat = 0.0
    while heat < 100.0:
        at += SCAN_S
        heat = watch.step(200.0 * share, at)
        assert at < 2 * opens_s
    exact = -200.0 * math.log((share**2 - TRIP_HEAT) / (share**2 - 0.5))
    assert at == pytest.approx(exact, rel=0.02)


def test_a_branch_with_no_current_known_stays_as_hot_as_before() -> None:
    watch = BranchWatch(200.0, 200.0)
    hot = watch.step(180.0, 0.0)
    assert watch.step(None, 100.0) == pytest.approx(hot)


def test_uneven_phases_are_told_and_small_loads_are_not() -> None:
    rig = ProtectionRig()
    rig.values["pdu_6a.phase_1_current"] = 120.0
    rig.acts_after("pdu_6a_load_high", 61.0)
    quiet = ProtectionRig()
    quiet.values |= {f"pdu_6a.phase_{n}_current": amps for n, amps in ((1, 30.0), (2, 5.0), (3, 5.0))}
    quiet.run(70)
    assert "pdu_6a_load_high" not in quiet.interlocks.acting


def test_a_capped_branch_stays_capped_until_its_load_is_really_less() -> None:
    rig = ProtectionRig()
    phases = [f"pdu_6a.phase_{n}_current" for n in (1, 2, 3)]
    rig.values |= dict.fromkeys(phases, 200.0)
    rig.acts_after("pdu_6a_overload", 2.0)
    rig.values |= dict.fromkeys(phases, 180.0)
    rig.run(120)
    assert "pdu_6a_overload" in rig.interlocks.acting, "it carries what the cap leaves it"
    rig.values |= dict.fromkeys(phases, 100.0)
    rig.run(400)
    assert "pdu_6a_overload" not in rig.interlocks.acting


def test_a_rise_of_the_air_is_foreseen() -> None:
    """0.3 K/s, as when all door fans stop: the cap comes while the sensor still shows less than its limit."""
    rig = ProtectionRig()
    rig.run(30)
    air = 33.0
    while "air_high" not in rig.interlocks.acting:
        air += 0.3 * SCAN_S
        rig.values["room_2.temperature"] = air
        rig.step()
    assert air < rig.pod.protection.air_cap_c


@pytest.mark.parametrize("meanwhile", [None, -0.1], ids=["unknown", "a wrong value"])
def test_a_warm_sensor_that_comes_back_is_no_rise_of_the_air(meanwhile: float | None) -> None:
    """The warmest of the others was cooler: that is where it hangs, not what the air does."""
    rig = ProtectionRig()
    rig.values |= {"room_1.temperature": 25.0, "room_2.temperature": 31.0}
    rig.run(30)
    rig.values["room_2.temperature"] = meanwhile
    rig.run(30)
    rig.values["room_2.temperature"] = 31.0
    for _ in range(round(60 / SCAN_S)):
        rig.step()
        assert not {"air_high", "air_hot"} & set(rig.interlocks.acting)


def test_without_an_air_sensor_nothing_is_asked() -> None:
    rig = ProtectionRig()
    rig.values |= dict.fromkeys(rig.pod.room.temperatures, None)
    rig.run(5)
    assert not rig.acting
