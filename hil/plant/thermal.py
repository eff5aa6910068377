"""Heat in water: pipes with transport delay, the plate heat exchanger, racks with their chips.

Temperatures in degrees Celsius, heat in kW, heat capacities in kJ/K, flows in L/s. Every part takes the inlet
temperature of before the step and gives out the outlet temperature of before the step, so no energy is made or lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hil.plant.hydraulics import DESIGN_FLOW

PG25 = 1.017 * 3.95  # kJ/(L K), 25 % propylene glycol: Airedale DeltaChill manual p.53
WATER = 0.998 * 4.18  # kJ/(L K)

UA_DESIGN = 330.0  # kW/K; engineering judgement: about 4 K approach at full flow
EXCHANGER_WATER_FLOW = 1200 / 60  # L/s of facility water at design
RANGEABILITY, VALVE_LEAK = 30.0, 0.002

CHIPS_PER_RACK = 92.3  # of 1.197 kW into liquid; the worst case of a 130 kW rack
DIE_RESISTANCE = 14.0  # K per kW and chip
FILM_RESISTANCE = 15.0  # K per kW and chip at design flow
DIE_CAPACITY, PLATE_CAPACITY = 0.070, 0.270  # kJ/K and chip
INLET_LITRES, PLATE_LITRES, OUTLET_LITRES = 5.0, 5.5, 10.0
FILM_EXPONENT, FILM_LEAST = 0.6, 0.02


@dataclass(slots=True)
class Pipe:
    """Water moving in equal cells from inlet to outlet: transport delay with a little mixing."""

    litres: float
    cells: int
    start_c: float
    medium: float
    temperatures: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.temperatures = [self.start_c] * self.cells

    @property
    def outlet(self) -> float:
        return self.temperatures[-1]

    @property
    def energy(self) -> float:
        """kJ above 0 degrees"""
        return self.medium * self.litres / self.cells * sum(self.temperatures)

    def step(self, flow: float, inlet: float, dt: float, heat: float = 0.0) -> None:
        """Move by ``flow`` x ``dt`` litres; ``heat`` kW goes into the last cell."""
        cells = self.temperatures
        share = flow * dt * self.cells / self.litres
        for index in range(self.cells - 1, 0, -1):
            cells[index] += share * (cells[index - 1] - cells[index])
        cells[0] += share * (inlet - cells[0])
        if heat:
            cells[-1] += heat * dt * self.cells / (self.medium * self.litres)


def exchanger_kw(hot_flow: float, hot_c: float, cold_flow: float, cold_c: float, fouling: float = 1.0) -> float:
    """Return the heat of a counter-flow plate exchanger by the effectiveness-NTU method.

    The film on each side carries 45 % of the resistance at design flow and goes with flow to the power of 0.7, the
    plate the remaining 10 %. ``fouling`` scales the conductance.
    """
    hot, cold = hot_flow * PG25, cold_flow * WATER
    if min(hot, cold) < 1e-6:
        return 0.0
    films: float = 0.45 * (hot_flow / DESIGN_FLOW) ** -0.7 + 0.45 * (cold_flow / EXCHANGER_WATER_FLOW) ** -0.7
    conductance = fouling * UA_DESIGN / (films + 0.10)
    least, most = min(hot, cold), max(hot, cold)
    units, ratio = conductance / least, least / most
    if ratio > 0.9999:
        effectiveness = units / (1 + units)
    else:
        decay = math.exp(-units * (1 - ratio))
        effectiveness = (1 - decay) / (1 - ratio * decay)
    return effectiveness * least * (hot_c - cold_c)


def diverted(position: float) -> float:
    """Return the share of facility water that a three-way valve sends through the exchanger: equal percentage."""
    curve: float = (RANGEABILITY**position - 1) / (RANGEABILITY - 1)
    return VALVE_LEAK + (1 - VALVE_LEAK) * curve


@dataclass(slots=True)
class RackWater:
    """The water and the chips of one rack. All its chips are alike."""

    start_c: float
    rated_flow: float
    inlet: float = field(init=False)
    coolant: float = field(init=False)
    outlet: float = field(init=False)
    plate: float = field(init=False)
    junction: float = field(init=False)

    def __post_init__(self) -> None:
        self.inlet = self.coolant = self.outlet = self.plate = self.junction = self.start_c

    @property
    def energy(self) -> float:
        """kJ above 0 degrees"""
        water = PG25 * (INLET_LITRES * self.inlet + PLATE_LITRES * self.coolant + OUTLET_LITRES * self.outlet)
        return water + CHIPS_PER_RACK * (DIE_CAPACITY * self.junction + PLATE_CAPACITY * self.plate)

    def step(self, flow: float, supply: float, heat: float, dt: float) -> None:
        """Advance with ``flow`` L/s of ``supply`` degrees and ``heat`` kW into the chips."""
        through_die = (self.junction - self.plate) / DIE_RESISTANCE
        film = max((max(flow, 0.0) / self.rated_flow) ** FILM_EXPONENT, FILM_LEAST) / FILM_RESISTANCE
        to_water = (self.plate - self.coolant) * film
        self.junction += (heat / CHIPS_PER_RACK - through_die) * dt / DIE_CAPACITY
        self.plate += (through_die - to_water) * dt / PLATE_CAPACITY
        moved = flow * dt
        self.outlet += moved / OUTLET_LITRES * (self.coolant - self.outlet)
        self.coolant += moved / PLATE_LITRES * (self.inlet - self.coolant) + (
            to_water * CHIPS_PER_RACK * dt / (PG25 * PLATE_LITRES)
        )
        self.inlet += moved / INLET_LITRES * (supply - self.inlet)
