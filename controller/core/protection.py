"""The table ``[protection]``: which points protection looks at, its limits and its delays."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.core.points import Kind

FLAG = {"kind": Kind.FLAG}
PERCENT = {"kind": Kind.NUMBER, "unit": "%"}
KPA = {"kind": Kind.NUMBER, "unit": "kPa"}
LPM = {"kind": Kind.NUMBER, "unit": "L/min"}


@dataclass(frozen=True, slots=True)
class Protection:
    """Limits and delays of the interlocks. Every one is stated in the enclosure file; none has a default.

    Lists of points may be empty where a pod has no such sensor: the rows that need it then never act.

    Attributes:
        watched: flags that raise an alarm while on and stop nothing: smoke, a broken leak cable, an open door.
        level: reservoir level; of several the lowest counts.
        discharge_pressure: after the TCS pumps; of several the highest counts.
        fws_flow: facility water that reaches the pod; of several the lowest counts.
        battery_soc: state of charge of what carries the pod when the mains are gone.
        *_to_pct: IT power that is left, in % of what is rated.
        flow_lost_s: first timer of the trip on lost flow: a flow that comes back in time stops it.
        flow_lost_meltdown_s: second timer, which nothing stops.
        pump_power_low_pct: of what its partners at the same speed draw; a pump under it moves no coolant.
        resistance_high_pct: of the loop's resistance as commissioned (``tcs.system_drop_kpa``).
        dew_shut_k: dew-point margin under which the facility water by-passes the exchanger.
        air_lag_s: of the room's sensors; a rise is foreseen by so much.
        level_fall_pct_per_s: a level that falls so fast is a burst.
        burst_flow_pct: flow into a rack, of its neighbours', that shows where a burst is.
        level_loss_pct, level_loss_s: a loss that confirms a leak detector.
        leak_pumps_off_s: after a burst in the loop pumps stop when all racks have been off for so long.
        branch_rated_a, branch_time_s: of a rack's branch breaker, and the time constant of its thermal release.
        branch_warn_pct, branch_cap_pct: of the rated current.
        branch_heat_cap_pct, branch_heat_shed_pct: of the heat at which the breaker would open.
        shed_step_s, restore_step_s, restores_per_h_max: pace of shedding by tier and of coming back.
        rack_off_before_valve_s: how long a rack must be off before its valve may close.
        refresh_s: how old a write may get before it is repeated.
    """

    epo: str = field(metadata=FLAG)
    cdu_leak: tuple[str, ...] = field(metadata=FLAG)
    watched: tuple[str, ...] = field(metadata=FLAG)
    level: tuple[str, ...] = field(metadata=PERCENT)
    discharge_pressure: tuple[str, ...] = field(metadata=KPA)
    fws_flow: tuple[str, ...] = field(metadata=LPM)
    battery_soc: tuple[str, ...] = field(metadata=PERCENT)
    flow_full_pct: float
    flow_full_s: float
    flow_cap_pct: float
    flow_cap_s: float
    flow_cap_to_pct: float
    flow_lost_pct: float
    flow_lost_s: float
    flow_lost_meltdown_s: float
    pumps_lost_s: float
    pump_power_low_pct: float
    pump_no_flow_s: float
    resistance_high_pct: float
    resistance_high_s: float
    supply_temp_cap_k: float
    supply_temp_cap_s: float
    supply_temp_cap_pct_per_k: float
    supply_temp_trip_c: float
    supply_temp_trip_s: float
    supply_unknown_to_pct: float
    return_temp_cap_c: float
    return_temp_trip_c: float
    return_temp_s: float
    dew_shut_k: float
    dew_shut_s: float
    fws_flow_lost_lpm: float
    fws_flow_lost_s: float
    fws_flow_cap_s: float
    fws_flow_cap_to_pct: float
    air_warn_c: float
    air_cap_c: float
    air_cap_s: float
    air_cap_to_pct: float
    air_trip_c: float
    air_trip_s: float
    air_lag_s: float
    level_low_pct: float
    level_out_pct: float
    level_dry_pct: float
    level_fall_pct_per_s: float
    burst_flow_pct: float
    level_loss_pct: float
    level_loss_s: float
    leak_pumps_off_s: float
    suction_low_kpa: float
    suction_low_s: float
    suction_least_kpa: float
    suction_least_s: float
    suction_least_to_pct: float
    discharge_ease_kpa: float
    discharge_high_kpa: float
    discharge_s: float
    branch_rated_a: float
    branch_time_s: float
    branch_warn_pct: float
    branch_warn_s: float
    branch_cap_pct: float
    branch_heat_cap_pct: float
    branch_heat_shed_pct: float
    phase_imbalance_pct: float
    battery_warn_pct: float
    battery_cap_pct: float
    battery_cap_to_pct: float
    battery_stop_pct: float
    shed_step_s: float
    restore_step_s: float
    restores_per_h_max: int
    rack_leak_wet_s: float
    rack_leak_confirm_s: float
    rack_off_before_valve_s: float
    refresh_s: float
