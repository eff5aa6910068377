"""Interlock rows, trips, permissives, first-out; and gate(), the only maker of a Write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.blocks import Delay, Latch, Ramp, clamp
from controller.core.image import Image
from controller.core.points import Kind, Point, Value
from controller.core.sequences import Demand

LARGE_MOVE = 5.0  # a move of a number, in its unit, that is written at once


@dataclass(frozen=True, slots=True)
class Protection:
    """Limits and delays of the interlocks. Every one is stated in the enclosure file; none has a default.

    ``watched`` names flags that raise an alarm while on and stop nothing: smoke, a broken leak cable, an open door.
    """

    epo: str = field(metadata={"kind": Kind.FLAG})
    cdu_leak: tuple[str, ...] = field(metadata={"kind": Kind.FLAG})
    watched: tuple[str, ...] = field(metadata={"kind": Kind.FLAG})
    flow_lost_pct: float
    flow_lost_s: float
    pumps_lost_s: float
    supply_temp_trip_c: float
    supply_temp_trip_s: float
    rack_leak_confirm_s: float
    rack_off_before_valve_s: float
    refresh_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One interlock: acts while its condition held for ``delay_s``; a trip latches until reset.

    ``rack`` limits the trip to one rack; empty means all. ``isolates``: its valve is shut too, once it is off.
    """

    id: str
    cause: str
    delay_s: float
    trip: bool
    rack: str = ""
    isolates: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """An output on its way to a device. Made by the gate alone."""

    point: str
    value: Value
    safety: bool
    reason: str


@dataclass(slots=True)
class Interlock:
    row: Row
    delay: Delay = field(init=False)
    latch: Latch = field(default_factory=Latch)

    def __post_init__(self) -> None:
        self.delay = Delay(self.row.delay_s)

    def step(self, condition: bool, now: float, *, reset: bool) -> bool:
        acting = self.delay.step(condition, now)
        return self.latch.step(acting, reset=reset) if self.row.trip else acting


class Interlocks:
    """All rows of one pod, and which of them came first."""

    def __init__(self, rows: Sequence[Row], latched: Iterable[str] = ()) -> None:
        self._all = {row.id: Interlock(row) for row in rows}
        self.first_out = ""
        for name in latched:
            if name in self._all:
                self._all[name].latch.state = True
                self.first_out = self.first_out or name

    def step(self, conditions: Mapping[str, bool], now: float, *, reset: bool = False) -> None:
        """Advance every row by its condition; one that is missing from ``conditions`` counts as false."""
        before = self.acting
        for name, interlock in self._all.items():
            interlock.step(conditions.get(name, False), now, reset=reset)
        if not self.acting:
            self.first_out = ""
        elif not before or not self.first_out:
            self.first_out = self.acting[0]

    @property
    def acting(self) -> list[str]:
        return [n for n, i in self._all.items() if (i.latch.state if i.row.trip else i.delay.state)]

    def latched(self) -> list[str]:
        return [name for name, interlock in self._all.items() if interlock.latch.state]

    def tripped(self) -> str:
        """Return the cause of the first trip that takes the whole pod down, or nothing."""
        acting = [i.row for i in self._all.values() if i.row.trip and not i.row.rack and i.latch.state]
        first = next((row for row in acting if row.id == self.first_out), acting[0] if acting else None)
        return first.cause if first else ""

    def cleared(self) -> bool:
        """True when no trip's condition is there any more."""
        return not any(i.delay.state for i in self._all.values() if i.row.trip)

    def why_rack(self, rack: str) -> str:
        """Return the cause of the trip that takes ``rack`` off, or nothing."""
        return next((i.row.cause for i in self._all.values() if i.row.rack == rack and i.latch.state), "")

    def racks_tripped(self) -> set[str]:
        return {i.row.rack for i in self._all.values() if i.row.rack and i.latch.state}

    def racks_isolated(self) -> set[str]:
        """Return the racks whose water is to be shut off too."""
        return {i.row.rack for i in self._all.values() if i.row.isolates and i.latch.state}


@dataclass(frozen=True, slots=True)
class Output:
    """A point the gate lets through, and how: default is deny, so what has no Output is never written.

    Attributes:
        low, high: limits of a number in the point's unit.
        up_per_s, down_per_s: fastest ramp of a number.
        min_move: a smaller change of a number is not written.
        pace_s: small moves of a number are not written more often, so that a ramp does not fill the bus.
        feedback: point that tells where a number stands when its own register can't be read.
    """

    point: str
    low: float = 0.0
    high: float = 0.0
    up_per_s: float = math.inf
    down_per_s: float = math.inf
    min_move: float = 0.0
    pace_s: float = 0.0
    feedback: str = ""
    safety: bool = True


@dataclass(frozen=True, slots=True)
class Permits:
    """What interlocks and permissives leave open in one scan.

    Attributes:
        forbidden: (point, value) pairs that must not be written now, and why.
        floors: lowest value of an output now, towards cooling.
    """

    forbidden: Mapping[tuple[str, Value], str]
    floors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Denial:
    point: str
    value: Value
    reason: str


@dataclass(slots=True)
class _Last:
    """What was last written, and when."""

    value: Value
    at: float


class Gate:
    """Listed? permitted? in range? within its ramp? Then, and only then, a Write.

    Number ramps start from where the equipment stands, so a controller that takes over moves nothing by a step.
    """

    def __init__(self, outputs: Iterable[Output], points: Mapping[str, Point], refresh_s: float) -> None:
        self._outputs = {output.point: output for output in outputs}
        self._points = points
        self._refresh_s = refresh_s
        self._ramps: dict[str, Ramp] = {}
        self._last: dict[str, _Last] = {}
        self._denied: dict[str, str] = {}

    def step(
        self, demands: Iterable[Demand], permits: Permits, image: Image, now: float
    ) -> tuple[list[Write], list[Denial]]:
        """Return the writes to send and the demands newly refused.

        Args:
            demands: what sequences and loops ask; a later one for the same point replaces an earlier one.
            permits: what the interlocks forbid in this scan.
        """
        asked = {demand.point: demand for demand in demands}
        writes: list[Write] = []
        denied: dict[str, str] = {}
        denials: list[Denial] = []
        for point, demand in asked.items():
            refusal = self._refusal(demand, permits)
            if refusal:
                denied[point] = refusal
                if self._denied.get(point) != refusal:
                    denials.append(Denial(point, demand.value, refusal))
                continue
            write = self._write(self._outputs[point], demand, permits, image, now)
            if write:
                writes.append(write)
        self._denied = denied
        return writes, denials

    def _refusal(self, demand: Demand, permits: Permits) -> str:
        output, point = self._outputs.get(demand.point), self._points.get(demand.point)
        if output is None or point is None or not point.writable:
            return "not an output of this pod"
        if point.kind is Kind.FLAG:
            if not isinstance(demand.value, bool):
                return "not on or off"
            return permits.forbidden.get((demand.point, demand.value), "")
        if isinstance(demand.value, bool | str) or not math.isfinite(demand.value):
            return "not a finite number"
        return ""

    def _write(self, output: Output, demand: Demand, permits: Permits, image: Image, now: float) -> Write | None:
        value = demand.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = self._ramped(
                output, clamp(float(value), permits.floors.get(output.point, output.low), output.high), image, now
            )
        last = self._last.get(output.point)
        if (
            last is None
            and image.usable(output.point)
            and self._same(output, image.value(output.point, otherwise=None), value)
        ):
            last = self._last[output.point] = _Last(value, now)
        if last is not None and now - last.at < self._refresh_s:
            if self._same(output, last.value, value):
                return None
            if now - last.at < output.pace_s and self._small(last.value, value):
                return None
        self._last[output.point] = _Last(value, now)
        return Write(output.point, value, output.safety, demand.reason)

    def _ramped(self, output: Output, target: float, image: Image, now: float) -> float:
        ramp = self._ramps.get(output.point)
        if ramp is None:
            stands = image.number(output.point, otherwise=None)
            if stands is None and output.feedback:
                stands = image.number(output.feedback, otherwise=None)
            ramp = self._ramps[output.point] = Ramp(output.up_per_s, output.down_per_s, stands, now)
        return clamp(ramp.step(target, now), output.low, output.high)

    @staticmethod
    def _small(one: Value, other: Value) -> bool:
        """True for a move of a number that can wait for the output's pace; a flag never waits."""
        numbers = isinstance(one, float) and isinstance(other, float)
        return numbers and abs(float(one) - float(other)) < LARGE_MOVE

    @staticmethod
    def _same(output: Output, one: Value | None, other: Value) -> bool:
        if (
            isinstance(one, bool)
            or isinstance(other, bool)
            or isinstance(one, str)
            or isinstance(other, str)
            or one is None
        ):
            return one == other
        return abs(one - other) <= output.min_move
