"""The table ``[protection]``: which points protection looks at, its limits and its delays."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.core.points import Kind

FLAG = {"kind": Kind.FLAG}
PERCENT = {"kind": Kind.NUMBER, "unit": "%"}
KPA = {"kind": Kind.NUMBER, "unit": "kPa"}
LPM = {"kind": Kind.NUMBER, "unit": "L/min"}
# What a limit is of: where an enclosure has no such sensor the file has no such limit, and the limit is NaN.
SUCTION, DISCHARGE, LEVEL, WATER, BATTERY, DEW, LEAK, RACK_VALVE = (
    {"of": role}
    for role in (
        "tcs.suction_pressure", "protection.discharge_pressure", "protection.level", "protection.fws_flow",
        "protection.battery_soc", "room.humidities", "racks.leak", "racks.valve",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Protection:
    """Limits and delays of the interlocks. Every one is stated in the enclosure file; none has a default.

    Lists of points may be empty where a pod has no such sensor: the rows that need it are left out.

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
    dew_shut_k: float = field(metadata=DEW)
    dew_shut_s: float = field(metadata=DEW)
    fws_flow_lost_lpm: float = field(metadata=WATER)
    fws_flow_lost_s: float = field(metadata=WATER)
    fws_flow_cap_s: float = field(metadata=WATER)
    fws_flow_cap_to_pct: float = field(metadata=WATER)
    air_warn_c: float
    air_cap_c: float
    air_cap_s: float
    air_cap_to_pct: float
    air_trip_c: float
    air_trip_s: float
    air_lag_s: float
    level_low_pct: float = field(metadata=LEVEL)
    level_out_pct: float = field(metadata=LEVEL)
    level_dry_pct: float = field(metadata=LEVEL)
    level_fall_pct_per_s: float = field(metadata=LEVEL)
    burst_flow_pct: float = field(metadata=LEVEL)
    level_loss_pct: float = field(metadata=LEVEL)
    level_loss_s: float = field(metadata=LEVEL)
    leak_pumps_off_s: float = field(metadata=LEVEL)
    suction_low_kpa: float = field(metadata=SUCTION)
    suction_low_s: float = field(metadata=SUCTION)
    suction_least_kpa: float = field(metadata=SUCTION)
    suction_least_s: float = field(metadata=SUCTION)
    suction_least_to_pct: float = field(metadata=SUCTION)
    discharge_ease_kpa: float = field(metadata=DISCHARGE)
    discharge_high_kpa: float = field(metadata=DISCHARGE)
    discharge_s: float = field(metadata=DISCHARGE)
    branch_rated_a: float
    branch_time_s: float
    branch_warn_pct: float
    branch_warn_s: float
    branch_cap_pct: float
    branch_heat_cap_pct: float
    branch_heat_shed_pct: float
    phase_imbalance_pct: float
    battery_warn_pct: float = field(metadata=BATTERY)
    battery_cap_pct: float = field(metadata=BATTERY)
    battery_cap_to_pct: float = field(metadata=BATTERY)
    battery_stop_pct: float = field(metadata=BATTERY)
    shed_step_s: float
    restore_step_s: float
    restores_per_h_max: int
    rack_leak_wet_s: float = field(metadata=LEAK)
    rack_leak_confirm_s: float = field(metadata=LEAK)
    rack_off_before_valve_s: float = field(metadata=RACK_VALVE)
    refresh_s: float
