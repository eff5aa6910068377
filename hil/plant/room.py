"""Air of the white space, and what humidity sensors make of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hil.plant.thermal import WATER

AIR_KJ_K, STRUCTURE_KJ_K, COUPLING_KW_K = 500.0, 4000.0, 3.0
DOOR_FLOW = 400 / 60  # L/s of facility water through the rear-door coolers
DOOR_EFFECT = 0.45
COLD_AISLE_K = 8.0  # the cold side of the room is this much below the hot side, at most
MAGNUS_A, MAGNUS_B = 17.62, 243.12


def saturation_hpa(temperature_c: float) -> float:
    """Return the saturation vapour pressure over water (Magnus formula)."""
    return 6.112 * math.exp(MAGNUS_A * temperature_c / (MAGNUS_B + temperature_c))


@dataclass(slots=True)
class Room:
    """Inputs: ``dew_point_c`` of the air, ``fans`` of the rear doors (0 to 1). Output: ``air_c`` behind the racks."""

    air_c: float
    structure_c: float
    dew_point_c: float = 11.0
    fans: float = 1.0

    def cooled_kw(self, water_c: float, water_flow: float) -> float:
        """Return what the rear doors take from the air."""
        return DOOR_EFFECT * self.fans * water_flow * WATER * (self.air_c - water_c)

    def step(self, heat_kw: float, cooled_kw: float, dt: float) -> None:
        lent = COUPLING_KW_K * (self.air_c - self.structure_c)
        self.air_c += (heat_kw - cooled_kw - lent) * dt / AIR_KJ_K
        self.structure_c += lent * dt / STRUCTURE_KJ_K

    @property
    def energy(self) -> float:
        return AIR_KJ_K * self.air_c + STRUCTURE_KJ_K * self.structure_c

    def cold_side_c(self, water_c: float) -> float:
        return max(self.air_c - COLD_AISLE_K, (self.air_c + water_c) / 2)

    def humidity_pct(self, temperature_c: float) -> float:
        """Return relative humidity of this room's air at ``temperature_c``."""
        return min(100.0, 100 * saturation_hpa(self.dew_point_c) / saturation_hpa(temperature_c))
