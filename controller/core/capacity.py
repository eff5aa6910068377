"""How much power the cooling can take now, and how long it lasts: chips, loop, exchanger and chillers as simple models.

Temperatures in degrees Celsius, flows in L/min, power in kW of IT load. Every function answers from what is measured
now; what is not known limits nothing here, since not to know is no evidence of a loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from controller.core.blocks import clamp
from controller.core.exchanger import WATER_KJ, Exchanger, coolant_kw
from controller.core.points import Kind, record

SECONDS_MAX = 3600.0  # no trip is foreseen beyond this
FILM_EXPONENT = -0.6  # of a cold plate's film resistance over its flow: constant plus power law
FLOW_LEAST = 1e-3  # of a rack's design flow, so that a model can divide by it
HALVINGS = 10  # of the flow between that and the design flow
CHILLER = {"of": "fws.chillers"}
SPEED_LEAST_PCT = 20.0  # under this a pump's speed tells nothing of what it could give


@dataclass(frozen=True, slots=True)
class Cooling:
    """The table ``[cooling]``: design figures from which the power permit is worked out, and how it is asked for.

    Attributes:
        ambient_temps: outdoor air; of several the warmest counts.
        chip_rise_k: chip over its coolant at the rack's rated power and design flow.
        chip_film_pct: share of that rise which depends on the flow.
        rack_kj_per_k: heat that a rack's plates and chips take up.
        chip_limit_c: warmest chip that a permit allows to last.
        chip_trip_c: chips hotter than this are put off.
        supply_over_k: how far over its setpoint the supply may stay under a permit.
        coolant_l: all coolant of the loop.
        chiller_rated_water_c, chiller_rated_ambient_c: where a chiller gives its rated capacity.
        repair_s: how long a failed chiller counts as gone.
        water_kj_per_k, water_limit_c: facility water that may warm up to the limit while a chiller comes.
        answer_s, follow_pct_per_s: how long IT may take to begin to follow a cap, and how fast it then must.
        release_hold_s, release_pct_per_s: how a cap is let go after its cause has gone.
        rack_flow_lost_pct, rack_flow_lost_s: with less than this of its neighbours' flow, and hot, a rack is put off.
    """

    ambient_temps: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "Cel"})
    chip_rise_k: float
    chip_film_pct: float
    rack_kj_per_k: float
    chip_limit_c: float
    chip_trip_c: float
    supply_over_k: float
    coolant_l: float
    water_lpm: float = field(metadata=CHILLER)
    water_kj_per_k: float = field(metadata=CHILLER)
    water_limit_c: float = field(metadata=CHILLER)
    chiller_rated_water_c: float = field(metadata=CHILLER)
    chiller_rated_ambient_c: float = field(metadata=CHILLER)
    chiller_water_pct_per_k: float = field(metadata=CHILLER)
    chiller_ambient_pct_per_k: float = field(metadata=CHILLER)
    chiller_start_s: float = field(metadata=CHILLER)
    dry_cooler_kw_per_k: float = field(metadata=CHILLER)
    dry_cooler_share_pct: float = field(metadata=CHILLER)
    reserve_kw: float = field(metadata=CHILLER)
    repair_s: float = field(metadata=CHILLER)
    answer_s: float
    follow_pct_per_s: float
    release_hold_s: float
    release_pct_per_s: float
    rack_flow_lost_pct: float
    rack_flow_lost_s: float


def possible_flow_lpm(flow_lpm: float | None, speeds_pct: Sequence[float], most_lpm: float) -> float | None:
    """Return what the loop would carry with its running pumps at full speed: in a closed loop flow goes with speed.

    Args:
        flow_lpm: as measured.
        speeds_pct: of the pumps that are proven.
        most_lpm: no more is ever asked, and none is counted on: a permit must not rise by the pumps it has sped up.
    """
    speed = sum(speeds_pct) / len(speeds_pct) if speeds_pct else 0.0
    if flow_lpm is None or speed < SPEED_LEAST_PCT:
        return flow_lpm
    return min(most_lpm, flow_lpm * 100 / speed)


@dataclass(frozen=True, slots=True)
class RackModel:
    """One rack's chips over its coolant (``coolant_kj`` for each litre and kelvin).

    ``liquid_kw`` is what goes into the coolant at the rack's rated power.
    """

    cooling: Cooling
    rated_kw: float
    liquid_kw: float
    design_lpm: float
    coolant_kj: float

    def rise_k(self, flow_lpm: float) -> float:
        """Return how far chips stand over the supply at rated power and this flow, once steady."""
        flow = max(flow_lpm, FLOW_LEAST * self.design_lpm)
        film = self.cooling.chip_film_pct / 100
        share: float = 1 - film + film * (flow / self.design_lpm) ** FILM_EXPONENT
        return self.liquid_kw / coolant_kw(flow, 1.0, self.coolant_kj) + self.cooling.chip_rise_k * share

    def permit_kw(self, flow_lpm: float, supply_c: float) -> float:
        """Return the power at which chips stay at their limit; never more than rated."""
        room = max(0.0, self.cooling.chip_limit_c - supply_c)
        return self.rated_kw * min(1.0, room / self.rise_k(flow_lpm))

    def flow_lpm(self, power_kw: float, supply_c: float) -> float:
        """Return the least flow at which ``permit_kw`` is this power; the design flow where none of less is enough."""
        low, high = FLOW_LEAST * self.design_lpm, self.design_lpm
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.permit_kw(middle, supply_c) >= power_kw else (middle, high)
        return high


@dataclass(slots=True)
class ChipEstimate:
    """Temperature of a rack's hottest chips, followed from power, flow and supply as one mass behind one resistance."""

    model: RackModel
    chip_c: float | None = None
    steady_c: float = 0.0
    lag_s: float = 0.0
    at: float = 0.0
    flow_lpm: float | None = None
    rise_k: float = 0.0

    def step(self, power_kw: float, flow_lpm: float, supply_c: float, now: float) -> float:
        """Return the estimate; it begins at the steady state of what is seen first."""
        model = self.model
        if flow_lpm != self.flow_lpm:
            self.flow_lpm, self.rise_k = flow_lpm, model.rise_k(flow_lpm)
            self.lag_s = model.cooling.rack_kj_per_k * self.rise_k / model.liquid_kw
        self.steady_c = supply_c + self.rise_k * power_kw / model.rated_kw
        passed, self.at = max(0.0, now - self.at), now
        if self.chip_c is None:
            self.chip_c = self.steady_c
        else:
            self.chip_c += (self.steady_c - self.chip_c) * -math.expm1(-passed / self.lag_s)
        return self.chip_c

    def seconds_to(self, limit_c: float) -> float:
        """Return when the estimate reaches ``limit_c`` if everything stays as it is."""
        chip = self.steady_c if self.chip_c is None else self.chip_c
        if chip >= limit_c:
            return 0.0
        if self.steady_c <= limit_c:
            return SECONDS_MAX
        return min(SECONDS_MAX, self.lag_s * math.log((self.steady_c - chip) / (self.steady_c - limit_c)))


def loop_seconds(kj_per_k: float, supply_c: float, trip_c: float, heat_kw: float, taken_kw: float) -> float:
    """Return when the loop as a whole reaches ``trip_c``, while ``heat_kw`` comes in and ``taken_kw`` is taken out."""
    if supply_c >= trip_c:
        return 0.0
    warming = (heat_kw - taken_kw) / kj_per_k
    return SECONDS_MAX if warming <= 0 else min(SECONDS_MAX, (trip_c - supply_c) / warming)


def exchanger_kw(
    exchanger: Exchanger, flow_lpm: float, share: float, supply_max_c: float, hot_max_c: float, water_c: float
) -> float:
    """Return the heat that leaves the loop by ``share`` of the design water with the supply at ``supply_max_c``.

    Args:
        hot_max_c: coolant never comes back warmer, however little of it flows.
    """
    flow = max(flow_lpm, FLOW_LEAST * exchanger.coolant_lpm)
    per_k = exchanger.heat_kw(flow, 1.0, share, 0.0)  # for each kelvin between inlet and water
    over_k = (supply_max_c - water_c) / (1 - min(per_k / coolant_kw(flow, 1.0, exchanger.coolant_kj), 0.999))
    return max(0.0, per_k * min(over_k, hot_max_c - water_c))


@record
class Cold:
    """What stands ready on the cold side: chillers that run or may start now, and what the rest waits for.

    Attributes:
        ready: chillers that run, start or may be started.
        wait_s: until the next one may be started; 0 where all are ready.
    """

    ready: int
    wait_s: float


def chiller_pct(cooling: Cooling, water_c: float, ambient_c: float) -> float:
    """Return what a chiller can give at these temperatures, in % of its rating."""
    warmer = cooling.chiller_water_pct_per_k * (water_c - cooling.chiller_rated_water_c)
    hotter = cooling.chiller_ambient_pct_per_k * (ambient_c - cooling.chiller_rated_ambient_c)
    return max(0.0, 100 + warmer - hotter)


def reserve_kw(
    cooling: Cooling, cold: Cold, rated_kw: float, water_c: float, water_sp_c: float, ambient_c: float, heat_kw: float
) -> float:
    """Return the heat that chillers, dry cooler and stored water can take, so that no step of load outruns them.

    Args:
        rated_kw: of one chiller, where its rating is given.
        water_sp_c: what the water is held to; that a chiller gives more when the water is too warm is not counted on.
        heat_kw: the present load, which warms the water on its way to the dry cooler.
    """
    chillers = cold.ready * rated_kw * chiller_pct(cooling, water_sp_c, ambient_c) / 100
    back_c = water_c + heat_kw / (cooling.water_lpm / 60 * WATER_KJ)
    dry = cooling.dry_cooler_share_pct / 100 * cooling.dry_cooler_kw_per_k * max(0.0, back_c - ambient_c)
    stored = cooling.water_kj_per_k * max(0.0, cooling.water_limit_c - water_c)
    return chillers + dry + stored / (cold.wait_s + 2 * cooling.chiller_start_s)


def share_pct(kw: float, rated_kw: float) -> float:
    """Return ``kw`` as a share of ``rated_kw``, 0 to 100."""
    return clamp(100 * kw / rated_kw, 0.0, 100.0) if rated_kw > 0 else 100.0
