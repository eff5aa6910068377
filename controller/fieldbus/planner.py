"""Registers -> spans read in one request, chosen by what they cost the bus. Pure.

Spans come from dynamic programming over the bus's time: frames at this baud rate, the device's own time, the silence
after it. Frame lengths and the t3.5 rule are those of the Modbus serial line specification: 11 bits a character; above
19200 baud t3.5 is fixed at 1.75 ms. What the spans of a bus add up to is schedule.py's business.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controller.config.enclosure import Bus
from controller.config.plan import DevicePlan, PointPlan
from controller.config.profile import Link, Row

CHARACTER_BITS = 11
REQUEST_CHARACTERS = 8  # unit, function, address, count, CRC
REPLY_CHARACTERS = 5  # unit, function, byte count, CRC; the data come on top
WRITE_SEVERAL_CHARACTERS = 9  # as a request, and its byte count; the data come on top
T35_CHARACTERS = 3.5
T35_FAST_S = 0.00175
FAST_BAUD = 19200
BITS_READ_MAX = 2000
TCP_OVERHEAD_S = 0.001
RTU_USUAL_S = 0.0005  # as long as RTU_OVERHEAD_S mostly is; it decides which span comes next where deadlines are close
RTU_OVERHEAD_S = 0.001  # the controller's part of an exchange, at worst: it wakes for the reply, and to send the next
BIT_TABLES = ("coil", "discrete")
WHOLE_WORD = 0xFFFF
TIE_S = 1e-12  # costs that differ by less are equal
# What a device is planned for when nobody says which bus it is on.
ANY_BUS = Bus(
    kind="rtu", port="", baud=19200, parity="none", stop_bits=2, timeout_ms=1000, write_budget_ms=5000
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring registers (or bits) of one device, read in one request as often as its quickest point asks for."""

    device: DevicePlan
    table: str
    address: int
    count: int
    period_s: float | None
    points: tuple[PointPlan, ...]

    @property
    def safety(self) -> bool:
        return any(plan.point.safety for plan in self.points)


def character_s(bus: Bus) -> float:
    """Return the time of one character on a serial line, in seconds."""
    return CHARACTER_BITS / (bus.baud or FAST_BAUD)


def t35_s(bus: Bus) -> float:
    """Return the least silence between two frames on a serial line, in seconds; 0 for TCP."""
    if not bus.serial:
        return 0.0
    return T35_FAST_S if (bus.baud or FAST_BAUD) > FAST_BAUD else T35_CHARACTERS * character_s(bus)


def gap_s(bus: Bus, link: Link) -> float:
    """Return the silence after an exchange with a device, in seconds."""
    return max(t35_s(bus), link.min_gap_ms / 1000)


def overhead_s(bus: Bus) -> float:
    """Return the time that the two hosts' own work adds to an exchange, in seconds, as measured (hil/bench)."""
    return TCP_OVERHEAD_S if bus.networked else RTU_OVERHEAD_S


def reply_characters(table: str, count: int) -> int:
    return REPLY_CHARACTERS + ((count + 7) // 8 if table in BIT_TABLES else 2 * count)


def wire_s(bus: Bus, table: str, count: int) -> float:
    """Return the time the frames of one read take on the wire, in seconds; 0 for TCP."""
    if not bus.serial:
        return 0.0
    return (REQUEST_CHARACTERS + reply_characters(table, count)) * character_s(bus)


def exchange_s(bus: Bus, link: Link, table: str, count: int, device_time_s: float | None = None) -> float:
    """Return the time one read keeps the bus busy: frames, the device's time (or the one learned), silence, ours."""
    own = link.device_time_ms / 1000 if device_time_s is None else device_time_s
    return wire_s(bus, table, count) + own + gap_s(bus, link) + overhead_s(bus)


def usual_s(bus: Bus, cost_s: float) -> float:
    """Return what an exchange planned at ``cost_s`` at worst takes mostly."""
    return cost_s if bus.networked else cost_s - RTU_OVERHEAD_S + RTU_USUAL_S


def read_s(bus: Bus, span: Span, device_time_s: float | None = None) -> float:
    """Return the time one read of ``span`` keeps the bus busy, in seconds."""
    return exchange_s(bus, span.device.profile.link, span.table, span.count, device_time_s)


def write_s(
    bus: Bus, device: DevicePlan, row: Row, *, refresh: bool = False, device_time_s: float | None = None
) -> float:
    """Return the time one write of ``row`` keeps the bus busy, in seconds.

    A command sequence and a flag that shares its word read the word first; all steps of the longest sequence are
    written, but only the last one when the output just repeats what stands already (``refresh``).
    """
    link = device.profile.link
    own = link.device_time_ms / 1000 if device_time_s is None else device_time_s
    fixed = own + gap_s(bus, link) + overhead_s(bus)
    words = row.width
    several = row.table == "holding" and (words > 1 or link.write_multiple)
    characters = REQUEST_CHARACTERS + (WRITE_SEVERAL_CHARACTERS + 2 * words if several else REQUEST_CHARACTERS)
    one = fixed + (characters * character_s(bus) if bus.serial else 0.0)
    steps = max(len(row.on_words), len(row.off_words)) if row.on is not None and row.table == "holding" else 1
    look = steps > 1 or (row.table == "holding" and row.mask != WHOLE_WORD)
    first = exchange_s(bus, link, row.table, 1, device_time_s) if look else 0.0
    if refresh:
        return first + one
    return first + steps * one + (steps - 1) * row.step_wait_s


# ---------------------------------------------------------------- spans


Group = float | None  # the period of a rate group; None is read once


@dataclass(frozen=True, slots=True)
class _Item:
    """Registers that go into a span whole: a value that must be in one, or a slower span that may be.

    Attributes:
        credit: what the bus saves, in seconds a second, when a slower span need not be read by itself.
    """

    start: int
    end: int
    credit: float | None = None


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one read of a table may be.

    Attributes:
        longest: registers or bits.
        walls: addresses that a read may not have on both sides of its start and end.
        cost_s: time of a read of so many registers.
        budget_s: longest time of a read; a single value may take longer.
    """

    longest: int
    walls: Sequence[int]
    cost_s: Callable[[int], float]
    budget_s: float

    def allows(self, start: int, end: int) -> bool:
        if end - start > self.longest or self.cost_s(end - start) > self.budget_s:
            return False
        return bisect_right(self.walls, start) == bisect_right(self.walls, end - 1)


def plan_spans(
    device: DevicePlan,
    bus: Bus | None = None,
    write_budget_s: float | None = None,
    device_time_s: float | None = None,
) -> list[Span]:
    """Return the spans that read every readable point of ``device`` for the least time of its bus, quickest first.

    No span crosses a limit, a barrier, a forbidden range or a hole wider than the device bears, none splits a value,
    and none takes longer than the write budget unless it is a single value. A register of a slower group joins a
    quicker span where that lowers the load of the bus.

    Args:
        write_budget_s: longest time of one read; by default the bus's own.
        device_time_s: the time the device takes to answer, as learned; by default its profile's.
    """
    bus = bus or ANY_BUS
    link = device.profile.link
    budget_s = bus.write_budget_ms / 1000 if write_budget_s is None else write_budget_s
    tables: dict[str, list[PointPlan]] = {}
    for plan in device.points:
        if plan.row.access != "w":
            tables.setdefault(plan.row.table, []).append(plan)
    spans: list[Span] = []
    for table, plans in tables.items():
        costs: dict[int, float] = {}

        def cost_s(count: int, table: str = table, costs: dict[int, float] = costs) -> float:
            if count not in costs:
                costs[count] = exchange_s(bus, link, table, count, device_time_s)
            return costs[count]

        longest = BITS_READ_MAX if table in BIT_TABLES else link.max_read_words
        limits = _Limits(longest, _walls(plans, link), cost_s, budget_s)
        for period_s, start, end, members in _table(plans, limits):
            spans.append(Span(device, table, start, end - start, period_s, tuple(members)))
    return sorted(spans, key=lambda span: (_rank(span.period_s), span.table, span.address))


def _rank(group: Group) -> float:
    return float("inf") if group is None else group


def _table(plans: Iterable[PointPlan], limits: _Limits) -> list[tuple[Group, int, int, list[PointPlan]]]:
    """Return the spans of one table as (group, start, end, points), quickest group first."""
    groups: dict[Group, list[PointPlan]] = {}
    for plan in sorted(plans, key=lambda plan: (plan.row.address, plan.row.width)):
        groups.setdefault(plan.period_s, []).append(plan)
    order = sorted(groups, key=_rank)
    spans = []
    for index, group in enumerate(order):
        offers = []
        for slower in order[index + 1 :]:
            if slower is not None and groups[slower]:
                parts = partition(_needed(groups[slower]), limits, 1 / slower)
                offers += [_Item(start, end, limits.cost_s(end - start) / slower) for start, end in parts]
        if not groups[group]:
            continue
        for start, end in partition([*_needed(groups[group]), *offers], limits, 1 / group if group else 1.0):
            members = []
            for other in order[index:]:
                fits = [start <= p.row.address and p.row.address + p.row.width <= end for p in groups[other]]
                members += [plan for plan, inside in zip(groups[other], fits, strict=True) if inside]
                groups[other] = [plan for plan, inside in zip(groups[other], fits, strict=True) if not inside]
            if members:
                spans.append((group, start, end, sorted(members, key=lambda plan: (plan.row.address, plan.row.width))))
    return spans


def _needed(plans: Iterable[PointPlan]) -> list[_Item]:
    """Return the values of ``plans``; one that lies inside another needs no mention."""
    items: list[_Item] = []
    for start, end in sorted({(p.row.address, -p.row.address - p.row.width) for p in plans}):
        if not items or -end > items[-1].end:
            items.append(_Item(start, -end))
    return items


def _walls(plans: Sequence[PointPlan], link: Link) -> list[int]:
    """Return the addresses that no read may cross: barriers, and the ends of holes too wide or forbidden.

    A register that any point describes is no hole, whatever its rate. A barrier inside a value can't be kept.
    """
    rows = [(plan.row.address, plan.row.address + plan.row.width) for plan in plans]
    walls = {b for b in link.barriers if not any(start < b < end for start, end in rows)}
    reach: int | None = None
    for start, end in sorted(rows):
        if reach is not None and start > reach:
            forbidden = any(first < start and reach <= last for first, last in link.forbidden)
            if start - reach > link.max_hole_words or forbidden:
                walls.add(start)
        reach = max(end, reach or 0)
    return sorted(walls)


def partition(items: Iterable[_Item], limits: _Limits, per_s: float) -> list[tuple[int, int]]:
    """Return the (start, end) of the reads that cover every needed item for the least time of the bus.

    Values in order of address are cut into runs, and the best cut of the first k values follows from the best cuts of
    fewer, so the result is the best there is. A run may go further, over offered items, where their credit pays it.

    Args:
        per_s: how often each read is made.
    """
    order = sorted(items, key=lambda item: (item.start, item.credit is not None, item.end))
    best = [0.0] + [float("inf")] * len(order)
    back: list[tuple[int, tuple[int, int] | None]] = [(0, None)] * (len(order) + 1)
    for first, item in enumerate(order):
        if item.credit is not None and best[first] < best[first + 1] - TIE_S:
            best[first + 1], back[first + 1] = best[first], (first, None)
        reach, offers = item.start, []
        for last in range(first, len(order)):
            added = order[last]
            if added.credit is None:
                reach = max(reach, added.end)
            else:
                offers.append(added)
            alone = item.credit is None and reach == item.end  # one value, however long
            if reach > item.start and not alone and not limits.allows(item.start, reach):
                break
            for end in {reach, *(offer.end for offer in offers if offer.end > reach)}:
                if end == item.start or (end != reach and not limits.allows(item.start, end)):
                    continue
                saved = sum(offer.credit or 0.0 for offer in offers if offer.end <= end)
                cost = best[first] + limits.cost_s(end - item.start) * per_s - saved
                if cost < best[last + 1] - TIE_S:
                    best[last + 1], back[last + 1] = cost, (first, (item.start, end))
    reads = []
    position = len(order)
    while position:
        position, read = back[position]
        if read:
            reads.append(read)
    return reads[::-1]
