"""Pumps, drives, valves and the flow they make together.

Figures are engineering judgement for a pod of 1040 kW with three half-duty pumps, unless a source is named. Flows are
in L/s and pressures in kPa inside the plant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

DESIGN_FLOW = 1300 / 60  # L/s
PUMP_SHUTOFF = 420.0  # kPa at full speed and no flow
PUMP_DROOP = 83.45 / 10.833**2  # kPa per (L/s)^2 of one pump
MAIN_DROP = 100.0  # kPa at design flow: heat exchanger, strainer, pipes
RACK_DROP = 120.0  # kPa at design flow; Open Rack reservoir and pump units allow 276 kPa
FLOW_LAG_S = 0.4  # inertia of the water, rho L / A x Q / dP is about 0.5 s
SHUT = 1e-4  # share of its conductance that a shut rack valve keeps
BISECTIONS = 28

MIN_SPEED, RAMP_UP, RAMP_DOWN = 0.30, 0.20, 0.10  # share of full speed, and per second
START_DELAY_S = 0.5
COAST_S = 1.2  # a motor without power slows as exp(-t / 1.2 s)
STILL = 0.005
BEST_FLOW = 12.745  # L/s at full speed where a pump is most efficient
BEST_EFFICIENCY = 0.62


@dataclass(slots=True)
class Drive:
    """A pump's motor on its frequency converter.

    Inputs: ``run``, ``command`` (share of full speed), ``tripped`` (fault: coasts until it is reset).
    Output: ``speed``, share of full speed.
    """

    run: bool = False
    command: float = 0.0
    tripped: bool = False
    speed: float = 0.0
    waited_s: float = 0.0

    @property
    def running(self) -> bool:
        return not self.tripped and (self.speed > STILL or (self.run and self.waited_s >= START_DELAY_S))

    def step(self, dt: float) -> None:
        if self.tripped:
            self.speed *= math.exp(-dt / COAST_S)
            self.waited_s = 0.0
            return
        self.waited_s = self.waited_s + dt if self.run else 0.0
        target = 0.0
        if self.run:
            target = min(1.0, max(MIN_SPEED, self.command)) if self.waited_s >= START_DELAY_S else self.speed
        self.speed = min(target, self.speed + RAMP_UP * dt) if target > self.speed else self._slower(target, dt)

    def _slower(self, target: float, dt: float) -> float:
        return max(target, self.speed - RAMP_DOWN * dt)


@dataclass(slots=True)
class Valve:
    """A motor valve. Input ``command``, output ``position``, both 0 to 1; ``jammed`` holds it where it is."""

    stroke_s: float
    command: float = 0.0
    position: float = 0.0
    jammed: bool = False

    def step(self, dt: float) -> None:
        if not self.jammed:
            reach = dt / self.stroke_s
            self.position += min(reach, max(-reach, self.command - self.position))


def pump_power_kw(speed: float, flow: float) -> float:
    """Return what one pump takes: hydraulic power over its efficiency, friction and the converter's own need."""
    if speed < STILL:
        return 0.0
    head = max(0.0, PUMP_SHUTOFF * speed**2 - PUMP_DROOP * flow**2)
    ratio = (flow / speed - BEST_FLOW) / BEST_FLOW
    efficiency = BEST_EFFICIENCY * max(0.25, 1 - ratio**2)
    return head * flow / (1000 * efficiency) + 0.6 * speed**3 + 0.25


@dataclass(slots=True)
class Loop:
    """Pumps in parallel against a closed loop with racks in parallel.

    Outputs: ``flow`` through the loop, ``pump_flows``, ``rack_flows`` (L/s), ``rack_drop``, ``head`` (kPa).
    ``strainer`` scales the resistance of everything but the racks.
    """

    racks: int
    flow: float = 0.0
    head: float = 0.0
    rack_drop: float = 0.0
    strainer: float = 1.0
    pump_flows: list[float] = field(default_factory=list)
    rack_flows: list[float] = field(default_factory=list)

    def step(self, speeds: Sequence[float], openings: Sequence[float], dt: float) -> None:
        """Advance by ``dt`` seconds with these pump speeds and rack valve openings (0 to 1)."""
        share = math.sqrt(1 / RACK_DROP) * DESIGN_FLOW / self.racks
        conductances = [share * max(SHUT, opening) for opening in openings]
        total = sum(conductances)
        resistance = self.strainer * MAIN_DROP / DESIGN_FLOW**2 + 1 / total**2
        heads = [PUMP_SHUTOFF * speed * speed for speed in speeds]
        self.head = _balance(heads, resistance)
        steady = [math.sqrt(max(0.0, head - self.head) / PUMP_DROOP) for head in heads]
        wanted = sum(steady)
        self.flow += (wanted - self.flow) * dt / (FLOW_LAG_S + dt)
        scale = self.flow / wanted if wanted > 0 else 0.0
        self.pump_flows = [flow * scale for flow in steady]
        self.rack_flows = [self.flow * conductance / total for conductance in conductances]
        self.rack_drop = (self.flow / total) ** 2


def _balance(heads: Sequence[float], resistance: float) -> float:
    """Return the pressure at which the pumps together give what the loop takes; check valves keep flows positive."""
    low, high = 0.0, max(heads, default=0.0)
    if high <= 0.0:
        return 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        given = sum(math.sqrt((head - middle) / PUMP_DROOP) for head in heads if head > middle)
        if given * given * resistance > middle:
            low = middle
        else:
            high = middle
    return (low + high) / 2
