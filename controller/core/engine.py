"""The scan: freeze the inputs, decide in pure code, pass every output through one gate, hand on the effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.core import alarms, assess, loops, modes
from controller.core.alarm_states import Alarm
from controller.core.allowance import Allowance
from controller.core.authority import Authority, Scene, Verdict
from controller.core.blocks import Delay, Ramp
from controller.core.commands import Command, Outcome
from controller.core.image import Freezer, Image
from controller.core.interlocks import Denial, Gate, Interlocks, Permits, Write
from controller.core.pod import Pod, alarm_rows, interlock_rows, isolation_id, outputs, pod_points
from controller.core.points import Reading, Value, good
from controller.core.power import DeenergiseSequence, EnergiseSequence, off_demands, pending
from controller.core.sensing import Sensing
from controller.core.sequences import Demand, RunSequence, RunState, lead
from controller.core.slots import Array, Lock

VALVE_OPEN_PCT = 100.0
REACHABLE_SHARE = 0.5  # of the pumps' own ramp: how fast protection expects the flow to follow a rising need
TAKE_OVER_S = 30.0  # after taking over running equipment nothing is stopped for so long


@dataclass(frozen=True, slots=True)
class Posture:
    """What one mode wants. None leaves things as they stand."""

    pumps: str | None = None  # start, run, full, keep (what runs, at the loop's speed), off
    primary: str | None = None  # run, keep, off
    racks: str | None = None  # energise, shutdown, off


HOLD = Posture()
# The hard-wired circuit has opened the feeds; nothing may run up by itself when somebody closes it again.
EMERGENCY_OFF = Posture(pumps="off", primary="off", racks="off")
POSTURES: Mapping[str, Posture] = {
    modes.OFF: Posture(pumps="off", primary="off"),
    "STARTUP.precheck": HOLD,
    "STARTUP.fill": HOLD,
    "STARTUP.pump_start": Posture(pumps="start"),
    "STARTUP.primary_start": Posture(pumps="run", primary="run"),
    "STARTUP.proving": Posture(pumps="run", primary="run"),
    "STARTUP.energise": Posture(pumps="run", primary="run", racks="energise"),
    modes.NORMAL: Posture(pumps="run", primary="run"),
    modes.LIMITING: Posture(pumps="full", primary="run"),
    modes.COOLING_LOST: Posture(pumps="full", primary="run"),
    modes.TRIPPED: Posture(pumps="full", primary="run", racks="off"),
    modes.COOLDOWN: Posture(pumps="keep", primary="keep", racks="shutdown"),
    modes.MAINTENANCE: HOLD,
}


@dataclass(frozen=True, slots=True)
class View:
    """One scan as the edges may show it. Times are monotonic seconds.

    ``slots`` has the priority array of every setpoint that may be asked from outside; ``lock`` tells of local control.
    """

    at: float
    mode: str
    since: float
    cause: str
    degraded: bool
    image: Image
    alarms: tuple[Alarm, ...]
    acting: tuple[str, ...]
    first_out: str
    missing: tuple[str, ...]
    machines: Mapping[str, str]
    suppressed: tuple[Alarm, ...] = ()
    slots: Mapping[str, Array] = field(default_factory=dict)
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """What one scan asks of the world."""

    view: View
    writes: Sequence[Write]
    denials: Sequence[Denial] = ()
    outcomes: Sequence[Outcome] = ()
    alarms: Sequence[alarms.AlarmEvent] = ()
    transition: modes.Transition | None = None


class Engine:
    """The whole core. ``step`` is called once a scan and is the only way in."""

    def __init__(
        self, pod: Pod, saved: Mapping[str, Any], now: float, boot: int = 0, wall_offset_s: float | None = None
    ) -> None:
        """Go on from ``saved``.

        Args:
            boot: number of this start of the controller.
            wall_offset_s: wall-clock minus monotonic seconds; None while the wall clock can't be trusted.
        """
        self.wall_offset_s = wall_offset_s
        self.pod = pod
        self.points = {**pod.points, **pod_points(pod)}
        self.freezer = Freezer(self.points)
        self.modes = modes.Modes(now, str(saved.get("mode", "")))
        self.was_starting = str(saved.get("mode", "")).startswith("STARTUP")
        self.alarms = alarms.Alarms(alarm_rows(pod), boot)
        self.alarms.restore(dict(saved.get("alarms", {})), now, wall_offset_s)
        self.interlocks = Interlocks(interlock_rows(pod), saved.get("latched", ()))
        self.gate = Gate(outputs(pod), self.points, pod.protection.refresh_s)
        self.authority = Authority(pod, dict(saved.get("authority", {})), now, wall_offset_s)
        self.flow_loop = loops.FlowLoop(pod.tcs)
        self.temp_loop = loops.SupplyTempLoop(pod.tcs)
        self.staging = loops.ChillerStaging(pod.fws)
        self.energise = EnergiseSequence(pod.power, pod.racks)
        self.shutdown = DeenergiseSequence(pod.power, pod.racks)
        self.sensing = Sensing(pod)
        self.allowance = Allowance(pod, saved.get("shed", ()))
        rise = pod.tcs.pump_up_pct_per_s / 100 * pod.tcs.flow_design_lpm * REACHABLE_SHARE
        self.reachable = Ramp(rise, float("inf"))
        prove = pod.startup.pump_prove_s
        self.pumps = [RunSequence(name, prove) for name in pod.tcs.pumps]
        self.fws_pumps = [RunSequence(name, prove) for name in pod.fws.pumps]
        self.chillers = [
            RunSequence(name, pod.startup.primary_prove_max_s, pod.fws.chiller_min_on_s, pod.fws.chiller_min_off_s)
            for name in pod.fws.chillers
        ]
        self.machines = (*self.pumps, *self.fws_pumps, *self.chillers)
        self.ready = Delay(pod.startup.ready_hold_s)
        self.primary = Delay(pod.startup.primary_prove_s)
        self.rack_off_since: dict[str, float] = {}
        self.holding = True  # until this process has changed the mode once, it stops nothing
        self.no_stop_until = float("-inf")
        self.booted_at = now
        self.start_wanted = pod.autostart  # until a start was made, which waits for the first whole image

    def step(self, now: float, inbox: Mapping[str, Reading], commands: Sequence[Command] = ()) -> Effects:
        """Run one scan at monotonic ``now`` on the newest readings in ``inbox``."""
        image = self.freezer.freeze(inbox, now)  # 1
        for machine in self.machines:
            machine.observe(image, now)
        verdict = self.authority.judge(commands, self._scene(image, now), self.alarms)  # 2
        ended = self.authority.step(assess.floors(self.pod, image), now)
        image = self._assessed(image)
        requests = self._asked(verdict, now)
        events = self.alarms.step(image, now)  # 3
        conditions = assess.conditions(self.pod, image, self.modes.state)
        conditions |= dict.fromkeys(map(isolation_id, verdict.isolate), True)
        self.interlocks.step(conditions, now, reset="reset" in requests)  # 4
        facts = self._facts(image, requests, now)
        transition = self.modes.step(facts, self.pod.startup, now)  # 5
        if transition:
            self._entered(transition)
        demands = list(self._demands(image, now))  # 6
        writes, denials = self.gate.step(demands, self._permits(image, now), image, now)  # 7
        view = self._view(image, facts, now)  # 8
        outcomes = [*verdict.outcomes, *ended, *self.authority.follow(self._scene(image, now))]
        return Effects(view, writes, denials, outcomes, events, transition)

    def saved(self) -> dict[str, Any]:
        """Return what must survive a restart; leases of slots only where the wall clock is known."""
        return {
            "mode": self.modes.state,
            "latched": self.interlocks.latched(),
            "alarms": self.alarms.saved(self.wall_offset_s),
            "authority": self.authority.saved(self.wall_offset_s),
            "shed": sorted(self.allowance.shed),
        }

    def _scene(self, image: Image, now: float) -> Scene:
        return Scene(image, self.modes.state, self.modes.cause, self.interlocks.latched(), now)

    def _assessed(self, image: Image) -> Image:
        """Return the image with what follows from it."""
        pod = self.pod
        slots = self.authority.slots
        image = self.sensing.step(image, slots.value("pod.supply_temp_sp"))
        wanted = POSTURES[self.modes.state].pumps in ("run", "full") or assess.any_energised(pod, image)
        found = assess.derived(pod, image, slots, self.reachable, wanted=wanted)
        off = len(pending(pod.racks, image, set())) if self.modes.state == modes.NORMAL else None
        found["pod.racks_off"] = assess.reading(off, image.at)
        found |= assess.about_machines(pod, image, self.pumps, self.chillers, self.fws_pumps)
        isolated = sum(isolation_id(rack.name) in self.interlocks.latched() for rack in pod.racks)
        found["pod.racks_isolated"] = good(float(isolated), image.at)
        found["pod.isolation_held"] = good(self.authority.isolation_held, image.at)
        found["pod.booting"] = good(image.at - self.booted_at < pod.startup.image_max_s, image.at)
        figures = self.alarms.figures(image.at).items()
        found |= {f"pod.{name}": good(figure, image.at) for name, figure in figures}
        if self.modes.state not in modes.LIVE and not self.holding:
            self.allowance.shed.clear()
        return self.allowance.step(
            image.with_derived(found), slots, self.pumps, self.chillers, self.sensing.water_share
        )

    def _asked(self, verdict: Verdict, now: float) -> set[str]:
        """Return the operations that accepted commands ask of this scan."""
        if "start" in verdict.operations:
            self.start_wanted = True
        if "reset" in verdict.operations:
            for machine in self.machines:
                machine.reset(now)
        return verdict.operations

    def _facts(self, image: Image, operations: set[str], now: float) -> modes.Facts:
        pod, times = self.pod, self.pod.startup
        elapsed = now - self.modes.since
        flow = image.number("pod.flow", otherwise=None)
        suction = image.number(pod.tcs.suction_pressure, otherwise=None)
        water = any(pump.proven for pump in self.fws_pumps) and any(chiller.proven for chiller in self.chillers)
        acting = self.interlocks.acting
        blocked = self.interlocks.racks_tripped() | self.allowance.shed
        missing: tuple[str, ...] = ()
        if self.modes.state == "STARTUP.precheck":
            missing = tuple(assess.missing(pod, image, self.interlocks.tripped()))
        return modes.Facts(
            elapsed_s=elapsed,
            missing=missing,
            image_complete=now - self.booted_at > times.image_max_s or assess.complete(pod, image),
            adoptable=assess.any_rack_on(pod, image),
            was_starting=self.was_starting,
            start=self.start_wanted,
            stop="stop" in operations,
            reset="reset" in operations,
            maintain="maintain" in operations,
            release="release" in operations,
            energise="energise" in operations,
            loop_filled=suction is not None and suction >= times.fill_pressure_kpa,
            flow_proven=flow is not None and flow >= times.flow_prove_pct / 100 * pod.tcs.flow_design_lpm,
            pumps_failed=all(pump.state is RunState.FAILED for pump in self.pumps),
            primary_proven=self.primary.step(water, now),
            ready=self.ready.step(assess.loop_ready(pod, image, self.alarms.standing), now),
            racks_pending=len(pending(pod.racks, image, blocked)),
            trip=self.interlocks.tripped(),
            trip_cleared=self.interlocks.cleared(),
            cooling_lost="TCS flow below need" if "cooling_lost" in acting else "",
            limited=self.allowance.limiting if image.usable("pod.supply_temp") else "supply temperature not known",
            cooled=assess.cooled(pod, image, elapsed, self._racks_off_s(now)),
        )

    def _racks_off_s(self, now: float) -> float:
        """Return for how long every rack has been off; 0 while one may be on."""
        if len(self.rack_off_since) < len(self.pod.racks):
            return 0.0
        return now - max(self.rack_off_since.values(), default=self.modes.since)

    def _entered(self, transition: modes.Transition) -> None:
        self.holding = False
        self.start_wanted = False
        self.ready = Delay(self.pod.startup.ready_hold_s)
        if transition.dest == "STARTUP.energise":
            self.energise.clear()
            self.allowance.shed.clear()
        self.shutdown.clear()
        self.was_starting = transition.dest == modes.COOLING_LOST and transition.source == "STARTUP.energise"
        if transition.source == modes.OFF and transition.dest in modes.LIVE:
            self.no_stop_until = transition.at + TAKE_OVER_S
            self.staging.count = max(1, sum(chiller.proven for chiller in self.chillers))

    def _demands(self, image: Image, now: float) -> Iterable[Demand]:
        posture = POSTURES[self.modes.state]
        if self.modes.state == modes.OFF and (self.holding or assess.any_energised(self.pod, image)):
            posture = HOLD
        if "epo" in self.interlocks.acting:
            posture = EMERGENCY_OFF
        yield from self._pump_demands(posture, image, now)
        yield from self._primary_demands(posture, image, now)
        yield from self._rack_demands(posture, image, now)
        for beat in self.pod.heartbeats:  # by the scan and not by the bus, so that it ends when the scan does
            yield Demand(beat.point, beat.count(now), "heartbeat")

    def _settled(self, wanted: bool, hold: bool, now: float) -> bool | None:
        """Return what to ask of a machine: nothing where the mode holds, and no stop soon after a take-over."""
        if hold or (not wanted and now < self.no_stop_until and self.modes.state in modes.LIVE):
            return None
        return wanted

    def _pump_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        wanted = {pump.device for pump in self.pumps}
        if posture.pumps == "start" and not any(pump.proven for pump in self.pumps):
            wanted = lead(self.pumps, 1)
        elif posture.pumps == "off" or (posture.pumps == "keep" and not assess.any_energised(self.pod, image)):
            wanted = {pump.device for pump in self.pumps if posture.pumps == "keep" and pump.proven}
        for pump in self.pumps:
            yield from pump.step(self._settled(pump.device in wanted, posture.pumps is None, now), now)
        if posture.pumps in (None, "off"):
            return
        proven = sum(pump.proven for pump in self.pumps)
        needed = image.number("pod.flow_needed", otherwise=None) or self.pod.tcs.flow_max_lpm
        least = self.authority.slots.value("pod.pump_speed_min_sp")
        speed = self.flow_loop.step(needed, image.number("pod.flow", otherwise=None), proven, now, least)
        if posture.pumps == "start":
            speed = self.pod.startup.pump_start_pct
        elif posture.pumps == "full":
            speed = 100.0
        yield from loops.pump_demands(self.pumps, speed)
        yield from (Demand(f"{rack.valve}.position_cmd", VALVE_OPEN_PCT, "open") for rack in self.pod.racks)

    def _primary_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        slots = self.authority.slots
        water_c = slots.value("pod.fws_supply_temp_sp")
        on = posture.primary in ("run", "keep")
        keep = posture.primary == "keep" and not assess.any_energised(self.pod, image)
        pumps = lead(self.fws_pumps, 1) if on else set()
        water = any(pump.proven for pump in self.fws_pumps)
        count = self.staging.step(
            image.number("pod.it_power", otherwise=None),
            image.number("pod.fws_supply_temp", otherwise=None),
            water_c,
            now,
        )
        chillers = lead(self.chillers, count) if on else set()
        if keep:  # no heat is coming: what runs takes out the rest, nothing is started for it
            pumps = {pump.device for pump in self.fws_pumps if pump.proven}
            chillers = {chiller.device for chiller in self.chillers if chiller.proven}
        demands: list[Demand] = []
        for machine in (*self.fws_pumps, *self.chillers):
            wanted = machine.device in pumps or machine.device in chillers
            # Without proven water no chiller starts, and none is stopped for it: a stop costs its minimum time off.
            hold = posture.primary is None or (on and not water and machine in self.chillers)
            demands += machine.step(self._settled(wanted, hold, now), now)
        if on:
            demands += loops.pump_demands(self.fws_pumps, slots.value("pod.fws_pump_speed_sp"))
            demands += [Demand(f"{name}.supply_temp_sp", water_c, "setpoint") for name in self.pod.fws.chillers]
            setpoint = slots.value("pod.supply_temp_sp")
            valve = self.pod.tcs.valve
            position = image.number(f"{valve}.position", otherwise=None)
            wanted_lpm = self.flow_loop.need.value or self.pod.tcs.flow_min_lpm
            opening = self.temp_loop.step(assess.heat_seen(image, wanted_lpm), setpoint, water_c, position, now)
            demands.append(Demand(f"{valve}.position_cmd", opening, "supply temperature loop"))
        yield from demands

    def _rack_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        blocked, isolated = self.interlocks.racks_tripped(), self.interlocks.racks_isolated()
        if posture.racks == "energise":
            yield from self.energise.step(image, blocked | self.allowance.shed, now)
        elif posture.racks == "shutdown":
            yield from self.shutdown.step(image, now)
        elif posture.racks == "off":
            yield from off_demands(self.pod.racks, f"{self.modes.state}: {self.modes.cause}")
        yield from self.allowance.demands(image, blocked, now, normal=self.modes.state == modes.NORMAL)
        for rack in self.pod.racks:
            off = not any(image.flag(outlet, otherwise=True) for outlet in rack.outlets)
            since = self.rack_off_since.setdefault(rack.name, now) if off else None
            if since is None:
                self.rack_off_since.pop(rack.name, None)
            if rack.name in blocked:
                why = self.interlocks.why_rack(rack.name)
                yield from off_demands([rack], why)
                if (
                    rack.name in isolated
                    and since is not None
                    and now - since >= self.pod.protection.rack_off_before_valve_s
                ):
                    yield Demand(f"{rack.valve}.position_cmd", 0.0, f"{why}, rack is off")

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
        refusal = assess.outlet_refusal(image, self.modes.state, self.interlocks.tripped())
        for rack in pod.racks:
            tripped = rack.name in self.interlocks.racks_tripped()
            for outlet in rack.outlets:
                if refusal or tripped:
                    forbidden[(outlet, True)] = refusal or "this rack has tripped"
            off_since = self.rack_off_since.get(rack.name)
            if off_since is None or now - off_since < pod.protection.rack_off_before_valve_s:
                floors[f"{rack.valve}.position_cmd"] = VALVE_OPEN_PCT
        return Permits(forbidden, floors)

    def _view(self, image: Image, facts: modes.Facts, now: float) -> View:
        machines = {machine.device: machine.state.value for machine in self.machines}
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
            suppressed=tuple(self.alarms.suppressed),
            slots=self.authority.slots.arrays,
            lock=self.authority.slots.lock,
        )
