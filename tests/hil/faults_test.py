"""The catalogue of faults: complete, well-formed, undone without a trace, and clear about what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config.plan import Plan, load_plan
from hil import faults
from hil.faults import FaultError
from hil.runner import REFERENCE_POD
from hil.virtual import VirtualStage, virtual_plan
from hil.wire import faults as wire_faults

OUTSIDE = ("water.lost", "water.warm")  # of a pod without facility pumps of its own: tests/hil/enclosures_test.py
HANDS = ("controller.killed", "clock.jump", "device.reboot", "load.crash")  # undone by time, or not at all
PARTS = {
    "pump", "valve", "chiller", "strainer", "exchanger", "leak", "makeup", "dry_cooler", "doors", "room", "weather",
    "feed", "grid", "generator", "battery", "branch", "rack", "cluster", "load", "sensor", "device", "point", "wire",
    "controller", "broker", "clock", "bms", "water",
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return virtual_plan(load_plan(REFERENCE_POD))


@pytest.fixture(scope="module")
def stage(plan: Plan) -> VirtualStage:
    made = VirtualStage(plan)
    made.plant.jobs.profile = "manual"  # the count-down to a job's next phase begins anew with every change of profile
    made.controller(True)
    made.advance(1.0)
    return made


def test_rows_are_well_formed() -> None:
    for fault in faults.catalogue():
        part, _, what = fault.name.partition(".")
        assert part in PARTS
        assert what
        assert fault.kind in faults.TARGETS
        assert 4 < len(fault.text) < 80
        if fault.choices:
            assert fault.default in fault.choices
        elif fault.unit:
            assert isinstance(fault.default, float | int)
            assert fault.low <= float(fault.default) <= fault.high
        else:
            assert fault.default is None
    assert {fault.name.partition(".")[0] for fault in faults.catalogue()} == PARTS


def test_every_fault_has_targets_on_the_reference_pod(stage: VirtualStage) -> None:
    for fault in faults.catalogue():
        if fault.kind in ("sensor", "branch", "feed", "water"):
            continue
        assert faults.targets(fault, stage), fault.name


def everything(stage: VirtualStage) -> dict[str, object]:
    """Return what a fault may move: the plant's numbers, its jobs, buses and devices."""
    found: dict[str, object] = {"plant": stage.plant.x.tobytes(), "wall": stage.wall_offset_s}
    found["profile"] = stage.plant.jobs.profile
    found |= {f"bus {name}": (bus.unplugged, bus.lost_share) for name, bus in stage.buses.items()}
    for name, emulator in stage.emulators.items():
        found[name] = (wire_faults.active(emulator.faults), dict(emulator.forced), emulator.spoilt_points)
    return found


@pytest.mark.parametrize(
    "fault", [f for f in faults.catalogue() if f.virtual and f.name not in HANDS + OUTSIDE], ids=lambda f: f.name
)
def test_fault_acts_and_is_undone_without_a_trace(stage: VirtualStage, fault: faults.Fault) -> None:
    target = next(iter(faults.targets(fault, stage)))
    if fault.kind == "point":
        target = "io_1.supply_temp_1"
    before = everything(stage)
    stage.inject(fault.name, target)
    assert everything(stage) != before, "nothing happened"
    assert stage.heal(fault.name, target) == 1
    assert everything(stage) == before
    assert not stage.active


def test_what_is_not_allowed_is_told(stage: VirtualStage) -> None:
    for name, target, value, told in (
        ("pump.explode", "pump_1", None, r"no fault 'pump.explode'; there are: pump.trip, pump.dip"),
        ("nonsense", "", None, r"there are: pump.trip, .*bms.poison"),
        ("pump.trip", "pump_9", None, r"no pump 'pump_9'; allowed: pump_1, pump_2, pump_3, fws_pump_1"),
        ("pump.trip", "pump_1", 3.0, "takes no value"),
        ("load.step", "pod", 7.0, "allowed: 0 to 1.5 share"),
        ("load.step", "pod", True, "allowed: 0 to 1.5 share"),
        ("point.garbage", "io_1.tcs_flow", "zebra", "allowed: ffff, 8000"),
        ("broker.down", "pod", None, "can't be made in virtual time; allowed there: pump.trip"),
    ):
        with pytest.raises(FaultError, match=told):
            stage.inject(name, target, value)
    assert not stage.active


def test_one_more_takes_the_place_of_what_is_there(stage: VirtualStage) -> None:
    loads = [rack.load for rack in stage.plant.racks]
    stage.inject("load.step", "", 0.2)
    stage.inject("load.step", "pod", 0.9)
    assert [rack.load for rack in stage.plant.racks] == [0.9] * len(loads)
    assert len(stage.active) == 1
    assert stage.heal() == 1
    assert [rack.load for rack in stage.plant.racks] == loads
    assert [(entry["value"], entry["until"] is None) for entry in stage.log[-2:]] == [(0.2, False), (0.9, False)]


def test_catalogue_of_a_body_leaves_out_what_it_can_not_do(stage: VirtualStage) -> None:
    names = {fault.name for fault in stage.catalogue()}
    assert "broker.down" not in names
    assert {"pump.trip", "wire.crc_noise", "controller.killed", "sensor.stuck"} <= names
    assert names < {fault.name for fault in faults.catalogue()}


def test_names_in_scenarios_are_names_of_the_catalogue(tmp_path: Path) -> None:
    from hil.scenarios.model import every

    used = {event.fault for scenario in every() for event in scenario.event}
    assert used <= {fault.name for fault in faults.catalogue()}
