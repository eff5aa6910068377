"""Air of the white space: its heat, its moisture, rear-door coolers, and what condenses on them."""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.hydraulics import Drive
from hil.plant.kernel import Numbers, entry, kernel
from hil.plant.part import Flag, Number, Part
from hil.plant.thermal import AIR, PG25, WATER, diverted, exchanger_kw

AIR_KJ_K, STRUCTURE_KJ_K, COUPLING_KW_K = 500.0, 4000.0, 3.0
AIR_KG = 150.0
DOOR_FLOW = 400 / 60  # L/s of facility water through the rear-door coolers
DOOR_EFFECT = 0.45
DOOR_FANS_KW = 5.2  # of all rear doors, and it stays in the air
COIL_BYPASS = 0.8
COIL_CONDUCTANCE = 0.4  # of a coil for air beside a plate exchanger for as much heat
COIL_LEAST_KW_K = 0.01
COIL_SHARE = 0.25  # the coil's surface stands this far from the water towards the air
COLD_AISLE_K = 8.0  # the cold side of the room is this much below the hot side, at most
DOOR_OPEN = 0.05  # share of water below which the coils no longer count as cold
MAGNUS_A, MAGNUS_B = 17.62, 243.12
PRESSURE_HPA = 1013.25


@entry
def saturation_hpa(temperature_c: float) -> float:
    """Return the saturation vapour pressure over water (Magnus formula)."""
    return 6.112 * math.exp(MAGNUS_A * temperature_c / (MAGNUS_B + temperature_c))


@entry
def humidity_of(dew_c: float) -> float:
    """Return kg of water in a kg of dry air whose dew point this is."""
    vapour = saturation_hpa(dew_c)
    return 0.622 * vapour / (PRESSURE_HPA - vapour)


@entry
def dew_point_of(humidity: float) -> float:
    """Return the dew point of air with this much water in a kg."""
    vapour = max(1e-6, humidity) * PRESSURE_HPA / (0.622 + humidity)
    ratio = math.log(vapour / 6.112)
    return MAGNUS_B * ratio / (MAGNUS_A - ratio)


@kernel
def air_moved(x: Numbers) -> float:
    """Return the share of full air flow through the coils."""
    if x[at.FEED_LIVE] == 0 and x[at.FEED_LIVE + 1] == 0:
        return 0.0
    if x[at.AIR_COOLED] == 0:
        return 0.0 if x[at.FANS_LOST] > 0 else min(1.0, max(0.0, x[at.ROOM_FANS]))
    return x[at.FLOW_LPS] / x[at.DESIGN_LPS]


@kernel
def set_coil(x: Numbers, water: float) -> None:
    """Set what the coil of an air-cooled room takes, and the air that leaves it; its valve sends water past it."""
    x[at.DOOR_VALVE] = diverted(x[at.VALVE_POSITION], x[at.RANGEABILITY])
    through, carried = x[at.FWS_LPS] * x[at.DOOR_VALVE], x[at.FLOW_LPS] * AIR
    conductance = COIL_CONDUCTANCE * x[at.FOULING]
    x[at.DOORS_KW] = exchanger_kw(carried / PG25, x[at.AIR_C], through, water, conductance, x[at.SCALE])
    x[at.TANK_C] = x[at.HX_C] = x[at.AIR_C]
    if carried > COIL_LEAST_KW_K:
        x[at.HX_C] -= x[at.DOORS_KW] / carried


@kernel
def set_doors(x: Numbers) -> None:
    """Set what the coils take from the air into the water, and what their fans need."""
    water = x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
    flow = x[at.FWS_LPS] * x[at.DOOR_LPS] / (x[at.HX_WATER_LPS] + x[at.DOOR_LPS]) * x[at.DOOR_VALVE]
    moved = air_moved(x)
    x[at.DOORS_KW] = DOOR_EFFECT * moved * flow * WATER * (x[at.AIR_C] - water)
    if x[at.AIR_COOLED] > 0:
        set_coil(x, water)
    x[at.COIL_C] = water + COIL_SHARE * (x[at.AIR_C] - water)
    x[at.DOOR_FANS_KW] = 0.0 if x[at.AIR_COOLED] > 0 else DOOR_FANS_KW * x[at.SCALE] * moved**3
    if x[at.AIR_COOLED] > 0:
        for d in range(at.FAN_DRIVE, at.FAN_DRIVE + int(x[at.FANS])):
            x[at.DOOR_FANS_KW] += x[at.DRIVE_KW + d]


@kernel
def step_moisture(x: Numbers, dt: float) -> None:
    """Advance the air's water, and set dew point and the margin to the coldest wet surface."""
    humidity, moved = x[at.HUMIDITY], air_moved(x)
    wet = max(0.0, humidity - humidity_of(x[at.COIL_C])) if x[at.DOOR_VALVE] > DOOR_OPEN else 0.0
    condensing = COIL_BYPASS * moved * wet
    brought = x[at.INFILTRATION_KG_S] * (humidity_of(x[at.OUTDOOR_DEW_C]) - humidity)
    x[at.HUMIDITY] = max(1e-5, humidity + (brought + x[at.MOISTURE_KG_S] - condensing) * dt / (AIR_KG * x[at.SCALE]))
    x[at.CONDENSING_KG_S] = condensing
    x[at.CONDENSATE_KG] += condensing * dt
    x[at.DEW_C] = dew_point_of(x[at.HUMIDITY])
    coldest = 1e9
    if x[at.AIR_COOLED] == 0:
        coldest = x[at.SUPPLY_C + at.PIPE_CELLS - 1]
    if x[at.DOOR_VALVE] > DOOR_OPEN:
        coldest = min(coldest, x[at.COIL_C])
    x[at.MARGIN_K] = coldest - x[at.DEW_C]


@kernel
def step_room(x: Numbers, heat_kw: float, dt: float) -> None:
    """Advance the air and what stands in it, with ``heat_kw`` from the racks and the coils of before this step."""
    scale = x[at.SCALE]
    lent = COUPLING_KW_K * scale * (x[at.AIR_C] - x[at.STRUCTURE_C])
    x[at.AIR_C] += (heat_kw + x[at.DOOR_FANS_KW] - x[at.DOORS_KW] - lent) * dt / (AIR_KJ_K * scale)
    x[at.STRUCTURE_C] += lent * dt / (STRUCTURE_KJ_K * scale)
    step_moisture(x, dt)


@kernel
def room_kj(x: Numbers) -> float:
    """Return the heat in the room above 0 degrees."""
    return x[at.SCALE] * (AIR_KJ_K * x[at.AIR_C] + STRUCTURE_KJ_K * x[at.STRUCTURE_C])


@kernel
def cold_side_c(x: Numbers) -> float:
    """Return the temperature of the room's cold side."""
    water = x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
    return max(x[at.AIR_C] - COLD_AISLE_K, (x[at.AIR_C] + water) / 2)


@kernel
def relative_pct(x: Numbers, temperature_c: float) -> float:
    """Return the relative humidity of the room's air at some temperature."""
    return min(100.0, 100 * saturation_hpa(x[at.DEW_C]) / saturation_hpa(temperature_c))


class Room(Part):
    """The white space. Inputs: ``fans`` and ``door_valve`` (water) of the rear doors, 0 to 1; ``units`` where it is
    cooled by air alone. Output ``air_c`` behind the racks. Faults: ``fans_lost`` (False), ``infiltration_kg_s``
    (0.01; 0.5 with a door open), ``moisture_kg_s`` (0). ``dew_point_c`` can be set.
    """

    __slots__ = ("units",)
    fans, door_valve, fans_lost = Number(at.ROOM_FANS), Number(at.DOOR_VALVE), Flag(at.FANS_LOST)
    infiltration_kg_s, moisture_kg_s = Number(at.INFILTRATION_KG_S), Number(at.MOISTURE_KG_S)
    air_c, structure_c, coil_c = Number(at.AIR_C), Number(at.STRUCTURE_C), Number(at.COIL_C)
    cooled_kw, fans_kw = Number(at.DOORS_KW), Number(at.DOOR_FANS_KW)

    def __init__(self, x: Numbers) -> None:
        super().__init__(x)
        self.units = [Drive(x, at.FAN_DRIVE + index) for index in range(int(x[at.FANS]))]

    @property
    def dew_point_c(self) -> float:
        return dew_point_of(float(self.x[at.HUMIDITY]))

    @dew_point_c.setter
    def dew_point_c(self, dew_c: float) -> None:
        self.x[at.HUMIDITY] = humidity_of(dew_c)

    def cold_side_c(self, water_c: float) -> float:
        return max(self.air_c - COLD_AISLE_K, (self.air_c + water_c) / 2)

    def humidity_pct(self, temperature_c: float) -> float:
        """Return relative humidity of this room's air at ``temperature_c``."""
        return min(100.0, 100 * saturation_hpa(self.dew_point_c) / saturation_hpa(temperature_c))
