"""Where a controller can do harm by what it leaves undone: restarts, aborts, unreadable outlets, hands on breakers."""

from __future__ import annotations

from controller.core import modes
from tests.core.model import Rig


def on(rig: Rig) -> list[str]:
    return [outlet for rack in rig.model.plan.pod.racks for outlet in rack.outlets if rig.model.values[outlet]]


def running(rig: Rig, *names: str) -> list[str]:
    return [name for name in names if rig.model.values[f"{name}.running"]]


PUMPS = ("pump_1", "pump_2", "pump_3")
WATER = ("fws_pump_1", "fws_pump_2", "chiller_1", "chiller_2")


def unread(rig: Rig, devices: set[str]) -> None:
    """Forget what was ever read of devices, as a controller that just started."""
    for name in list(rig.model.inbox):
        if name.split(".")[0] in devices:
            del rig.model.inbox[name]
    rig.model.lost |= devices


def pdus(rig: Rig) -> set[str]:
    return {outlet.split(".")[0] for rack in rig.model.plan.pod.racks for outlet in rack.outlets}


def test_killed_between_the_trip_and_its_writes_the_racks_still_go_off() -> None:
    rig = Rig.make().running()
    racks_on = dict.fromkeys(on(rig), True)
    rig.model.stuck |= set(PUMPS)
    rig.run_until(modes.TRIPPED, 10)
    rig.model.values |= racks_on
    again = Rig.make(rig.engine.saved(), rig.model)
    again.run(3)
    assert again.mode == modes.TRIPPED
    assert not on(again)


def test_a_restart_in_cooldown_goes_on_with_it() -> None:
    rig = Rig.make().running()
    rig.step("stop")
    rig.run(10)
    again = Rig.make(rig.engine.saved(), rig.model)
    again.run_until("OFF", 2000)
    again.run(5)
    assert not on(again)
    assert not running(again, *PUMPS)


def test_stop_before_anything_was_started_starts_nothing() -> None:
    rig = Rig.make()
    rig.model.values["io_1.suction_pressure"] = 0.0
    rig.step()
    rig.step("start")
    rig.run_until("STARTUP.fill", 10)
    rig.step("stop")
    rig.run(20)
    assert rig.mode == "OFF"
    assert not [entry for entry in rig.model.log if entry[2] is True]


def test_a_start_up_without_flow_does_not_pump_on() -> None:
    rig = Rig.make()
    rig.model.stuck |= {"pump_1", "pump_2", "pump_3"}
    rig.step()
    rig.step("start")
    rig.run_until("COOLDOWN", 60)
    rig.model.log.clear()
    rig.run(60)
    assert not [entry for entry in rig.model.log if entry[2] is True]


def test_unreadable_outlets_stop_no_water() -> None:
    """The network of the PDUs is down after a restart, and somebody orders a start."""
    rig = Rig.make().running()
    unread(rig, pdus(rig))
    before = running(rig, *PUMPS, *WATER)
    rig.model.log.clear()
    again = Rig.make(rig.engine.saved(), rig.model)
    again.run(6)
    again.step("start")
    again.run(60)
    assert running(again, *PUMPS, *WATER) == before
    assert not [entry for entry in again.model.log if entry[2] is False]
    again.model.lost.clear()
    again.run_until("NORMAL", 10)


def test_a_rack_switched_on_by_hand_is_cooled_or_taken_off() -> None:
    rig = Rig.make().running()
    rig.step("stop")
    rig.run_until("OFF", 1900)
    rig.run(30)
    rig.model.values["pdu_3a.outlet_1"] = True
    rig.run(20)
    flow = rig.model.values[rig.model.plan.pod.tcs.flow]
    assert not rig.model.values["pdu_3a.outlet_1"] or float(flow) > 300
    assert rig.mode != "OFF"


def test_a_dip_of_flow_while_racks_go_on_leaves_none_behind() -> None:
    rig = Rig.make()
    rig.step()
    rig.step("start")
    rig.run_until("STARTUP.energise", 300)
    rig.run(12)
    rig.model.flow_factor = 0.5
    rig.run_until(modes.COOLING_LOST, 10)
    rig.model.flow_factor = 1.0
    rig.run_until("NORMAL", 120)
    rig.run(5)
    assert len(on(rig)) == 64


def test_racks_that_are_off_in_normal_are_told_and_can_be_put_on() -> None:
    rig = Rig.make().running()
    rig.model.values |= {"pdu_5a.outlet_1": False, "pdu_5a.outlet_2": False}
    rig.run(70)
    assert "pod_racks_off" in rig.alarms()
    rig.step("energise")
    rig.run_until("NORMAL", 60)
    assert len(on(rig)) == 64


def test_a_load_step_is_no_loss_of_cooling() -> None:
    rig = Rig.make().running()
    rig.model.rack_kw = 13.0
    rig.run(200)
    rig.model.rack_kw = 130.0
    seen = set()
    for _ in range(150):
        rig.step()
        seen.add(rig.mode)
    assert seen == {"NORMAL"}


def test_after_an_emergency_off_nothing_runs_up_by_itself() -> None:
    rig = Rig.make().running()
    rig.model.values["io_1.epo"] = True
    rig.run(30)
    assert not on(rig)
    for name in (*PUMPS, *WATER):
        rig.model.values[f"{name}.run_cmd"] = False
        rig.model.commanded[name] = (False, rig.model.now)
    rig.run(5)
    rig.model.values["io_1.epo"] = False
    rig.run(2)
    rig.model.log.clear()
    rig.step("reset")
    rig.run(30)
    assert not [entry for entry in rig.model.log if entry[2] is True]


def test_stop_takes_racks_off_one_after_another_highest_tier_first() -> None:
    rig = Rig.make().running()
    rig.model.log.clear()
    rig.step("stop")
    rig.run(60)
    off = [
        (at, point.split(".")[0][:5]) for at, point, value in rig.model.log if ".outlet_" in point and value is False
    ]
    order = list(dict.fromkeys(rack for _, rack in off))
    assert len(order) == 8
    assert order[-2:] == ["pdu_2", "pdu_1"]
    first, last = off[0][0], off[-1][0]
    assert last - first >= 7 * rig.model.plan.pod.power.rack_stagger_s - 1


def test_smoke_and_blind_leak_zones_are_told() -> None:
    rig = Rig.make().running()
    rig.model.values |= {"io_1.smoke": True, "leak_1.zone_4_cable_break": True}
    rig.run(15)
    assert {"io_1_smoke", "leak_1_zone_4_cable_break"} <= rig.alarms()


def test_a_lost_water_bus_stops_no_chiller() -> None:
    rig = Rig.make().running()
    rig.run(rig.model.plan.pod.fws.chiller_min_on_s + 10)
    rig.model.log.clear()
    rig.model.lost |= {"fws_pump_1", "fws_pump_2", "leak_1"}
    rig.run(60)
    assert rig.mode == "NORMAL"
    assert not [entry for entry in rig.model.log if entry[2] is False]


def test_a_failed_water_pump_is_replaced_and_no_chiller_is_stopped_meanwhile() -> None:
    rig = Rig.make().running()
    rig.run(rig.model.plan.pod.fws.chiller_min_on_s + 10)
    rig.model.log.clear()
    duty = next(name for name in ("fws_pump_1", "fws_pump_2") if rig.model.values[f"{name}.running"])
    rig.model.stuck.add(duty)
    rig.run(30)
    standby = ({"fws_pump_1", "fws_pump_2"} - {duty}).pop()
    assert rig.model.values[f"{standby}.running"] is True
    assert not [entry for entry in rig.model.log if entry[2] is False and entry[1].startswith("chiller")]


def test_the_last_water_pump_is_not_told_to_stop_though_it_has_failed() -> None:
    rig = Rig.make().running()
    rig.model.log.clear()
    rig.model.stuck |= {"fws_pump_1", "fws_pump_2"}
    rig.run(30)
    stops = [entry for entry in rig.model.log if entry[1].startswith("fws_pump") and entry[2] is False]
    left = [name for name in ("fws_pump_1", "fws_pump_2") if rig.model.values[f"{name}.run_cmd"] is True]
    assert left, stops
    rig.model.stuck.clear()
    rig.run(10)
    assert any(rig.model.values[f"{name}.running"] is True for name in left)


def test_no_chiller_starts_without_water() -> None:
    rig = Rig.make()
    rig.model.stuck |= {"fws_pump_1", "fws_pump_2"}
    rig.step()
    rig.step("start")
    rig.run_until("STARTUP.primary_start", 60)
    rig.run(30)
    assert not [entry for entry in rig.model.log if entry[1].startswith("chiller") and entry[2] is True]
