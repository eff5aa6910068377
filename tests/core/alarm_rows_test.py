"""The alarms of a small pod, row by row: what comes when, after what delay, kept quiet by what; and their words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from controller.core.alarm_load import Priority
from controller.core.alarm_rows import LINK_CAUSES, REALARM_S, Equipment, LinkCause, standard_rows
from controller.core.alarm_states import AlarmRow, Test

HOUR = 3600.0
SMALL = Equipment(
    device_bus={"pump_1": "cooling", "io_1": "inputs", "leak_1": "inputs"},
    device_class={"pump_1": "pump", "io_1": "remote_io", "leak_1": "leak_detector"},
    flags=frozenset(("pump_1.fault", "leak_1.fault")),
    expected=(("pump_1.comm_loss_time", 9.0),),
    written=("pump_1",),
    pumps=("pump_1",),
    leaks=("leak_1.wet",),
    watched=("io_1.smoke",),
    epo="io_1.epo",
    level_ok="io_1.level_ok",
    sources={
        "supply_temp": ("io_1.warm", "pump_1.warm"), "flow": ("io_1.flow",), "it_power": ("pump_1.power",),
        "dew_point": ("io_1.damp",),
    },
    links={"bms": "link_bms"},
    told_by=("pod.dip",),
)  # fmt: skip


def row(name: str, point: str, test: Test, priority: Priority, **more: Any) -> AlarmRow:
    return AlarmRow(name, point, test, "", priority, "", "", **more)


ROWS = [
    row("cooling_lost", "cooling.online", "off", "high", on_delay_s=1.0, group="bus cooling"),
    row("inputs_lost", "inputs.online", "off", "high", on_delay_s=1.0, group="bus inputs"),
    row("pump_1_silent", "pump_1.comms", "off", "medium",
        on_delay_s=3.0, unless=("cooling.lost",), group="bus cooling"),
    row("io_1_silent", "io_1.comms", "off", "medium", on_delay_s=3.0, unless=("inputs.lost",), group="bus inputs"),
    row("leak_1_silent", "leak_1.comms", "off", "medium", on_delay_s=3.0, unless=("inputs.lost",), group="bus inputs"),
    row("pump_1_write_fault", "pump_1.write_fault", "on", "high"),
    row("pump_1_comm_loss_time_differs", "pump_1.comm_loss_time", "differs", "high", limit=9.0, on_delay_s=1.0),
    row("pump_1_fault", "pump_1.fault", "on", "high", on_delay_s=0.5, group="cooling"),
    row("pump_1_failed", "pump_1.failed", "on", "high",
        on_delay_s=1.5, unless=("pump_1.fault", "pod.dip"), group="cooling"),
    row("leak_1_wet", "leak_1.wet", "on", "critical",
        on_delay_s=1.0, safety=True, latched=True, realarm_s=HOUR, group="leak"),
    row("io_1_smoke", "io_1.smoke", "on", "high", on_delay_s=5.0, safety=True),
    row("leak_1_blind", "leak_1.fault", "on", "high", on_delay_s=10.0, safety=True),
    row("pod_flow_low", "pod.flow_ratio", "below", "critical",
        limit=90.0, hysteresis=5.0, on_delay_s=5.0, safety=True, realarm_s=HOUR, further=60.0, group="cooling"),
    row("pod_supply_temp_high", "pod.supply_temp_error", "above", "high",
        limit=2.0, hysteresis=1.0, on_delay_s=60.0, further=4.0, group="cooling"),
    row("pod_supply_temp_lost", "pod.supply_temp", "unusable", "critical",
        on_delay_s=3.0, unless=("cooling.lost", "inputs.lost"), realarm_s=HOUR, group="cooling"),
    row("pod_flow_lost", "pod.flow", "unusable", "high", on_delay_s=3.0, unless=("inputs.lost",)),
    row("pod_power_lost", "pod.it_power", "unusable", "medium", on_delay_s=10.0, unless=("cooling.lost",)),
    row("pod_dew_margin_low", "pod.dew_margin", "below", "high", limit=2.0, hysteresis=0.8, on_delay_s=60.0),
    row("pod_dew_point_lost", "pod.dew_point", "unusable", "medium", on_delay_s=10.0, unless=("inputs.lost",)),
    row("pod_racks_off", "pod.racks_off", "above", "medium", limit=0.5, on_delay_s=60.0),
    row("pod_level_low", "io_1.level_ok", "off", "critical",
        on_delay_s=5.0, safety=True, realarm_s=HOUR, group="leak"),
    row("pod_epo", "io_1.epo", "on", "critical", safety=True, realarm_s=HOUR),
    row("link_bms_unreachable", "link_bms.unreachable", "on", "medium", on_delay_s=30.0),
    row("link_bms_certificate", "link_bms.certificate", "on", "medium", on_delay_s=5.0),
    row("link_bms_clock", "link_bms.clock", "on", "medium", on_delay_s=5.0),
    row("link_bms_credentials", "link_bms.credentials", "on", "medium", on_delay_s=5.0),
    row("link_bms_refused", "link_bms.refused", "on", "medium", on_delay_s=5.0),
    row("link_bms_taken_over", "link_bms.taken_over", "on", "high", off_delay_s=120.0),
    row("link_bms_denied", "link_bms.denied", "on", "high", on_delay_s=5.0),
    row("link_bms_losing", "link_bms.recent_lost", "above", "medium", limit=0.5),
    row("link_bms_outbox_failing", "link_bms.outbox_failing", "on", "high", on_delay_s=2.0),
    row("controller_store_failing", "controller.store_failing", "on", "high", on_delay_s=2.0),
    row("controller_late", "controller.late_scans", "above", "medium", limit=0.5),
    row("controller_edge_failed", "controller.recent_edge_faults", "above", "high", limit=0.5),
    row("pod_alarm_flood", "pod.alarm_flood", "on", "low", off_delay_s=0.0),
    row("pod_alarm_chattering", "pod.alarms_chattering", "above", "low", limit=0.5),
]  # fmt: skip


def test_each_row_comes_and_goes_as_it_was_rationalised() -> None:
    """Causes stand before what they cause: in one scan the first of a group is the first-out."""
    found = [dataclasses.replace(row, title="", consequence="", action="") for row in standard_rows(SMALL)]
    for each, wanted in zip(found, ROWS, strict=True):
        assert each == wanted
    assert REALARM_S == HOUR


def test_a_pod_without_links_and_leaks_has_no_alarms_of_them() -> None:
    few = dataclasses.replace(SMALL, leaks=(), watched=(), flags=frozenset(), links={}, device_class={"pump_1": "pump"})
    ids = {row.id for row in standard_rows(few)}
    assert {row.id for row in ROWS} - ids == {
        "pump_1_fault", "leak_1_wet", "io_1_smoke", "leak_1_blind", *(row.id for row in ROWS if "link" in row.id),
    }  # fmt: skip
    plain = Equipment({}, {}, frozenset(), (), (), (), (), (), "", "", {})
    assert (plain.links, plain.told_by) == ({}, ())


def test_a_leak_detector_that_is_at_fault_is_blind_and_not_one_machine_less() -> None:
    assert {row.id: row.safety for row in standard_rows(SMALL) if row.point == "leak_1.fault"} == {"leak_1_blind": True}


def test_what_is_derived_hangs_on_the_buses_of_its_sources() -> None:
    assert SMALL.causes("supply_temp") == ("cooling.lost", "inputs.lost")
    assert SMALL.causes("flow") == ("inputs.lost",)
    with pytest.raises(KeyError):
        SMALL.causes("nothing")


def test_equipment_and_causes_can_not_be_changed_by_others() -> None:
    for each, name in ((SMALL, "epo"), (LINK_CAUSES[0], "flag")):
        assert not hasattr(each, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(each, name, "other")
    usual = LinkCause("f", "t", "a")
    assert (usual.priority, usual.on_delay_s, usual.off_delay_s) == ("medium", 5.0, 1.0)


def test_what_a_person_reads_is_what_the_documents_tell() -> None:
    """docs/alarms.md puts {device} and {bus} for names, so a pod whose names are these reads as the document does."""
    device = "{device}"
    told = (Path(__file__).parents[2] / "docs/alarms.md").read_text()
    for sort in ("pump", "leak_detector"):
        as_told = dataclasses.replace(
            SMALL, device_bus={device: "{bus}"}, device_class={device: sort}, flags=frozenset((f"{device}.fault",)),
            expected=((f"{device}.comm_loss_time", 15.0),), written=(device,), pumps=(device,),
            leaks=(f"{device}.leak",), watched=(f"{device}.smoke",), links={"native": "link_native"},
            sources=dict.fromkeys(SMALL.sources, (f"{device}.x",)),
        )  # fmt: skip
        rows = standard_rows(as_told)
        assert len(rows) == len(ROWS) - 4, "one bus, and one device that is silent or at fault"
        for each in rows:
            assert f"| {each.title}. {each.consequence} | {each.action} |" in told, each.id
