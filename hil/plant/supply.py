"""Where the power comes from: the grid, a battery whose inverter carries the pod when the grid is lost, a generator.

The battery's inverter follows within 30 ms and 6 MW/s, and limits ramps and import by itself: a loop over a field bus
of 1 s makes fast swings of the load worse. Figures are engineering judgement.
"""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.electrical import set_feeds, step_consumers, step_rack_power, sum_feeds
from hil.plant.kernel import Numbers, kernel
from hil.plant.part import Flag, Number, Part, Pct

BATTERY_KWH, BATTERY_KW, EFFICIENCY = 375.0, 1500.0, 0.97
LOWEST, HIGHEST = 0.05, 0.98  # state of charge that the inverter keeps
INVERTER_LAG_S, INVERTER_KW_S = 0.03, 6000.0
RECENTRE_KW = 400.0  # per unit of state of charge away from its target
SETS_POWER, LIMITS_RAMPS = 1, 2
GENERATOR_KW = 1500.0


@kernel
def battery_span(x: Numbers) -> tuple[float, float]:
    """Return the least and the greatest power that the battery can give now; charging is negative."""
    able = 0.0 if x[at.BATTERY_TRIPPED] > 0 else BATTERY_KW * x[at.SCALE] * max(0.0, x[at.BATTERY_DERATE])
    least = -able if x[at.BATTERY_SOC] < HIGHEST else 0.0
    return least, able if x[at.BATTERY_SOC] > LOWEST else 0.0


@kernel
def charge(x: Numbers, power: float, dt: float) -> None:
    """Take ``power`` from the battery's store, with the losses of one way."""
    drawn = power / EFFICIENCY if power > 0 else power * EFFICIENCY
    x[at.BATTERY_SOC] = max(0.0, x[at.BATTERY_SOC] - drawn * dt / (3600 * BATTERY_KWH * x[at.SCALE]))
    x[at.BATTERY_KW] = power


@kernel
def wanted_kw(x: Numbers, load: float, dt: float) -> float:
    """Return what the battery should give while the grid is there."""
    mode, wanted = int(x[at.BATTERY_MODE]), 0.0
    x[at.GRID_FOLLOWS_KW] = min(x[at.GRID_FOLLOWS_KW], x[at.GRID_CAP_KW])
    if mode == SETS_POWER:
        wanted = x[at.BATTERY_SETPOINT_KW]
    elif mode == LIMITS_RAMPS:
        aim = min(load + RECENTRE_KW * (x[at.BATTERY_TARGET] - x[at.BATTERY_SOC]), x[at.GRID_CAP_KW])
        reach = x[at.BATTERY_RAMP_KW_S] * dt
        x[at.GRID_FOLLOWS_KW] += min(reach, max(-reach, aim - x[at.GRID_FOLLOWS_KW]))
        wanted = load - x[at.GRID_FOLLOWS_KW]
    if mode != LIMITS_RAMPS:
        x[at.GRID_FOLLOWS_KW] = load
    return max(wanted, load - x[at.GRID_CAP_KW])


@kernel
def step_generator(x: Numbers, dt: float) -> bool:
    """Count the generator's start; return whether it can take load."""
    asked = x[at.GENERATOR_RUN] > 0 or (x[at.GENERATOR_AUTO] > 0 and x[at.GRID_LOST] > 0)
    unloading = x[at.GENERATOR_KW] > 0 and x[at.GENERATOR_TRIPPED] == 0
    if x[at.GENERATOR_TRIPPED] > 0 or not (asked or unloading):
        x[at.GENERATOR_WAITED_S] = 0.0
        return False
    x[at.GENERATOR_WAITED_S] += dt
    return x[at.GENERATOR_WAITED_S] >= x[at.GENERATOR_START_S] - 1e-9


@kernel
def with_grid(x: Numbers, load: float, dt: float) -> None:
    """Share the load between grid, battery and a generator that still runs."""
    least, most = battery_span(x)
    wanted = min(most, max(least, wanted_kw(x, load, dt)))
    now = x[at.BATTERY_KW]
    step = (wanted - now) * (1 - math.exp(-dt / INVERTER_LAG_S))
    reach = INVERTER_KW_S * x[at.SCALE] * dt
    charge(x, min(most, max(least, now + min(reach, max(-reach, step)))), dt)
    x[at.GENERATOR_KW] = max(0.0, x[at.GENERATOR_KW] - x[at.GENERATOR_RAMP_KW_S] * dt)
    x[at.GRID_KW] = load - x[at.BATTERY_KW] - x[at.GENERATOR_KW]
    x[at.BATTERY_CARRIES], x[at.BUS_LIVE] = 0.0, 1.0


@kernel
def without_grid(x: Numbers, load: float, generator: bool, dt: float) -> None:
    """Let the battery carry the pod while the generator takes it over, or the generator alone, or nothing."""
    _, most = battery_span(x)
    before = x[at.GENERATOR_KW] if generator else 0.0
    taken = min(load, before + x[at.GENERATOR_RAMP_KW_S] * dt) if generator else 0.0
    carries = most > 0 and load - taken <= most
    if not carries and generator and load <= GENERATOR_KW * x[at.SCALE]:
        taken = load  # all at once
    x[at.GRID_KW], x[at.GENERATOR_KW] = 0.0, taken
    if taken - before > x[at.GENERATOR_RAMP_KW_S] * dt + 1e-9:
        x[at.GENERATOR_STEP_KW] = max(x[at.GENERATOR_STEP_KW], taken - before)
    x[at.BATTERY_CARRIES] = 1.0 if carries else 0.0
    x[at.BUS_LIVE] = 1.0 if carries or (generator and taken >= load) else 0.0
    charge(x, load - taken if carries else 0.0, dt)
    if x[at.BUS_LIVE] == 0:
        x[at.GENERATOR_KW] = 0.0


@kernel
def step_electrical(x: Numbers, dt: float) -> None:
    """Advance sources, feeds, breakers, racks and consumers by one electrical step."""
    generator = step_generator(x, dt)
    load = x[at.TOTAL_KW]
    if x[at.GRID_LOST] > 0:
        without_grid(x, load, generator, dt)
    else:
        with_grid(x, load, dt)
    set_feeds(x, dt)
    for r in range(int(x[at.RACKS])):
        step_rack_power(x, r, dt)
    step_consumers(x, dt)
    sum_feeds(x)
    for f in range(at.FEEDS):
        x[at.FEED_KWH + f] += x[at.FEED_IT_KW + f] * dt / 3600
    x[at.BOOK_GRID] += x[at.GRID_KW] * dt
    x[at.BOOK_BATTERY] += x[at.BATTERY_KW] * dt
    x[at.BOOK_GENERATOR] += x[at.GENERATOR_KW] * dt
    x[at.BOOK_TOTAL] += load * dt


class Grid(Part):
    """``lost`` (fault), ``import_cap_kw`` (input, kept by the battery), ``kw`` taken (negative: given back)."""

    __slots__ = ()
    lost, import_cap_kw, kw = Flag(at.GRID_LOST), Number(at.GRID_CAP_KW), Number(at.GRID_KW)

    @property
    def live(self) -> bool:
        return not self.lost


class Battery(Part):
    """The battery and its inverter. Inputs: ``mode`` (0 idle, 1 set power, 2 ramp limiter), ``setpoint_kw`` (positive
    discharges), ``ramp_kw_s``, ``soc_target_pct``. Outputs: ``kw``, ``soc_pct``, ``soc_shown_pct``, ``carries``
    (the pod without the grid). Faults: ``tripped`` (False), ``derate`` (1), ``soc_error_pct`` (0).
    """

    __slots__ = ()
    mode, setpoint_kw, ramp_kw_s = Number(at.BATTERY_MODE), Number(at.BATTERY_SETPOINT_KW), Number(at.BATTERY_RAMP_KW_S)
    soc_target_pct, soc_pct, soc_error_pct = Pct(at.BATTERY_TARGET), Pct(at.BATTERY_SOC), Pct(at.BATTERY_ERROR)
    tripped, derate, kw = Flag(at.BATTERY_TRIPPED), Number(at.BATTERY_DERATE), Number(at.BATTERY_KW)
    carries = Flag(at.BATTERY_CARRIES)

    @property
    def soc_shown_pct(self) -> float:
        return min(100.0, max(0.0, self.soc_pct + self.soc_error_pct))


class Generator(Part):
    """Inputs: ``run``, ``auto``, ``start_s``, ``ramp_kw_s``. Outputs: ``kw``, ``running``, ``step_kw`` (the largest
    step it took at once, 0 when it only ramped). Fault: ``tripped`` (False).
    """

    __slots__ = ()
    run, auto, tripped = Flag(at.GENERATOR_RUN), Flag(at.GENERATOR_AUTO), Flag(at.GENERATOR_TRIPPED)
    start_s, ramp_kw_s = Number(at.GENERATOR_START_S), Number(at.GENERATOR_RAMP_KW_S)
    kw, step_kw, waited_s = Number(at.GENERATOR_KW), Number(at.GENERATOR_STEP_KW), Number(at.GENERATOR_WAITED_S)

    @property
    def running(self) -> bool:
        return not self.tripped and self.waited_s > 0 and self.waited_s >= self.start_s - 1e-9
