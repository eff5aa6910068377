"""Image and setpoints -> demands for pumps and valve. Proposes, never writes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from controller.core.blocks import PeakHold, Play, clamp
from controller.core.exchanger import COOLANTS, Exchanger, coolant_kw, opening_pct, share_pct
from controller.core.points import Kind, record
from controller.core.sequences import Demand, RunSequence

NUMBER, FLAG = Kind.NUMBER, Kind.FLAG
# Figures of equipment that an enclosure may do without are given where it has it, and are NaN where it has not.
CHILLER, WATER_PUMP, DOOR = {"of": "fws.chillers"}, {"of": "fws.pumps"}, {"of": "room.door_valves"}
DEW = {"of": "room.humidities"}
FLOW_TRIM_PCT_PER_LPM_S = 0.0033  # trim of the pump speed: 0.2 % for each L/s of error and second,
FLOW_TRIM_LPM = 1300.0  # in a loop of this design flow; in a smaller one each L/s is a larger part
FLOW_TRIM_PCT = 15.0
NEAR_PCT = 2.0  # pumps this near to the speed asked of them follow it
DESIGN_PUMPS_NONE_PCT = 100.0
TRIM_GAIN = 0.6  # K of trim for each K of error: gain margin 4 to 5 at every load
CLIMB_K_PER_S = 0.1  # of the reference, from where a supply without heat had come to rest
DIGIT_K = 0.1  # last digit of the temperature probes: registers hold tenths
FORESEEN_SHARE = 0.35  # of the exchanger's inlet temperature as foreseen, the rest as measured


@dataclass(frozen=True, slots=True)
class Tcs:
    """Technology cooling loop: who plays which part, design figures and tuning. Metadata says what a name refers to.

    What it moves is its ``coolant``: a liquid by pumps through a plate heat exchanger, or air by fans through a coil.
    """

    coolant: Literal["pg25", "water", "air"]
    pumps: tuple[str, ...] = field(metadata={"class": "pump"})
    valve: str = field(metadata={"class": "valve"})
    supply_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    return_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    flow: str = field(metadata={"kind": NUMBER, "unit": "L/min"})
    suction_pressure: str = field(metadata={"kind": NUMBER, "unit": "kPa", "optional": True})
    level_ok: str = field(metadata={"kind": FLAG, "optional": True})
    supply_temp_sp_c: float
    supply_temp_low_c: float
    supply_temp_high_c: float
    setpoint_slew_k_per_min: float
    dew_margin_k: float = field(metadata=DEW)
    dew_unknown_floor_c: float = field(metadata=DEW)
    flow_design_lpm: float
    flow_min_lpm: float
    flow_max_lpm: float
    flow_per_kw_lpm: float
    liquid_share_pct: float
    flow_hold_s: float
    flow_fall_lpm_per_s: float
    pumps_on_duty: int
    pumps_on_duty_low: int
    pumps_low_pct: float
    pumps_low_s: float
    pump_rated_lpm: float
    pump_shutoff_kpa: float
    pump_droop_kpa: float
    system_drop_kpa: float
    pump_speed_min_pct: float
    pump_up_pct_per_s: float
    pump_down_pct_per_s: float
    pump_urgent_pct_per_s: float
    exchanger_kw_per_k: float
    exchanger_water_lpm: float
    loop_volume_l: float
    loop_lag_s: float
    trim_integral_s: float
    trim_k: float
    valve_pct_per_s: float
    valve_rangeability: float

    @property
    def coolant_kj(self) -> float:
        """Return the heat capacity of its coolant for each litre and kelvin."""
        return COOLANTS[self.coolant]


def exchanger_of(tcs: Tcs) -> Exchanger:
    """Return the model of the loop's heat exchanger."""
    return Exchanger(tcs.exchanger_kw_per_k, tcs.flow_design_lpm, tcs.exchanger_water_lpm, tcs.coolant_kj)


@dataclass(frozen=True, slots=True)
class Fws:
    """Facility water side inside the pod: duty/standby pumps and the chillers; none where the water comes from outside.

    ``supply_temp_sp_c`` is what the water is held to, by the chillers or by the building.
    """

    pumps: tuple[str, ...] = field(metadata={"class": "pump"})
    chillers: tuple[str, ...] = field(metadata={"class": "chiller"})
    supply_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    supply_temp_sp_c: float
    supply_temp_low_c: float = field(metadata=CHILLER)
    supply_temp_high_c: float = field(metadata=CHILLER)
    pump_speed_pct: float = field(metadata=WATER_PUMP)
    pump_speed_low_pct: float = field(metadata=WATER_PUMP)
    chiller_capacity_kw: float = field(metadata=CHILLER)
    chiller_least_kw: float = field(metadata=CHILLER)
    stage_extra_kw: float = field(metadata=CHILLER)
    stage_up_pct: float = field(metadata=CHILLER)
    stage_up_s: float = field(metadata=CHILLER)
    stage_up_temp_k: float = field(metadata=CHILLER)
    stage_up_temp_s: float = field(metadata=CHILLER)
    stage_down_pct: float = field(metadata=CHILLER)
    stage_down_s: float = field(metadata=CHILLER)
    stage_low_s: float = field(metadata=CHILLER)
    chiller_min_on_s: float = field(metadata=CHILLER)
    chiller_min_off_s: float = field(metadata=CHILLER)


@dataclass(frozen=True, slots=True)
class Room:
    """What the dew point is worked out from, and the valves of the rear doors' water.

    Attributes:
        temperatures: with the hot side among them; the highest tells how hot the air is.
        dew_lead_s: so far ahead the facility water keeps of a rising dew point.
        door_shut_margin_k, door_shut_air_c: doors are shut with less between coil and dew point, while air is colder.
        door_open_margin_k, door_open_air_c: they open again with more, or with hotter air.
        door_stroke_s: from open to shut.
    """

    temperatures: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    humidities: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "%"})
    dew_lead_s: float = field(metadata=DEW)
    door_valves: tuple[str, ...] = field(metadata={"class": "valve"})
    door_shut_margin_k: float = field(metadata=DOOR)
    door_shut_air_c: float = field(metadata=DOOR)
    door_open_margin_k: float = field(metadata=DOOR)
    door_open_air_c: float = field(metadata=DOOR)
    door_stroke_s: float = field(metadata=DOOR)


def dew_point_c(temperature_c: float, humidity_pct: float) -> float:
    """Return the dew point in Cel by the Magnus formula (17.62, 243.12), from Cel and % relative humidity."""
    gamma = math.log(max(humidity_pct, 0.1) / 100) + 17.62 * temperature_c / (243.12 + temperature_c)
    return 243.12 * gamma / (17.62 - gamma)


def flow_needed_lpm(tcs: Tcs, it_power_kw: float | None, least_lpm: float) -> float:
    """Return the flow the racks need, ``least_lpm`` or more; the most there is when the power is not known."""
    if it_power_kw is None:
        return tcs.flow_max_lpm
    return clamp(tcs.flow_per_kw_lpm * it_power_kw * tcs.liquid_share_pct / 100, least_lpm, tcs.flow_max_lpm)


def speed_for_flow_pct(tcs: Tcs, flow_lpm: float, pumps: int, resistance: float = 1.0) -> float:
    """Return the common speed at which ``pumps`` in parallel give ``flow_lpm``: inverse of pump and system curve.

    Args:
        resistance: of the loop, as a multiple of the commissioned one.
    """
    if pumps == 0:
        return DESIGN_PUMPS_NONE_PCT
    droop = tcs.pump_droop_kpa / tcs.pump_rated_lpm**2 / pumps**2
    system = resistance * tcs.system_drop_kpa / tcs.flow_design_lpm**2
    return 100 * math.sqrt((droop + system) * flow_lpm**2 / tcs.pump_shutoff_kpa)


@dataclass(slots=True)
class FlowLoop:
    """Speed shared by all running pumps: feed-forward from the need, trimmed slowly by the measured flow."""

    tcs: Tcs
    need: PeakHold = field(init=False)
    trim_pct: float = 0.0
    at: float | None = None

    def __post_init__(self) -> None:
        self.need = PeakHold(self.tcs.flow_hold_s, self.tcs.flow_fall_lpm_per_s)

    def step(
        self,
        needed_lpm: float,
        measured_lpm: float | None,
        proven: int,
        now: float,
        least_pct: float,
        resistance: float = 1.0,
        stands_pct: float | None = None,
    ) -> float:
        """Return the speed in %, not under ``least_pct``; full while no pump is proven or the flow is not known.

        Args:
            resistance: of the loop as it is now, as a multiple of the commissioned one.
            stands_pct: speed of the pumps; while it is not known or not what was asked, the flow tells nothing.
        """
        target = self.need.step(needed_lpm, now)
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now
        if proven == 0 or measured_lpm is None:
            return 100.0
        feed_forward = speed_for_flow_pct(self.tcs, target, proven, resistance)
        asked = clamp(feed_forward + self.trim_pct, least_pct, 100.0)
        if stands_pct is None or abs(stands_pct - asked) > NEAR_PCT:
            return asked
        inside = least_pct < feed_forward + self.trim_pct < 100.0
        error = (target - measured_lpm) * (FLOW_TRIM_LPM / self.tcs.flow_design_lpm)
        if inside or error * self.trim_pct < 0:
            self.trim_pct = clamp(
                self.trim_pct + FLOW_TRIM_PCT_PER_LPM_S * error * passed, -FLOW_TRIM_PCT, FLOW_TRIM_PCT
            )
        return clamp(feed_forward + self.trim_pct, least_pct, 100.0)


@record
class HeatSeen:
    """What the supply temperature loop goes by; None is what can't be trusted.

    Attributes:
        flow_wanted_lpm: what the pumps are driven to, ahead of what is measured.
    """

    supply_c: float | None
    return_c: float | None
    water_c: float | None
    flow_lpm: float | None
    flow_wanted_lpm: float
    it_kw: float | None


@dataclass(slots=True)
class Transport:
    """A temperature that travels with the coolant: comes out when ``volume_l`` have flowed, smeared by ``lag_s``."""

    volume_l: float
    lag_s: float
    litres: float = 0.0
    underway: deque[tuple[float, float]] = field(default_factory=deque)
    value: float | None = None

    def step(self, inlet_c: float, flow_lpm: float, passed_s: float) -> float:
        """Return the temperature at the far end."""
        self.litres += flow_lpm / 60 * passed_s
        self.underway.append((self.litres, inlet_c))
        while len(self.underway) > 1 and self.underway[1][0] <= self.litres - self.volume_l:
            self.underway.popleft()
        arrived = self.underway[0][1]
        if self.value is None:
            self.value = arrived
        self.value += (arrived - self.value) * passed_s / (self.lag_s + passed_s)
        return self.value


@dataclass(slots=True)
class SupplyTempLoop:
    """Position of the valve that takes heat to the facility water.

    The heat to take is worked out from measured IT power and flow ahead of any temperature (feed-forward), and the
    exchanger's model is turned round to find the valve position that takes it: the gain is the same at every load. A
    small trim in kelvin, limited to ``trim_k``, takes up what the model gets wrong: a sensor that lies can not run
    away with the loop. Where too little heat comes to reach the setpoint, the reference follows the supply down and
    climbs back with the heat, so that the valve is on its way before the setpoint is reached.
    """

    tcs: Tcs
    exchanger: Exchanger = field(init=False)
    transport: Transport = field(init=False)
    supply: Play = field(default_factory=lambda: Play(DIGIT_K))
    back: Play = field(default_factory=lambda: Play(DIGIT_K))
    trim_k: float = 0.0
    reference_c: float | None = None
    shut: bool = False
    at: float | None = None

    def __post_init__(self) -> None:
        tcs = self.tcs
        self.exchanger = exchanger_of(tcs)
        self.transport = Transport(tcs.loop_volume_l, tcs.loop_lag_s)

    def step(
        self, seen: HeatSeen, setpoint_c: float, water_sp_c: float, position_pct: float | None, now: float
    ) -> float:
        """Return the valve position in %.

        Without a supply temperature the model alone decides, with the whole trim towards cooling. The valve is open
        when neither return temperature nor power tells how warm the coolant is.

        Args:
            water_sp_c: what the facility water is held to; used while its temperature is not known.
            position_pct: where the valve stands; the first output continues from there.
        """
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        first, self.at = self.at is None, now
        seen = self._steadied(seen)
        setpoint_c = self._reference(setpoint_c, seen.supply_c, passed)
        flow = max(seen.flow_wanted_lpm, seen.flow_lpm or 0.0)
        hot = self._hot_c(seen, setpoint_c, flow, passed)
        if hot is None:
            return 100.0
        water = water_sp_c if seen.water_c is None else seen.water_c
        error = 0.0 if seen.supply_c is None else seen.supply_c - setpoint_c
        if first and position_pct is not None:
            self._preset(position_pct, hot, water, flow, setpoint_c, error)
        trim = self.tcs.trim_k if seen.supply_c is None else TRIM_GAIN * error + self.trim_k
        heat = coolant_kw(flow, hot - setpoint_c + trim, self.tcs.coolant_kj)
        share = self.exchanger.share_for(heat, flow, hot, water)
        self.shut = share <= 0.0
        if seen.supply_c is None:
            self.trim_k = 0.0
        elif not (share >= 1.0 and error > 0) and not (share <= 0.0 and error < 0):
            change = TRIM_GAIN / self.tcs.trim_integral_s * error * passed
            self.trim_k = clamp(self.trim_k + change, -self.tcs.trim_k, self.tcs.trim_k)
        return opening_pct(100 * share, self.tcs.valve_rangeability)

    def _reference(self, setpoint_c: float, supply_c: float | None, passed: float) -> float:
        """Return what the supply is held to now; never more than the setpoint."""
        last = setpoint_c if self.reference_c is None else self.reference_c + CLIMB_K_PER_S * passed
        if supply_c is not None and (self.shut or self.reference_c is None):
            last = min(last, supply_c)
        self.reference_c = min(setpoint_c, last)
        return self.reference_c

    def _steadied(self, seen: HeatSeen) -> HeatSeen:
        """Return the temperatures without the toggling of their last digit, which would wear the valve."""
        supply = None if seen.supply_c is None else self.supply.step(seen.supply_c)
        back = None if seen.return_c is None else self.back.step(seen.return_c)
        return replace(seen, supply_c=supply, return_c=back)

    def _hot_c(self, seen: HeatSeen, setpoint_c: float, flow: float, passed: float) -> float | None:
        """Return how warm the coolant comes to the exchanger: foreseen from power and flow, and as measured."""
        foreseen = None
        if seen.it_kw is not None and flow > 0:
            rise = seen.it_kw * self.tcs.liquid_share_pct / 100 / coolant_kw(flow, 1.0, self.tcs.coolant_kj)
            start = setpoint_c if seen.supply_c is None else seen.supply_c
            foreseen = self.transport.step(start + rise, flow, passed)
        if foreseen is None or seen.return_c is None:
            return seen.return_c if foreseen is None else foreseen
        return FORESEEN_SHARE * foreseen + (1 - FORESEEN_SHARE) * seen.return_c

    def _preset(
        self, position_pct: float, hot: float, water: float, flow: float, setpoint_c: float, error: float
    ) -> None:
        """Set the trim so that the first output is where the valve stands, as far as the trim may go."""
        share = share_pct(position_pct, self.tcs.valve_rangeability) / 100
        taken_k = self.exchanger.heat_kw(flow, hot, share, water) / coolant_kw(flow, 1.0, self.tcs.coolant_kj)
        self.trim_k = clamp(taken_k - (hot - setpoint_c) - TRIM_GAIN * error, -self.tcs.trim_k, self.tcs.trim_k)


def pump_demands(pumps: Sequence[RunSequence], speed_pct: float, *, urgent: bool = False) -> Iterable[Demand]:
    """Return the same speed for every pump of the group; ``urgent`` where flow is being lost."""
    return (Demand(pump.speed_cmd_id, speed_pct, "flow loop", urgent=urgent) for pump in pumps)
