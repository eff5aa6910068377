"""Every row of every class of fault: what makes it act, when, what it asks, how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from controller.core.interlocks import Tier
from controller.core.pod import interlock_rows
from controller.core.points import Value
from controller.core.sequences import RunState
from tests.core.model import reference_plan
from tests.core.protection_rig import SCAN_S, ProtectionRig

RATED_KW = 1040.0
CLASSES = {
    "PUMP_FAIL", "LOW_FLOW", "TS_HIGH", "TS_LOW", "PRIMARY_LOST", "CHILLER_FAIL", "LEAK_SUSPECT", "LEAK_CONFIRMED",
    "LEAK_MAJOR", "LEAK_SENSOR_FAULT", "SENSOR_FAULT", "LEVEL_LOW", "PRESS_HIGH", "FILTER_DIRTY", "VALVE_FAULT",
    "DEVICE_COMMS", "BMS_LOST", "POWER_PHASE", "MAINS_LOST", "EPO", "CTRL_FAULT", "AIR_HIGH",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row: what is changed in a healthy pod, and what it then asks; ``cap_kw`` is the lowest of its limits."""

    row: str
    changes: dict[str, Value | None]
    asks: tuple[str, ...] = ()
    cap_kw: float | None = None
    makes: Callable[[ProtectionRig], None] | None = None
    extra_s: float = 0.0  # how long the evidence itself needs


def failed(rig: ProtectionRig) -> None:
    rig.pumps[0].state = RunState.FAILED


def silent(rig: ProtectionRig) -> None:
    for pump in rig.pumps:
        pump.state = RunState.UNKNOWN


def chiller_failed(rig: ProtectionRig) -> None:
    rig.chillers[0].state = RunState.FAILED


STOPPED: dict[str, Value | None] = {f"pump_{n}.running": False for n in (1, 2, 3)}
PHASES = ("pdu_6a.phase_1_current", "pdu_6a.phase_2_current", "pdu_6a.phase_3_current")
UNKNOWN: dict[str, Value | None] = {"pod.supply_temp": None, "pod.supply_temp_error": None}
CASES = [
    Case("epo", {"io_1.epo": True}),
    Case("leak_blind", {"leak_1.fault": True}),
    Case("wet_rack_4", {"leak_1.zone_5_leak": True}),
    Case("leak_rack_4", {"leak_1.zone_5_leak": True}),
    Case("level_low", {"io_1.reservoir_level": 30.0}, ("hold_on",)),
    Case("level_out", {"io_1.reservoir_level": 15.0, "io_1.reservoir_level_ok": False}),
    Case("level_dry", {"io_1.reservoir_level": 5.0, "io_1.reservoir_level_ok": False}, ("pumps_off",)),
    Case("suction_pressure_low", {"io_1.suction_pressure": 20.0}),
    Case(
        "suction_pressure_lost", {"io_1.suction_pressure": 5.0, "pod.flow_ratio": 92.0}, ("pumps_eased",),
        0.6 * RATED_KW,
    ),
    Case("discharge_pressure_eased", {"io_1.discharge_pressure": 500.0}, ("pumps_eased",)),
    Case("discharge_pressure_high", {"io_1.discharge_pressure": 550.0}, ("pumps_eased", "hold_on")),
    Case("pump_lost", {}, (), None, failed),
    Case("pump_short", {"pod.flow_ratio": 88.0}, ("pumps_full",), 0.88 * RATED_KW, failed),
    Case("pumps_stopped", STOPPED, ("pumps_full", "pumps_restart"), 0.4 * RATED_KW),
    Case("pumps_lost", STOPPED, ("pumps_full",), 0.4 * RATED_KW),
    Case("pumps_silent", {}, ("hold_on",), RATED_KW, silent),
    Case("flow_low", {"pod.flow_ratio": 84.0}, ("pumps_full",)),
    Case("cooling_lost", {"pod.flow_ratio": 55.0}, ("pumps_full",), 0.4 * RATED_KW),
    Case("flow_lost", {"pod.flow_ratio": 25.0}, ("pumps_full",), 0.4 * RATED_KW),
    Case("flow_rack_3", {"rack_3.flow_share": 20.0, "rack_3.chip_temp": 99.0}),
    Case("supply_warm", {"pod.supply_temp_error": 2.5}, ("flow_high",)),
    Case("supply_over", {"pod.supply_temp_error": 4.5}, ("flow_high",), (100 - 15 * 2.5) / 100 * RATED_KW),
    Case("supply_hot", {"pod.supply_temp": 45.5}, ("flow_high",)),
    Case("return_warm", {"pod.return_temp": 53.0}, ("flow_high",), 0.85 * RATED_KW),
    Case("return_hot", {"pod.return_temp": 58.5}, ("flow_high",)),
    Case("dew_close", {"pod.dew_margin": 1.0}, ("valve_shut", "hold_on")),
    Case("dew_wet", {"pod.dew_margin": -1.5}, ("valve_shut", "stop")),
    Case("air_warm", {"room_2.temperature": 36.0}),
    Case("air_high", {"room_2.temperature": 41.0}, ("shed",), 0.6 * RATED_KW),
    Case("air_hot", {"room_2.temperature": 46.0}, ("shed",)),
    Case("facility_water_lost", {"io_1.fws_flow": 100.0}, ("flow_high",)),
    Case("facility_water_gone", {"io_1.fws_flow": 100.0}, ("flow_high",), 0.2 * RATED_KW),
    Case("chiller_lost", {}, (), None, chiller_failed),
    Case("valve_stuck", {"hx_valve.fault": True}),
    Case("supply_unknown", UNKNOWN, ("pumps_full",), 0.7 * RATED_KW),
    Case("loop_unknown", UNKNOWN | {"pod.return_temp": None}, ("pumps_full", "stop"), 0.7 * RATED_KW),
    Case("pdu_6a_load_high", dict.fromkeys(PHASES, 165.0), ("hold_on",)),
    Case("pdu_6a_overload", dict.fromkeys(PHASES, 260.0)),
    Case("pdu_6a_shed", dict.fromkeys(PHASES, 300.0), extra_s=160.0),
    Case("feed_lost", {"meter_a.power": 0.0, "meter_b.power": 1040.0}, ("hold_on",)),
    Case("battery_low", {"battery_1.soc": 44.0}),
    Case("battery_reserve", {"battery_1.soc": 34.0}, ("shed",), 0.6 * RATED_KW),
    Case("battery_end", {"battery_1.soc": 14.0}, ("stop", "shed")),
    Case("bms_lost", {"link_native.connected": False}),
    Case("scan_late", {"controller.late_scans": 1.0}),
    Case("scan_failing", {"controller.late_scans": 5.0}, ("pumps_full", "hold_on"), RATED_KW),
]  # fmt: skip
SEEN_OVER_TIME = {  # rows whose evidence takes a course of values: tests of their own below or beside
    "level_falling", "leak_major", "leak_sure_rack_4", "burst_rack_4", "isolate_rack_4", "isolate_power_rack_4",
    "no_flow_pump_1", "strainer_clogged",
}  # fmt: skip


def kind(row: str) -> str:
    """Return a row's id without the number of its rack, pump or power unit."""
    return re.sub(r"_(rack|pump)_\d+$", r"_\1", re.sub(r"^pdu_\d[ab]_", "pdu_", row))


def test_every_row_has_a_case() -> None:
    wanted = {kind(row.id) for row in interlock_rows(reference_plan().pod)}
    assert {kind(case.row) for case in CASES} | {kind(row) for row in SEEN_OVER_TIME} == wanted


def test_every_class_of_fault_has_rows_in_order_of_severity() -> None:
    rows = interlock_rows(reference_plan().pod)
    assert {row.fault for row in rows} == CLASSES
    for row in rows:
        assert row.actions, row.id
        assert row.trip == (row.tier is Tier.TRIP), row.id
        assert not (row.trip and row.does("pumps_off") and not row.does("racks_off")), row.id
        assert bool(row.consequence) == bool(row.remedy), row.id


def test_ids_of_rows_and_alarms_are_unique() -> None:
    from controller.core.pod import alarm_rows

    pod = reference_plan().pod
    for ids in ([row.id for row in interlock_rows(pod)], [row.id for row in alarm_rows(pod)]):
        assert len(ids) == len(set(ids))


def test_a_healthy_pod_is_left_alone() -> None:
    rig = ProtectionRig()
    rig.run(30)
    assert not rig.acting
    assert rig.response.limits == ()
    assert not [name for name, holds in rig.conditions.items() if holds]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
def test_row_acts(case: Case) -> None:
    """It acts after its delay and not before, asks what it should, and a trip stays until reset."""
    rig = ProtectionRig()
    rig.run(2)
    rig.values |= case.changes
    if case.makes:
        case.makes(rig)
    row = rig.rows[case.row]
    delay_s = row.delay_s + (row.meltdown_s or 0.0)
    took = rig.acts_after(case.row, delay_s + case.extra_s + 2 * SCAN_S)
    assert case.extra_s or took >= delay_s - SCAN_S
    for name in case.asks:
        assert getattr(rig.response, name), name
    if case.cap_kw is not None:
        assert min(limit.kw for limit in rig.response.limits) == pytest.approx(case.cap_kw)
    fresh = ProtectionRig()
    rig.values = fresh.values
    for mine, other in zip((*rig.pumps, *rig.chillers), (*fresh.pumps, *fresh.chillers), strict=True):
        mine.state = other.state
    rig.run(min(row.clear_s, 600.0) + 300.0 * (row.device != "") + 2.0)
    assert (case.row in rig.interlocks.acting) is row.trip
    rig.step(reset=True)
    assert case.row not in rig.interlocks.acting


@pytest.mark.parametrize("case", [case for case in CASES if case.changes], ids=lambda case: case.row)
def test_values_that_cannot_be_trusted_trip_nothing(case: Case) -> None:
    """Unknown is no evidence; but what control goes by may limit, and two unknown temperatures shut down in order."""
    if case.row in ("supply_unknown", "loop_unknown"):
        return
    rig = ProtectionRig()
    rig.values |= dict.fromkeys(case.changes, None)
    rig.run(40)
    assert not [row.id for row in rig.acting if row.trip and row.id != "loop_unknown"]
