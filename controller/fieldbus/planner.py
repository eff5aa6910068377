"""Registers -> spans read in one request, and what they cost the wire. Pure.

Frame lengths and the t3.5 rule are those of the Modbus serial line specification: 11 bits a character; above 19200 baud
t3.5 is fixed at 1.75 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from controller.config.enclosure import Bus
from controller.config.plan import BusPlan, DevicePlan, PointPlan
from controller.config.profile import Link

CHARACTER_BITS = 11
REQUEST_CHARACTERS = 8  # unit, function, address, count, CRC
REPLY_CHARACTERS = 5  # unit, function, byte count, CRC; the data come on top
T35_CHARACTERS = 3.5
T35_FAST_S = 0.00175
FAST_BAUD = 19200
BITS_READ_MAX = 2000
TCP_OVERHEAD_S = 0.001
BIT_TABLES = ("coil", "discrete")
OVERLOAD = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring registers (or bits) of one device and rate group, read in one request."""

    device: DevicePlan
    table: str
    address: int
    count: int
    period_s: float | None
    points: tuple[PointPlan, ...]

    @property
    def safety(self) -> bool:
        return any(plan.point.safety for plan in self.points)


def plan_spans(device: DevicePlan) -> list[Span]:
    """Return the spans that read every readable point of ``device``, none crossing its limits, holes or barriers."""
    groups: dict[tuple[str, float | None], list[PointPlan]] = {}
    for plan in device.points:
        if plan.row.access != "w":
            groups.setdefault((plan.row.table, plan.period_s), []).append(plan)
    spans = []
    for (table, period_s), plans in groups.items():
        for members in _runs(sorted(plans, key=lambda plan: (plan.row.address, plan.row.width)), device.profile.link):
            address = members[0].row.address
            end = max(plan.row.address + plan.row.width for plan in members)
            spans.append(Span(device, table, address, end - address, period_s, tuple(members)))
    return spans


def _runs(plans: Sequence[PointPlan], link: Link) -> Iterator[list[PointPlan]]:
    """Split points sorted by address where a limit of the device stands between two of them."""
    run: list[PointPlan] = []
    start = end = 0
    for plan in plans:
        row = plan.row
        longest = BITS_READ_MAX if row.table in BIT_TABLES else link.max_read_words
        reach = max(end, row.address + row.width)
        crossed = any(end <= barrier <= row.address for barrier in link.barriers if run)
        if run and (row.address - end > link.max_hole_words or reach - start > longest or crossed):
            yield run
            run = []
        if not run:
            start, end = row.address, row.address + row.width
        run.append(plan)
        end = max(end, row.address + row.width)
    if run:
        yield run


def character_s(bus: Bus) -> float:
    """Return the time of one character on a serial line, in seconds."""
    return CHARACTER_BITS / (bus.baud or FAST_BAUD)


def t35_s(bus: Bus) -> float:
    """Return the least silence between two frames on a serial line, in seconds; 0 for TCP."""
    if bus.kind != "rtu":
        return 0.0
    return T35_FAST_S if (bus.baud or FAST_BAUD) > FAST_BAUD else T35_CHARACTERS * character_s(bus)


def reply_characters(table: str, count: int) -> int:
    return REPLY_CHARACTERS + ((count + 7) // 8 if table in BIT_TABLES else 2 * count)


def wire_s(bus: Bus, table: str, count: int) -> float:
    """Return the time the frames of one read take on the wire, in seconds; 0 for TCP."""
    if bus.kind != "rtu":
        return 0.0
    return (REQUEST_CHARACTERS + reply_characters(table, count)) * character_s(bus)


def read_s(bus: Bus, span: Span) -> float:
    """Return the time one read of ``span`` keeps the bus busy: frames, the device's own time, silence after it."""
    link = span.device.profile.link
    pause = max(t35_s(bus), link.min_gap_ms / 1000)
    overhead = 0.0 if bus.kind == "rtu" else TCP_OVERHEAD_S
    return wire_s(bus, span.table, span.count) + link.device_time_ms / 1000 + pause + overhead


def write_s(bus: Bus, device: DevicePlan) -> float:
    """Return the time one single-register write keeps the bus busy, in seconds."""
    link = device.profile.link
    frames = 2 * REQUEST_CHARACTERS * character_s(bus) if bus.kind == "rtu" else TCP_OVERHEAD_S
    return frames + link.device_time_ms / 1000 + max(t35_s(bus), link.min_gap_ms / 1000)


@dataclass(frozen=True, slots=True)
class BusLoad:
    """What is expected of one bus.

    Attributes:
        polls_per_s: requests a second once running.
        load: share of the time the bus is busy with reads and refreshed outputs, 1.0 being all of it.
        words: registers and bits read by all spans.
    """

    bus: str
    devices: int
    spans: int
    points: int
    words: int
    polls_per_s: float
    load: float

    @property
    def feasible(self) -> bool:
        return self.load <= OVERLOAD


def bus_load(bus: BusPlan, outputs: Iterable[str], refresh_s: float) -> BusLoad:
    """Return the expected load of ``bus`` with every output of ``outputs`` refreshed each ``refresh_s``."""
    spans = [span for device in bus.devices for span in plan_spans(device)]
    cyclic = [(span, span.period_s) for span in spans if span.period_s]
    written = set(outputs)
    writes = [device for device in bus.devices for plan in device.points if plan.point.id in written]
    load = sum(read_s(bus.settings, span) / period for span, period in cyclic)
    load += sum(write_s(bus.settings, device) for device in writes) / refresh_s
    return BusLoad(
        bus=bus.name,
        devices=len(bus.devices),
        spans=len(spans),
        points=sum(len(device.points) for device in bus.devices),
        words=sum(span.count for span in spans),
        polls_per_s=sum(1 / period for _, period in cyclic) + len(writes) / refresh_s,
        load=load,
    )
