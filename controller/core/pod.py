"""What the core knows of an enclosure, and what follows from it: derived points, interlock and alarm rows, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from controller.core import duty, loops, modes
from controller.core.alarm_rows import LINK_CAUSES, Equipment, standard_rows
from controller.core.alarm_states import AlarmRow
from controller.core.capacity import Cooling
from controller.core.duty import Rotation
from controller.core.fault_rows import DEVICE, Parts, fault_alarms, fault_rows, row_point
from controller.core.interlocks import Output, Row
from controller.core.points import Kind, Point, Value
from controller.core.power import Power, Rack, branches_of
from controller.core.protection import Protection
from controller.core.slots import Setpoint

RESCUE_K_PER_S = 0.2  # rise of a temperature setpoint that the dew point has overtaken
FLOW_SLEW_SHARE_PER_S = 0.01  # of the design flow
SPEED_SLEW_PCT_PER_S = 1.0
FLOW_BAND_SHARE = 2 / 1300  # of the design flow: a smaller change is not published
SETPOINT_SEEN_K = 0.15  # registers of setpoints hold tenths
MIN_MOVE_PCT = 0.3
VALVE_MIN_MOVE_PCT = 0.7  # less than the supply probes' last digit would move it to and fro
PACE_S = 0.5
PERMIT_NUMBERS = (("it_permit", "kW", 1.0), ("it_cap", "%", 0.5), ("seconds_to_trip", "s", 1.0))
RACK_NUMBERS = (("chip_temp", "Cel", 0.5), ("flow_share", "%", 1.0))
SPLIT_FLAGS = ("supply_temp_split", "return_temp_split", "fws_supply_temp_split", "it_power_split")
FLOW_POINTS = ("flow_share", "flow_wrong")
DERIVED_FROM = (
    ("fws.chillers", "pod.fws_supply_temp_sp"), ("fws.pumps", "pod.fws_pump_speed_sp"),
    ("room.humidities", "pod.dew_point"), ("room.humidities", "pod.dew_margin"),
)  # fmt: skip
RACK_FLAGS = ("limited", "shed", "flow_wrong")
ALARM_NUMBERS = (
    ("alarms_standing", "{count}", 0.5),
    ("alarms_unacked", "{count}", 0.5),
    ("alarms_shelved", "{count}", 0.5),
    ("alarms_suppressed", "{count}", 0.5),
    ("alarms_out_of_service", "{count}", 0.5),
    ("alarms_chattering", "{count}", 0.5),
    ("alarms_stale", "{count}", 0.5),
    ("alarm_rate", "{count}", 0.5),
    ("alarm_rate_mean", "{count}", 0.1),
    ("alarm_rate_peak", "{count}", 0.5),
    ("alarm_flood_share", "%", 0.5),
    ("alarm_critical_share", "%", 1.0),
    ("alarm_high_share", "%", 1.0),
    ("alarm_medium_share", "%", 1.0),
    ("alarm_low_share", "%", 1.0),
)
BUS_COUNTERS = ("transactions", "timeouts", "errors")
CONTROLLER_NUMBERS = (
    ("scans", "{count}", 5.0),
    ("overruns", "{count}", 0.0),
    ("late_scans", "{count}", 0.0),
    ("scan_time", "ms", 1.0),
    ("edge_faults", "{count}", 0.0),
    ("recent_edge_faults", "{count}", 0.0),
)
LINK_DEVICE = "link_"  # with the link's name, the pseudo-device of its points
LINK_NUMBERS = (
    ("connects", 0.0),
    ("published", 1000.0),
    ("dropped", 0.0),
    ("denied", 0.0),
    ("kept", 100.0),
    ("kept_bytes", 100_000.0),
    ("lost", 0.0),
    ("lost_events", 0.0),
    ("recent_lost", 0.0),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """A device parameter and the value it was commissioned with."""

    point: str
    value: Value


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A register that must keep changing while the scan runs: counts up by 1 each ``period_s``, wraps after ``top``."""

    point: str
    period_s: float
    top: int

    def count(self, now: float) -> float:
        """Return what it is at monotonic ``now``."""
        return float(int(now / self.period_s) % (self.top + 1))


@dataclass(frozen=True, slots=True)
class Pod:
    """What the core knows of an enclosure: roles, limits, times, points; nothing of vendors or wires."""

    name: str
    tcs: loops.Tcs
    fws: loops.Fws
    room: loops.Room
    cooling: Cooling
    rotation: Rotation
    power: Power
    racks: tuple[Rack, ...]
    protection: Protection
    startup: modes.StartupTimes
    autostart: bool
    expected: tuple[Expected, ...]
    heartbeats: tuple[Heartbeat, ...]
    device_bus: Mapping[str, str]
    device_class: Mapping[str, str]
    points: Mapping[str, Point]
    links: tuple[str, ...] = ()

    @property
    def rated_kw(self) -> float:
        return sum(rack.rated_kw for rack in self.racks)

    @property
    def roles(self) -> frozenset[str]:
        """Return every role, as ``table.key``, that a point or a machine plays, and the classes of all devices."""
        tables: dict[str, Any] = {name: getattr(self, name) for name in ("tcs", "fws", "room", "protection")}
        tables |= {rack.name: rack for rack in self.racks}
        played = {f"{n}.{key.name}" for n, of in tables.items() for key in fields(of) if getattr(of, key.name)}
        return frozenset(played.union(self.device_class.values()))


def pod_points(pod: Pod) -> dict[str, Point]:
    """Return the points that the scan itself derives, and those that bus workers tell about buses and devices."""
    age, flow = 5.0, FLOW_BAND_SHARE * pod.tcs.flow_design_lpm
    numbers = [
        ("supply_temp", "Cel", 0.05), ("return_temp", "Cel", 0.05), ("fws_supply_temp", "Cel", 0.05),
        ("fws_supply_temp_sp", "Cel", 0.05), ("flow_min_sp", "L/min", flow), ("pump_speed_min_sp", "%", 0.5),
        ("fws_pump_speed_sp", "%", 0.5), ("racks_isolated", "{count}", 0.5),
        ("flow", "L/min", flow), ("flow_needed", "L/min", flow), ("flow_ratio", "%", 0.5), ("it_power", "kW", 1.0),
        ("dew_point", "Cel", 0.1), ("dew_margin", "K", 0.1), ("supply_temp_sp", "Cel", 0.05),
        ("supply_temp_error", "K", 0.05), ("racks_energised", "{count}", 0.5), ("racks_off", "{count}", 0.5),
        ("pumps_running", "{count}", 0.5), ("locked_out", "{count}", 0.5),
        ("chillers_running", "{count}", 0.5), ("loop_resistance", "%", 1.0),
        *PERMIT_NUMBERS,
    ]  # fmt: skip
    points = [Point("pod", name, Kind.NUMBER, unit, max_age_s=age, deadband=band) for name, unit, band in numbers]
    for sensor in judged(pod):
        device, _, name = sensor.partition(".")
        points += [Point(device, f"{name}_suspect", Kind.FLAG, max_age_s=age)]
    points += [Point(valve, "stuck", Kind.FLAG, max_age_s=age) for valve in _valves(pod)]
    points += [Point(pod.tcs.valve, "no_effect", Kind.FLAG, max_age_s=age)]
    points += [Point("pod", name, Kind.FLAG, max_age_s=age) for name in SPLIT_FLAGS]
    points += [Point("pod", "it_limit", Kind.TEXT, max_age_s=age)]
    for rack in pod.racks:
        own = (*PERMIT_NUMBERS, *RACK_NUMBERS)
        points += [Point(rack.name, name, Kind.NUMBER, unit, max_age_s=age, deadband=band) for name, unit, band in own]
        points += [Point(rack.name, name, Kind.FLAG, max_age_s=age) for name in RACK_FLAGS]
    points += [Point("pod", name, Kind.NUMBER, unit, deadband=band) for name, unit, band in ALARM_NUMBERS]
    own_flags = ("valve_hunting", "pumps_hunting", "booting", "isolation_held", "alarm_flood", "it_held")
    points += [Point("pod", name, Kind.FLAG) for name in own_flags]
    points += [Point("controller", "store_failing", Kind.FLAG)]
    points += [Point(pump, "failed", Kind.FLAG) for pump in (*pod.tcs.pumps, *pod.fws.pumps)]
    machines = (*pod.tcs.pumps, *pod.fws.pumps, *pod.fws.chillers)
    points += [Point(machine, "duty_hours", Kind.NUMBER, "h", deadband=0.1) for machine in machines]
    ever = float("inf")
    points += [Point(DEVICE, r.id, Kind.FLAG, max_age_s=ever, description=r.cause) for r in interlock_rows(pod)]
    points += [Point(DEVICE, name, Kind.FLAG, max_age_s=ever) for name in ("bypassed", "shed")]
    for rack in pod.racks:
        points += [Point(unit, "branch_heat", Kind.NUMBER, "%", deadband=1.0) for unit in branches_of(rack)]
    points += _connection_points(pod)
    gone = absent(pod)
    return {point.id: point for point in points if point.id not in gone}


def absent(pod: Pod) -> set[str]:
    """Return the derived points that nothing in this enclosure stands behind, and the empty name of what it has not."""
    gone = {point for role, point in DERIVED_FROM if role not in pod.roles}
    return {"", *gone, *(f"{rack.name}.{name}" for rack in pod.racks if not rack.flow for name in FLOW_POINTS)}


def _connection_points(pod: Pod) -> list[Point]:
    """Return what is told about buses, devices, the controller's own process and links; none of it grows old."""
    ever = float("inf")
    points: list[Point] = []
    for bus in sorted(set(pod.device_bus.values())):
        points += [Point(bus, name, Kind.FLAG, max_age_s=ever) for name in ("online", "lost")]
        points += [Point(bus, name, Kind.NUMBER, "{count}", max_age_s=ever, deadband=100) for name in BUS_COUNTERS]
        points += [Point(bus, "utilisation", Kind.NUMBER, "%", max_age_s=ever, deadband=1.0)]
    points += [Point(device, "comms", Kind.FLAG, max_age_s=ever) for device in pod.device_bus]
    points += [Point(device, "write_fault", Kind.FLAG, max_age_s=ever) for device in written(pod)]
    points += [Point("controller", name, Kind.NUMBER, unit, deadband=band) for name, unit, band in CONTROLLER_NUMBERS]
    for link in pod.links:
        device = f"{LINK_DEVICE}{link}"
        names = ("connected", "outbox_failing", *(cause.flag for cause in LINK_CAUSES))
        points += [Point(device, name, Kind.FLAG, max_age_s=ever) for name in names]
        points += [
            Point(device, name, Kind.NUMBER, "{count}", max_age_s=ever, deadband=band) for name, band in LINK_NUMBERS
        ]
    return points


def interlock_rows(pod: Pod, *, absent: bool = False) -> list[Row]:
    """Return every interlock row of this pod, or those it does without."""
    parts = Parts(pod.tcs.pumps, pod.racks, pod.cooling.rack_flow_lost_s, pod.roles)
    return fault_rows(pod.protection, parts, absent=absent)


def judged(pod: Pod) -> tuple[str, ...]:
    """Return every sensor that is judged against others of its kind or against a model."""
    return (*pod.tcs.supply_temps, *pod.tcs.return_temps, *pod.fws.supply_temps, pod.tcs.flow)


def _valves(pod: Pod) -> tuple[str, ...]:
    return (pod.tcs.valve, *(rack.valve for rack in pod.racks if rack.valve))


def setpoint_rows(pod: Pod) -> list[Setpoint]:
    """Return every setpoint that may be asked from outside: those that loops really use, in the ranges of the file."""
    tcs, fws = pod.tcs, pod.fws
    slew, flow_slew = tcs.setpoint_slew_k_per_min / 60, FLOW_SLEW_SHARE_PER_S * tcs.flow_design_lpm
    speed = SPEED_SLEW_PCT_PER_S
    shown = tuple(p for name in fws.chillers if pod.points[p := f"{name}.supply_temp_sp"].readable)
    gone = absent(pod)
    rows = [
        Setpoint(
            "pod.supply_temp_sp", "Cel", tcs.supply_temp_sp_c, tcs.supply_temp_low_c, tcs.supply_temp_high_c,
            slew, max(slew, RESCUE_K_PER_S),
        ),
        Setpoint(
            "pod.fws_supply_temp_sp", "Cel", fws.supply_temp_sp_c, fws.supply_temp_low_c, fws.supply_temp_high_c,
            slew, max(slew, RESCUE_K_PER_S), seen_at=shown, tolerance=SETPOINT_SEEN_K,
        ),
        Setpoint(
            "pod.flow_min_sp", "L/min", tcs.flow_min_lpm, tcs.flow_min_lpm, tcs.flow_max_lpm,
            flow_slew, flow_slew, clamps=True,
        ),
        Setpoint(
            "pod.pump_speed_min_sp", "%", tcs.pump_speed_min_pct, tcs.pump_speed_min_pct, 100.0,
            speed, speed, clamps=True,
        ),
        Setpoint(
            "pod.fws_pump_speed_sp", "%", fws.pump_speed_pct, fws.pump_speed_low_pct, 100.0, speed, speed
        ),
    ]  # fmt: skip
    return [row for row in rows if row.point not in gone]


def alarm_rows(pod: Pod) -> list[AlarmRow]:
    leaks = (*pod.protection.cdu_leak, *(point for rack in pod.racks for point in rack.leak))
    rows = standard_rows(
        Equipment(
            device_bus=pod.device_bus,
            device_class=pod.device_class,
            flags=frozenset(name for name, point in pod.points.items() if point.kind is Kind.FLAG),
            expected=[(item.point, item.value) for item in pod.expected],
            written=written(pod),
            pumps=(*pod.tcs.pumps, *pod.fws.pumps),
            leaks=tuple(dict.fromkeys(leaks)),
            watched=pod.protection.watched,
            epo=pod.protection.epo,
            level_ok=pod.tcs.level_ok,
            told_by=(row_point("feed_lost"), row_point("pumps_stopped")),
            links={link: f"{LINK_DEVICE}{link}" for link in pod.links},
            sources={
                "supply_temp": pod.tcs.supply_temps,
                "flow": (pod.tcs.flow,),
                "dew_point": (*pod.room.temperatures, *pod.room.humidities),
                "it_power": (*pod.power.feeds, *(point for rack in pod.racks for point in rack.power)),
            },
        )
    )
    rows += [
        *fault_alarms(interlock_rows(pod)),
        *_authority_rows(),
        *_permit_rows(pod),
        *_sensor_rows(pod),
        *_effect_rows(pod),
        *_hunting_rows(),
        *duty.alarm_rows(),
    ]
    gone = absent(pod)
    return [row for row in rows if row.point not in gone]


def _sensor_rows(pod: Pod) -> Iterable[AlarmRow]:
    for sensor in judged(pod):
        yield AlarmRow(
            f"{sensor.replace('.', '_')}_suspect", f"{sensor}_suspect", "on", f"{sensor} can't be right", "medium",
            "It is left out of the vote; one sensor less is there for the next failure.",
            "Compare it with its partners; check its wiring; replace it. It is taken back when it agrees again.",
        )  # fmt: skip
    for flag, what in zip(SPLIT_FLAGS, ("TCS supply", "TCS return", "facility supply", "IT power"), strict=True):
        yield AlarmRow(
            f"pod_{flag}", f"pod.{flag}", "on", f"The {what} sensors that are left do not agree", "medium",
            "The safer one counts; nobody can tell which of them is wrong.",
            "Compare them with a meter of your own; replace the one that is wrong.",
        )  # fmt: skip


def _effect_rows(pod: Pod) -> Iterable[AlarmRow]:
    for valve in _valves(pod):
        yield AlarmRow(
            f"{valve}_stuck", f"{valve}.stuck", "on", f"{valve} does not go where it is sent", "high",
            "It stays where it is; IT power is capped to what can be cooled that way.",
            "Check its supply and actuator; move it by hand; reset its own fault.",
            unless=(f"{valve}.fault",), group="cooling",
        )  # fmt: skip
    valve = pod.tcs.valve
    yield AlarmRow(
        f"{valve}_no_effect", f"{valve}.no_effect", "on", f"{valve} does not do what it says", "high",
        "Supply temperature is out of control; IT power is capped to what the exchanger really takes.",
        "Check the stem and coupling of the valve, the facility water's flow, and the exchanger for fouling.",
        group="cooling",
    )  # fmt: skip


def _permit_rows(pod: Pod) -> Iterable[AlarmRow]:
    yield AlarmRow(
        "pod_it_capped", "pod.it_held", "on", "IT power is held down by a cap", "high",
        "Jobs run slower; the point it_limit says what the cooling lacks.",
        "Clear what limits the cooling; the cap goes by itself within a minute.",
        on_delay_s=15.0, group="cooling",
    )  # fmt: skip
    for rack in pod.racks:
        name = rack.name
        yield AlarmRow(
            f"{name}_flow_low", f"{name}.flow_share", "below", f"{name} gets less coolant than its neighbours", "high",
            "Its chips run hotter; it alone is capped, or put off before they are damaged.",
            "Check its couplings, hoses and valve for what is half shut or clogged.",
            limit=80.0, hysteresis=5.0, on_delay_s=5.0, further=40.0, group="cooling",
        )  # fmt: skip
        yield AlarmRow(
            f"{name}_shed", f"{name}.shed", "on", f"{name} was put off: IT did not follow the power cap", "high",
            "Its jobs are lost; it comes back by itself when full power is allowed again.",
            "Find out why the cluster manager did not follow; clear what limits the cooling.",
            unless=(row_point("shed"),),
        )  # fmt: skip
        yield AlarmRow(
            f"{name}_flow_wrong", f"{name}.flow_wrong", "on", f"The flow meter of {name} can't be right", "medium",
            "Its flow is taken from the main's meter less the other racks.", "Check or replace the meter.",
            on_delay_s=10.0,
        )  # fmt: skip


def _hunting_rows() -> Iterable[AlarmRow]:
    for name, words, part in (("valve", "Heat exchanger valve", "valve"), ("pumps", "TCS pump speed", "drives")):
        yield AlarmRow(
            f"pod_{name}_hunting", f"pod.{name}_hunting", "on", f"{words} hunts", "low",
            f"Temperature and flow swing at a steady load, and the {part} wear out.",
            "Look for a part that sticks, air in the loop or a probe that lags; then for tuning that does not fit.",
        )  # fmt: skip


def _authority_rows() -> Iterable[AlarmRow]:
    yield AlarmRow(
        "pod_isolation_held", "pod.isolation_held", "on", "Isolation requests held: too many racks", "critical",
        "A rack that really leaks is not isolated from outside now; its own detectors still take it off.",
        "Ask the facility whether the requests are real; isolate by hand what is; then order mode reset.", safety=True,
    )  # fmt: skip
    yield AlarmRow(
        "pod_racks_isolated", "pod.racks_isolated", "above", "Racks isolated on request", "high",
        "Their power is off and their valve is shut until a reset at the console.",
        "Look for the leak; dry and repair; then order mode reset and mode energise.", limit=0.5, safety=True,
    )  # fmt: skip


def written(pod: Pod) -> tuple[str, ...]:
    """Return the devices that have outputs."""
    return tuple(dict.fromkeys(output.point.split(".")[0] for output in outputs(pod)))


def outputs(pod: Pod) -> Iterable[Output]:
    """Return the whole list of what this pod may ever write."""
    tcs, fws = pod.tcs, pod.fws
    for pump in (*tcs.pumps, *fws.pumps):
        yield Output(f"{pump}.run_cmd")
    for pump in tcs.pumps:
        up, down = tcs.pump_up_pct_per_s, tcs.pump_down_pct_per_s
        yield Output(
            f"{pump}.speed_cmd", 0.0, 100.0, up, down, MIN_MOVE_PCT, PACE_S, f"{pump}.speed",
            urgent_per_s=tcs.pump_urgent_pct_per_s,
        )  # fmt: skip
    for pump in fws.pumps:
        yield Output(
            f"{pump}.speed_cmd", 0.0, 100.0, tcs.pump_up_pct_per_s, tcs.pump_down_pct_per_s, MIN_MOVE_PCT, PACE_S
        )
    slew = tcs.valve_pct_per_s
    yield Output(
        f"{tcs.valve}.position_cmd", 0.0, 100.0, slew, slew, VALVE_MIN_MOVE_PCT, PACE_S, f"{tcs.valve}.position"
    )
    for door in pod.room.door_valves:
        travel = 100 / pod.room.door_stroke_s
        yield Output(
            f"{door}.position_cmd", 0.0, 100.0, travel, travel, MIN_MOVE_PCT, PACE_S, f"{door}.position", safety=False
        )
    for chiller in fws.chillers:
        point = pod.points[f"{chiller}.supply_temp_sp"]
        yield Output(f"{chiller}.run_cmd")
        yield Output(point.id, point.low or 0.0, point.high or 0.0, safety=False)
    for rack in pod.racks:
        yield from (Output(outlet) for outlet in rack.outlets)
        if rack.valve:
            yield Output(rack.valve_cmd_id, 0.0, 100.0)
    for beat in pod.heartbeats:
        yield Output(beat.point, 0.0, beat.top, safety=False)
