"""The scan: freeze the inputs, decide in pure code, pass every output through one gate, hand on the effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.core import alarms, loops, modes
from controller.core.blocks import Delay, vote
from controller.core.commands import Command, Outcome, judge
from controller.core.image import Image, freeze
from controller.core.interlocks import Denial, Gate, Interlocks, Output, Permits, Protection, Row, Write
from controller.core.points import Kind, Point, Reading, Value, bad, good
from controller.core.power import EnergiseSequence, Power, Rack, it_power_kw, off_demands, pending
from controller.core.sequences import Demand, RunSequence, RunState, lead

COOLING_LOST_PCT = 60.0
COOLING_LOST_S = 1.0
VALVE_OPEN_PCT = 100.0
MIN_MOVE_PCT = 0.2
BUS_COUNTERS = ("transactions", "timeouts", "errors")
CONTROLLER_NUMBERS = (("scans", "{count}", 5.0), ("overruns", "{count}", 0.0), ("scan_time", "ms", 1.0))


@dataclass(frozen=True, slots=True)
class Expected:
    """A device parameter and the value it was commissioned with."""

    point: str
    value: Value


@dataclass(frozen=True, slots=True)
class Pod:
    """What the core knows of an enclosure: roles, limits, times, points; nothing of vendors or wires."""

    name: str
    tcs: loops.Tcs
    fws: loops.Fws
    room: loops.Room
    power: Power
    racks: tuple[Rack, ...]
    protection: Protection
    startup: modes.StartupTimes
    autostart: bool
    expected: tuple[Expected, ...]
    device_bus: Mapping[str, str]
    device_class: Mapping[str, str]
    points: Mapping[str, Point]


@dataclass(frozen=True, slots=True)
class Posture:
    """What one mode wants. None leaves things as they stand."""

    pumps: str | None = None  # start, run, full, off
    primary: bool | None = None
    racks: str | None = None  # energise, off


HOLD = Posture()
POSTURES: Mapping[str, Posture] = {
    modes.OFF: Posture(pumps="off", primary=False),
    "STARTUP.precheck": HOLD,
    "STARTUP.fill": HOLD,
    "STARTUP.pump_start": Posture(pumps="start"),
    "STARTUP.primary_start": Posture(pumps="run", primary=True),
    "STARTUP.proving": Posture(pumps="run", primary=True),
    "STARTUP.energise": Posture(pumps="run", primary=True, racks="energise"),
    modes.NORMAL: Posture(pumps="run", primary=True),
    modes.LIMITING: Posture(pumps="full", primary=True),
    modes.COOLING_LOST: Posture(pumps="full", primary=True),
    modes.TRIPPED: Posture(pumps="full", primary=True, racks="off"),
    modes.COOLDOWN: Posture(pumps="run", primary=True, racks="off"),
    modes.MAINTENANCE: HOLD,
}


@dataclass(frozen=True, slots=True)
class View:
    """One scan as the edges may show it. Times are monotonic seconds."""

    at: float
    mode: str
    since: float
    cause: str
    degraded: bool
    image: Image
    alarms: tuple[alarms.Alarm, ...]
    acting: tuple[str, ...]
    first_out: str
    missing: tuple[str, ...]
    machines: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Effects:
    """What one scan asks of the world."""

    view: View
    writes: Sequence[Write]
    denials: Sequence[Denial] = ()
    outcomes: Sequence[Outcome] = ()
    alarms: Sequence[alarms.Alarm] = ()
    transition: modes.Transition | None = None


@dataclass(slots=True)
class _Requests:
    """What accepted commands ask of this scan."""

    operations: set[str] = field(default_factory=set)
    changed: list[alarms.Alarm] = field(default_factory=list)


def pod_points(pod: Pod) -> dict[str, Point]:
    """Return the points that the scan itself derives, and those that bus workers tell about buses and devices."""
    age = 5.0
    numbers = [
        ("supply_temp", "Cel", 0.05), ("return_temp", "Cel", 0.05), ("fws_supply_temp", "Cel", 0.05),
        ("flow", "L/min", 2.0), ("flow_needed", "L/min", 2.0), ("flow_ratio", "%", 0.5), ("it_power", "kW", 1.0),
        ("dew_point", "Cel", 0.1), ("dew_margin", "K", 0.1), ("supply_temp_sp", "Cel", 0.05),
        ("supply_temp_error", "K", 0.05), ("racks_energised", "{count}", 0.5), ("pumps_running", "{count}", 0.5),
        ("chillers_running", "{count}", 0.5),
    ]  # fmt: skip
    points = [Point("pod", name, Kind.NUMBER, unit, max_age_s=age, deadband=band) for name, unit, band in numbers]
    points += [Point("pod", "booting", Kind.FLAG)]
    points += [Point(pump, "failed", Kind.FLAG) for pump in (*pod.tcs.pumps, *pod.fws.pumps)]
    for bus in sorted(set(pod.device_bus.values())):
        points += [Point(bus, name, Kind.FLAG, max_age_s=float("inf")) for name in ("online", "lost")]
        points += [
            Point(bus, name, Kind.NUMBER, "{count}", max_age_s=float("inf"), deadband=100) for name in BUS_COUNTERS
        ]
        points += [Point(bus, "utilisation", Kind.NUMBER, "%", max_age_s=float("inf"), deadband=1.0)]
    points += [Point(device, "comms", Kind.FLAG, max_age_s=float("inf")) for device in pod.device_bus]
    points += [Point("controller", name, Kind.NUMBER, unit, deadband=band) for name, unit, band in CONTROLLER_NUMBERS]
    return {point.id: point for point in points}


class Engine:
    """The whole core. ``step`` is called once a scan and is the only way in."""

    def __init__(self, pod: Pod, saved: Mapping[str, Any], now: float) -> None:
        self.pod = pod
        self.points = {**pod.points, **pod_points(pod)}
        self.modes = modes.Modes(now, str(saved.get("mode", "")))
        self.was_starting = str(saved.get("mode", "")).startswith("STARTUP")
        self.alarms = alarms.Alarms(_alarm_rows(pod))
        self.alarms.restore(dict(saved.get("acked", {})), now)
        self.interlocks = Interlocks(_interlock_rows(pod), saved.get("latched", ()))
        self.gate = Gate(outputs(pod), self.points, pod.protection.refresh_s)
        self.flow_loop = loops.FlowLoop(pod.tcs)
        self.temp_loop = loops.SupplyTempLoop(pod.tcs)
        self.staging = loops.ChillerStaging(pod.fws)
        self.energise = EnergiseSequence(pod.power, pod.racks)
        prove = pod.startup.pump_prove_s
        self.pumps = [RunSequence(name, prove) for name in pod.tcs.pumps]
        self.fws_pumps = [RunSequence(name, prove) for name in pod.fws.pumps]
        self.chillers = [
            RunSequence(name, pod.startup.primary_prove_max_s, pod.fws.chiller_min_on_s, pod.fws.chiller_min_off_s)
            for name in pod.fws.chillers
        ]
        self.ready = Delay(pod.startup.ready_hold_s)
        self.primary = Delay(pod.startup.primary_prove_s)
        self.rack_off_since: dict[str, float] = {}
        self.holding = True  # until this process has changed the mode once, it stops nothing
        self.booted_at = now
        self.started = not pod.autostart

    def step(self, now: float, inbox: Mapping[str, Reading], commands: Sequence[Command] = ()) -> Effects:
        """Run one scan at monotonic ``now`` on the newest readings in ``inbox``."""
        image = freeze(inbox, self.points, now)  # 1
        image = image.with_derived(self._derived(image, now))
        requests, outcomes = self._judge(commands, now)  # 2
        changed = [*requests.changed, *self.alarms.step(image, now)]  # 3
        self.interlocks.step(self._conditions(image), now, reset="reset" in requests.operations)  # 4
        facts = self._facts(image, requests.operations, now)
        transition = self.modes.step(facts, self.pod.startup, now)  # 5
        if transition:
            self._entered(transition)
        demands = list(self._demands(image, now))  # 6
        writes, denials = self.gate.step(demands, self._permits(image, now), image, now)  # 7
        view = self._view(image, facts, now)  # 8
        return Effects(view, writes, denials, outcomes, changed, transition)

    def saved(self) -> dict[str, Any]:
        """Return what must survive a restart."""
        return {"mode": self.modes.state, "latched": self.interlocks.latched(), "acked": dict(self.alarms.saved())}

    def _derived(self, image: Image, now: float) -> dict[str, Reading]:
        pod = self.pod
        supply = vote(image.numbers(pod.tcs.supply_temps), safer_is_high=True)
        it_power = it_power_kw(pod.power, pod.racks, image)
        pairs = zip(pod.room.temperatures, pod.room.humidities, strict=True)
        dews = [loops.dew_point_c(*both) for pair in pairs if len(both := image.numbers(pair)) == 2]
        dew = max(dews, default=None)
        setpoint = self.temp_loop.setpoint_c(dew, now)
        needed = loops.flow_needed_lpm(pod.tcs, it_power)
        flow = image.number(pod.tcs.flow, otherwise=None)
        wanted = POSTURES[self.modes.state].pumps in ("run", "full")
        numbers: dict[str, float | None] = {
            "supply_temp": supply,
            "return_temp": vote(image.numbers(pod.tcs.return_temps), safer_is_high=True),
            "fws_supply_temp": vote(image.numbers(pod.fws.supply_temps), safer_is_high=True),
            "flow": flow,
            "flow_needed": needed,
            "flow_ratio": 100 * flow / needed if flow is not None and wanted else None,
            "it_power": it_power,
            "dew_point": dew,
            "dew_margin": supply - dew if supply is not None and dew is not None else None,
            "supply_temp_sp": setpoint,
            "supply_temp_error": supply - setpoint if supply is not None and wanted else None,
            "racks_energised": float(sum(rack.energised(image) for rack in pod.racks)),
            "pumps_running": float(sum(pump.proven for pump in self.pumps)),
            "chillers_running": float(sum(chiller.proven for chiller in self.chillers)),
        }
        derived = {
            f"pod.{name}": bad("not known", now) if value is None else good(value, now)
            for name, value in numbers.items()
        }
        derived["pod.booting"] = good(now - self.booted_at < pod.startup.image_max_s, now)
        for pump in (*self.pumps, *self.fws_pumps):
            derived[f"{pump.device}.failed"] = good(pump.state is RunState.FAILED, now)
        for bus in set(pod.device_bus.values()):
            derived[f"{bus}.lost"] = good(not image.flag(f"{bus}.online", otherwise=True), now)
        return derived

    def _judge(self, commands: Sequence[Command], now: float) -> tuple[_Requests, list[Outcome]]:
        requests = _Requests()
        outcomes = []
        for command in commands:
            outcome = judge(command, self.modes.state, now, self.alarms.ids)
            outcomes.append(outcome)
            if not outcome.accepted:
                continue
            requests.operations.add(command.operation)
            if command.operation == "ack":
                requests.changed += self.alarms.ack(command.target, command.principal, now)
            if command.operation == "reset":
                for machine in (*self.pumps, *self.fws_pumps, *self.chillers):
                    machine.reset(now)
        return requests, outcomes

    def _conditions(self, image: Image) -> dict[str, bool]:
        pod = self.pod
        live = any(rack.energised(image) for rack in pod.racks) and self.modes.state in modes.LIVE
        ratio = image.number("pod.flow_ratio", otherwise=None)
        running = [image.reading(f"{pump}.running") for pump in pod.tcs.pumps]
        supply = image.number("pod.supply_temp", otherwise=None)
        conditions = {
            "epo": image.flag(pod.protection.epo, otherwise=False),
            "flow_lost": live and ratio is not None and ratio < pod.protection.flow_lost_pct,
            "pumps_lost": live and all(reading.usable and not reading.value for reading in running),
            "supply_hot": live and supply is not None and supply > pod.protection.supply_temp_trip_c,
            "cooling_lost": live and ratio is not None and ratio < COOLING_LOST_PCT,
        }
        for rack in pod.racks:
            conditions[f"leak_{rack.name}"] = any(image.flag(point, otherwise=False) for point in rack.leak)
        return conditions

    def _facts(self, image: Image, operations: set[str], now: float) -> modes.Facts:
        pod, times = self.pod, self.pod.startup
        elapsed = now - self.modes.since
        flow = image.number("pod.flow", otherwise=None)
        suction = image.number(pod.tcs.suction_pressure, otherwise=None)
        water = any(pump.proven for pump in self.fws_pumps) and any(chiller.proven for chiller in self.chillers)
        acting = self.interlocks.acting
        blocked = self.interlocks.racks_tripped()
        return modes.Facts(
            elapsed_s=elapsed,
            missing=tuple(self._missing(image)) if self.modes.state == "STARTUP.precheck" else (),
            image_complete=now - self.booted_at > times.image_max_s or self._complete(image),
            adoptable=self.holding and any(not rack_off for rack_off in self._racks_off(image)),
            was_starting=self.was_starting,
            start="start" in operations or not self.started,
            stop="stop" in operations,
            reset="reset" in operations,
            maintain="maintain" in operations,
            release="release" in operations,
            loop_filled=suction is not None and suction >= times.fill_pressure_kpa,
            flow_proven=flow is not None and flow >= times.flow_prove_pct / 100 * pod.tcs.flow_design_lpm,
            pumps_failed=all(pump.state is RunState.FAILED for pump in self.pumps),
            primary_proven=self.primary.step(water, now),
            ready=self.ready.step(self._loop_ready(image), now),
            racks_pending=len(pending(pod.racks, image, blocked)),
            trip=self.interlocks.tripped(),
            trip_cleared=self.interlocks.cleared(),
            cooling_lost="TCS flow below need" if "cooling_lost" in acting else "",
            limited="" if image.usable("pod.supply_temp") else "supply temperature not known",
            cooled=self._cooled(image, elapsed),
        )

    def _complete(self, image: Image) -> bool:
        """True when every safety point has been read once since this process started."""
        return all(image.usable(name) for name, point in self.pod.points.items() if point.safety)

    def _racks_off(self, image: Image) -> Iterable[bool]:
        """Say for each rack whether none of its outlets is known to be on."""
        return (not any(image.flag(outlet, otherwise=False) for outlet in rack.outlets) for rack in self.pod.racks)

    def _missing(self, image: Image) -> Iterable[str]:
        """Return what PRECHECK still misses, in words."""
        pod = self.pod
        if image.flag(pod.protection.epo, otherwise=True):
            yield "emergency power off is pressed or not known"
        leaks = (*pod.protection.cdu_leak, *(point for rack in pod.racks for point in rack.leak))
        yield from (f"{point} is wet or not known" for point in leaks if image.flag(point, otherwise=True))
        if not image.flag(pod.tcs.level_ok, otherwise=False):
            yield "reservoir level is low or not known"
        if not image.usable(pod.tcs.suction_pressure):
            yield f"{pod.tcs.suction_pressure} is not known"
        if not any(image.usable(f"{pump}.running") for pump in pod.tcs.pumps):
            yield "no TCS pump answers"
        if not image.usable("pod.supply_temp"):
            yield "no supply temperature"
        for item in pod.expected:
            reading = image.reading(item.point)
            if not reading.usable or reading.value != item.value:
                yield f"{item.point} is {reading.value}, commissioned as {item.value}"
        unknown = [outlet for rack in pod.racks for outlet in rack.outlets if not image.usable(outlet)]
        if unknown:
            yield f"{len(unknown)} outlets not known, first {unknown[0]}"
        if self.interlocks.tripped():
            yield f"trip not reset: {self.interlocks.tripped()}"

    def _loop_ready(self, image: Image) -> bool:
        times = self.pod.startup
        ratio = image.number("pod.flow_ratio", otherwise=None)
        error = image.number("pod.supply_temp_error", otherwise=None)
        margin = image.number("pod.dew_margin", otherwise=times.ready_dew_k)
        critical = any(
            alarm.row.priority == "critical" and alarm.state is not alarms.AlarmState.RTN_UNACK
            for alarm in self.alarms.standing
        )
        return (
            ratio is not None
            and ratio >= times.ready_flow_pct
            and error is not None
            and error <= times.ready_band_k
            and margin is not None
            and margin >= times.ready_dew_k
            and not critical
        )

    def _cooled(self, image: Image, elapsed: float) -> bool:
        times = self.pod.startup
        if any(rack.energised(image) for rack in self.pod.racks) or elapsed < times.cooldown_min_s:
            return False
        supply = image.number("pod.supply_temp", otherwise=None)
        back = image.number("pod.return_temp", otherwise=None)
        even = supply is not None and back is not None and back - supply < times.cooldown_band_k
        return even or elapsed > times.cooldown_max_s

    def _entered(self, transition: modes.Transition) -> None:
        self.holding = False
        self.started = True
        self.ready = Delay(self.pod.startup.ready_hold_s)
        if transition.dest == "STARTUP.energise":
            self.energise.clear()

    def _demands(self, image: Image, now: float) -> Iterable[Demand]:
        posture = HOLD if self.holding else POSTURES[self.modes.state]
        yield from self._pump_demands(posture, image, now)
        yield from self._primary_demands(posture, image, now)
        yield from self._rack_demands(posture, image, now)

    def _pump_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        wanted = {pump.device for pump in self.pumps}
        if posture.pumps == "start" and not any(pump.proven for pump in self.pumps):
            wanted = lead(self.pumps, 1)
        elif posture.pumps == "off":
            wanted = set()
        for pump in self.pumps:
            yield from pump.step(image, None if posture.pumps is None else pump.device in wanted, now)
        if posture.pumps in (None, "off"):
            return
        proven = sum(pump.proven for pump in self.pumps)
        needed = image.number("pod.flow_needed", otherwise=None) or self.pod.tcs.flow_max_lpm
        speed = self.flow_loop.step(needed, image.number("pod.flow", otherwise=None), proven, now)
        if posture.pumps == "start":
            speed = self.pod.startup.pump_start_pct
        elif posture.pumps == "full":
            speed = 100.0
        yield from loops.pump_demands(self.pumps, speed)
        yield from (Demand(f"{rack.valve}.position_cmd", VALVE_OPEN_PCT, "open") for rack in self.pod.racks)

    def _primary_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        fws = self.pod.fws
        on = bool(posture.primary)
        pumps = lead(self.fws_pumps, 1) if on else set()
        water = any(pump.proven for pump in self.fws_pumps)
        count = self.staging.step(
            image.number("pod.it_power", otherwise=None), image.number("pod.fws_supply_temp", otherwise=None), now
        )
        chillers = lead(self.chillers, count) if on and water else set()
        demands: list[Demand] = []
        for machine in (*self.fws_pumps, *self.chillers):
            wanted = machine.device in pumps or machine.device in chillers
            demands += machine.step(image, None if posture.primary is None else wanted, now)
        if on:
            demands += loops.pump_demands(self.fws_pumps, fws.pump_speed_pct)
            demands += [Demand(f"{name}.supply_temp_sp", fws.supply_temp_sp_c, "setpoint") for name in fws.chillers]
            setpoint = image.number("pod.supply_temp_sp", otherwise=None) or self.pod.tcs.supply_temp_sp_c
            valve = self.pod.tcs.valve
            position = image.number(f"{valve}.position", otherwise=None)
            supply = image.number("pod.supply_temp", otherwise=None)
            opening = self.temp_loop.step(supply, setpoint, position, now)
            demands.append(Demand(f"{valve}.position_cmd", opening, "supply temperature loop"))
        yield from demands

    def _rack_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        blocked = self.interlocks.racks_tripped()
        if posture.racks == "energise":
            yield from self.energise.step(image, blocked, now)
        elif posture.racks == "off":
            yield from off_demands(self.pod.racks, f"{self.modes.state}: {self.modes.cause}")
        for rack in self.pod.racks:
            off = not any(image.flag(outlet, otherwise=True) for outlet in rack.outlets)
            since = self.rack_off_since.setdefault(rack.name, now) if off else None
            if since is None:
                self.rack_off_since.pop(rack.name, None)
            if rack.name in blocked:
                yield from off_demands([rack], "leak confirmed")
                if since is not None and now - since >= self.pod.protection.rack_off_before_valve_s:
                    yield Demand(f"{rack.valve}.position_cmd", 0.0, "leak confirmed, rack is off")

    def _permits(self, image: Image, now: float) -> Permits:
        pod = self.pod
        forbidden: dict[tuple[str, Value], str] = {}
        floors: dict[str, float] = {}
        live = any(rack.energised(image) for rack in pod.racks)
        proven = {pump.device for pump in self.pumps if pump.proven}
        for pump in self.pumps:
            others = proven - {pump.device}
            if live and not (pump.state is RunState.FAILED and others):
                forbidden[(f"{pump.device}.run_cmd", False)] = "racks are energised"
            if live:
                floors[f"{pump.device}.speed_cmd"] = pod.tcs.pump_speed_min_pct
        refusal = self._outlet_refusal(image)
        for rack in pod.racks:
            tripped = rack.name in self.interlocks.racks_tripped()
            for outlet in rack.outlets:
                if refusal or tripped:
                    forbidden[(outlet, True)] = refusal or "this rack has tripped"
            off_since = self.rack_off_since.get(rack.name)
            if off_since is None or now - off_since < pod.protection.rack_off_before_valve_s:
                floors[f"{rack.valve}.position_cmd"] = VALVE_OPEN_PCT
        return Permits(forbidden, floors)

    def _outlet_refusal(self, image: Image) -> str:
        """Return why no rack may be energised now, or nothing."""
        if self.modes.state not in modes.LIVE[:2]:
            return f"not in {self.modes.state}"
        if self.interlocks.tripped():
            return self.interlocks.tripped()
        ratio = image.number("pod.flow_ratio", otherwise=None)
        if ratio is None or ratio < COOLING_LOST_PCT:
            return "TCS flow is not proven"
        return ""

    def _view(self, image: Image, facts: modes.Facts, now: float) -> View:
        machines = {machine.device: machine.state.value for machine in (*self.pumps, *self.fws_pumps, *self.chillers)}
        standing = tuple(self.alarms.standing)
        return View(
            at=now,
            mode=self.modes.state,
            since=self.modes.since,
            cause=self.modes.cause,
            degraded=any(state in ("failed", "unknown") for state in machines.values()) or bool(self.interlocks.acting),
            image=image,
            alarms=standing,
            acting=tuple(self.interlocks.acting),
            first_out=self.interlocks.first_out,
            missing=facts.missing,
            machines=machines,
        )


def _interlock_rows(pod: Pod) -> list[Row]:
    protection = pod.protection
    rows = [
        Row("epo", "emergency power off", 0.0, trip=True),
        Row("flow_lost", "TCS flow lost", protection.flow_lost_s, trip=True),
        Row("pumps_lost", "all TCS pumps stopped", protection.pumps_lost_s, trip=True),
        Row("supply_hot", "TCS supply too hot", protection.supply_temp_trip_s, trip=True),
        Row("cooling_lost", "TCS flow below need", COOLING_LOST_S, trip=False),
    ]
    return rows + [
        Row(f"leak_{rack.name}", f"leak in {rack.name}", protection.rack_leak_confirm_s, trip=True, rack=rack.name)
        for rack in pod.racks
    ]


def _alarm_rows(pod: Pod) -> list[alarms.AlarmRow]:
    leaks = (*pod.protection.cdu_leak, *(point for rack in pod.racks for point in rack.leak))
    return alarms.standard_rows(
        alarms.Equipment(
            device_bus=pod.device_bus,
            device_class=pod.device_class,
            flags=frozenset(name for name, point in pod.points.items() if point.kind is Kind.FLAG),
            expected=[(item.point, item.value) for item in pod.expected],
            pumps=(*pod.tcs.pumps, *pod.fws.pumps),
            leaks=tuple(dict.fromkeys(leaks)),
            epo=pod.protection.epo,
            level_ok=pod.tcs.level_ok,
        )
    )


def outputs(pod: Pod) -> Iterable[Output]:
    """Return the whole list of what this pod may ever write."""
    tcs, fws = pod.tcs, pod.fws
    for pump in (*tcs.pumps, *fws.pumps):
        yield Output(f"{pump}.run_cmd")
    for pump in tcs.pumps:
        up, down = tcs.pump_up_pct_per_s, tcs.pump_down_pct_per_s
        yield Output(f"{pump}.speed_cmd", 0.0, 100.0, up, down, MIN_MOVE_PCT, f"{pump}.speed")
    for pump in fws.pumps:
        yield Output(f"{pump}.speed_cmd", 0.0, 100.0, tcs.pump_up_pct_per_s, tcs.pump_down_pct_per_s, MIN_MOVE_PCT)
    slew = tcs.valve_pct_per_s
    yield Output(f"{tcs.valve}.position_cmd", 0.0, 100.0, slew, slew, MIN_MOVE_PCT, f"{tcs.valve}.position")
    for chiller in fws.chillers:
        point = pod.points[f"{chiller}.supply_temp_sp"]
        yield Output(f"{chiller}.run_cmd")
        yield Output(point.id, point.low or 0.0, point.high or 0.0, safety=False)
    for rack in pod.racks:
        yield from (Output(outlet) for outlet in rack.outlets)
        yield Output(f"{rack.valve}.position_cmd", 0.0, 100.0)
