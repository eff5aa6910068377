"""Image and setpoints -> demands for pumps and valve. Proposes, never writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controller.core.blocks import Delay, PeakHold, Pi, clamp
from controller.core.points import Kind
from controller.core.sequences import Demand, RunSequence

NUMBER, FLAG = Kind.NUMBER, Kind.FLAG
FLOW_TRIM_PCT_PER_LPM_S = 0.0033  # trim of the pump speed: 0.2 % for each L/s of error and second
FLOW_TRIM_PCT = 15.0
DESIGN_PUMPS_NONE_PCT = 100.0


@dataclass(frozen=True, slots=True)
class Tcs:
    """Technology cooling loop: who plays which part, design figures and tuning. Metadata says what a name refers to."""

    pumps: tuple[str, ...] = field(metadata={"class": "pump"})
    valve: str = field(metadata={"class": "valve"})
    supply_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    return_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    flow: str = field(metadata={"kind": NUMBER, "unit": "L/min"})
    suction_pressure: str = field(metadata={"kind": NUMBER, "unit": "kPa"})
    level_ok: str = field(metadata={"kind": FLAG})
    supply_temp_sp_c: float
    supply_temp_low_c: float
    supply_temp_high_c: float
    setpoint_slew_k_per_min: float
    dew_margin_k: float
    dew_unknown_floor_c: float
    flow_design_lpm: float
    flow_min_lpm: float
    flow_max_lpm: float
    flow_per_kw_lpm: float
    liquid_share_pct: float
    flow_hold_s: float
    flow_fall_lpm_per_s: float
    pump_rated_lpm: float
    pump_shutoff_kpa: float
    pump_droop_kpa: float
    system_drop_kpa: float
    pump_speed_min_pct: float
    pump_up_pct_per_s: float
    pump_down_pct_per_s: float
    valve_gain_pct_per_k: float
    valve_integral_s: float
    valve_pct_per_s: float
    valve_rangeability: float


@dataclass(frozen=True, slots=True)
class Fws:
    """Facility water side inside the pod: duty/standby pumps and the chillers."""

    pumps: tuple[str, ...] = field(metadata={"class": "pump"})
    chillers: tuple[str, ...] = field(metadata={"class": "chiller"})
    supply_temps: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    supply_temp_sp_c: float
    supply_temp_low_c: float
    supply_temp_high_c: float
    pump_speed_pct: float
    pump_speed_low_pct: float
    chiller_capacity_kw: float
    stage_up_pct: float
    stage_up_s: float
    stage_up_temp_k: float
    stage_up_temp_s: float
    stage_down_pct: float
    stage_down_s: float
    chiller_min_on_s: float
    chiller_min_off_s: float


@dataclass(frozen=True, slots=True)
class Room:
    """What the dew point is worked out from."""

    temperatures: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "Cel"})
    humidities: tuple[str, ...] = field(metadata={"kind": NUMBER, "unit": "%"})


def dew_point_c(temperature_c: float, humidity_pct: float) -> float:
    """Return the dew point in Cel by the Magnus formula (17.62, 243.12), from Cel and % relative humidity."""
    gamma = math.log(max(humidity_pct, 0.1) / 100) + 17.62 * temperature_c / (243.12 + temperature_c)
    return 243.12 * gamma / (17.62 - gamma)


def flow_needed_lpm(tcs: Tcs, it_power_kw: float | None, least_lpm: float) -> float:
    """Return the flow the racks need, ``least_lpm`` or more; the most there is when the power is not known."""
    if it_power_kw is None:
        return tcs.flow_max_lpm
    return clamp(tcs.flow_per_kw_lpm * it_power_kw * tcs.liquid_share_pct / 100, least_lpm, tcs.flow_max_lpm)


def speed_for_flow_pct(tcs: Tcs, flow_lpm: float, pumps: int) -> float:
    """Return the common speed at which ``pumps`` in parallel give ``flow_lpm``: inverse of pump and system curve."""
    if pumps == 0:
        return DESIGN_PUMPS_NONE_PCT
    droop = tcs.pump_droop_kpa / tcs.pump_rated_lpm**2 / pumps**2
    system = tcs.system_drop_kpa / tcs.flow_design_lpm**2
    return 100 * math.sqrt((droop + system) * flow_lpm**2 / tcs.pump_shutoff_kpa)


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


@dataclass(slots=True)
class FlowLoop:
    """Speed shared by all running pumps: feed-forward from the need, trimmed slowly by the measured flow."""

    tcs: Tcs
    need: PeakHold = field(init=False)
    trim_pct: float = 0.0
    at: float | None = None

    def __post_init__(self) -> None:
        self.need = PeakHold(self.tcs.flow_hold_s, self.tcs.flow_fall_lpm_per_s)

    def step(self, needed_lpm: float, measured_lpm: float | None, proven: int, now: float, least_pct: float) -> float:
        """Return the speed in %, not under ``least_pct``; full while no pump is proven or the flow is not known."""
        target = self.need.step(needed_lpm, now)
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now
        if proven == 0 or measured_lpm is None:
            return 100.0
        feed_forward = speed_for_flow_pct(self.tcs, target, proven)
        inside = least_pct < feed_forward + self.trim_pct < 100.0
        error = target - measured_lpm
        if inside or error * self.trim_pct < 0:
            self.trim_pct = clamp(
                self.trim_pct + FLOW_TRIM_PCT_PER_LPM_S * error * passed, -FLOW_TRIM_PCT, FLOW_TRIM_PCT
            )
        return clamp(feed_forward + self.trim_pct, least_pct, 100.0)


@dataclass(slots=True)
class SupplyTempLoop:
    """Position of the valve that takes heat to the facility water: it opens as the supply gets too warm.

    The control works in shares of the valve's flow, so that its gain is the same over the whole stroke.
    """

    tcs: Tcs
    pi: Pi = field(init=False)
    started: bool = False

    def __post_init__(self) -> None:
        self.pi = Pi(self.tcs.valve_gain_pct_per_k, self.tcs.valve_integral_s, 0.0, 100.0)

    def step(self, supply_c: float | None, setpoint_c: float, position_pct: float | None, now: float) -> float:
        """Return the valve position in %; open when the supply temperature is not known."""
        if supply_c is None:
            self.started = False
            return 100.0
        error = supply_c - setpoint_c
        if not self.started:
            self.pi.preset(share_pct(position_pct or 0.0, self.tcs.valve_rangeability), error, now)
            self.started = True
        return opening_pct(self.pi.step(error, now), self.tcs.valve_rangeability)


@dataclass(slots=True)
class ChillerStaging:
    """How many chillers are wanted: one always, the next ahead of the heat or when the water gets warm."""

    fws: Fws
    ahead: Delay = field(init=False)
    warm: Delay = field(init=False)
    spare: Delay = field(init=False)
    count: int = 1

    def __post_init__(self) -> None:
        self.ahead = Delay(self.fws.stage_up_s)
        self.warm = Delay(self.fws.stage_up_temp_s)
        self.spare = Delay(self.fws.stage_down_s)

    def step(self, heat_kw: float | None, supply_c: float | None, setpoint_c: float, now: float) -> int:
        capacity = self.count * self.fws.chiller_capacity_kw
        share = None if heat_kw is None else 100 * heat_kw / capacity
        warm_at = setpoint_c + self.fws.stage_up_temp_k
        ahead = self.ahead.step(share is None or share > self.fws.stage_up_pct, now)
        warm = self.warm.step(supply_c is not None and supply_c > warm_at, now)
        fewer = (self.count - 1) * self.fws.chiller_capacity_kw
        less = heat_kw is not None and self.count > 1 and 100 * heat_kw < self.fws.stage_down_pct * fewer
        if (ahead or warm) and self.count < len(self.fws.chillers):
            self.count += 1
            self.ahead, self.warm = Delay(self.fws.stage_up_s), Delay(self.fws.stage_up_temp_s)
        elif self.spare.step(less, now):
            self.count -= 1
            self.spare = Delay(self.fws.stage_down_s)
        return self.count


def pump_demands(pumps: Sequence[RunSequence], speed_pct: float) -> Iterable[Demand]:
    """Return the same speed for every pump of the group that is not failed."""
    return (Demand(f"{pump.device}.speed_cmd", speed_pct, "flow loop") for pump in pumps)
