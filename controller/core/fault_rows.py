"""The 22 classes of fault as rows of data: what they do, from the mildest to the hardest. docs/hazards.md lists them.

Classes and ladders follow what CDU makers share (manuals: Vertiv CoolChip CDU 600, Coolcentric CDU-AC5, Lenovo RM100).
Limits of a site are in the enclosure file; delays that follow from how fast a loop moves are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.core.alarm_load import Priority
from controller.core.alarm_states import AlarmRow
from controller.core.interlocks import Action, Row, Tier, What
from controller.core.power import Rack, branches_of
from controller.core.protection import Protection

DEVICE = "protection"  # pseudo-device: one flag for each row, on while it acts
LEVEL, SUCTION, DISCHARGE = ("protection.level",), ("tcs.suction_pressure",), ("protection.discharge_pressure",)
DEW, AIR, WATER = ("room.humidities",), ("room.temperatures",), ("protection.fws_flow",)
BATTERY, SWITCH = ("protection.battery_soc",), ("tcs.level_ok",)
WARN, LIMIT, TRIP = Tier.COMPENSATE, Tier.LIMIT, Tier.TRIP
PRIORITIES: dict[Tier, Priority] = {WARN: "medium", LIMIT: "high", TRIP: "critical"}
SHIFT_S = 8 * 3600.0  # longest bypass of a row that warns
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What rows are about: TCS pumps and racks; a rack is put off when its flow was lost for ``rack_flow_lost_s``.

    ``roles`` (table.key) are those that something in the enclosure plays.
    """

    pumps: Sequence[str]
    racks: Sequence[Rack]
    rack_flow_lost_s: float
    roles: AbstractSet[str]


def does(*actions: What | Action) -> tuple[Action, ...]:
    return tuple(action if isinstance(action, Action) else Action(action) for action in actions)


def fault_rows(limits: Protection, parts: Parts, *, absent: bool = False) -> list[Row]:
    """Return every row of a pod; of those that may begin in one scan the cause comes before what it causes.

    Args:
        absent: return instead those that this enclosure does without.
    """
    return [row for row in _all_rows(limits, parts) if (parts.roles >= {*row.needs}) is not absent]


def _all_rows(limits: Protection, parts: Parts) -> list[Row]:
    return [
        Row(
            "epo", "emergency power off", 0.0, trip=True, fault="EPO", actions=does("all_off"), group="power",
        ),
        *_leak_rows(limits, parts),
        *_reservoir_rows(limits),
        *_pump_rows(limits, parts),
        *_flow_rows(limits, parts),
        *_temperature_rows(limits),
        *_water_rows(limits),
        *_sensor_rows(limits),
        *_branch_rows(limits, parts),
        *_supply_rows(limits),
        *_controller_rows(),
    ]  # fmt: skip


def _leak_rows(limits: Protection, parts: Parts) -> Iterable[Row]:
    group = "leak"
    yield Row(
        "level_falling", "level falls as fast as by a burst", 0.0, trip=False, fault="LEAK_MAJOR", tier=LIMIT,
        actions=does("hold_on"), clear_s=10.0, group=group,
        consequence="The loop runs dry in a minute or two; a wet rack is isolated at once, a wet CDU trips the pod.",
        remedy="Find the burst. If no detector shows it: take load off and close what leaks by hand.", needs=LEVEL,
    )  # fmt: skip
    yield Row(
        "leak_major", "burst at the CDU", 1.0, trip=True, fault="LEAK_MAJOR",
        actions=does("hold_on", "racks_off", "pumps_off"), group=group,
        consequence="All racks are off; pumps stop when their heat is out, for pumping feeds the leak.",
        remedy="Close the loop at the CDU, repair, fill; then order mode reset.", needs=("protection.cdu_leak", *LEVEL),
    )  # fmt: skip
    yield Row(
        "leak_blind", "a leak detector can't see", 10.0, trip=False, fault="LEAK_SENSOR_FAULT", tier=WARN,
        actions=does("warn"), bypass_max_s=SHIFT_S, group=group, needs=("leak_detector",),
    )  # fmt: skip
    off = does("rack_off", "isolate")
    for rack in parts.racks:
        name, group = rack.name, f"leak {rack.name}"
        yield Row(
            f"wet_{name}", f"wet detector at {name}", limits.rack_leak_wet_s, trip=False, fault="LEAK_SUSPECT",
            tier=WARN, actions=does("warn"), clear_s=600.0, bypass_max_s=HOUR_S, rack=name, group=group,
            needs=(f"{name}.leak",),
        )  # fmt: skip
        yield Row(
            f"leak_sure_{name}", f"leak in {name}, seen twice", 0.6, trip=True, fault="LEAK_CONFIRMED",
            actions=off, rack=name, group=group, needs=(f"{name}.leak", *LEVEL),
        )  # fmt: skip
        yield Row(
            f"burst_{name}", f"burst in {name}", 0.2, trip=True, fault="LEAK_MAJOR", actions=off, rack=name,
            group=group, needs=LEVEL,
        )  # fmt: skip
        yield Row(
            f"leak_{name}", f"leak in {name}", limits.rack_leak_confirm_s, trip=True, fault="LEAK_CONFIRMED",
            actions=off, bypass_max_s=HOUR_S, rack=name, group=group, needs=(f"{name}.leak",),
        )  # fmt: skip
        asked = f"isolation of {name} asked for"
        yield Row(
            isolation_id(name), asked, 0.0, trip=True, fault="LEAK_CONFIRMED", actions=off, rack=name, group=group
        )
        yield Row(
            power_isolation_id(name), f"power of {name} asked off", 0.0, trip=True, fault="LEAK_CONFIRMED",
            actions=does("rack_off"), rack=name, group=group,
        )  # fmt: skip


def isolation_id(rack: str) -> str:
    """Return the interlock row that takes ``rack`` off on request, power first and then its water."""
    return f"isolate_{rack}"


def power_isolation_id(rack: str) -> str:
    """Return the row that takes off the power of ``rack`` on request and leaves its water alone."""
    return f"isolate_power_{rack}"


def _reservoir_rows(limits: Protection) -> Iterable[Row]:
    fault, group = "LEVEL_LOW", "leak"
    yield Row(
        "level_low", "reservoir level low", 5.0, trip=False, fault=fault, tier=LIMIT, actions=does("hold_on"),
        clear_s=5.0, group=group,
        consequence="No rack is energised; with less still, racks go off and then the pumps.",
        remedy="Look for a leak; fill the reservoir.", needs=SWITCH,
    )  # fmt: skip
    yield Row(
        "level_out", "reservoir nearly empty", 5.0, trip=True, fault=fault, actions=does("racks_off"), group=group,
        consequence="All racks are off before the pumps draw air.",
        remedy="Find the leak, repair, fill; then order mode reset.", needs=LEVEL + SWITCH,
    )  # fmt: skip
    yield Row(
        "level_dry", "reservoir empty", 2.0, trip=True, fault=fault, actions=does("racks_off", "pumps_off"),
        group=group, consequence="Pumps stop once all racks are known to be off: they would run dry.",
        remedy="Find the leak, repair, fill; then order mode reset.", needs=LEVEL + SWITCH,
    )  # fmt: skip
    yield Row(
        "suction_pressure_low", "suction pressure low", limits.suction_low_s, trip=False, fault=fault, tier=WARN,
        actions=does("warn"), clear_s=5.0, bypass_max_s=SHIFT_S, group=group,
        consequence="With less the pumps cavitate.", remedy="Fill the loop to its pressure; look for a slow leak.",
        needs=SUCTION,
    )  # fmt: skip
    yield Row(
        "suction_pressure_lost", "suction pressure too low for the pumps", limits.suction_least_s, trip=False,
        fault=fault, tier=LIMIT, actions=does("pumps_eased", Action("cap", limits.suction_least_to_pct)), clear_s=10.0,
        group=group, consequence="IT power is capped, and pumps run no faster than it needs: they draw air.",
        remedy="Fill the loop; bleed the pumps.", needs=SUCTION,
    )  # fmt: skip
    for name, cause, tier, actions in (
        ("discharge_pressure_eased", "discharge pressure above its limit", WARN, does("pumps_eased")),
        ("discharge_pressure_high", "discharge pressure near the relief valve", LIMIT, does("pumps_eased", "hold_on")),
    ):
        yield Row(
            name, cause, limits.discharge_s, trip=False, fault="PRESS_HIGH", tier=tier, actions=actions, clear_s=10.0,
            group="cooling", consequence="Pumps run no faster than the need asks.",
            remedy="Look for a shut valve; compare with the gauge at the CDU.", needs=DISCHARGE,
        )  # fmt: skip


def _pump_rows(limits: Protection, parts: Parts) -> Iterable[Row]:
    fault, group = "PUMP_FAIL", "cooling"
    for pump in parts.pumps:
        yield Row(
            f"no_flow_{pump}", f"{pump} runs and moves nothing", limits.pump_no_flow_s, trip=False, device=pump,
            fault=fault, tier=WARN, actions=does("pump_lost", "partner"), bypass_max_s=HOUR_S, group=group,
        )  # fmt: skip
    yield Row(
        "pump_lost", "a TCS pump is lost", 1.0, trip=False, fault=fault, tier=WARN, actions=does("partner"),
        group=group,
    )  # fmt: skip
    yield Row(
        "pump_short", "flow below need with a pump lost", 10.0, trip=False, fault=fault, tier=LIMIT,
        actions=does("pumps_full", "cap_flow"), clear_s=10.0, group=group,
        consequence="IT power is capped to the flow there is.", remedy="Repair the pump; then order mode reset.",
    )  # fmt: skip
    yield Row(
        "pumps_stopped", "no TCS pump runs", 0.4, trip=False, fault=fault, tier=LIMIT,
        actions=does("pumps_restart", "pumps_full", Action("cap", limits.flow_cap_to_pct)), clear_s=2.0, group=group,
        consequence="Chips throttle within seconds; IT power is capped and all pumps are told to run.",
        remedy="Check the supply of the pumps' drives.",
    )  # fmt: skip
    yield Row(
        "pumps_lost", "all TCS pumps stopped", limits.pumps_lost_s, trip=True, fault=fault,
        actions=does("pumps_full", "racks_off"), group=group,
    )  # fmt: skip
    yield Row(
        "pumps_silent", "no TCS pump answers", 10.0, trip=False, fault="DEVICE_COMMS", tier=LIMIT,
        actions=does("hold_on", "hold_load"), clear_s=5.0, group=group,
        consequence="They run on by themselves while the flow is good; IT power may not rise.",
        remedy="Check the pumps' bus: adapter, cable, power.",
    )  # fmt: skip
    yield Row(
        "strainer_clogged", "loop resistance high", limits.resistance_high_s, trip=False, fault="FILTER_DIRTY",
        tier=WARN, actions=does("warn"), clear_s=60.0, bypass_max_s=SHIFT_S, group=group,
        consequence="Pumps run faster for the same flow; when they are at their limit IT power is capped.",
        remedy="Clean the strainer; look for a valve that is not open.",
    )  # fmt: skip


def _flow_rows(limits: Protection, parts: Parts) -> Iterable[Row]:
    fault, group = "LOW_FLOW", "cooling"
    yield Row(
        "flow_low", "TCS flow short", limits.flow_full_s, trip=False, fault=fault, tier=WARN,
        actions=does("partner", "pumps_full"), clear_s=10.0, group=group,
    )  # fmt: skip
    yield Row(
        "cooling_lost", "TCS flow below need", limits.flow_cap_s, trip=False, fault=fault, tier=LIMIT,
        actions=does("pumps_full", Action("cap", limits.flow_cap_to_pct)), group=group,
    )  # fmt: skip
    yield Row(
        "flow_lost", "TCS flow lost", limits.flow_lost_s, trip=True, fault=fault,
        actions=does("pumps_full", "racks_off"), meltdown_s=limits.flow_lost_meltdown_s, group=group,
    )  # fmt: skip
    for rack in parts.racks:
        yield Row(
            f"flow_{rack.name}", f"no flow in {rack.name}", parts.rack_flow_lost_s, trip=True, rack=rack.name,
            fault=fault, actions=does("rack_off"), group=f"rack {rack.name}", needs=(f"{rack.name}.flow",),
        )  # fmt: skip


def _temperature_rows(limits: Protection) -> Iterable[Row]:
    fault, group = "TS_HIGH", "cooling"
    yield Row(
        "supply_warm", "TCS supply warmer than its setpoint", 120.0, trip=False, fault=fault, tier=WARN,
        actions=does("partner", "flow_high"), clear_s=60.0, group=group,
    )  # fmt: skip
    yield Row(
        "supply_over", "TCS supply too warm", limits.supply_temp_cap_s, trip=False, fault=fault, tier=LIMIT,
        actions=does("flow_high", Action("cap_warm", limits.supply_temp_cap_pct_per_k)), clear_s=10.0, group=group,
        consequence="IT power is capped, the more the warmer.",
        remedy="Check facility water temperature and flow, the valve and the chillers.",
    )  # fmt: skip
    yield Row(
        "supply_hot", "TCS supply too hot", limits.supply_temp_trip_s, trip=True, fault=fault,
        actions=does("flow_high", "racks_off"), group=group,
    )  # fmt: skip
    yield Row(
        "return_warm", "TCS return too warm", limits.return_temp_s, trip=False, fault=fault, tier=LIMIT,
        actions=does("flow_high", Action("cap_warm", limits.supply_temp_cap_pct_per_k)), clear_s=10.0, group=group,
        consequence="IT power is capped, the more the warmer.", remedy="Check flow, and who draws more than is rated.",
    )  # fmt: skip
    yield Row(
        "return_hot", "TCS return too hot", limits.return_temp_s, trip=True, fault=fault,
        actions=does("flow_high", "racks_off"), group=group,
    )  # fmt: skip
    yield Row(
        "dew_close", "TCS supply at the dew point", limits.dew_shut_s, trip=False, fault="TS_LOW", tier=LIMIT,
        actions=does("valve_shut", "hold_on"), clear_s=10.0, bypass_max_s=HOUR_S, group="dew",
        consequence="Facility water by-passes the exchanger; no rack is energised.",
        remedy="Keep doors shut; dry the room; check the humidity sensors.", needs=DEW,
    )  # fmt: skip
    yield Row(
        "dew_wet", "TCS supply below the dew point", 300.0, trip=True, fault="TS_LOW",
        actions=does("valve_shut", "stop"), bypass_max_s=HOUR_S, group="dew",
        consequence="Water condenses on hoses and cold plates: the pod is shut down.",
        remedy="Dry the room and what is wet; then order mode reset.", needs=DEW,
    )  # fmt: skip
    yield Row(
        "air_warm", "room air warm", 60.0, trip=False, fault="AIR_HIGH", tier=WARN, actions=does("warn"), clear_s=60.0,
        bypass_max_s=SHIFT_S, group="air", consequence="What is cooled by air gets warm.",
        remedy="Check the fans and the water of the rear doors.", needs=AIR,
    )  # fmt: skip
    yield Row(
        "air_high", "room air too warm", limits.air_cap_s, trip=False, fault="AIR_HIGH", tier=LIMIT,
        actions=does(Action("cap", limits.air_cap_to_pct), "shed"), clear_s=60.0, group="air",
        consequence="IT power is capped and racks go off by tier.",
        remedy="Check the fans and the water of the rear doors.", needs=AIR,
    )  # fmt: skip
    yield Row(
        "air_hot", "room air too hot", limits.air_trip_s, trip=True, fault="AIR_HIGH", actions=does("racks_off"),
        group="air", consequence="All racks are off.",
        remedy="Restore the fans of the rear doors; then order mode reset.", needs=AIR,
    )  # fmt: skip


def _water_rows(limits: Protection) -> Iterable[Row]:
    fault, group = "PRIMARY_LOST", "cooling"
    yield Row(
        "facility_water_lost", "no facility water", limits.fws_flow_lost_s, trip=False, fault=fault, tier=WARN,
        actions=does("partner", "flow_high"), clear_s=10.0, group=group,
        consequence="The loop warms up by a third of a kelvin each second at full load.",
        remedy="Check facility pumps and valves.", needs=WATER,
    )  # fmt: skip
    yield Row(
        "facility_water_gone", "facility water does not come back", limits.fws_flow_cap_s, trip=False, fault=fault,
        tier=LIMIT, actions=does("flow_high", Action("cap", limits.fws_flow_cap_to_pct)), clear_s=10.0, group=group,
        consequence="IT power is capped; too warm a supply trips the pod.", remedy="Check facility pumps and valves.",
        needs=WATER,
    )  # fmt: skip
    yield Row(
        "chiller_lost", "a chiller is lost", 1.0, trip=False, fault="CHILLER_FAIL", tier=LIMIT,
        actions=does("partner", "permit"), group=group, needs=("fws.chillers",),
    )  # fmt: skip
    yield Row(
        "valve_stuck", "the exchanger's valve does not do what it is told", 1.0, trip=False, fault="VALVE_FAULT",
        tier=LIMIT, actions=does("permit"), group=group,
    )  # fmt: skip


def _sensor_rows(limits: Protection) -> Iterable[Row]:
    fault, group = "SENSOR_FAULT", "sensors"
    yield Row(
        "supply_unknown", "TCS supply temperature not known", 3.0, trip=False, fault=fault, tier=LIMIT,
        actions=does("pumps_full", Action("cap", limits.supply_unknown_to_pct)), clear_s=10.0, group=group,
    )  # fmt: skip
    yield Row(
        "loop_unknown", "neither supply nor return temperature known", 60.0, trip=True, fault=fault,
        actions=does("pumps_full", "stop"), group=group, bypass_max_s=HOUR_S,
        consequence="Nobody sees the loop get hot: the pod is shut down.",
        remedy="Repair the probes or the remote I/O; then order mode reset.",
    )  # fmt: skip


def _branch_rows(limits: Protection, parts: Parts) -> Iterable[Row]:
    fault = "POWER_PHASE"
    for rack in parts.racks:
        for unit in branches_of(rack):
            group = f"branch {unit}"
            yield Row(
                f"{unit}_load_high", f"phases of {unit} uneven or near their limit", limits.branch_warn_s, trip=False,
                fault=fault, tier=WARN, actions=does("hold_on"), clear_s=60.0, bypass_max_s=SHIFT_S,
                rack=rack.name, device=unit, group=group,
                consequence=f"No rack is energised; with more load {rack.name} is capped before its breaker opens.",
                remedy="Move load to the other branch or phase; check that both feeds of the rack are live.",
            )  # fmt: skip
            yield Row(
                f"{unit}_overload", f"branch of {unit} overloaded", 1.0, trip=False, fault=fault, tier=LIMIT,
                actions=does("cap_branch"), clear_s=30.0, rack=rack.name, device=unit, group=group,
                consequence=f"Power of {rack.name} is capped to what the branch carries for ever.",
                remedy="Find out why the other branch does not carry its share.",
            )  # fmt: skip
            yield Row(
                f"{unit}_shed", f"breaker of {unit} about to open", 0.0, trip=True, fault=fault,
                actions=does("rack_off"), rack=rack.name, device=unit, group=group,
                consequence=f"{rack.name} is off, so that its breaker stays closed.",
                remedy="Restore the other branch; then order mode reset and mode energise.",
            )  # fmt: skip


def _supply_rows(limits: Protection) -> Iterable[Row]:
    fault, group = "MAINS_LOST", "power"
    yield Row(
        "feed_lost", "an IT feed is dead", 0.4, trip=False, fault=fault, tier=WARN, actions=does("hold_on"),
        clear_s=60.0, bypass_max_s=SHIFT_S, group=group,
        consequence="The other feed carries all racks; pumps and chillers on this one stop.",
        remedy="Restore the feed; check the breakers of its branches.",
    )  # fmt: skip
    yield Row(
        "battery_low", "battery low", 5.0, trip=False, fault=fault, tier=WARN, actions=does("warn"), clear_s=60.0,
        group=group, consequence="Less time left without mains; further down IT power is capped.",
        remedy="Restore the mains, or start the generator.", needs=BATTERY,
    )  # fmt: skip
    yield Row(
        "battery_reserve", "battery near its reserve", 5.0, trip=False, fault=fault, tier=LIMIT,
        actions=does(Action("cap", limits.battery_cap_to_pct), "shed"), clear_s=60.0, group=group,
        consequence="IT power is capped and racks go off by tier, to keep the pumps running.",
        remedy="Restore the mains, or start the generator.", needs=BATTERY,
    )  # fmt: skip
    yield Row(
        "battery_end", "battery at its reserve", 5.0, trip=True, fault=fault, actions=does("stop"), group=group,
        consequence="The pod is shut down in order while the pumps can still run.",
        remedy="Restore the mains; then order mode reset.", needs=BATTERY,
    )  # fmt: skip
    yield Row(
        "bms_lost", "no link to the site", 30.0, trip=False, fault="BMS_LOST", tier=WARN, actions=does("warn"),
        clear_s=60.0, bypass_max_s=SHIFT_S, group="links",
    )  # fmt: skip


def _controller_rows() -> Iterable[Row]:
    fault, group = "CTRL_FAULT", "controller"
    yield Row(
        "scan_late", "the controller's scan is late", 0.0, trip=False, fault=fault, tier=WARN, actions=does("warn"),
        group=group,
    )  # fmt: skip
    yield Row(
        "scan_failing", "the controller does not keep up", 10.0, trip=False, fault=fault, tier=LIMIT,
        actions=does("pumps_full", "hold_on", "hold_load"), clear_s=60.0, group=group,
        consequence="Pumps run full and IT power may not rise, since reactions come late.",
        remedy="Look at the load of the controller board; keep the log and tell the maker.",
    )  # fmt: skip


def row_point(row: str) -> str:
    """Return the point that is on while ``row`` acts."""
    return f"{DEVICE}.{row}"


def fault_alarms(rows: Iterable[Row]) -> Iterable[AlarmRow]:
    """Return the alarm of every row that has words of its own; the others act on what has an alarm already."""
    for row in rows:
        if row.remedy:
            yield AlarmRow(
                row.id, row_point(row.id), "on", row.cause[0].upper() + row.cause[1:], PRIORITIES[row.tier],
                row.consequence, row.remedy, safety=row.tier is TRIP, group=row.group.split(" ")[0],
            )  # fmt: skip
    yield AlarmRow(
        "bypassed", row_point("bypassed"), "on", "An interlock is bypassed", "high",
        "What it guards is not guarded until the bypass ends by itself.",
        "See bypasses at the console; end it as soon as the work is done.", safety=True,
    )  # fmt: skip
