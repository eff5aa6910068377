"""Facility water inside the pod: dry cooler, air-cooled chillers in parallel, buffer and pipes; or water from outside.

Start, least run and idle times of a chiller follow makers' documents: about 45 s from power to the first compressor
(Trane RTAE-SVX001B p.61), ten minutes between stop and start (Saia chiller sequencer defaults). The rest is engineering
judgement.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil.plant import slots as at
from hil.plant.hydraulics import Drive
from hil.plant.kernel import Numbers, kernel
from hil.plant.part import Flag, Number, Part
from hil.plant.thermal import WATER, advect

CAPACITY_KW = 650.0  # at 20 degrees leaving water and 35 degrees ambient
START_S, LEAST_IDLE_S, LEAST_ON_S, START_TO_START_S = 60.0, 600.0, 300.0, 600.0
BOOT_S = 25.0  # of its controls, when power comes back
LEAST_LOAD, FIRST_LOAD = 0.15, 0.20
LOAD_UP, LOAD_DOWN = 1 / 120, 2 / 120  # per second
LOAD_GAIN, LOAD_INTEGRAL_S = 0.06, 40.0  # the machine's own leaving-water loop, per K
CUT_OUT_K, CUT_IN_K = 2.5, 1.0
LEAST_FLOW, FLOW_FILTER_S = 0.3, 6.0  # share of its design flow; Trane RTAE-SVX001B filters the switch for 6 s
CARNOT = 0.50
PINCH_COLD_K, PINCH_HOT_K = 3.0, 12.0
STANDBY_KW = 0.1
DRY_SHARE, DRY_POWER, DRY_SLEW, DRY_KW, DRY_BAND_K = 0.65, 0.6, 0.02, 25.0, 2.0
KELVIN = 273.15


@kernel
def ready(x: Numbers, c: int) -> bool:
    """Return whether a chiller has power, flow and no fault, and is asked to run."""
    powered = x[at.CHILLER_POWERED + c] > 0 and x[at.CHILLER_BOOT_S + c] >= BOOT_S
    asked = x[at.CHILLER_RUN + c] > 0 and x[at.CHILLER_TRIPPED + c] == 0
    return powered and asked and x[at.CHILLER_NO_FLOW_S + c] < FLOW_FILTER_S


@kernel
def start_compressor(x: Numbers, c: int) -> None:
    """Let the compressor begin at its first load."""
    x[at.CHILLER_COMPRESSOR + c], x[at.CHILLER_RUNNING + c] = 1.0, 1.0
    x[at.CHILLER_LOAD + c] = x[at.CHILLER_INTEGRAL + c] = FIRST_LOAD
    x[at.CHILLER_ON_S + c] = x[at.CHILLER_SINCE_START_S + c] = 0.0
    x[at.CHILLER_STARTS + c] += 1


@kernel
def sequence(x: Numbers, c: int, dt: float) -> None:
    """Start or stop one chiller, and count its times."""
    on = x[at.CHILLER_COMPRESSOR + c] > 0
    x[at.CHILLER_SINCE_START_S + c] += dt
    if on:
        x[at.CHILLER_ON_S + c] += dt
    else:
        x[at.CHILLER_IDLE_S + c] += dt
    able = ready(x, c)
    if not able:
        x[at.CHILLER_RUNNING + c], x[at.CHILLER_CALL + c] = 0.0, 1.0
    if on and not (able and x[at.CHILLER_CALL + c] > 0):
        x[at.CHILLER_COMPRESSOR + c] = x[at.CHILLER_LOAD + c] = x[at.CHILLER_INTEGRAL + c] = 0.0
        x[at.CHILLER_IDLE_S + c] = 0.0
    if on or not able or x[at.CHILLER_CALL + c] == 0:
        x[at.CHILLER_STARTING_S + c] = 0.0
        return
    x[at.CHILLER_STARTING_S + c] += dt
    rested = x[at.CHILLER_IDLE_S + c] >= x[at.CHILLER_LEAST_IDLE_S + c]
    spaced = x[at.CHILLER_SINCE_START_S + c] >= x[at.CHILLER_CYCLE_S + c]
    if not (rested and spaced):
        x[at.CHILLER_STARTING_S + c] = min(x[at.CHILLER_STARTING_S + c], dt)
    if x[at.CHILLER_STARTING_S + c] >= x[at.CHILLER_START_S + c] - 1e-6:
        start_compressor(x, c)


@kernel
def modulate(x: Numbers, c: int, dt: float) -> None:
    """Move a running chiller's load towards what its leaving water wants, and heed its thermostat."""
    error = x[at.CHILLER_LEAVING_C + c] - x[at.CHILLER_SETPOINT_C + c]
    if x[at.CHILLER_COMPRESSOR + c] == 0:
        if error > CUT_IN_K:
            x[at.CHILLER_CALL + c] = 1.0
        return
    load = x[at.CHILLER_LOAD + c]
    served = x[at.CHILLER_ON_S + c] >= x[at.CHILLER_LEAST_ON_S + c]
    if error < -CUT_OUT_K and load <= LEAST_LOAD + 1e-9 and served:
        x[at.CHILLER_CALL + c] = 0.0
    integral = x[at.CHILLER_INTEGRAL + c] + LOAD_GAIN / LOAD_INTEGRAL_S * error * dt
    x[at.CHILLER_INTEGRAL + c] = min(1.0, max(LEAST_LOAD, integral))
    wanted = min(1.0, max(LEAST_LOAD, x[at.CHILLER_INTEGRAL + c] + LOAD_GAIN * error))
    x[at.CHILLER_LOAD + c] = min(load + LOAD_UP * dt, max(load - LOAD_DOWN * dt, wanted))


@kernel
def coefficient(leaving_c: float, ambient_c: float, load: float) -> float:
    """Return kW of cold per kW of power: a share of Carnot's, and of full load's at part load."""
    cold, hot = leaving_c - PINCH_COLD_K + KELVIN, ambient_c + PINCH_HOT_K + KELVIN
    part = 0.85 + 0.55 * load - 0.40 * load * load
    return CARNOT * cold / max(5.0, hot - cold) * part


@kernel
def cool(x: Numbers, c: int, entering_c: float, flow: float) -> None:
    """Set what one chiller takes from its share of the water, and the power it needs for that."""
    if x[at.CHILLER_COMPRESSOR + c] == 0 or flow < 1e-6:
        x[at.CHILLER_HEAT_KW + c], x[at.CHILLER_LEAVING_C + c] = 0.0, entering_c
        x[at.CHILLER_ELECTRIC_KW + c] = STANDBY_KW if x[at.CHILLER_POWERED + c] > 0 else 0.0
        return
    leaving, ambient, load = x[at.CHILLER_LEAVING_C + c], x[at.AMBIENT_C], x[at.CHILLER_LOAD + c]
    capacity = x[at.CHILLER_KW] * x[at.CHILLER_CAPACITY + c]
    heat = max(0.0, load * capacity * (1 + 0.02 * (leaving - 20) - 0.01 * (ambient - 35)))
    heat = min(heat, flow * WATER * max(0.0, entering_c - 2.0))  # its frost guard
    x[at.CHILLER_HEAT_KW + c] = heat
    x[at.CHILLER_LEAVING_C + c] = entering_c - heat / (flow * WATER)
    x[at.CHILLER_ELECTRIC_KW + c] = heat / coefficient(leaving, ambient, load)


@kernel
def step_chillers(x: Numbers, entering_c: float, dt: float) -> float:
    """Step the machines; those that run share the water. Return the kW they take."""
    count, flow = int(x[at.CHILLERS]), x[at.FWS_LPS]
    sharing, heat = 0.0, 0.0
    least = LEAST_FLOW * x[at.FWS_DESIGN_LPS]
    for c in range(count):
        sharing += x[at.CHILLER_COMPRESSOR + c]
    for c in range(count):
        powered = x[at.CHILLER_POWERED + c] > 0
        x[at.CHILLER_BOOT_S + c] = x[at.CHILLER_BOOT_S + c] + dt if powered else 0.0
        x[at.CHILLER_NO_FLOW_S + c] = x[at.CHILLER_NO_FLOW_S + c] + dt if flow < least else 0.0
        sequence(x, c, dt)
        modulate(x, c, dt)
        cool(x, c, entering_c, flow / max(1.0, sharing))
        heat += x[at.CHILLER_HEAT_KW + c]
    return heat


@kernel
def step_dry_cooler(x: Numbers, entering_c: float, dt: float) -> float:
    """Step the dry cooler upstream of the chillers; return the kW that it takes."""
    setpoint = x[at.CHILLER_SETPOINT_C]
    target = x[at.DRY_COMMAND]
    if x[at.DRY_AUTO] > 0:  # its own controls keep the chillers' set point, and rest where the air is no help
        helps = entering_c > x[at.AMBIENT_C] + 1.0
        target = (entering_c - setpoint) / DRY_BAND_K if helps else 0.0
    if x[at.DRY_TRIPPED] > 0 or (x[at.FEED_LIVE] == 0 and x[at.FEED_LIVE + 1] == 0):
        target = 0.0
    reach = DRY_SLEW * dt
    x[at.DRY_FAN] += min(reach, max(-reach, min(1.0, max(0.0, target)) - x[at.DRY_FAN]))
    x[at.DRY_KW] = DRY_KW * x[at.SCALE] * x[at.DRY_FAN] ** 3
    share = DRY_SHARE * x[at.DRY_CAPACITY] * x[at.DRY_FAN] ** DRY_POWER
    heat = share * x[at.FWS_LPS] * WATER * max(0.0, entering_c - x[at.AMBIENT_C])
    x[at.DRY_HEAT_KW] = heat
    return heat


@kernel
def follow_outside(x: Numbers) -> None:
    """Set temperature and flow of water from outside as its profile says, between its points on a straight line."""
    points, now = int(x[at.OUTSIDE_POINTS]), x[at.NOW_S]
    if points == 0:
        return
    last = 0
    while last + 1 < points and x[at.OUTSIDE_AT_S + last + 1] <= now:
        last += 1
    share, after = 0.0, min(last + 1, points - 1)
    span = x[at.OUTSIDE_AT_S + after] - x[at.OUTSIDE_AT_S + last]
    if span > 0:
        share = min(1.0, max(0.0, (now - x[at.OUTSIDE_AT_S + last]) / span))
    x[at.OUTSIDE_C] = x[at.OUTSIDE_AT_C + last] * (1 - share) + x[at.OUTSIDE_AT_C + after] * share
    x[at.OUTSIDE_LPS] = x[at.OUTSIDE_AT_LPS + last] * (1 - share) + x[at.OUTSIDE_AT_LPS + after] * share


@kernel
def returned_c(x: Numbers, doors_kw: float) -> float:
    """Return the water's temperature where exchanger, bypass and rear doors come together, before this step."""
    flow, cold = x[at.FWS_LPS], x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
    if flow < 1e-9:
        return cold
    return cold + doors_kw / (WATER * flow)


@kernel
def step_water(x: Numbers, mixed: float, dt: float) -> None:
    """Move the water on: ``mixed`` degrees come back from the exchanger and the room."""
    cells, flow = at.FWS_CELLS, x[at.FWS_LPS]
    moved, entering = flow * dt, x[at.FWS_BACK_C + at.FWS_CELLS - 1]
    if x[at.FROM_OUTSIDE] > 0:
        follow_outside(x)
        x[at.OUTSIDE_HEAT_KW] = flow * WATER * (entering - x[at.OUTSIDE_C])
        advect(x, at.FWS_SUPPLY_C, cells, moved * cells / x[at.FWS_SUPPLY_L], x[at.OUTSIDE_C])
    else:
        dry = step_dry_cooler(x, entering, dt)
        carried = max(flow * WATER, 1e-6)  # without flow no heat is taken either
        after_dry = entering - dry / carried
        chilled = after_dry - step_chillers(x, after_dry, dt) / carried
        buffered = x[at.BUFFER_C + cells - 1]
        advect(x, at.FWS_SUPPLY_C, cells, moved * cells / x[at.FWS_SUPPLY_L], buffered)
        advect(x, at.BUFFER_C, cells, moved * cells / x[at.BUFFER_L], chilled)
    advect(x, at.FWS_BACK_C, cells, moved * cells / x[at.FWS_BACK_L], mixed)


@kernel
def water_kj(x: Numbers) -> float:
    """Return the heat in facility water above 0 degrees."""
    litres = 0.0
    for c in range(at.FWS_CELLS):
        litres += x[at.FWS_BACK_L] * x[at.FWS_BACK_C + c] + x[at.FWS_SUPPLY_L] * x[at.FWS_SUPPLY_C + c]
        if x[at.FROM_OUTSIDE] == 0:
            litres += x[at.BUFFER_L] * x[at.BUFFER_C + c]
    return WATER * litres / at.FWS_CELLS


class Chiller(Part):
    """A chiller with its own controls.

    Inputs: ``run``, ``setpoint_c``. Outputs: ``running`` (started up and enabled, also while its thermostat lets it
    wait), ``compressor_on``, ``load`` (0 to 1), ``leaving_c``, ``heat_kw`` taken from the water, ``power_kw``,
    ``starts`` of the compressor, ``powered``, ``flow_made``. Faults, neutral value in brackets: ``tripped`` (False),
    ``unpowered`` (False), ``capacity`` (1).
    """

    __slots__ = ()
    run, setpoint_c = Flag(at.CHILLER_RUN), Number(at.CHILLER_SETPOINT_C)
    tripped, unpowered, capacity = Flag(at.CHILLER_TRIPPED), Flag(at.CHILLER_UNPOWERED), Number(at.CHILLER_CAPACITY)
    start_s, least_idle_s = Number(at.CHILLER_START_S), Number(at.CHILLER_LEAST_IDLE_S)
    least_on_s, start_to_start_s = Number(at.CHILLER_LEAST_ON_S), Number(at.CHILLER_CYCLE_S)
    running, compressor_on, powered = Flag(at.CHILLER_RUNNING), Flag(at.CHILLER_COMPRESSOR), Flag(at.CHILLER_POWERED)
    load, leaving_c = Number(at.CHILLER_LOAD), Number(at.CHILLER_LEAVING_C)
    heat_kw, power_kw, starts = Number(at.CHILLER_HEAT_KW), Number(at.CHILLER_ELECTRIC_KW), Number(at.CHILLER_STARTS)

    @property
    def flow_made(self) -> bool:
        return bool(self.x[at.CHILLER_NO_FLOW_S + self.i] < FLOW_FILTER_S)


class DryCooler(Part):
    """The dry cooler before the chillers: ``auto`` or ``command`` in; ``fan``, ``heat_kw``, ``power_kw`` out."""

    __slots__ = ()
    auto, command, tripped, capacity = (
        Flag(at.DRY_AUTO),
        Number(at.DRY_COMMAND),
        Flag(at.DRY_TRIPPED),
        Number(at.DRY_CAPACITY),
    )
    fan, heat_kw, power_kw = Number(at.DRY_FAN), Number(at.DRY_HEAT_KW), Number(at.DRY_KW)


class Facility(Part):
    """Pumps, return pipe, dry cooler, chillers, buffer, supply pipe; ``flow`` in L/s, ``supply_c`` at the exchanger.

    Where water comes from outside, ``external_c`` and ``external_lpm`` say how, or a profile does.
    """

    __slots__ = ("chillers", "dry_cooler", "pumps")
    flow, external_c = Number(at.FWS_LPS), Number(at.OUTSIDE_C)
    supply_c = Number(at.FWS_SUPPLY_C + at.FWS_CELLS - 1)
    return_c = Number(at.FWS_BACK_C + at.FWS_CELLS - 1)

    def __init__(self, x: Numbers) -> None:
        super().__init__(x)
        self.pumps = [Drive(x, at.FWS_DRIVE + index) for index in range(int(x[at.FWS_PUMPS]))]
        self.chillers = [Chiller(x, index) for index in range(int(x[at.CHILLERS]))]
        self.dry_cooler = DryCooler(x)

    @property
    def removed_kw(self) -> float:
        """What leaves the water: into the air by dry cooler and chillers, or with the water itself."""
        chilled = sum(chiller.heat_kw for chiller in self.chillers)
        return chilled + self.dry_cooler.heat_kw + float(self.x[at.OUTSIDE_HEAT_KW])

    @property
    def external_lpm(self) -> float:
        return 60 * float(self.x[at.OUTSIDE_LPS])

    @external_lpm.setter
    def external_lpm(self, lpm: float) -> None:
        self.x[at.OUTSIDE_LPS] = lpm / 60

    def follow(self, points: Sequence[tuple[float, float, float]]) -> None:
        """Let water from outside follow (plant seconds, degrees, L/min), between the points on straight lines.

        Raises:
            ValueError: more than 32 points, or times that do not rise.
        """
        times = [point[0] for point in points]
        if len(points) > at.PROFILE_MAX or times != sorted(set(times)):
            raise ValueError(f"{len(points)} points at {times}: at most {at.PROFILE_MAX}, at rising times")
        for index, (time_s, celsius, lpm) in enumerate(points):
            self.x[at.OUTSIDE_AT_S + index], self.x[at.OUTSIDE_AT_C + index] = time_s, celsius
            self.x[at.OUTSIDE_AT_LPS + index] = lpm / 60
        self.x[at.OUTSIDE_POINTS] = len(points)
