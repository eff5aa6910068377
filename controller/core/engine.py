"""The scan: freeze the inputs, decide in pure code, pass every output through one gate, hand on the effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field, replace
from typing import Any

from controller.core import alarms, assess, duty, loops, modes
from controller.core.alarm_states import Alarm
from controller.core.allowance import Allowance
from controller.core.authority import Authority, Scene, Verdict
from controller.core.blocks import Delay, Ramp
from controller.core.commands import Command, Outcome
from controller.core.dewpoint import DewLead
from controller.core.duty import Duty, saved_hours
from controller.core.evidence import Machines
from controller.core.hunting import Hunting
from controller.core.image import Freezer, Image
from controller.core.interlocks import Bypass, Denial, Gate, Permits, Write
from controller.core.permissives import VALVE_OPEN_PCT, Racks, permits
from controller.core.pod import ALARM_NUMBERS, Pod, alarm_rows, outputs, pod_points
from controller.core.points import Reading, good, record
from controller.core.postures import EMERGENCY_OFF, HOLD, POSTURES, Posture
from controller.core.power import DeenergiseSequence, EnergiseSequence, off_demands, pending
from controller.core.primary import Primary, Wish
from controller.core.sensing import Sensing
from controller.core.sequences import Demand, RunSequence, RunState
from controller.core.shield import Shield
from controller.core.slots import Array, Lock

URGENT_FLOW_PCT = 85.0  # of the need that pumps can have followed: with less they run up as fast as drives may
HOUR_S = 3600.0
FIGURE_IDS = {name: f"pod.{name}" for name in ("alarm_flood", *(name for name, *_ in ALARM_NUMBERS))}
REACHABLE_SHARE = 0.5  # of the pumps' own ramp: how fast protection expects the flow to follow a rising need
GENTLE_S = 10.0  # after a take-over, in which outputs move slowly
TAKE_OVER_S = 30.0  # after taking over running equipment nothing is stopped for so long


@record
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
    bypasses: Mapping[str, Bypass] = field(default_factory=dict)


@record
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
        self.shield = Shield(pod, saved, now, wall_offset_s)
        self.interlocks = self.shield.interlocks
        self.gate = Gate(outputs(pod), self.points, pod.protection.refresh_s)
        self.authority = Authority(pod, dict(saved.get("authority", {})), now, wall_offset_s)
        self.flow_loop = loops.FlowLoop(pod.tcs)
        self.temp_loop = loops.SupplyTempLoop(pod.tcs)
        self.energise = EnergiseSequence(pod.power, pod.racks)
        self.shutdown = DeenergiseSequence(pod.power, pod.racks)
        self.sensing = Sensing(pod)
        self.allowance = Allowance(pod, saved.get("shed", ()))
        rise = pod.tcs.pump_up_pct_per_s / 100 * pod.tcs.flow_design_lpm * REACHABLE_SHARE
        self.reachable = Ramp(rise, float("inf"))
        hours = {name: HOUR_S * float(value) for name, value in dict(saved.get("run_h", {})).items()}
        self.pumps = [RunSequence(name, pod.startup.pump_prove_s) for name in pod.tcs.pumps]
        self.tcs_duty = Duty(self.pumps, pod.rotation, hours, stagger=False, exercise=True)
        self.primary = Primary(pod, hours)
        self.primary.restore(dict(saved.get("chillers", {})), now, wall_offset_s)
        self.shielded = Machines(self.pumps, self.primary.chillers)
        self.machines = (*self.pumps, *self.primary.pumps, *self.primary.chillers)
        for machine in self.machines:
            if machine.device in saved.get("failed", ()):
                machine.fail(now)
        self.buses = {f"{bus}.online": f"{bus}.lost" for bus in set(pod.device_bus.values())}
        self.duties = (self.tcs_duty, *self.primary.duties)
        self.low_flow = Delay(pod.tcs.pumps_low_s)
        self.dew_lead = DewLead(pod.room.dew_lead_s)
        self.hunting = Hunting(pod)
        self.ready = Delay(pod.startup.ready_hold_s)
        self.water = Delay(pod.startup.primary_prove_s)
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
        dew_c = assess.dew_point_c(self.pod, image)
        floors = assess.floors(self.pod, dew_c, self.dew_lead.step(dew_c, now))
        floors |= self.allowance.headroom.flow_floor(self.authority.slots.value("pod.supply_temp_sp"))
        ended = self.authority.step(floors, now)
        image = self._assessed(image, dew_c)
        requests = self._asked(verdict, now)
        events = self.alarms.step(image, now)  # 3
        self.shield.step(image, self.shielded, self.modes.state, verdict.isolate, reset="reset" in requests)  # 4
        self.allowance.shed.update(self.shield.shedding.off)
        facts = self._facts(image, requests, now)
        transition = self.modes.step(facts, self.pod.startup, now)  # 5
        if transition:
            self._entered(transition)
        demands = list(self._demands(image, now))  # 6
        writes, denials = self.gate.step(demands, self._permits(image), image, now)  # 7
        view = self._view(image, facts, now)  # 8
        outcomes = [*verdict.outcomes, *ended, *self.authority.follow(self._scene(image, now))]
        return Effects(view, writes, denials, outcomes, events, transition)

    def saved(self) -> dict[str, Any]:
        """Return what must survive a restart; leases of slots only where the wall clock is known."""
        return {
            "mode": self.modes.state,
            **self.shield.saved(self.wall_offset_s),
            "alarms": self.alarms.saved(self.wall_offset_s),
            "authority": self.authority.saved(self.wall_offset_s),
            "shed": sorted(self.allowance.shed),
            "run_h": saved_hours(self.duties),
            "chillers": self.primary.saved(self.wall_offset_s),
            "failed": [machine.device for machine in self.machines if machine.faulty],
        }

    def _scene(self, image: Image, now: float) -> Scene:
        latched = self.interlocks.latched()
        return Scene(image, self.modes.state, self.modes.cause, latched, now, self.interlocks)

    def _assessed(self, image: Image, dew_c: float | None) -> Image:
        """Return the image with what follows from it."""
        pod = self.pod
        slots = self.authority.slots
        image = self.sensing.step(image, slots.value("pod.supply_temp_sp"))
        wanted = POSTURES[self.modes.state].pumps in ("run", "full") or assess.any_energised(pod, image)
        found = assess.derived(pod, image, dew_c, slots, self.reachable, wanted=wanted)
        off = len(pending(pod.racks, image, set())) if self.modes.state == modes.NORMAL else None
        found["pod.racks_off"] = assess.reading(off, image.at)
        found |= duty.readings(self.duties, image.at)
        found |= assess.about_machines(image, self.pumps, self.primary.chillers, self.primary.pumps, self.buses)
        found |= self.shield.told(image.at)
        found["pod.isolation_held"] = good(self.authority.isolation_held, image.at)
        found["pod.booting"] = good(image.at - self.booted_at < pod.startup.image_max_s, image.at)
        found |= {FIGURE_IDS[name]: good(figure, image.at) for name, figure in self.alarms.figures(image.at).items()}
        if self.modes.state not in modes.LIVE and not self.holding:
            self.allowance.shed.clear()
        image = image.with_derived(found)
        image = image.with_derived(self.hunting.step(image))
        asked = self.shield.response.limits
        return self.allowance.step(image, slots, self.pumps, self.primary.chillers, self.sensing.water_share, asked)

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
        acting = self.interlocks.acting
        blocked = self.interlocks.racks_tripped() | self.allowance.shed
        missing: tuple[str, ...] = ()
        if self.modes.state == "STARTUP.precheck":
            missing = tuple(assess.missing(pod, image, self.interlocks.tripped(), self.alarms.standing))
        return modes.Facts(
            elapsed_s=elapsed,
            missing=missing,
            image_complete=now - self.booted_at > times.image_max_s or assess.complete(pod, image),
            adoptable=assess.any_rack_on(pod, image),
            was_starting=self.was_starting,
            start=self.start_wanted,
            stop="stop" in operations or bool(self.shield.response.stop),
            reset="reset" in operations,
            maintain="maintain" in operations,
            release="release" in operations,
            energise="energise" in operations,
            loop_filled=not pod.tcs.suction_pressure or (suction is not None and suction >= times.fill_pressure_kpa),
            flow_proven=flow is not None and flow >= times.flow_prove_pct / 100 * pod.tcs.flow_design_lpm,
            pumps_failed=all(pump.state is RunState.FAILED for pump in self.pumps),
            primary_proven=self.water.step(self.primary.proven(image), now),
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
            self.gate.gentle_until = transition.at + GENTLE_S
            self.primary.adopt()

    def _demands(self, image: Image, now: float) -> Iterable[Demand]:
        posture = POSTURES[self.modes.state]
        if self.modes.state == modes.OFF and (self.holding or assess.any_energised(self.pod, image)):
            posture = HOLD
        if "epo" in self.interlocks.acting:
            posture = EMERGENCY_OFF
        if self.shield.response.pumps_off and self._racks_off_s(now) >= self.pod.protection.leak_pumps_off_s:
            posture = replace(posture, pumps="off")
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
        asks = self.shield.response
        needed = image.number("pod.flow_needed", otherwise=None) or self.pod.tcs.flow_max_lpm
        if asks.flow_high:
            needed = self.pod.tcs.flow_max_lpm
        live = assess.any_energised(self.pod, image)
        count = self._pump_count(posture, needed, now)
        if posture.pumps in (None, "off"):
            wanted: AbstractSet[str] = set()
        elif posture.pumps == "keep" and not live:
            wanted = {pump.device for pump in self.pumps if pump.proven}
        else:
            wanted = self.tcs_duty.step(count, now, may_rotate=self.modes.state == modes.NORMAL)
        for pump in self.pumps:
            yield from pump.step(self._settled(pump.device in wanted, posture.pumps is None, now), now)
        if posture.pumps in (None, "off"):
            return
        if asks.pumps_restart:  # stopped together, as by a dip of their supply: no lock-out is worth that
            yield from (Demand(pump.run_cmd_id, True, asks.pumps_restart) for pump in self.pumps)
        turning, stands = assess.pumps_turning(image, self.pumps, wanted)
        least = self.authority.slots.value("pod.pump_speed_min_sp")
        flow = image.number("pod.flow", otherwise=None)
        speed = self.flow_loop.step(needed, flow, turning, now, least, self.shield.evidence.loop.known, stands)
        if posture.pumps == "start":
            speed = self.pod.startup.pump_start_pct
        elif asks.pumps_full or (posture.pumps == "full" and not asks.pumps_eased):
            speed = 100.0
        short = image.number("pod.flow_ratio", otherwise=100.0) or 0.0
        urgent = live and (
            bool(asks.pumps_full) or posture.pumps == "full" or turning < count or short < URGENT_FLOW_PCT
        )
        yield from loops.pump_demands(self.pumps, speed, urgent=urgent)
        yield from (Demand(rack.valve_cmd_id, VALVE_OPEN_PCT, "open") for rack in self.pod.racks if rack.valve)

    def _pump_count(self, posture: Posture, needed_lpm: float, now: float) -> int:
        """Return how many TCS pumps are to run together."""
        tcs = self.pod.tcs
        low = self.low_flow.step(needed_lpm < tcs.pumps_low_pct / 100 * tcs.flow_design_lpm, now)
        if posture.pumps == "full" or self.shield.response.pumps_full:
            return len(tcs.pumps)
        if posture.pumps == "start" and not any(pump.proven for pump in self.pumps):
            return 1
        return tcs.pumps_on_duty_low if low else tcs.pumps_on_duty

    def _primary_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        wish: Wish = "hold" if posture.primary is None else "off"
        if posture.primary in ("run", "keep"):
            drained = posture.primary == "keep" and not assess.any_energised(self.pod, image)
            wish = "drain" if drained else "run"
        slots, normal = self.authority.slots, self.modes.state == modes.NORMAL
        may_stop = now >= self.no_stop_until or self.modes.state not in modes.LIVE
        yield from self.primary.step(wish, image, slots, may_stop=may_stop, may_rotate=normal)
        if wish in ("run", "drain"):
            setpoint_c = slots.value("pod.supply_temp_sp")
            water_c = slots.value("pod.fws_supply_temp_sp", self.pod.fws.supply_temp_sp_c)
            valve = self.pod.tcs.valve
            position = image.number(f"{valve}.position", otherwise=None)
            wanted_lpm = self.flow_loop.need.value or self.pod.tcs.flow_min_lpm
            opening = self.temp_loop.step(assess.heat_seen(image, wanted_lpm), setpoint_c, water_c, position, now)
            yield Demand(f"{valve}.position_cmd", opening, "supply temperature loop")
            if self.shield.response.valve_shut:
                yield Demand(f"{valve}.position_cmd", 0.0, self.shield.response.valve_shut)

    def _rack_demands(self, posture: Posture, image: Image, now: float) -> Iterable[Demand]:
        blocked, isolated = self.interlocks.racks_tripped(), self.interlocks.racks_isolated()
        if posture.racks == "energise":
            yield from self.energise.step(image, blocked | self.allowance.shed, now)
        elif posture.racks == "shutdown":
            yield from self.shutdown.step(image, now)
        elif posture.racks == "off":
            yield from off_demands(self.pod.racks, f"{self.modes.state}: {self.modes.cause}")
        yield from self.allowance.demands(
            image, blocked | self.shield.shedding.off, now, normal=self.modes.state == modes.NORMAL
        )
        for rack in self.pod.racks:
            since = None if rack.energised(image) else self.rack_off_since.setdefault(rack.name, now)
            if since is None:
                self.rack_off_since.pop(rack.name, None)
            if rack.name in blocked:
                why = self.interlocks.why_rack(rack.name)
                yield from off_demands([rack], why)
                waited = since is not None and now - since >= self.pod.protection.rack_off_before_valve_s
                if rack.valve and rack.name in isolated and waited:
                    yield Demand(rack.valve_cmd_id, 0.0, f"{why}, rack is off")

    def _permits(self, image: Image) -> Permits:
        tripped, hold_on = self.interlocks.tripped(), self.shield.response.hold_on
        refusal = hold_on or assess.outlet_refusal(image, self.modes.state, tripped)
        racks = Racks(self.interlocks.racks_tripped(), self.rack_off_since, refusal)
        return permits(self.pod, image, self.pumps, self.tcs_duty.spare, self.primary.pumps, racks)

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
            bypasses=dict(self.interlocks.bypasses),
        )
