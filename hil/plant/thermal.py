"""Heat in water: pipes with transport delay, the plate heat exchanger, racks with their chips.

Temperatures in degrees Celsius, heat in kW, heat capacities in kJ/K, flows in L/s. Every part takes the inlet
temperature of before the step and gives out the outlet temperature of before the step, so no energy is made or lost.
"""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.hydraulics import DESIGN_FLOW
from hil.plant.kernel import Numbers, entry, kernel

PG25 = 1.017 * 3.95  # kJ/(L K), 25 % propylene glycol: Airedale DeltaChill manual p.53
WATER = 0.998 * 4.18  # kJ/(L K)
AIR = 1.184 * 1.005 / 1000  # kJ/(L K), dry, at 25 degrees

UA_DESIGN = 330.0  # kW/K; engineering judgement: about 4 K approach at full flow
EXCHANGER_WATER_FLOW = 1200 / 60  # L/s of facility water at design
RANGEABILITY, VALVE_LEAK = 30.0, 0.002

CHIPS_PER_RACK = 92.3  # of 1.197 kW into liquid; the worst case of a 130 kW rack
DIE_RESISTANCE = 14.0  # K per kW and chip
FILM_RESISTANCE = 15.0  # K per kW and chip at design flow
DIE_CAPACITY, PLATE_CAPACITY = 0.070, 0.270  # kJ/K and chip
INLET_LITRES, PLATE_LITRES, OUTLET_LITRES = 5.0, 5.5, 10.0
FILM_EXPONENT, FILM_LEAST = 0.6, 0.02

THROTTLE_C, FLOOR_C, LATCH_C = 87.0, 95.0, 105.0  # parameters of a kind: makers publish 83 to 95 degrees
THROTTLE_FLOOR = 0.5
AIR_LEAST_SHARE = 0.2  # of the design flow: what servers' own fans move at idle
AIR_CHIP_KW, AIR_FILM_RESISTANCE = 0.7, 45.0  # kW, and K per kW and chip of a server cooled by its own fans


@kernel
def advect(x: Numbers, first: int, cells: int, share: float, inlet: float) -> None:
    """Move water on through equal cells; ``share`` is the part of a cell that moves in this step."""
    for c in range(first + cells - 1, first, -1):
        x[c] += share * (x[c - 1] - x[c])
    x[first] += share * (inlet - x[first])


@entry
def exchanger_kw(
    hot_flow: float, hot_c: float, cold_flow: float, cold_c: float, fouling: float = 1.0, scale: float = 1.0
) -> float:
    """Return the heat of a counter-flow plate exchanger by the effectiveness-NTU method.

    The film on each side carries 45 % of the resistance at design flow and goes with flow to the power of 0.7, the
    plate the remaining 10 %. ``fouling`` scales the conductance, ``scale`` the size beside the reference pod's.
    """
    hot, cold = hot_flow * PG25, cold_flow * WATER
    if min(hot, cold) < 1e-6:
        return 0.0
    films = 0.45 * (hot_flow / (scale * DESIGN_FLOW)) ** -0.7
    films += 0.45 * (cold_flow / (scale * EXCHANGER_WATER_FLOW)) ** -0.7
    conductance = scale * fouling * UA_DESIGN / (films + 0.10)
    least, most = min(hot, cold), max(hot, cold)
    units, ratio = conductance / least, least / most
    if ratio > 0.9999:
        effectiveness = units / (1 + units)
    else:
        decay = math.exp(-units * (1 - ratio))
        effectiveness = (1 - decay) / (1 - ratio * decay)
    return effectiveness * least * (hot_c - cold_c)


@entry
def diverted(position: float, rangeability: float = RANGEABILITY) -> float:
    """Return the share of facility water that a three-way valve sends through the exchanger: equal percentage."""
    curve = (rangeability**position - 1) / (rangeability - 1)
    return VALVE_LEAK + (1 - VALVE_LEAK) * curve


@kernel
def throttle_rack(x: Numbers, r: int, dt: float) -> None:
    """Let a rack's firmware slow its chips: linear to half power, and off for good above the limit."""
    hot, factor = x[at.JUNCTION_C + r], 1.0
    if x[at.THROTTLES] > 0:
        if hot >= LATCH_C:
            x[at.LATCHED_OFF + r] = 1.0
        factor -= (1 - THROTTLE_FLOOR) * min(1.0, max(0.0, (hot - THROTTLE_C) / (FLOOR_C - THROTTLE_C)))
    x[at.THROTTLE + r] = 0.0 if x[at.LATCHED_OFF + r] > 0 else factor
    if x[at.THROTTLE + r] < 1 and x[at.DEMAND + r] > 0:
        x[at.THROTTLED_S + r] += dt


@kernel
def step_rack(x: Numbers, r: int, supply_c: float, heat: float, dt: float) -> None:
    """Advance the water and the chips of one rack, all its chips alike, with ``heat`` kW into the chips."""
    chips, flow = x[at.CHIPS], x[at.RACK_LPS + r]
    rated = x[at.DESIGN_LPS] / x[at.RACKS]
    size = chips / CHIPS_PER_RACK
    through_die = (x[at.JUNCTION_C + r] - x[at.PLATE_C + r]) / DIE_RESISTANCE
    film = max((max(flow, 0.0) / rated) ** FILM_EXPONENT, FILM_LEAST) / FILM_RESISTANCE
    to_water = (x[at.PLATE_C + r] - x[at.COOLANT_C + r]) * film
    x[at.JUNCTION_C + r] += (heat / chips - through_die) * dt / DIE_CAPACITY
    x[at.PLATE_C + r] += (through_die - to_water) * dt / PLATE_CAPACITY
    inlet, coolant, moved = x[at.INLET_C + r], x[at.COOLANT_C + r], flow * dt / size
    x[at.OUTLET_C + r] += moved / OUTLET_LITRES * (coolant - x[at.OUTLET_C + r])
    x[at.COOLANT_C + r] += moved / PLATE_LITRES * (inlet - coolant)
    x[at.COOLANT_C + r] += to_water * chips * dt / (PG25 * PLATE_LITRES * size)
    x[at.INLET_C + r] += moved / INLET_LITRES * (supply_c - inlet)


@kernel
def drawn_c(x: Numbers) -> float:
    """Return the air that servers draw in: they take hot air again as far as less is supplied than their load needs."""
    needed = x[at.DESIGN_LPS] * max(AIR_LEAST_SHARE, x[at.IT_KW] / (x[at.RACKS] * x[at.RACK_KW]))
    return x[at.AIR_C] - min(1.0, x[at.FLOW_LPS] / needed) * (x[at.AIR_C] - x[at.HX_C])


@kernel
def step_air_rack(x: Numbers, r: int, heat: float, dt: float) -> float:
    """Advance the chips of an air-cooled rack; return the kW that they give to the room's air."""
    chips = x[at.CHIPS]
    through_die = (x[at.JUNCTION_C + r] - x[at.PLATE_C + r]) / DIE_RESISTANCE
    x[at.INLET_C + r] = drawn_c(x)
    to_air = (x[at.PLATE_C + r] - x[at.INLET_C + r]) / AIR_FILM_RESISTANCE
    x[at.JUNCTION_C + r] += (heat / chips - through_die) * dt / DIE_CAPACITY
    x[at.PLATE_C + r] += (through_die - to_air) * dt / PLATE_CAPACITY
    return to_air * chips


@kernel
def step_racks(x: Numbers, supply_c: float, dt: float) -> float:
    """Advance all racks with water of ``supply_c``; return the kW that go into the room's air."""
    into_air = 0.0
    for r in range(int(x[at.RACKS])):
        power = x[at.RACK_IT_KW + r]
        if x[at.AIR_COOLED] > 0:
            into_air += step_air_rack(x, r, power, dt)
        else:
            step_rack(x, r, supply_c, x[at.LIQUID_SHARE] * power, dt)
            into_air += (1 - x[at.LIQUID_SHARE]) * power
    return into_air


@kernel
def mixed_c(x: Numbers) -> float:
    """Return what comes out of all racks together."""
    flow = x[at.FLOW_LPS]
    if flow < 1e-9:
        return x[at.BACK_C]
    heat = 0.0
    for r in range(int(x[at.RACKS])):
        heat += x[at.OUTLET_C + r] * x[at.RACK_LPS + r]
    return heat / flow


@kernel
def step_loop(x: Numbers, dt: float) -> float:
    """Advance pipes, racks and exchanger of the TCS; return the kW that the racks put into the room's air."""
    flow, supply, hot = x[at.FLOW_LPS], x[at.HX_C], x[at.TANK_C]
    last = at.PIPE_CELLS - 1
    back, mixed = x[at.BACK_C + last], mixed_c(x)
    through = x[at.FWS_LPS] * hx_share(x)
    cold = x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
    heat = exchanger_kw(flow, hot, through, cold, x[at.FOULING], x[at.SCALE])
    x[at.HX_KW] = heat
    into_air = step_racks(x, x[at.SUPPLY_C + last], dt)
    moved = flow * dt
    advect(x, at.TANK_C, 1, moved / x[at.TANK_L], back)
    advect(x, at.BACK_C, at.PIPE_CELLS, moved * at.PIPE_CELLS / x[at.BACK_L], mixed)
    advect(x, at.SUPPLY_C, at.PIPE_CELLS, moved * at.PIPE_CELLS / x[at.SUPPLY_L], supply)
    advect(x, at.HX_C, 1, moved / x[at.HX_L], hot)
    x[at.HX_C] -= heat * dt / (PG25 * x[at.HX_L])
    advect(x, at.HX_WATER_C, 1, through * dt / x[at.HX_WATER_L], cold)
    x[at.HX_WATER_C] += heat * dt / (WATER * x[at.HX_WATER_L])
    return into_air


@kernel
def hx_share(x: Numbers) -> float:
    """Return the share of all facility water that goes through the exchanger."""
    to_exchanger = x[at.HX_WATER_LPS] / (x[at.HX_WATER_LPS] + x[at.DOOR_LPS])
    return to_exchanger * diverted(x[at.VALVE_POSITION], x[at.RANGEABILITY])


@kernel
def stored_kj(x: Numbers) -> float:
    """Return the heat in all water, metal and air of the TCS, its racks and pipes above 0 degrees."""
    racks, size = int(x[at.RACKS]), x[at.CHIPS] / CHIPS_PER_RACK
    heat = 0.0
    for r in range(racks):
        heat += x[at.CHIPS] * (DIE_CAPACITY * x[at.JUNCTION_C + r] + PLATE_CAPACITY * x[at.PLATE_C + r])
        if x[at.AIR_COOLED] == 0:
            water = INLET_LITRES * x[at.INLET_C + r] + PLATE_LITRES * x[at.COOLANT_C + r]
            heat += PG25 * size * (water + OUTLET_LITRES * x[at.OUTLET_C + r])
    if x[at.AIR_COOLED] > 0:
        return heat
    cells = 0.0
    for c in range(at.PIPE_CELLS):
        cells += x[at.SUPPLY_L] * x[at.SUPPLY_C + c] + x[at.BACK_L] * x[at.BACK_C + c]
    litres = cells / at.PIPE_CELLS + x[at.TANK_L] * x[at.TANK_C] + x[at.HX_L] * x[at.HX_C]
    return heat + PG25 * litres + WATER * x[at.HX_WATER_L] * x[at.HX_WATER_C]
