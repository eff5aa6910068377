"""What a tool may ask beside the running service, and what no lease pauses, on the reference pod."""

from __future__ import annotations

import pytest

from controller.config.plan import BusPlan, DevicePlan, Plan, PointPlan, load_plan
from controller.fieldbus import frames
from controller.fieldbus.frames import Request, parsed
from controller.fieldbus.guard import needed_points, objection, owned_points
from hil.runner import REFERENCE_POD


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(REFERENCE_POD)


def found(plan: Plan, name: str) -> tuple[BusPlan, DevicePlan, PointPlan]:
    bus, device = next((b, d) for b in plan.buses for d in b.devices if d.name == name.partition(".")[0])
    return bus, device, next(p for p in device.points if p.point.id == name)


def judged(plan: Plan, name: str, mode: str) -> str:
    bus, device, point = found(plan, name)
    words = [1] * point.row.value_words
    return objection(
        bus, frames.write(device.unit, point.row.table, point.row.address, words), mode, owned_points(plan.pod)
    )


def free_point(plan: Plan) -> str:
    owned = owned_points(plan.pod)
    addresses = {(p.row.table, p.row.address) for d in plan.devices for p in d.points if p.point.id in owned}
    points = (p for d in plan.devices for p in d.points if p.row.access == "rw" and p.row.table == "holding")
    return next(p.point.id for p in points if (p.row.table, p.row.address) not in addresses)


@pytest.mark.parametrize("mode", ["OFF", "MAINTENANCE", "NORMAL"])
def test_what_the_gate_writes_no_tool_writes(plan: Plan, mode: str) -> None:
    for name in sorted(owned_points(plan.pod)):
        assert "output of the control" in judged(plan, name, mode), name


def test_other_points_are_written_in_off_and_maintenance_only(plan: Plan) -> None:
    name = free_point(plan)
    assert judged(plan, name, "OFF") == judged(plan, name, "MAINTENANCE") == ""
    for mode in ("NORMAL", "STARTUP.fill", "FAULT.tripped", "COOLDOWN", ""):
        assert "in OFF and MAINTENANCE only" in judged(plan, name, mode)


def test_only_whole_registers_of_writable_points_are_written(plan: Plan) -> None:
    bus, device, _ = found(plan, "pump_1.run_cmd")
    for request in (
        frames.write(device.unit, "holding", 7, [1]),  # nobody knows it
        frames.write(device.unit, "coil", 7, [1]),
        frames.write(99, "holding", 7, [1]),  # a unit of which nothing is known
    ):
        assert objection(bus, request, "OFF", frozenset()) == "only registers of writable points are written"
    name = free_point(plan)
    bus, device, point = found(plan, name)
    wider = frames.write(device.unit, "holding", point.row.address, [0] * (point.row.value_words + 1))
    assert objection(bus, wider, "OFF", frozenset())


def test_a_write_that_covers_an_output_is_refused_whatever_else_it_covers(plan: Plan) -> None:
    bus, device, point = found(plan, "pump_1.run_cmd")
    request = frames.write(device.unit, "holding", point.row.address - 3, [0] * 20)
    assert "output of the control" in objection(bus, request, "OFF", owned_points(plan.pod))


def test_broadcasts_and_forbidden_registers_are_left_alone(plan: Plan) -> None:
    bus, device, _ = found(plan, "pump_1.run_cmd")
    assert "units 1 to 247" in objection(bus, frames.read(0, "holding", 0, 1), "OFF", frozenset())
    link = device.profile.link.model_copy(update={"forbidden": [[10, 20]]})
    device.profile.link, kept = link, device.profile.link
    try:
        for first, count, refused in ((0, 10, False), (0, 11, True), (20, 1, True), (21, 5, False)):
            why = objection(bus, frames.read(device.unit, "holding", first, count), "OFF", frozenset())
            assert bool(why) is refused, (first, count)
        assert not objection(bus, frames.read(device.unit, "coil", 10, 1), "OFF", frozenset())
    finally:
        device.profile.link = kept


def test_what_control_rests_on_is_needed(plan: Plan) -> None:
    needed, pod = needed_points(plan.pod), plan.pod
    assert owned_points(pod) <= needed
    assert {pod.tcs.flow, *pod.tcs.supply_temps, *pod.room.humidities, *pod.protection.watched} <= needed
    assert {f"{pump}.{name}" for pump in pod.tcs.pumps for name in ("running", "fault", "speed")} <= needed
    assert {point for rack in pod.racks for point in (*rack.leak, *rack.outlets)} <= needed
    assert {item.point for item in pod.expected} <= needed
    assert len(needed) < len(pod.points)


@pytest.mark.parametrize(
    "request_",
    [
        frames.read(1, "coil", 65535, 1),
        frames.read(1, "discrete", 0, 2000),
        frames.read(1, "holding", 3, 125),
        frames.read(1, "input", 3, 5),
        frames.write(1, "coil", 3, [1]),
        frames.write(1, "coil", 3, [0]),
        frames.write(1, "holding", 3, [5]),
        frames.write(1, "holding", 3, [5], multiple=True),
        frames.write(1, "holding", 3, [5] * 123),
    ],
)
def test_a_request_is_known_by_its_bytes(request_: Request) -> None:
    assert parsed(1, request_.pdu) == request_


@pytest.mark.parametrize(
    "pdu",
    [
        "", "03", "0300000001ff", "0300000000", "030000007e", "03ffff0002", "01000007d1", "0500010100", "05000100",
        "0600", "08000400 00", "2b0e0100", "1000000001", "100000000102", "10000000010300010203", "10ffff00020400010002",
        "17000000010000000102ffff",
    ],
)  # fmt: skip
def test_other_bytes_are_no_request(pdu: str) -> None:
    with pytest.raises(ValueError, match="allowed: reads by functions 1 to 4"):
        parsed(1, bytes.fromhex(pdu))
