"""Buses made up for measuring: plans as the configuration would build them, and what every register holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.config.enclosure import Bus, NativeSettings
from controller.config.plan import BusPlan, DevicePlan, Plan, PointPlan, load_plan
from controller.config.profile import Profile, ProfileTables, Row
from controller.core.points import Point
from hil.runner import REFERENCE_POD
from hil.wire.tcp import LOOPBACK

SATURATED_S = 1e-6  # a poll period that is always over: the worker has something to read all the time
MAX_AGE_S = 3600.0
WRITE_BUDGET_MS = 5000  # spans are as long as the device bears, whatever waits meanwhile
STILL = 0xFFF0  # the bits of a moving register that stay


def word(unit: int, address: int) -> int:
    """Return what a register holds for ever: no two of a unit hold the same, nor do neighbours of any two units."""
    return (address * 40503 + unit * 7919 + 1) & 0xFFFF


def serial(port: str, baud: int, timeout_ms: int = 500) -> Bus:
    return _bus(kind="rtu", timeout_ms=timeout_ms, port=port, baud=baud, parity="none", stop_bits=2)


def tcp(port: int, timeout_ms: int = 500) -> Bus:
    return _bus(kind="tcp", timeout_ms=timeout_ms, host=LOOPBACK, port=port)


def _bus(**settings: Any) -> Bus:
    return Bus.model_validate({"write_budget_ms": WRITE_BUDGET_MS, **settings})


def row(address: int, words: int = 1, **more: Any) -> Row:
    """Return a register as a profile would describe it: a number of any value, or text for an odd width."""
    kinds: Mapping[int, dict[str, Any]] = {1: {"type": "uint16"}, 2: {"type": "uint32"}, 4: {"type": "uint64"}}
    kind = kinds.get(words, {"type": "text", "words": words})
    span = {} if kind["type"] == "text" else {"range": [0.0, 2.0 ** (16 * words)]}
    return Row.model_validate({"table": "holding", "address": address, "source": "bench", **kind, **span, **more})


def device(
    name: str,
    unit: int,
    rows: Mapping[str, Row],
    *,
    bus: str = "line",
    period_s: float | Mapping[str, float] = SATURATED_S,
    device_time_s: float = 0.005,
    max_read_words: int = 125,
    max_hole_words: int = 0,
    barriers: Sequence[int] = (),
) -> DevicePlan:
    """Return a device with ``rows``, all read each ``period_s`` (or each its own), needing no pause but t3.5."""
    link = {
        "max_read_words": max_read_words,
        "max_hole_words": max_hole_words,
        "barriers": list(barriers),
        "device_time_ms": 1000 * device_time_s,
    }
    tables = ProfileTables.model_validate(
        {
            "vendor": "bench",
            "model": name,
            "class": "remote_io",
            "tier": "bronze",
            "sources": ["bench"],
            "link": link,
            "comm_loss": {"reaction": "none; it is not there"},
            "points": rows,
        }
    )
    points = tuple(
        PointPlan(
            _point(name, point, row_), row_, period_s if isinstance(period_s, float | int) else float(period_s[point])
        )
        for point, row_ in rows.items()
    )
    return DevicePlan(name, Profile(name, tables), bus, unit, "", points)


def _point(device_name: str, name: str, row_: Row) -> Point:
    low, high = row_.range or (None, None)
    return Point(
        device=device_name,
        name=name,
        kind=row_.kind,
        low=low,
        high=high,
        writable=row_.access != "r",
        safety=row_.safety,
        max_age_s=MAX_AGE_S,
    )


def bus(settings: Bus, devices: Iterable[DevicePlan], name: str = "line") -> BusPlan:
    return BusPlan(name, settings, tuple(devices))


def enclosure(buses: Iterable[BusPlan], mqtt_port: int) -> Plan:
    """Return a plan of nothing but ``buses``, for what publishes; the rest is the reference pod's and unused."""
    reference = load_plan(REFERENCE_POD)
    found = tuple(buses)
    devices = [device_ for bus_ in found for device_ in bus_.devices]
    pod = dataclasses.replace(
        reference.pod,
        tcs=dataclasses.replace(reference.pod.tcs, pumps=()),
        fws=dataclasses.replace(reference.pod.fws, pumps=(), chillers=()),
        racks=(),
        heartbeats=(),
        expected=(),
        device_bus={device_.name: device_.bus for device_ in devices},
        device_class={device_.name: "remote_io" for device_ in devices},
        points={plan.point.id: plan.point for device_ in devices for plan in device_.points},
    )
    native = NativeSettings(root="bench")
    link = reference.links["native"].model_copy(update={"host": LOOPBACK, "port": mqtt_port, "outbox": None})
    return dataclasses.replace(reference, buses=found, pod=pod, native=native, links={"native": link})
