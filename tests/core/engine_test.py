"""The scan as a whole: start-up, shutdown, take-over, trips, in virtual time."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from controller.core import modes
from controller.core.points import Quality
from controller.core.sequences import RunState
from tests.core.model import SCAN_S, PodModel, Rig, reference_plan


def visited(rig: Rig) -> list[str]:
    return [effects.transition.dest for effects in rig.effects if effects.transition]


def test_start_up_goes_through_every_stage_in_order() -> None:
    rig = Rig.make(model=PodModel(reference_plan(), chiller_delay_s=60.0)).running()
    assert visited(rig) == [*modes.STAGES, "NORMAL"]
    assert len(rig.effects) * SCAN_S <= 240, "a real pod is in NORMAL within 240 s"


def test_racks_go_on_only_after_flow_and_one_after_another() -> None:
    rig = Rig.make().running()
    first_on: dict[str, float] = {}
    for at, point, value in rig.model.log:
        if ".outlet_" in point and value is True:
            first_on.setdefault(point.split(".")[0].strip("ab")[:5], at)
    times = sorted(first_on.values())
    assert len(times) == 8
    stagger = rig.model.plan.pod.power.rack_stagger_s
    assert all(later - earlier >= stagger - 0.5 for earlier, later in pairwise(times))
    energise = next(e for e in rig.effects if e.transition and e.transition.dest == "STARTUP.energise")
    assert times[0] >= energise.view.at


def test_lowest_shed_tier_is_energised_first() -> None:
    rig = Rig.make().running()
    order = [point.split(".")[0] for _, point, value in rig.model.log if ".outlet_" in point and value is True]
    assert order[0] in ("pdu_1a", "pdu_2a")
    assert order[-1].startswith(("pdu_6", "pdu_7", "pdu_8"))


def test_nothing_is_written_before_start_is_ordered() -> None:
    rig = Rig.make()
    rig.run(20)
    assert rig.mode == "OFF"
    assert not rig.model.log


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"io_1.epo": True}, "emergency power off"),
        ({"leak_1.leak": True}, "leak_1.leak is wet"),
        ({"leak_1.zone_4_leak": True}, "zone_4_leak is wet"),
        ({"io_1.reservoir_level_ok": False}, "level is low"),
        ({"pump_2.comm_loss_function": 0}, "pump_2.comm_loss_function is 0, commissioned as 4"),
    ],
)
def test_precheck_says_what_is_missing_and_gives_up(spoil: dict[str, bool], words: str) -> None:
    rig = Rig.make()
    rig.model.values |= spoil
    rig.step()
    rig.step("start")
    rig.run(5)
    assert rig.mode == "STARTUP.precheck"
    assert any(words in text for text in rig.effects[-1].view.missing)
    rig.run(30)
    assert rig.mode == "OFF"
    assert words in rig.engine.modes.cause
    assert not [entry for entry in rig.model.log if entry[2] is True], "nothing was started"


def test_precheck_waits_for_the_reset_of_a_critical_alarm_and_says_so() -> None:
    rig = Rig.make()
    rig.model.overrides = {"leak_1.leak": True}
    rig.run(20)
    rig.model.overrides = {"leak_1.leak": False}
    rig.run(5)
    rig.step("start")
    rig.run(5)
    assert rig.effects[-1].view.missing == ("alarm not reset: leak_1_leak",)
    rig.step("reset")
    rig.run_until("STARTUP.fill", 10)


def test_lead_pump_that_does_not_start_is_replaced() -> None:
    rig = Rig.make()
    rig.model.stuck.add("pump_1")
    rig.step()
    rig.step("start")
    rig.run_until("NORMAL", 300)
    assert rig.engine.pumps[0].state is RunState.FAILED
    assert "pump_1_failed" in rig.alarms()


def test_no_pump_starts() -> None:
    rig = Rig.make()
    rig.model.stuck |= {"pump_1", "pump_2", "pump_3"}
    rig.step()
    rig.step("start")
    rig.run_until("COOLDOWN", 60)
    assert rig.engine.modes.cause == "no flow"


def test_restart_takes_over_without_a_single_stop() -> None:
    rig = Rig.make().running()
    rig.run(20)
    saved = rig.engine.saved()
    rig.model.log.clear()
    again = Rig.make(saved, rig.model)
    assert again.run_until("NORMAL", 10) < 10
    again.run(30)
    assert not [entry for entry in again.model.log if entry[2] is False]
    moved = [entry for entry in again.model.log if entry[1].endswith("speed_cmd")]
    speeds = [float(value) for _, point, value in moved if point == "pump_1.speed_cmd"]
    assert all(abs(b - a) <= 8 * SCAN_S + 0.3 for a, b in pairwise(speeds)), "no step in speed"


def test_restart_in_the_middle_of_start_up_goes_on_with_the_racks() -> None:
    rig = Rig.make()
    rig.step()
    rig.step("start")
    rig.run_until("STARTUP.energise", 300)
    rig.run(8)
    saved = rig.engine.saved()
    rig.model.log.clear()
    again = Rig.make(saved, rig.model)
    again.run_until("NORMAL", 120)
    assert not [entry for entry in again.model.log if entry[2] is False]
    assert not any(rack.pending(again.effects[-1].view.image) for rack in again.model.plan.pod.racks)


def test_restart_after_a_trip_stays_tripped() -> None:
    rig = Rig.make().running()
    rig.model.stuck |= {"pump_1", "pump_2", "pump_3"}
    rig.run_until(modes.TRIPPED, 30)
    again = Rig.make(rig.engine.saved(), rig.model)
    again.run(10)
    assert again.mode == modes.TRIPPED
    assert again.engine.interlocks.tripped()


def test_one_pump_lost_is_made_up_by_the_others() -> None:
    rig = Rig.make().running()
    rig.run(60)
    rig.model.stuck.add("pump_2")
    rig.run(20)
    assert rig.mode == "NORMAL"
    assert "pump_2_failed" in rig.alarms()
    image = rig.effects[-1].view.image
    assert (image.number("pod.flow_ratio", otherwise=0.0) or 0) >= 98
    assert rig.effects[-1].view.degraded


def test_all_pumps_lost_trips_the_racks_and_keeps_trying_to_pump() -> None:
    rig = Rig.make().running()
    rig.run(60)
    start = rig.model.now
    rig.model.stuck |= {"pump_1", "pump_2", "pump_3"}
    rig.run_until(modes.TRIPPED, 10)
    rig.step()
    outlets = [outlet for rack in rig.model.plan.pod.racks for outlet in rack.outlets]
    assert not any(rig.model.values[outlet] for outlet in outlets)
    assert rig.model.now - start < 5, "flow lost must take the racks off within seconds"
    assert rig.engine.interlocks.first_out in ("pumps_stopped", "cooling_lost", "flow_lost")
    rig.step("reset")
    assert rig.mode == modes.COOLDOWN or rig.mode == modes.TRIPPED


def test_silent_pumps_with_good_flow_change_nothing() -> None:
    """Lost communication is not lost flow: keep running, count no capacity, command nothing off."""
    rig = Rig.make().running()
    rig.model.values |= dict.fromkeys(rig.model.plan.pod.tcs.supply_temps, 31.0)  # so that the valve is not shut
    rig.run(30)
    rig.model.log.clear()
    rig.model.lost |= {"pump_1", "pump_2", "pump_3", "hx_valve"}
    rig.run(60)
    assert rig.mode == "NORMAL"
    assert not [entry for entry in rig.model.log if entry[2] is False]
    assert rig.alarms() == {"cooling_lost", "pumps_silent", "pod_it_capped"}, "bus lost, and the load is held"
    assert not rig.engine.allowance.shed


def test_supply_too_hot_trips() -> None:
    rig = Rig.make().running()
    rig.model.values |= dict.fromkeys(rig.model.plan.pod.tcs.supply_temps, 46.0)
    rig.run_until(modes.TRIPPED, 12)
    assert rig.engine.modes.cause == "TCS supply too hot"


def test_one_hot_probe_of_three_is_outvoted() -> None:
    rig = Rig.make().running()
    rig.model.values["io_1.supply_temp_1"] = 80.0
    rig.run(30)
    assert rig.mode == "NORMAL"


def test_all_supply_probes_lost_leaves_the_valve_to_the_model_with_its_trim_towards_cooling() -> None:
    rig = Rig.make().running()
    before = rig.model.values["hx_valve.position_cmd"]
    rig.model.spoil(*rig.model.plan.pod.tcs.supply_temps)
    rig.run(40)
    assert rig.mode == modes.LIMITING
    assert rig.model.values["hx_valve.position_cmd"] > before
    assert "pod_supply_temp_lost" in rig.alarms()


def test_all_coolant_temperatures_and_the_power_lost_opens_the_valve() -> None:
    rig = Rig.make().running()
    pod = rig.model.plan.pod
    meters = (*pod.power.feeds, *(point for rack in pod.racks for point in rack.power))
    rig.model.spoil(*pod.tcs.supply_temps, *pod.tcs.return_temps)
    rig.model.lost |= {point.split(".")[0] for point in meters}
    rig.run(60)
    assert rig.model.values["hx_valve.position_cmd"] == 100.0


def test_rack_leak_takes_that_rack_off_and_then_shuts_its_valve() -> None:
    rig = Rig.make().running()
    rig.model.values["leak_1.zone_5_leak"] = True
    rig.run(31)
    rack = rig.model.plan.pod.racks[3]
    assert not any(rig.model.values[outlet] for outlet in rack.outlets)
    assert rig.model.values[f"{rack.valve}.position_cmd"] == 100.0, "power first, liquid later"
    rig.run(rig.model.plan.pod.protection.rack_off_before_valve_s + 1)
    assert rig.model.values[f"{rack.valve}.position_cmd"] == 0.0
    others = [o for r in rig.model.plan.pod.racks if r is not rack for o in r.outlets]
    assert all(rig.model.values[outlet] for outlet in others)
    assert rig.mode == "NORMAL"


def test_controlled_shutdown_ends_in_off_with_everything_stopped() -> None:
    rig = Rig.make().running()
    rig.step("stop")
    assert rig.mode == "COOLDOWN"
    rig.run_until("OFF", 1900)
    rig.run(20)
    for machine in (*rig.engine.pumps, *rig.engine.primary.pumps):
        assert not rig.model.values[f"{machine.device}.running"], machine.device
    off_at = {point: at for at, point, value in rig.model.log if value is False}
    last_outlet = max(at for point, at in off_at.items() if ".outlet_" in point)
    first_pump = min(at for point, at in off_at.items() if point.startswith("pump_"))
    assert first_pump - last_outlet >= rig.model.plan.pod.startup.cooldown_min_s - 1


def test_stale_points_say_so_and_carry_their_last_value() -> None:
    rig = Rig.make().running()
    rig.model.lost.add("room_1")
    rig.run(10)
    reading = rig.effects[-1].view.image.reading("room_1.temperature")
    assert reading.quality is Quality.STALE
    assert reading.value == 24.0


def test_a_lost_bus_raises_one_alarm() -> None:
    rig = Rig.make().running()
    before = rig.alarms()
    rig.model.lost |= {"meter_a", "meter_b", "room_1", "room_2"}
    rig.run(30)
    assert rig.alarms() - before == {"field_lost"}
    rig.model.lost.clear()
    rig.run(10)
    rig.step("ack", target="*")
    assert rig.alarms() == before


def test_same_inputs_give_the_same_outputs() -> None:
    one, two = Rig.make().running(), Rig.make().running()
    assert one.model.log == two.model.log


def test_a_start_ordered_before_the_first_whole_image_is_not_lost() -> None:
    rig = Rig.make()
    rig.model.lost.add("leak_1")
    rig.step("start")
    assert rig.mode == "OFF"
    rig.model.lost.clear()
    rig.run(2)
    assert rig.mode.startswith("STARTUP")


def test_autostart_starts_by_itself() -> None:
    plan = reference_plan()
    rig = Rig.make(model=PodModel(dataclasses.replace(plan, pod=dataclasses.replace(plan.pod, autostart=True))))
    assert rig.mode == "OFF"
    took = rig.run_until("NORMAL", 240)
    assert took < 240
    assert not any(effects.outcomes for effects in rig.effects), "nobody ordered anything"
    assert any(effects.transition is not None for effects in rig.effects)
    assert all(rig.model.values[outlet] is True for rack in plan.pod.racks for outlet in rack.outlets)
