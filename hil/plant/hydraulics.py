"""Drives, valves, and the flow that pumps and pipes make together.

Figures are engineering judgement for a pod of 1040 kW with three half-duty pumps, unless a source is named. Flows are
in L/s and pressures in kPa inside the plant.
"""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.kernel import Numbers, kernel
from hil.plant.part import Flag, Number, Part, Row

DESIGN_FLOW = 1300 / 60  # L/s
PUMP_SHUTOFF = 420.0  # kPa at full speed and no flow
PUMP_DROOP = 83.45 / 10.833**2  # kPa per (L/s)^2 of one half-duty pump
MAIN_DROP = 100.0  # kPa at design flow: heat exchanger, strainer, pipes
RACK_DROP = 120.0  # kPa at design flow; Open Rack reservoir and pump units allow 276 kPa
FLOW_LAG_S = 0.4  # inertia of the water, rho L / A x Q / dP is about 0.5 s
SHUT = 1e-4  # share of its conductance that a shut rack valve keeps
BISECTIONS = 28

FWS_FLOW = 1600 / 60  # L/s
FWS_SHUTOFF, FWS_DROP = 380.0, 200.0  # kPa; one pump makes the design flow at FWS_SPEED
FWS_SPEED = 0.85
FWS_DROOP = (FWS_SHUTOFF * FWS_SPEED**2 - FWS_DROP) / FWS_FLOW**2
FWS_LAG_S = 0.5
FWS_KW = 15.0  # of one pump, at FWS_SPEED

MIN_SPEED, RAMP_UP, RAMP_DOWN = 0.30, 0.20, 0.10  # share of full speed, and per second
START_DELAY_S = 0.5
COAST_S = 1.2  # a motor without power loses its speed in proportion to it
STILL = 0.005
BEST_FLOW = 12.745  # L/s at full speed where a half-duty pump is most efficient
BEST_EFFICIENCY = 0.62
NO_FLOW_KW = 0.25  # share of its usual power that a pump takes when it moves nothing
BACKWARDS = 0.25  # share of its head that a centrifugal pump makes when it turns the wrong way
FAN_KW = 4.0  # of one fan at full speed
AIR_LPS_PER_KW = 70.0  # 12 K between cold and hot aisle
FAN_SHUTOFF, FAN_DROOP, AIR_DROP = 1.0, 0.2, 0.52  # kPa: the shape of the pumps' curves, at a fan's pressures
LEVEL_GONE_L = 5.0  # below this the pumps begin to draw air
ARRIVED = 1e-9


@kernel
def step_drive(x: Numbers, d: int, dt: float) -> None:
    """Move one motor on its frequency converter: start delay, ramps, or coasting without power."""
    if x[at.DRIVE_TRIPPED + d] > 0 or x[at.DRIVE_POWERED + d] == 0:
        x[at.DRIVE_SPEED + d] *= 1 - dt / COAST_S
        x[at.DRIVE_WAITED_S + d] = 0.0
        return
    run, speed = x[at.DRIVE_RUN + d] > 0, x[at.DRIVE_SPEED + d]
    x[at.DRIVE_WAITED_S + d] = x[at.DRIVE_WAITED_S + d] + dt if run else 0.0
    target = 0.0
    if run:
        target = speed
        if x[at.DRIVE_WAITED_S + d] >= START_DELAY_S:
            target = min(x[at.DRIVE_LIMIT + d], 1.0, max(MIN_SPEED, x[at.DRIVE_COMMAND + d]))
    up, down = speed + RAMP_UP * dt, speed - RAMP_DOWN * dt
    x[at.DRIVE_SPEED + d] = min(target, up) if target > speed else max(target, down)


@kernel
def step_valve(x: Numbers, v: int, dt: float) -> None:
    """Move one motor valve: it starts when the command is a deadband away, and then travels the whole way."""
    position, command = x[at.VALVE_POSITION + v], min(1.0, max(0.0, x[at.VALVE_COMMAND + v]))
    reach = dt / (x[at.VALVE_STROKE_S + v] * x[at.VALVE_SLOWNESS + v])
    target = command
    if x[at.VALVE_FAILS_OPEN + v] > 0:
        target = 1.0
    elif x[at.VALVE_FAILS_CLOSED + v] > 0:
        target = 0.0
    away = abs(target - position)
    end = target <= 0.0 or target >= 1.0
    if away > x[at.VALVE_DEADBAND + v] or (end and away > 0):
        x[at.VALVE_MOVING + v] = 1.0
    if x[at.VALVE_JAMMED + v] == 0 and x[at.VALVE_MOVING + v] > 0:
        position += min(reach, max(-reach, target - position))
        x[at.VALVE_POSITION + v] = position
    if abs(target - position) < ARRIVED:
        x[at.VALVE_MOVING + v] = 0.0
    if x[at.VALVE_LYING + v] > 0:
        step = dt / x[at.VALVE_STROKE_S + v]
        x[at.VALVE_FEEDBACK + v] += min(step, max(-step, command - x[at.VALVE_FEEDBACK + v]))
    else:
        x[at.VALVE_FEEDBACK + v] = position


@kernel
def shutoff_kpa(x: Numbers, d: int, full: float) -> float:
    """Return a pump's head without flow at its present speed."""
    if x[at.DRIVE_NO_FLOW + d] > 0:
        return 0.0
    head = full * x[at.DRIVE_WEAR + d] * x[at.DRIVE_SPEED + d] ** 2
    return head * BACKWARDS if x[at.DRIVE_REVERSED + d] > 0 else head


@kernel
def balance(x: Numbers, first: int, pumps: int, full: float, droop: float, resistance: float) -> float:
    """Return the pressure at which the pumps together give what the loop takes; check valves keep flows positive."""
    low, high = 0.0, 0.0
    for d in range(first, first + pumps):
        high = max(high, shutoff_kpa(x, d, full))
    if high <= 0.0:
        return 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        given = 0.0
        for d in range(first, first + pumps):
            given += math.sqrt(max(0.0, shutoff_kpa(x, d, full) - middle) / droop)
        if given * given * resistance > middle:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@kernel
def pump_power_kw(speed: float, flow: float, head: float, size: float) -> float:
    """Return what one pump takes: hydraulic power over its efficiency, friction and the converter's own need.

    ``size`` is the pump's design flow over that of a half-duty pump of the reference pod.
    """
    if speed < STILL:
        return 0.0
    off = flow / (size * speed * BEST_FLOW) - 1
    efficiency = BEST_EFFICIENCY * max(0.25, 1 - off * off)
    return max(0.0, head) * flow / (1000 * efficiency) + size * (0.6 * speed**3 + 0.25)


@kernel
def step_pump_kw(x: Numbers, d: int, pump_lps: float) -> None:
    """Set a TCS pump's electric power."""
    size, speed = pump_lps / (DESIGN_FLOW / 2), x[at.DRIVE_SPEED + d]
    if x[at.DRIVE_TRIPPED + d] > 0 or x[at.DRIVE_POWERED + d] == 0:
        x[at.DRIVE_KW + d] = 0.0
    elif x[at.DRIVE_NO_FLOW + d] > 0:
        usual = pump_lps * speed / 1.1733  # three pumps at design flow turn at 0.7825 with two thirds of it each
        head = x[at.SHUTOFF_KPA] * speed**2 - x[at.DROOP] * usual**2
        x[at.DRIVE_KW + d] = NO_FLOW_KW * pump_power_kw(speed, usual, head, size)
    else:
        flow = x[at.DRIVE_LPS + d]
        head = x[at.SHUTOFF_KPA] * x[at.DRIVE_WEAR + d] * speed**2 - x[at.DROOP] * flow**2
        x[at.DRIVE_KW + d] = pump_power_kw(speed, flow, head, size)


@kernel
def step_tcs(x: Numbers, dt: float) -> None:
    """Advance the flow of the TCS: pumps in parallel against a closed loop with racks in parallel."""
    racks, pumps, design = int(x[at.RACKS]), int(x[at.TCS_PUMPS]), x[at.DESIGN_LPS]
    each = design / racks / math.sqrt(x[at.RACK_KPA])
    total = 0.0
    for r in range(racks):
        x[at.RACK_LPS + r] = each * max(SHUT, x[at.VALVE_POSITION + 1 + r] * x[at.RACK_BLOCKAGE + r])
        total += x[at.RACK_LPS + r]
    resistance = x[at.STRAINER] * x[at.MAIN_KPA] / design**2 + 1 / total**2
    drawn = min(1.0, x[at.LEVEL_L] / LEVEL_GONE_L)
    full = x[at.SHUTOFF_KPA] * drawn
    x[at.HEAD_KPA] = balance(x, 0, pumps, full, x[at.DROOP], resistance)
    flow = 0.0
    for d in range(pumps):
        steady = math.sqrt(max(0.0, shutoff_kpa(x, d, full) - x[at.HEAD_KPA]) / x[at.DROOP])
        x[at.DRIVE_LPS + d] += (steady - x[at.DRIVE_LPS + d]) * dt / (FLOW_LAG_S + dt)
        flow += x[at.DRIVE_LPS + d]
        step_pump_kw(x, d, math.sqrt(83.45 / x[at.DROOP]))
    x[at.FLOW_LPS] = flow
    x[at.RACK_DROP_KPA] = (flow / total) ** 2
    for r in range(racks):
        x[at.RACK_LPS + r] *= flow / total


@kernel
def step_air(x: Numbers, dt: float) -> None:
    """Advance the flow of air: fans in parallel against filter, coil and racks."""
    fans, design = int(x[at.FANS]), x[at.DESIGN_LPS]
    full = 0.0 if x[at.FANS_LOST] > 0 else x[at.SHUTOFF_KPA]
    x[at.HEAD_KPA] = balance(x, at.FAN_DRIVE, fans, full, x[at.DROOP], x[at.STRAINER] * x[at.MAIN_KPA] / design**2)
    flow = 0.0
    for d in range(at.FAN_DRIVE, at.FAN_DRIVE + fans):
        steady = math.sqrt(max(0.0, shutoff_kpa(x, d, full) - x[at.HEAD_KPA]) / x[at.DROOP])
        x[at.DRIVE_LPS + d] += (steady - x[at.DRIVE_LPS + d]) * dt / (FLOW_LAG_S + dt)
        flow += x[at.DRIVE_LPS + d]
    x[at.FLOW_LPS] = flow


@kernel
def step_fws(x: Numbers, dt: float) -> None:
    """Advance the flow of facility water: from the pod's own pumps, or as it comes from outside."""
    if x[at.FROM_OUTSIDE] > 0:
        x[at.FWS_LPS] += (x[at.OUTSIDE_LPS] - x[at.FWS_LPS]) * dt / (FWS_LAG_S + dt)
        return
    pumps, design = int(x[at.FWS_PUMPS]), x[at.FWS_DESIGN_LPS]
    droop, resistance = x[at.FWS_DROOP], FWS_DROP / design**2
    pressure = balance(x, at.FWS_DRIVE, pumps, FWS_SHUTOFF, droop, resistance)
    flow = 0.0
    for d in range(at.FWS_DRIVE, at.FWS_DRIVE + pumps):
        steady = math.sqrt(max(0.0, shutoff_kpa(x, d, FWS_SHUTOFF) - pressure) / droop)
        x[at.DRIVE_LPS + d] += (steady - x[at.DRIVE_LPS + d]) * dt / (FWS_LAG_S + dt)
        flow += x[at.DRIVE_LPS + d]
        idle = x[at.DRIVE_TRIPPED + d] > 0 or x[at.DRIVE_POWERED + d] == 0
        share = NO_FLOW_KW if x[at.DRIVE_NO_FLOW + d] > 0 else 1.0
        x[at.DRIVE_KW + d] = 0.0 if idle else share * x[at.SCALE] * FWS_KW * (x[at.DRIVE_SPEED + d] / FWS_SPEED) ** 3
    x[at.FWS_LPS] = flow


@kernel
def step_movers(x: Numbers, dt: float) -> None:
    """Move every drive and valve of the pod."""
    for d in range(int(x[at.TCS_PUMPS])):
        step_drive(x, d, dt)
    for d in range(at.FWS_DRIVE, at.FWS_DRIVE + int(x[at.FWS_PUMPS])):
        step_drive(x, d, dt)
    for d in range(at.FAN_DRIVE, at.FAN_DRIVE + int(x[at.FANS])):
        step_drive(x, d, dt)
        idle = x[at.DRIVE_TRIPPED + d] > 0 or x[at.DRIVE_POWERED + d] == 0
        share = NO_FLOW_KW if x[at.DRIVE_NO_FLOW + d] > 0 else 1.0
        x[at.DRIVE_KW + d] = 0.0 if idle else share * FAN_KW * x[at.DRIVE_SPEED + d] ** 3
    for v in range(1 if x[at.AIR_COOLED] > 0 else 1 + int(x[at.RACKS])):
        step_valve(x, v, dt)


class Drive(Part):
    """The motor of a pump or fan on its frequency converter.

    Inputs: ``run``, ``command`` (share of full speed). Outputs: ``speed`` (share), ``running``, ``powered``,
    ``power_kw``, ``flow_lpm``. Faults, neutral value in brackets: ``tripped`` (False: coasts until it is reset),
    ``unpowered`` (False), ``no_flow`` (False: spins and moves nothing), ``wear`` (1, scales the head), ``reversed``
    (False), ``current_limit`` (1, greatest speed).
    """

    __slots__ = ()
    run, command = Flag(at.DRIVE_RUN), Number(at.DRIVE_COMMAND)
    tripped, unpowered, no_flow = Flag(at.DRIVE_TRIPPED), Flag(at.DRIVE_UNPOWERED), Flag(at.DRIVE_NO_FLOW)
    wear, reversed, current_limit = Number(at.DRIVE_WEAR), Flag(at.DRIVE_REVERSED), Number(at.DRIVE_LIMIT)
    speed, waited_s, power_kw = Number(at.DRIVE_SPEED), Number(at.DRIVE_WAITED_S), Number(at.DRIVE_KW)
    powered = Flag(at.DRIVE_POWERED)

    @property
    def running(self) -> bool:
        able = self.powered and not self.tripped
        return able and (self.speed > STILL or (self.run and self.waited_s >= START_DELAY_S))

    @property
    def flow_lpm(self) -> float:
        return 60 * float(self.x[at.DRIVE_LPS + self.i])


class Valve(Part):
    """A motor valve. Input ``command``, outputs ``position`` and ``feedback`` (what it shows), all 0 to 1.

    Faults, neutral value in brackets: ``jammed`` (False), ``slowness`` (1, times the stroke), ``lying`` (False: the
    feedback follows the command), ``fails_open``, ``fails_closed`` (False), ``deadband`` (0.004).
    """

    __slots__ = ()
    command, position, feedback = Number(at.VALVE_COMMAND), Number(at.VALVE_POSITION), Number(at.VALVE_FEEDBACK)
    stroke_s, deadband, slowness = Number(at.VALVE_STROKE_S), Number(at.VALVE_DEADBAND), Number(at.VALVE_SLOWNESS)
    jammed, lying = Flag(at.VALVE_JAMMED), Flag(at.VALVE_LYING)
    fails_open, fails_closed = Flag(at.VALVE_FAILS_OPEN), Flag(at.VALVE_FAILS_CLOSED)


class Loop(Part):
    """The flow of the TCS: ``flow`` and each pump's and rack's (L/s), ``head`` and ``rack_drop`` (kPa).

    Fault ``strainer`` (1) scales the resistance of everything but the racks.
    """

    __slots__ = ()
    flow, head, rack_drop = Number(at.FLOW_LPS), Number(at.HEAD_KPA), Number(at.RACK_DROP_KPA)
    strainer = Number(at.STRAINER)

    @property
    def pump_flows(self) -> Row:
        return Row(self.x, at.DRIVE_LPS, int(self.x[at.TCS_PUMPS]))

    @property
    def rack_flows(self) -> Row:
        return Row(self.x, at.RACK_LPS, int(self.x[at.RACKS]))
