"""A pod in a few lines: it answers the engine's writes with readings, in virtual time.

It has no physics worth the name (the bench has); it is here so that the core's own rules can be tested step by step.
The same start-up, take-over and trip are run against emulated devices on real wires in tests/system.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.config.plan import Plan, load_plan
from controller.core.commands import Command, Operation
from controller.core.engine import Effects, Engine
from controller.core.exchanger import coolant_kw
from controller.core.loops import Tcs
from controller.core.points import Kind, Reading, Value, bad, good

REFERENCE = Path(__file__).parent.parent.parent / "profiles/enclosures/reference-pod.toml"
SCAN_S = 0.2
POLL_SCANS = 5  # unchanged values are seen once a second
RUN_DELAY_S = 1.0
RACK_KW = 78.0
PUMP_KW = 7.0  # of one pump at full speed


@functools.cache
def reference_plan() -> Plan:
    return load_plan(REFERENCE)


@functools.cache
def quick_plan() -> Plan:
    """The reference pod with shorter waits, for tests that are about something else."""
    plan = reference_plan()
    startup = replace(
        plan.pod.startup, ready_hold_s=5.0, pump_start_hold_s=5.0, primary_prove_s=2.0, cooldown_min_s=60.0
    )
    power = replace(plan.pod.power, rack_stagger_s=2.0, outlet_stagger_s=0.2)
    fws = replace(plan.pod.fws, chiller_min_on_s=60.0, chiller_min_off_s=120.0)
    return replace(plan, pod=replace(plan.pod, startup=startup, power=power, fws=fws))


def flow_lpm(tcs: Tcs, speeds_pct: list[float]) -> float:
    """Return the flow of equal pumps in parallel at their common speed, by pump and system curve."""
    if not speeds_pct:
        return 0.0
    speed = sum(speeds_pct) / len(speeds_pct) / 100
    droop = tcs.pump_droop_kpa / tcs.pump_rated_lpm**2 / len(speeds_pct) ** 2
    system = tcs.system_drop_kpa / tcs.flow_design_lpm**2
    return speed * math.sqrt(tcs.pump_shutoff_kpa / (droop + system))


@dataclass
class PodModel:
    """Values of every point, as devices would give them; ``lost`` devices give none."""

    plan: Plan
    values: dict[str, Value] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    overrides: dict[str, Value] = field(default_factory=dict)  # what points show whatever the pod does
    stuck: set[str] = field(default_factory=set)  # machines that do not run whatever they are told
    commanded: dict[str, tuple[bool, float]] = field(default_factory=dict)
    chiller_delay_s: float = 5.0
    flow_factor: float = 1.0
    rack_kw: float = RACK_KW
    now: float = 1000.0
    inbox: dict[str, Reading] = field(default_factory=dict)
    log: list[tuple[float, str, Value]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for point in self.plan.pod.points.values():
            if point.kind is Kind.FLAG:
                self.values[point.id] = False
            elif point.kind is Kind.NUMBER:
                self.values[point.id] = 0.0
            elif point.kind is not Kind.TEXT:
                self.values[point.id] = 0
        for item in self.plan.pod.expected:
            self.values[item.point] = item.value
        tcs, room = self.plan.pod.tcs, self.plan.pod.room
        self.values |= {tcs.level_ok: True, tcs.suction_pressure: 150.0}
        self.values |= dict.fromkeys((*tcs.supply_temps, *tcs.return_temps, *room.temperatures), 24.0)
        self.values |= dict.fromkeys(room.humidities, 45.0)
        self.values |= dict.fromkeys(self.plan.pod.fws.supply_temps, 20.0)
        self.values |= {f"{chiller}.return_temp": 26.0 for chiller in self.plan.pod.fws.chillers}
        self.values |= {f"{rack.valve}.position": 100.0 for rack in self.plan.pod.racks}
        limits = self.plan.pod.protection
        self.values |= dict.fromkeys((*limits.level, *limits.battery_soc), 90.0)
        self.values |= dict.fromkeys(limits.discharge_pressure, 300.0)
        self.values |= dict.fromkeys(limits.fws_flow, 1600.0)

    def write(self, point: str, value: Value) -> None:
        if self.values.get(point) != value:
            self.log.append((self.now, point, value))
        self.values[point] = value
        if point.endswith(".run_cmd"):
            device = point.removesuffix(".run_cmd")
            if self.commanded.get(device, (None, 0))[0] is not value:
                self.commanded[device] = (bool(value), self.now)

    def step(self) -> None:
        """Advance by one scan and fill the inbox with fresh readings."""
        self.now += SCAN_S
        pod = self.plan.pod
        for device, (on, since) in self.commanded.items():
            slow = pod.device_class[device] == "chiller"
            proven = on and self.now - since >= (self.chiller_delay_s if slow else RUN_DELAY_S)
            self.values[f"{device}.running"] = proven and device not in self.stuck
        for pump in (*pod.tcs.pumps, *pod.fws.pumps):
            running = self.values[f"{pump}.running"]
            self.values[f"{pump}.speed"] = float(self.values[f"{pump}.speed_cmd"]) if running else 0.0
            self.values[f"{pump}.power"] = PUMP_KW * (float(self.values[f"{pump}.speed"]) / 100) ** 3
        speeds = [float(self.values[f"{pump}.speed"]) for pump in pod.tcs.pumps if self.values[f"{pump}.running"]]
        self.values[pod.tcs.flow] = self.flow_factor * flow_lpm(pod.tcs, speeds)
        for rack in pod.racks:
            on = [outlet for outlet in rack.outlets if self.values[outlet]]
            share = self.rack_kw * len(on) / len(rack.outlets) / len(rack.power)
            self.values |= dict.fromkeys(rack.power, share)
            self.values[f"{rack.valve}.position"] = float(self.values[f"{rack.valve}.position_cmd"])
            self.values |= dict.fromkeys(rack.flow, float(self.values[pod.tcs.flow]) / len(pod.racks))
        total = sum(float(self.values[point]) for rack in pod.racks for point in rack.power)
        self.values |= dict.fromkeys(pod.power.feeds, total / len(pod.power.feeds))
        self.values[f"{pod.tcs.valve}.position"] = float(self.values[f"{pod.tcs.valve}.position_cmd"])
        flow = float(self.values[pod.tcs.flow])
        rise = total * pod.tcs.liquid_share_pct / 100 / coolant_kw(flow, 1.0, pod.tcs.coolant_kj) if flow else 0.0
        self.values |= {point: 24.0 + rise for point in pod.tcs.return_temps if point in self.values}
        self.values |= self.overrides
        poll = round(self.now / SCAN_S) % POLL_SCANS == 0
        for name, value in self.values.items():
            known = self.inbox.get(name)
            if (poll or known is None or known.value != value) and name.split(".")[0] not in self.lost:
                self.inbox[name] = good(value, self.now)
        for bus in set(pod.device_bus.values()):
            members = {device for device, on in pod.device_bus.items() if on == bus}
            self.inbox[f"{bus}.online"] = good(not members <= self.lost, self.now)
        for device in pod.device_bus:
            self.inbox[f"{device}.comms"] = good(device not in self.lost, self.now)

    def spoil(self, *points: str) -> None:
        """Make points BAD from the next scan on."""
        for point in points:
            self.values.pop(point, None)
            self.inbox[point] = bad("sensor failed", self.now)


@dataclass
class Rig:
    """An engine on a model, stepped together."""

    model: PodModel
    engine: Engine
    effects: list[Effects] = field(default_factory=list)

    @classmethod
    def make(cls, saved: dict[str, Any] | None = None, model: PodModel | None = None) -> Rig:
        model = model or PodModel(quick_plan())
        return cls(model, Engine(model.plan.pod, saved or {}, model.now))

    @property
    def mode(self) -> str:
        return self.engine.modes.state

    def step(self, *operations: Operation, target: str = "") -> Effects:
        self.model.step()
        now = self.model.now
        commands = [Command(f"{now}{name}", "console:test", name, target, now + 5) for name in operations]
        effects = self.engine.step(now, self.model.inbox, commands)
        for write in effects.writes:
            self.model.write(write.point, write.value)
        self.effects.append(effects)
        return effects

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / SCAN_S)):
            self.step()

    def run_until(self, mode: str, limit_s: float) -> float:
        """Step until ``mode``; return how long it took."""
        start = self.model.now
        while self.mode != mode:
            assert self.model.now - start < limit_s, f"still {self.mode} ({self.engine.modes.cause}) after {limit_s} s"
            self.step()
        return self.model.now - start

    def running(self) -> Rig:
        """Start up to NORMAL."""
        self.step()
        self.step("start")
        self.run_until("NORMAL", 300)
        return self

    def alarms(self) -> set[str]:
        return {alarm.row.id for alarm in self.engine.alarms.standing}
