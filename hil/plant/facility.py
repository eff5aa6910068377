"""Facility water inside the pod: its pumps, two air-cooled chillers in parallel, buffer and pipes.

Start, least run and idle times of a chiller follow makers' documents: about 45 s from power to the first compressor
(Trane RTAE-SVX001B p.61), ten minutes between stop and start (Saia chiller sequencer defaults). The rest is engineering
judgement. A dry cooler is not modelled yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.plant.hydraulics import Drive
from hil.plant.thermal import WATER, Pipe

DESIGN_WATER = 1600 / 60  # L/s
DESIGN_SPEED = 0.85
TWO_PUMPS = 1.12  # two in parallel give little more than one against the same pipes
FLOW_LAG_S = 0.5

CAPACITY_KW = 650.0  # at 20 degrees leaving water and 35 degrees ambient
LEAST_LOAD, FIRST_LOAD = 0.15, 0.20
LOAD_UP, LOAD_DOWN = 1 / 120, 2 / 120  # per second
LOAD_GAIN, LOAD_INTEGRAL_S = 0.06, 40.0  # the machine's own leaving-water loop, per K
CUT_OUT_K, CUT_IN_K = 2.5, 1.0
LEAST_FLOW = 0.2  # of the design flow; below it the machine unloads
FULL_LOAD_COP = 4.8


@dataclass(slots=True)
class Chiller:
    """A chiller with its own controls.

    Inputs: ``run``, ``setpoint_c``, ``tripped``. Outputs: ``running`` (started up and enabled), ``load`` (0 to 1),
    ``leaving_c``, ``heat_kw`` taken from the water, ``power_kw``.
    """

    start_s: float = 60.0
    least_idle_s: float = 600.0
    run: bool = False
    setpoint_c: float = 20.0
    tripped: bool = False
    running: bool = False
    load: float = 0.0
    leaving_c: float = 20.0
    heat_kw: float = 0.0
    waited_s: float = 0.0
    idle_s: float = float("inf")
    integral: float = 0.0
    cut_out: bool = False

    def step(self, entering_c: float, flow: float, ambient_c: float, dt: float) -> None:
        """Advance with ``flow`` L/s of water of ``entering_c`` through it."""
        self._sequence(dt)
        if not self.running or flow < LEAST_FLOW * DESIGN_WATER / 2:
            self.load, self.integral, self.heat_kw = 0.0, 0.0, 0.0
            self.leaving_c = entering_c
            return
        capacity = CAPACITY_KW * (1 + 0.02 * (self.leaving_c - 20) - 0.01 * (ambient_c - 35))
        self._modulate(dt)
        self.heat_kw = max(0.0, self.load * capacity)
        self.leaving_c = entering_c - self.heat_kw / (flow * WATER)

    @property
    def power_kw(self) -> float:
        return self.heat_kw / FULL_LOAD_COP + (2.0 if self.running else 0.1)

    def _sequence(self, dt: float) -> None:
        if self.run and not self.tripped:
            self.waited_s += dt
            if not self.running and self.waited_s >= self.start_s and self.idle_s >= self.least_idle_s:
                self.running, self.load, self.integral, self.cut_out = True, FIRST_LOAD, FIRST_LOAD, False
        else:
            self.idle_s = 0.0 if self.running else self.idle_s
            self.running, self.waited_s = False, 0.0
        if not self.running:
            self.idle_s += dt

    def _modulate(self, dt: float) -> None:
        error = self.leaving_c - self.setpoint_c
        self.cut_out = error < -CUT_OUT_K or (self.cut_out and error < CUT_IN_K)
        if self.cut_out:
            self.load = self.integral = 0.0
            return
        self.integral = min(1.0, max(LEAST_LOAD, self.integral + LOAD_GAIN / LOAD_INTEGRAL_S * error * dt))
        wanted = min(1.0, max(LEAST_LOAD, self.integral + LOAD_GAIN * error))
        self.load = min(self.load + LOAD_UP * dt, max(self.load - LOAD_DOWN * dt, wanted))


class Facility:
    """Pumps, return pipe, chillers, buffer, supply pipe. ``flow`` in L/s, ``supply_c`` at the heat exchanger."""

    def __init__(self, pumps: int, chillers: int, start_c: float) -> None:
        self.pumps = [Drive() for _ in range(pumps)]
        self.chillers = [Chiller(leaving_c=start_c) for _ in range(chillers)]
        self.back = Pipe(300.0, 4, start_c, WATER)
        self.buffer = Pipe(2000.0, 4, start_c, WATER)
        self.supply = Pipe(300.0, 4, start_c, WATER)
        self.flow = 0.0

    @property
    def supply_c(self) -> float:
        return self.supply.outlet

    @property
    def return_c(self) -> float:
        return self.back.outlet

    @property
    def energy(self) -> float:
        return self.back.energy + self.buffer.energy + self.supply.energy

    @property
    def removed_kw(self) -> float:
        return sum(chiller.heat_kw for chiller in self.chillers)

    def pump_flow(self) -> float:
        """Advance nothing; return the flow the pumps make at their present speeds."""
        speeds = [pump.speed for pump in self.pumps]
        fastest = max(speeds, default=0.0)
        helped = TWO_PUMPS if sum(speed > 0.5 * fastest for speed in speeds) > 1 else 1.0
        return DESIGN_WATER * fastest / DESIGN_SPEED * helped

    def step_pumps(self, dt: float) -> None:
        for pump in self.pumps:
            pump.step(dt)
        self.flow += (self.pump_flow() - self.flow) * dt / (FLOW_LAG_S + dt)

    def step_water(self, mixed_c: float, ambient_c: float, dt: float) -> None:
        """Move the water on: ``mixed_c`` comes back from the exchanger and the room."""
        entering, chilled, buffered = self.back.outlet, self.back.outlet, self.buffer.outlet
        _run(self.chillers, entering, self.flow, ambient_c, dt)
        if self.flow > 0.01:
            chilled = entering - self.removed_kw / (self.flow * WATER)
        self.supply.step(self.flow, buffered, dt)
        self.buffer.step(self.flow, chilled, dt)
        self.back.step(self.flow, mixed_c, dt)


def _run(chillers: Sequence[Chiller], entering: float, flow: float, ambient_c: float, dt: float) -> None:
    """Step the machines; the running ones share the water, the others are shut off from it."""
    sharing = max(1, sum(chiller.running for chiller in chillers))
    for chiller in chillers:
        chiller.step(entering, flow / sharing, ambient_c, dt)
