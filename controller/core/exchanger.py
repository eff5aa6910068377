"""Plate heat exchanger and its facility-water valve as a model that can be turned round: heat wanted -> valve position.

Temperatures in degrees Celsius, flows in L/min, heat in kW. A counter-flow exchanger by the effectiveness-NTU method;
the film on each side goes with its flow to the power of 0.7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.core.blocks import clamp

COOLANT_KJ = 1.017 * 3.95  # per L and K, 25 % propylene glycol at 35 degrees: Airedale DeltaChill manual p.53
WATER_KJ = 0.998 * 4.18  # per L and K
AIR_KJ = 1.184 * 1.005 / 1000  # per L and K, dry air of 25 degrees at sea level
COOLANTS = {"pg25": COOLANT_KJ, "water": WATER_KJ, "air": AIR_KJ}
FILM_SHARE, PLATE_SHARE, FILM_EXPONENT = 0.45, 0.10, -0.7
EVEN_RATIO = 0.9999
ROUNDS = 18  # bisections: the valve's flow to 1 part in 260,000


def coolant_kw(flow_lpm: float, difference_k: float, kj_per_l: float) -> float:
    """Return the heat that coolant carries, by its heat capacity for each litre and kelvin."""
    return flow_lpm / 60 * kj_per_l * difference_k


def opening_pct(share_pct: float, rangeability: float) -> float:
    """Return the position in % at which an equal-percentage valve passes ``share_pct`` of its flow."""
    if rangeability <= 1:
        return share_pct
    return 100 * math.log1p(share_pct / 100 * (rangeability - 1)) / math.log(rangeability)


def share_pct(opening: float, rangeability: float) -> float:
    """Return the share of its flow in % that an equal-percentage valve passes at ``opening`` %."""
    if rangeability <= 1:
        return opening
    return 100 * math.expm1(opening / 100 * math.log(rangeability)) / (rangeability - 1)


@dataclass(frozen=True, slots=True)
class Exchanger:
    """Design figures of one exchanger.

    Attributes:
        ua_kw_per_k: conductance at both design flows.
        coolant_lpm, water_lpm: design flows of the two sides; ``water_lpm`` is what the open valve passes.
        coolant_kj: heat capacity of the coolant for each litre and kelvin.
    """

    ua_kw_per_k: float
    coolant_lpm: float
    water_lpm: float
    coolant_kj: float

    def heat_kw(self, flow_lpm: float, hot_c: float, share: float, cold_c: float) -> float:
        """Return the heat taken from ``flow_lpm`` of coolant of ``hot_c`` by ``share`` (0 to 1) of the design water."""
        return self._taken_kw(*self._coolant(flow_lpm), share, hot_c - cold_c)

    def _coolant(self, flow_lpm: float) -> tuple[float, float]:
        """Return the coolant's heat capacity flow in kW/K, and the resistance of its film as a multiple of design."""
        film: float = (flow_lpm / self.coolant_lpm) ** FILM_EXPONENT if flow_lpm > 0 else 0.0
        return flow_lpm / 60 * self.coolant_kj, film

    def _taken_kw(self, hot: float, film: float, share: float, between_k: float) -> float:
        """Return the heat in kW that the coolant gives to ``share`` of the design water."""
        cold = share * self.water_lpm / 60 * WATER_KJ
        least, most = (hot, cold) if hot < cold else (cold, hot)
        if least < 1e-6:
            return 0.0
        films = FILM_SHARE * (film + share**FILM_EXPONENT)
        units, ratio = self.ua_kw_per_k / (films + PLATE_SHARE) / least, least / most
        if ratio > EVEN_RATIO:
            effectiveness = units / (1 + units)
        else:
            decay = math.exp(-units * (1 - ratio))
            effectiveness = (1 - decay) / (1 - ratio * decay)
        return float(effectiveness * least * between_k)

    def share_for(self, heat_kw: float, flow_lpm: float, hot_c: float, cold_c: float) -> float:
        """Return the share (0 to 1) of the design water that takes ``heat_kw``; 1 where even that is not enough."""
        if heat_kw <= 0.0 or hot_c <= cold_c:
            return 0.0 if heat_kw <= 0.0 else 1.0
        hot, film = self._coolant(flow_lpm)
        low, high, between_k = 0.0, 1.0, hot_c - cold_c
        for _ in range(ROUNDS):
            middle = (low + high) / 2
            if self._taken_kw(hot, film, middle, between_k) < heat_kw:
                low = middle
            else:
                high = middle
        return clamp(high, 0.0, 1.0)
