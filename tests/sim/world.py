"""The pod of one run: the virtual stage with a swarm at work on it, watched at every scan."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from controller.config.plan import Plan
from controller.core.commands import OPERATIONS, Command, Outcome
from controller.core.engine import Effects, Engine
from controller.core.image import Image
from controller.core.points import Kind, Point
from controller.core.sequences import Demand
from controller.core.slots import Floor
from hil.plant.streams import seed_of
from hil.virtual import VirtualStage
from hil.warm import warm_up
from tests.sim.invariants import UNATTENDED, judged, judged_at_end
from tests.sim.nonsense import nonsense
from tests.sim.swarm import COMMANDS, IDLE_LOAD, KINDS, WALL_CLOCK, Strike, Swarm
from tests.sim.track import Track

WARM_LOAD = 0.6
ALERT_S, CALM_STRIDE = 20.0, 8  # how long scans stay at their period once anything has happened; else every 8th
MOVES_SHARE, MOVES_S, MOVES_STRIDE = 0.05, 10.0, 2  # of rated power from scan to scan: load that moves; every 2nd then
NEVER_S = 1e9  # between samples for charts, which no run here draws
OPERATOR_S = 30.0  # how often the operator looks at the pod once all is healed
HOSTILE_PER_SCAN = 20
CONSOLE, BMS = "console:operator", "bms"


class World(VirtualStage):
    """One pod. ``warm`` it once; each run goes on in a copy of the process.

    Attributes:
        track: what has been seen of this run, for the invariants.
        found: violations so far, (invariant, second, text); each invariant once.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, load=WARM_LOAD, sample_s=NEVER_S)
        self.track: Track | None = None
        self.found: list[tuple[int, float, str]] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._zero = self._calm_at = self._grid_s = self._moves_until = 0.0
        self._chance = random.Random()
        self._attacking: list[Strike] = []
        self._said = 0
        self.ordered_from_outside: dict[str, Command] = {}
        self.orders: set[str] = set()  # what the operator has ordered since the controller started

    def warm(self) -> None:
        warm_up(self)

    def all_targets(self) -> dict[str, list[str]]:
        """Return what each kind of the swarm may be aimed at here."""
        found = {kind.fault: ["pod"] if kind.fault in COMMANDS else list(self.targets(kind.fault)) for kind in KINDS}
        points = self.plan.pod.points
        found["point.garbage"] = [name for name in found["point.garbage"] if points[name].kind is Kind.NUMBER]
        return found

    # ------------------------------------------------------------ a run

    def perform(self, swarm: Swarm) -> None:
        """Run a swarm from the take-over to the end of the recovery."""
        self._prepare(swarm)
        for at, do, strike in timeline(swarm):
            if strike is not None and strike.fault == WALL_CLOCK:
                self.advance(self._grid_s * ((self._zero + at) // self._grid_s) - self.now)
            else:
                self.advance(self._zero + at - self.now)
                self._alert()
            if do == "heal":
                self.heal()
                self._attacking.clear()
                if self.engine is None:
                    self.controller(True)
            else:
                self._apply(strike, do == "strike")
            if self.track is not None:
                self.track.struck(do, strike, at)
        while self.now < self._zero + swarm.seconds:
            self._operate()
            self.advance(min(OPERATOR_S, self._zero + swarm.seconds - self.now))
        assert self.track is not None
        self._note_violations(judged_at_end(self.track))

    def _alert(self) -> None:
        """Scan at every period for a while."""
        self.stride, self._calm_at = 1, self.now + ALERT_S

    def _prepare(self, swarm: Swarm) -> None:
        plant, pod = self.plant, self.plan.pod
        self.seed = swarm.seed
        self._chance = random.Random(f"commands {swarm.seed}")
        words = [seed_of(swarm.seed, f"stream {index}") for index in range(len(plant.streams))]
        plant.streams[:] = np.array(words, dtype=np.uint64)
        plant.ambient_c, plant.outdoor_dew_point_c = swarm.ambient_c, swarm.dew_point_c
        plant.jobs.profile, plant.jobs.level = swarm.profile, swarm.load
        for index, rack in enumerate(plant.racks):
            rack.load = swarm.load if index < (swarm.busy or len(plant.racks)) else IDLE_LOAD
        self._zero = self.now
        self._alert()
        self._grid_s = CALM_STRIDE * self.scan_s  # when it scans however calm: a clock that jumps adds no scan
        self.track = Track(self, swarm, self._zero)
        tcs = pod.tcs
        fewer = max(1, tcs.pumps_on_duty - 1)
        if swarm.spare and fewer * tcs.pump_rated_lpm >= tcs.flow_design_lpm:
            tcs = replace(tcs, pumps_on_duty=fewer, pumps_on_duty_low=min(fewer, tcs.pumps_on_duty_low))
        self.plan = replace(self.plan, pod=replace(pod, tcs=tcs, autostart=True))
        self.controller(True)

    def _apply(self, strike: Strike | None, on: bool) -> None:
        assert strike is not None
        if strike.fault in COMMANDS:
            (self._attacking.append if on else self._attacking.remove)(strike)
        elif on:
            self.inject(strike.fault, strike.target, strike.value)
        else:
            self.heal(strike.fault, strike.target)

    def _operate(self) -> None:
        """Do what an operator does after a fault is mended: tend it, reset what latched, start, put racks back on."""
        self.plant.tend()
        mode, now = self.seen.mode, self.now
        wish = {"FAULT.tripped": "reset", "OFF": "start", "NORMAL": "energise"}.get(mode, "")
        if self.engine is not None:
            latched = any(alarm.latched for alarm in self.engine.alarms.standing)
            wish = "reset" if latched or self.engine.interlocks.latched() else wish
        failed = self.engine is not None and any(m.state.value == "failed" for m in self.engine.machines)
        for operation in dict.fromkeys(["reset"] if failed else []) | dict.fromkeys([wish] if wish else []):
            self.orders.add(operation)
            self._order(operation, CONSOLE, now)

    def _order(self, operation: str, who: str, now: float, target: str = "", **more: Any) -> None:
        self._said += 1
        expires = more.pop("expires", now + 60.0)
        command = Command(f"sim-{self._said}", who, operation, target, expires, **more)  # type: ignore[arg-type]
        if who != CONSOLE:
            self.ordered_from_outside[command.id] = command
        self.commands.append(command)

    def _attack(self, strike: Strike, now: float) -> None:
        chance, names = self._chance, list(self.engine.authority.slots.names) if self.engine else []
        if not names:
            return
        if strike.fault == "commands.good" and chance.random() < 0.02:
            name = chance.choice(names)
            array = self.engine.authority.slots.arrays[name] if self.engine else None
            assert array is not None
            value = chance.uniform(array.setpoint.low, array.setpoint.high)
            self._order("set", BMS, now, name, value=value, slot=8, ttl_s=chance.uniform(30.0, 600.0), reason="sim")
        elif strike.fault == "commands.bad" and chance.random() < 0.1:
            value = chance.choice((float("nan"), float("inf"), -1e9, 1e9, 5.0, True, "x", None))
            expires = now + chance.choice((-3600.0, 60.0))
            operation = chance.choice(("set", "relinquish", "ack", "shelve"))
            self._order(operation, BMS, now, chance.choice((*names, "nobody", "")), value=value,
                        slot=chance.choice((-1, 0, 1, 5, 8, 99)), ttl_s=1e9, expires=expires)  # fmt: skip
        elif strike.fault == "commands.hostile":
            for _ in range(HOSTILE_PER_SCAN):
                operation = chance.choice([name for name in OPERATIONS if name not in ("stop", "maintain")])
                target = chance.choice((*names, *(rack.name for rack in self.plan.pod.racks), "*", ""))
                value = chance.choice((0.0, 5.0, 60.0, 1e9, float("nan")))
                self._order(operation, BMS, now, target, value=value, slot=chance.randint(0, 16), ttl_s=3600.0)

    # ------------------------------------------------------------ every scan

    def _control(self, engine: Engine, now: float) -> None:
        for strike in self._attacking:
            self._attack(strike, now)
        super()._control(engine, now)

    def _scan(self, periods: int) -> None:
        if self.engine is None and self._boots_at is None and self.track is not None:
            self.track.look_at_plant(self.now)
            self._note_violations(judged(self.track, UNATTENDED))
        power_kw = self.plant.it_kw
        super()._scan(periods)
        if abs(self.plant.it_kw - power_kw) > MOVES_SHARE * self.plan.pod.rated_kw:
            self._moves_until = self.now + MOVES_S
        if self.now >= self._calm_at:
            self.stride = MOVES_STRIDE if self.now < self._moves_until else CALM_STRIDE

    @property
    def device_points(self) -> Collection[str]:
        """The points that devices have, as against those that the controller makes."""
        return self._writers

    @property
    def engine_points(self) -> Mapping[str, Point]:
        return self.engine.points if self.engine else {}

    def _boot(self, now: float) -> None:
        self.orders.clear()
        self.saved = json.loads(json.dumps(self.saved))  # as a store gives it back
        super()._boot(now)
        if self.track is not None:
            assert self.engine is not None
            self.track.booted(self, now)
            self._listen(self.engine, self.track)

    def _listen(self, engine: Engine, track: Track) -> None:
        """Let the invariants know what the parts of the engine tell each other, and one of them err now and then."""
        chance = random.Random(f"nonsense {self.seed} {self.boots}")
        rightly, plain, authority = engine._demands, engine.interlocks.step, engine.authority.step

        def demands(image: Image, now: float) -> list[Demand]:
            track.asked = [*rightly(image, now), *nonsense(engine, image, chance)]
            return track.asked

        def interlocks(conditions: Mapping[str, bool], now: float, *, reset: bool = False) -> None:
            track.conditions, track.has_reset = conditions, reset
            plain(conditions, now, reset=reset)

        def floored(floors: Mapping[str, Floor], now: float) -> list[Outcome]:
            track.floors = floors
            return authority(floors, now)

        engine._demands, engine.interlocks.step, engine.authority.step = demands, interlocks, floored

    def decided(self, effects: Effects, now: float) -> None:
        if self.track is None:
            return
        if effects.transition or effects.alarms:
            self._alert()
        said = [(write.point, write.value, write.reason) for write in effects.writes]
        if said:
            self._hash.update(repr((round(now, 3), said)).encode())
        for event in effects.alarms:
            self._hash.update(f"{event.alarm.row.id} {event.alarm.state.name}".encode())
        if effects.transition:
            self._hash.update(repr(effects.transition).encode())
        self.track.look(self, effects, now)
        self._note_violations(judged(self.track))

    def _note_violations(self, violations: Iterator[tuple[int, str]]) -> None:
        known = {number for number, _, _ in self.found}
        for number, text in violations:
            if number not in known:
                known.add(number)
                self.found.append((number, round(self.now - self._zero, 1), text))

    @property
    def digest(self) -> str:
        """Hash of every write, alarm and change of mode of the run, and of the plant as it is now."""
        whole = self._hash.copy()
        whole.update(self.plant.x.tobytes())
        return whole.hexdigest()


def timeline(swarm: Swarm) -> list[tuple[float, str, Strike | None]]:
    """Return what happens when, in order; of several at once, ends come first."""
    moments: list[tuple[float, int, str, Strike | None]] = [(swarm.heal_at, 9, "heal", None)]
    for strike in swarm.strikes:
        halves = max(1, 2 * strike.flaps)
        part = (strike.until - strike.at) / halves
        for half in range(0, halves, 2):
            moments.append((strike.at + half * part, 1, "strike", strike))
            moments.append((strike.at + (half + 1) * part, 0, "mend", strike))
    moments.sort(key=lambda moment: (moment[0], moment[1], str(moment[3])))
    return [(at, do, strike) for at, _, do, strike in moments]
