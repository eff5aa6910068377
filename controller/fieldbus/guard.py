"""What a tool may ask of a bus that the service runs, and which points no lease may pause. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from controller.config.plan import BusPlan, DevicePlan
from controller.config.profile import CLASS_POINTS
from controller.core.pod import Pod, outputs
from controller.fieldbus.frames import READ_FUNCTIONS, Request

TABLES = {function: table for table, function in READ_FUNCTIONS.items()} | {5: "coil", 6: "holding", 16: "holding"}
WRITING_MODES = ("OFF", "MAINTENANCE")


def objection(bus: BusPlan, request: Request, mode: str, owned: frozenset[str]) -> str:
    """Return why a tool may not send ``request`` now, or nothing.

    Args:
        mode: of the pod.
        owned: points that the gate writes.
    """
    if bus.settings.serial and not 1 <= request.unit <= 247:
        return "allowed on a serial line: units 1 to 247; 0 would reach every device at once"
    device = next((device for device in bus.devices if device.unit == request.unit), None)
    first = int.from_bytes(request.pdu[1:3], "big")
    table = TABLES[request.function]
    if request.count:
        return _read_objection(device, table, first, first + request.count)
    end = first + (int.from_bytes(request.pdu[3:5], "big") if request.function == 16 else 1)
    return _write_objection(device, table, first, end, mode, owned)


def _read_objection(device: DevicePlan | None, table: str, first: int, end: int) -> str:
    if device is None or table not in ("holding", "input"):
        return ""
    for start, last in device.profile.link.forbidden:
        if first <= last and start < end:
            return f"the profile {device.profile.name} forbids to read {start} to {last}"
    return ""


def _write_objection(
    device: DevicePlan | None, table: str, first: int, end: int, mode: str, owned: frozenset[str]
) -> str:
    points = device.points if device else ()
    touched = [
        p for p in points if p.row.table == table and p.row.address < end and first < p.row.address + p.row.width
    ]
    for plan in touched:
        if plan.point.id in owned:
            return f"{plan.point.id} is an output of the control, which would write it again; ask the console instead"
    exact = [p for p in touched if p.row.access != "r" and (p.row.address, p.row.value_words) == (first, end - first)]
    if not exact:
        return "only registers of writable points are written"
    if mode not in WRITING_MODES:
        return (
            f"the pod is in {mode or 'no mode yet'}; points are written by hand in {' and '.join(WRITING_MODES)} only"
        )
    return ""


def owned_points(pod: Pod) -> frozenset[str]:
    """Return the points that the gate writes."""
    return frozenset(output.point for output in outputs(pod))


def needed_points(pod: Pod) -> frozenset[str]:
    """Return the points that control, interlocks and alarms rest on: roles, and what a class promises of a device."""
    needed = set(owned_points(pod)) | {item.point for item in pod.expected}
    tables: tuple[Any, ...] = (pod.tcs, pod.fws, pod.room, pod.cooling, pod.power, pod.protection, *pod.racks)
    for name in (text for table in tables for text in _texts(dataclasses.asdict(table))):
        if name in pod.points:
            needed.add(name)
        needed |= {f"{name}.{point}" for point in CLASS_POINTS.get(pod.device_class.get(name, ""), ())}
    return frozenset(needed & set(pod.points))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
