"""Interlock rows, trips, permissives, first-out, bypass; and gate(), the only maker of a Write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from controller.core.blocks import Delay, Latch, Ramp, clamp
from controller.core.image import Image
from controller.core.points import Kind, Point, Value, record
from controller.core.sequences import Demand

GENTLE_PER_S = 5.0  # so many units a second are the most by which an output moves soon after a take-over
LARGE_MOVE = 5.0  # a move of a number, in its unit, that is written at once
REGISTER_S = 2.0  # so long the first write to an output waits for its register to be read


class Tier(IntEnum):
    """How far a row goes: warn and compensate, limit or shed, trip."""

    COMPENSATE = 1
    LIMIT = 2
    TRIP = 3


What = Literal[
    "warn", "partner", "permit", "pump_lost", "pumps_restart", "pumps_full", "flow_high", "pumps_eased", "valve_shut",
    "hold_on", "hold_load", "cap", "cap_flow", "cap_warm", "cap_branch", "shed", "rack_off", "isolate", "racks_off",
    "pumps_off", "stop", "all_off",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """What a row does while it acts; ``amount`` in % of rated power for ``cap``, in %/K for ``cap_warm``.

    ``warn`` has an alarm and no more. ``partner``: duty/standby and staging answer by themselves. ``permit``: the power
    permit is worked out from it. ``hold_on``: nothing more is energised; ``hold_load``: and IT power is not to rise.
    """

    what: What
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One interlock: acts while its condition held for ``delay_s``; a trip latches until reset.

    Attributes:
        cause: what people read.
        trip: stays until the operator resets it, after its cause has gone.
        rack: the rack it is about; empty for the whole pod.
        device: the pump or power unit it is about, if one.
        fault: class of fault that it belongs to (docs/hazards.md).
        actions: what it does, the mildest first.
        clear_s: how long its condition must be gone before it ends.
        meltdown_s: second timer of a row with two: ``delay_s`` runs back when the condition goes; once it is over,
            the row acts after ``meltdown_s`` whatever the condition does.
        bypass_max_s: how long it may be defeated from the console; 0 for a row that can't be.
        group: rows of one group may have one cause; the first to act is kept apart.
        consequence, remedy: of the row's alarm: what happens, and what the operator does; empty where another alarm
            tells it already.
        needs: roles (table.key) without which an enclosure does without this row.
    """

    id: str
    cause: str
    delay_s: float
    trip: bool
    rack: str = ""
    device: str = ""
    fault: str = ""
    tier: Tier = Tier.TRIP
    actions: tuple[Action, ...] = ()
    clear_s: float = 0.0
    meltdown_s: float | None = None
    bypass_max_s: float = 0.0
    group: str = ""
    consequence: str = ""
    remedy: str = ""
    needs: tuple[str, ...] = ()

    def does(self, what: What) -> bool:
        return any(action.what == what for action in self.actions)


@dataclass(frozen=True, slots=True)
class Bypass:
    """A defeat of one row, recorded and timed."""

    by: str
    reason: str
    until: float


@record
class Write:
    """An output on its way to a device. Made by the gate alone."""

    point: str
    value: Value
    safety: bool
    reason: str


@dataclass(slots=True)
class Interlock:
    """One row at work."""

    row: Row
    delay: Delay = field(init=False)
    latch: Latch = field(default_factory=Latch)
    melts_at: float | None = None
    acting: bool = False

    def __post_init__(self) -> None:
        self.delay = Delay(self.row.delay_s, self.row.clear_s)

    def step(self, condition: bool, now: float, *, reset: bool) -> bool:
        held = self._melted(self.delay.step(condition, now), now, reset=reset)
        self.acting = self.latch.step(held, reset=reset) if self.row.trip else held
        return self.acting

    def _melted(self, served: bool, now: float, *, reset: bool) -> bool:
        """Return whether the second timer, where the row has one, is over too."""
        if self.row.meltdown_s is None:
            return served
        if served and self.melts_at is None:
            self.melts_at = now + self.row.meltdown_s
        elif reset and not served:
            self.melts_at = None
        return self.melts_at is not None and now >= self.melts_at

    @property
    def at_rest(self) -> bool:
        """Whether a step without condition and reset would change nothing."""
        return not self.acting and self.delay.idle and self.melts_at is None

    @property
    def there(self) -> bool:
        """Whether the cause is there still, so that no reset may end the row."""
        return self.delay.state

    def forget(self) -> None:
        """Begin anew, as if the condition had never been there; a latch stays."""
        self.delay = Delay(self.row.delay_s, self.row.clear_s)
        self.melts_at = None
        self.acting = self.row.trip and self.latch.state


class Interlocks:
    """All rows of one pod, which of them came first in each group, and which are bypassed."""

    def __init__(self, rows: Sequence[Row], latched: Iterable[str] = ()) -> None:
        self._all = {row.id: Interlock(row) for row in rows}
        self._acting: dict[str, None] = {}
        self._awake = set(self._all)  # rows that are not at rest
        self.first_out = ""
        self.first_outs: dict[str, str] = {}
        self.bypasses: dict[str, Bypass] = {}
        for name in latched:
            if name in self._all:
                self._all[name].latch.state = self._all[name].acting = True
                self._acting[name] = None
                self.first_out = self.first_out or name
                self.first_outs.setdefault(self._all[name].row.group, name)

    def step(self, conditions: Mapping[str, bool], now: float, *, reset: bool = False) -> None:
        """Advance every row by its condition; one that is missing from ``conditions`` counts as false."""
        for name in [name for name, bypass in self.bypasses.items() if now >= bypass.until]:
            del self.bypasses[name]
        due = self._all.keys() if reset else self._awake.union(name for name, there in conditions.items() if there)
        self._awake = set()
        for name in due & self._all.keys():
            interlock = self._all[name]
            interlock.step(conditions.get(name, False) and name not in self.bypasses, now, reset=reset)
            if not interlock.at_rest:
                self._awake.add(name)
        self._acting = {name: None for name in self._all if self._all[name].acting} if self._awake else {}
        if not self._acting:
            self.first_out = ""
        elif not self.first_out:
            self.first_out = next(iter(self._acting))
        self.first_outs = {group: name for group, name in self.first_outs.items() if self._of_group(group)}
        for name in self._acting:
            self.first_outs.setdefault(self._all[name].row.group, name)

    def _of_group(self, group: str) -> bool:
        return any(self._all[name].row.group == group for name in self._acting)

    # ------------------------------------------------------------ bypass

    def bypass(self, row: str, bypass: Bypass, now: float) -> str:
        """Defeat ``row`` until ``bypass.until``; return why not, or nothing. A latch it holds is not undone by it."""
        interlock = self._all.get(row)
        if interlock is None:
            return "no such interlock"
        longest = interlock.row.bypass_max_s
        if not longest:
            return f"{row} can't be bypassed"
        if not 0 < bypass.until - now <= longest:
            return f"{row} can be bypassed for {longest:g} s at most"
        self.bypasses[row] = bypass
        interlock.forget()
        return ""

    def unbypass(self, row: str) -> bool:
        """End a bypass; return whether there was one."""
        return self.bypasses.pop(row, None) is not None

    def saved_bypasses(self, epoch_s: float | None) -> dict[str, Any]:
        """Return the bypasses for the store; none while the wall clock is not known, so that none outlives its time."""
        if epoch_s is None:
            return {}
        return {name: [b.by, b.reason, b.until + epoch_s] for name, b in self.bypasses.items()}

    def restore_bypasses(self, saved: Mapping[str, Any], now: float, epoch_s: float | None) -> None:
        """Go on with bypasses whose time is not over; those that no row allows any more are dropped."""
        for name, (by, reason, until) in saved.items() if epoch_s is not None else ():
            self.bypass(name, Bypass(by, reason, until - (epoch_s or 0.0)), now)

    # ------------------------------------------------------------ what acts

    @property
    def rows(self) -> Iterator[Row]:
        return (interlock.row for interlock in self._all.values())

    @property
    def acting(self) -> list[str]:
        return list(self._acting)

    @property
    def acting_rows(self) -> list[Row]:
        return [self._all[name].row for name in self._acting]

    def latched(self) -> list[str]:
        return [name for name in self._acting if self._all[name].latch.state]

    def tripped(self) -> str:
        """Return the cause of the first trip that takes the whole pod down, or nothing."""
        acting = [row for row in self.acting_rows if row.trip and (row.does("racks_off") or row.does("all_off"))]
        first = next((row for row in acting if row.id == self.first_out), acting[0] if acting else None)
        return first.cause if first else ""

    def blocking(self) -> str:
        """Return the cause of a trip that keeps the pod from starting, or nothing."""
        return next((row.cause for row in self.acting_rows if row.trip and not row.rack), "")

    def cleared(self) -> bool:
        """True when no trip's condition is there any more."""
        return not any(self._all[name].there for name in self._awake if self._all[name].row.trip)

    def why_rack(self, rack: str) -> str:
        """Return the cause of the trip that takes ``rack`` off, or nothing."""
        return next((row.cause for row in self.acting_rows if row.trip and row.rack == rack), "")

    def racks_tripped(self) -> set[str]:
        return {row.rack for row in self.acting_rows if row.trip and row.rack}

    def racks_isolated(self) -> set[str]:
        """Return the racks whose water is to be shut off too, once they are off."""
        return {row.rack for row in self.acting_rows if row.rack and row.does("isolate")}


@dataclass(frozen=True, slots=True)
class Output:
    """A point the gate lets through, and how: default is deny, so what has no Output is never written.

    Attributes:
        low, high: limits of a number in the point's unit.
        up_per_s, down_per_s: fastest ramp of a number.
        min_move: a smaller change of a number is not written.
        pace_s: small moves of a number are not written more often, so that a ramp does not fill the bus.
        feedback: point that tells where a number stands when its own register can't be read.
        urgent_per_s: fastest rise of a number for an urgent demand.
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
    urgent_per_s: float = 0.0


@record
class Permits:
    """What interlocks and permissives leave open in one scan.

    Attributes:
        forbidden: (point, value) pairs that must not be written now, and why.
        floors: lowest value of an output now, towards cooling.
    """

    forbidden: Mapping[tuple[str, Value], str]
    floors: Mapping[str, float]


@record
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
        self._open = {name: points[name] for name in self._outputs if name in points and points[name].writable}
        self._refresh_s = refresh_s
        self._ramps: dict[str, Ramp] = {}
        self._last: dict[str, _Last] = {}
        self._asked_at: dict[str, float] = {}
        self._denied: dict[str, str] = {}
        self.gentle_until = float("-inf")

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
        output = self._open.get(demand.point)
        if output is None:
            return "not an output of this pod"
        if output.kind is Kind.FLAG:
            if not isinstance(demand.value, bool):
                return "not on or off"
            return permits.forbidden.get((demand.point, demand.value), "") if permits.forbidden else ""
        if isinstance(demand.value, bool | str) or not math.isfinite(demand.value):
            return "not a finite number"
        return ""

    def _write(self, output: Output, demand: Demand, permits: Permits, image: Image, now: float) -> Write | None:
        value, point = demand.value, output.point
        if self._unknown(output, value, image, now):
            return None
        if not isinstance(value, bool | str):
            target = clamp(float(value), permits.floors.get(point, output.low), output.high)
            value = self._ramped(output, target, image, now, urgent=demand.urgent)
        last = self._last.get(point)
        if last is None and image.usable(point) and self._same(output, image.value(point, otherwise=None), value):
            last = self._last[point] = _Last(value, now)
        if last is not None and now - last.at < self._refresh_s:
            if self._same(output, last.value, value):
                return None
            if now - last.at < output.pace_s and self._small(last.value, value):
                return None
        self._last[point] = _Last(value, now)
        return Write(point, value, output.safety, demand.reason)

    def _unknown(self, output: Output, value: Value, image: Image, now: float) -> bool:
        """Return whether it may still be read where an output stands, which its first write has to go by.

        What is to be switched off does not wait, and neither does a number that may jump.
        """
        point = output.point
        waits = value is True or (not isinstance(value, bool) and math.isfinite(output.up_per_s))
        if not waits or point in self._last or point in self._ramps or not self._open[point].readable:
            return False
        return not image.usable(point) and now - self._asked_at.setdefault(point, now) < REGISTER_S

    def _ramped(self, output: Output, target: float, image: Image, now: float, *, urgent: bool) -> float:
        """Return the next step to ``target``.

        The first one goes by register and feedback, whichever is more: a drive may run faster than it was told, by a
        rule of its own. Of a device whose register should be readable and isn't, the feedback alone may lie: there the
        target counts where it is more.
        """
        ramp = self._ramps.get(output.point)
        if ramp is None:
            told = image.numbers((output.point, output.feedback))
            stands = max(told, default=output.high if output.feedback else None)
            if stands is not None and self._open[output.point].readable and not image.usable(output.point):
                stands = max(stands, target)
            ramp = self._ramps[output.point] = Ramp(output.up_per_s, output.down_per_s, stands, now)
        gentle = now < self.gentle_until and not urgent and math.isfinite(output.up_per_s)
        most = GENTLE_PER_S if gentle else math.inf
        ramp.up_per_s = max(output.up_per_s, output.urgent_per_s) if urgent else min(output.up_per_s, most)
        ramp.down_per_s = min(output.down_per_s, most)
        return clamp(ramp.step(target, now), output.low, output.high)

    @staticmethod
    def _small(one: Value, other: Value) -> bool:
        """True for a move of a number that can wait for the output's pace; a flag never waits."""
        numbers = isinstance(one, float) and isinstance(other, float)
        return numbers and abs(float(one) - float(other)) < LARGE_MOVE

    @staticmethod
    def _same(output: Output, one: Value | None, other: Value) -> bool:
        if one is None or isinstance(one, bool | str) or isinstance(other, bool | str):
            return one == other
        return abs(one - other) <= output.min_move
