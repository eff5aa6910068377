"""What happened in a run, as rows over time: faults, modes, interlocks, alarms by priority, writes by point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hil.tracefile import Alarm, Trace, natural

ALARMS_MAX, WRITES_MAX, FAULTS_MAX, INTERLOCKS_MAX = 24, 18, 24, 16  # rows; the tables hold the rest
PRIORITIES = ("critical", "high", "medium", "low")
STANDING = ("UNACK", "ACKED", "B", "C")
RETURNED = ("RTN_UNACK", "D")
DOT, STAR, DIAMOND, TICK, UP, DOWN = "o", "*", "D", "|", "^", "v"


@dataclass(slots=True)
class Lane:
    """One row.

    Attributes:
        bars: start, end, and whether the end is the end of the run.
        faint: start and end of what is there but over, such as an alarm gone and not acknowledged.
        marks: moments, by the shape that marks them.
        strong: this row is the one to read first.
    """

    group: str
    label: str
    tint: str
    bars: list[tuple[float, float, bool]] = field(default_factory=list)
    faint: list[tuple[float, float]] = field(default_factory=list)
    marks: dict[str, list[float]] = field(default_factory=dict)
    strong: bool = False


def lanes_of(trace: Trace) -> list[Lane]:
    """Return all rows, from cause to effect. Where a group has too many, its last row says how many are left out."""
    groups = (
        (list(_faults(trace)), FAULTS_MAX),
        (list(_modes(trace)), FAULTS_MAX),
        (list(_interlocks(trace)), INTERLOCKS_MAX),
        (list(_alarms(trace)), ALARMS_MAX),
        (list(_writes(trace)), WRITES_MAX),
    )
    found: list[Lane] = []
    for lanes, most in groups:
        found += lanes[:most]
        if len(lanes) > most:
            found.append(Lane(lanes[0].group, f"and {len(lanes) - most} more, in the tables", "quiet"))
    return found


def _faults(trace: Trace) -> Iterator[Lane]:
    for number, event in enumerate(trace.events, 1):
        lane = Lane("Faults", f"{number}  {event.fault} {event.target}".rstrip(), "fault", strong=True)
        if event.until is not None and event.until <= event.t:
            lane.marks[DIAMOND] = [event.t]
        else:
            lane.bars.append((event.t, trace.end_s if event.until is None else event.until, event.until is None))
        yield lane


def tint_of_mode(mode: str) -> str:
    family = mode.partition(".")[0]
    return {"NORMAL": "normal", "FAULT": "trip", "STARTUP": "startup", "COOLDOWN": "warning"}.get(family, "quiet")


def _modes(trace: Trace) -> Iterator[Lane]:
    lanes: dict[str, Lane] = {}
    ends = [*(change.t for change in trace.modes), trace.end_s][1:]
    for place, (change, end) in enumerate(zip(trace.modes, ends, strict=True)):
        lane = lanes.setdefault(change.mode, Lane("Mode", change.mode, tint_of_mode(change.mode)))
        lane.bars.append((max(change.t, trace.start_s), end, place == len(trace.modes) - 1))
    yield from lanes.values()


def _interlocks(trace: Trace) -> Iterator[Lane]:
    lanes: dict[str, Lane] = {}
    first = trace.first_out or ""
    for item in trace.interlocks:
        lane = lanes.setdefault(item.text, Lane("Interlocks", item.text, "trip"))
        lane.marks.setdefault(DIAMOND, []).append(item.t)
    if first:
        owner = next((lane for text, lane in lanes.items() if first in text or text in first), None)
        if owner is None:
            owner = lanes.setdefault(first, Lane("Interlocks", first, "trip"))
        owner.label, owner.strong = f"first out: {owner.label}", True
        owner.marks = {STAR if mark == DIAMOND else mark: times for mark, times in owner.marks.items()}
    yield from sorted(lanes.values(), key=lambda lane: not lane.strong)


def _alarms(trace: Trace) -> Iterator[Lane]:
    histories: dict[str, list[Alarm]] = {}
    for alarm in trace.alarms:
        histories.setdefault(alarm.id, []).append(alarm)
    for history in sorted(histories.values(), key=lambda items: (rank(items[0].priority), items[0].t)):
        first = history[0]
        tint = first.priority if first.priority in PRIORITIES else "quiet"
        lane = Lane("Alarms", f"{first.priority}: {first.title or first.id}".removeprefix(": "), tint)
        ends = [*(change.t for change in history), trace.end_s][1:]
        for place, (change, end) in enumerate(zip(history, ends, strict=True)):
            if change.state in STANDING:
                lane.bars.append((change.t, end, place == len(history) - 1))
            elif change.state in RETURNED:
                lane.faint.append((change.t, end))
        yield lane


def rank(priority: str) -> int:
    return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES)


def _writes(trace: Trace) -> Iterator[Lane]:
    """Yield one row for each point; for each device instead, where the points are too many."""
    counts = Counter(write.point for write in trace.writes)
    by_device = len(counts) > WRITES_MAX
    if by_device:
        counts = Counter(write.point.partition(".")[0] for write in trace.writes)
    lanes = {name: Lane("Writes", f"{name} ({counts[name]})", "write") for name in sorted(counts, key=natural)}
    for write in trace.writes:
        mark = (UP if write.value else DOWN) if isinstance(write.value, bool) else TICK
        name = write.point.partition(".")[0] if by_device else write.point
        lanes[name].marks.setdefault(mark, []).append(write.t)
    yield from lanes.values()
