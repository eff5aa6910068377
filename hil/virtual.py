"""The virtual body of the stage: the real engine over the same plan, plant and emulators, as fast as the machine can.

Time goes in scans. In each, the engine decides, the buses do what falls due until the next scan, and the plant moves
on; so a reading is up to one scan older and a write up to one scan earlier than over the wire, and a safety input waits
for the next scan. The same seed gives the same run to the bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from controller.config.plan import Plan
from controller.core.commands import Command
from controller.core.engine import Effects, Engine
from controller.core.points import Reading, Value, good
from controller.fieldbus.codec import decode
from hil.channels import Recorder, channels_of
from hil.devices.build import emulators_of, plant_of
from hil.devices.emulator import Emulator
from hil.plant.plant import Plant
from hil.record import Record, Watch
from hil.stage import Seen, Stage
from hil.virtual_bus import VirtualBus

BOOT_S = 1.5  # from the start of the process to its first scan, as measured on two cores
WALL_S = 1_800_000_000.0  # what the wall clock shows at virtual time 0, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Parts:
    """Plant, record and emulated devices of one pod."""

    plant: Plant
    record: Record
    emulators: dict[str, Emulator]


def set_clock(emulator: Emulator, clock: Callable[[], float]) -> None:
    """Let a device and its behaviour take their time from ``clock``."""
    emulator.clock = clock
    if hasattr(emulator.behaviour, "clock"):
        emulator.behaviour.clock = clock


class VirtualStage(Stage):
    """See the module. ``scan_s`` is the plan's; a ``stride`` of n scans every nth time only."""

    body = "virtual"

    def __init__(
        self, plan: Plan, *, load: float = 0.6, seed: int = 1, sample_s: float = 0.2, parts: Parts | None = None
    ) -> None:
        """Build the pod, or take over ``parts`` that a bench has built already."""
        super().__init__()
        self.plan, self.seed = plan, seed
        self.stride = 1
        self.scan_s, self.sample_every = plan.scan_s, max(1, round(sample_s / plan.scan_s))
        self._scans = 0
        if parts is None:
            plant, record = plant_of(plan, load, seed), Record()
            parts = Parts(plant, record, emulators_of(plan, plant, record))
        self.plant, self.record, self.emulators = parts.plant, parts.record, parts.emulators
        self.record.clock = lambda: self.now
        self.record.listener = self.written
        self.inbox: dict[str, Reading] = {}
        self.commands: list[Command] = []  # for the next scan
        self.buses = {bus.name: self._bus(bus.name, 0.0) for bus in plan.buses}
        self._writers = {p.point.id: d.bus for d in plan.devices for p in d.points}
        for emulator in self.emulators.values():
            set_clock(emulator, _bus_clock(self, emulator.plan.bus))
            emulator.clock = lambda: self.now  # the plant stands still within a scan
        self.engine: Engine | None = None
        self.saved: dict[str, Any] = {}
        self.boots = 0
        self.wall_offset_s = WALL_S
        self._boots_at: float | None = None
        self._acting: tuple[str, ...] = ()
        self.watch = Watch(plan, self.plant, self.record)
        self.recorder = Recorder({channel.name: channel for channel in channels_of(plan, self.plant)})

    def _bus(self, name: str, at: float) -> VirtualBus:
        plan = next(bus for bus in self.plan.buses if bus.name == name)
        return VirtualBus(plan, self.emulators, self.inbox, at, f"{self.seed} {name}")

    # ------------------------------------------------------------ time

    @property
    def now(self) -> float:
        return self._scans * self.scan_s

    async def run(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass, in whole scans."""
        end = self._scans + round(seconds / self.scan_s)
        while self._scans < end:
            self._scan(min(self.stride - self._scans % self.stride, end - self._scans))

    def _scan(self, periods: int) -> None:
        now = self.now
        if self._boots_at is not None and now >= self._boots_at:
            self._boot(now)
        if self.engine is not None:
            self._control(self.engine, now)
        end = (self._scans + periods) * self.scan_s
        for bus in self.buses.values():
            if self.engine is not None:
                bus.advance(now, end)
        self.plant.advance(periods * self.scan_s)
        self._scans += periods
        for emulator in self.emulators.values():
            emulator.tick()
        self.watch.look()
        if self._scans % self.sample_every < periods:
            self.recorder.sample(self.now)

    def _control(self, engine: Engine, now: float) -> None:
        commands, self.commands = self.commands, []
        effects = engine.step(now, self.inbox, commands)
        self.inbox.update((f"controller.{name}", good(value, now)) for name, value in self._health().items())
        for write in effects.writes:
            self.buses[self._writers[write.point]].submit(write, now)
        follow_caps(self.plant, self.plan, lambda point: effects.view.image.number(point, otherwise=None))
        self._note(effects, now)
        self.decided(effects, now)

    def decided(self, effects: Effects, now: float) -> None:
        """Look at what a scan decided; a stage that wants to judge it overrides this."""

    def _health(self) -> dict[str, Value]:
        numbers: dict[str, Value] = dict.fromkeys(
            ("overruns", "late_scans", "recent_edge_faults", "scan_time", "edge_faults"), 0.0
        )
        return {**numbers, "scans": float(self._scans), "store_failing": False}

    def _note(self, effects: Effects, now: float) -> None:
        seen, view = self.seen, effects.view
        if effects.transition or not seen.modes:
            seen.note(seen.modes, now, mode=view.mode, cause=view.cause)
        for event in effects.alarms:
            if event.alarm.state is not event.before:
                row, state = event.alarm.row, event.alarm.state.name
                seen.note(seen.alarms, now, id=row.id, title=row.title, priority=row.priority, state=state)
        for name in view.acting:
            if name not in self._acting:
                seen.note(seen.interlocks, now, text=name)
        self._acting = view.acting
        seen.first_out = seen.first_out or view.first_out

    # ------------------------------------------------------------ the controller

    def controller(self, alive: bool) -> None:
        if alive:
            self._boots_at = self.now + (BOOT_S if self._scans else 0.0)
        else:
            if self.engine is not None:
                self.saved = self.engine.saved()
            self.engine, self._boots_at = None, None

    def _boot(self, now: float) -> None:
        self._boots_at = None
        self.inbox.clear()
        unplugged = {name: (bus.unplugged, bus.lost_share) for name, bus in self.buses.items()}
        self.buses = {name: self._bus(name, now) for name in unplugged}
        for name, (gone, lost) in unplugged.items():
            self.buses[name].unplugged, self.buses[name].lost_share = gone, lost
        self.boots += 1
        self.engine = Engine(self.plan.pod, self.saved, now, self.boots, self.wall_offset_s)

    def plug(self, bus: str, plugged: bool) -> None:
        self.buses[bus].unplugged = not plugged

    def line_noise(self, bus: str, name: str, value: Value) -> None:
        share = float(value)
        if name == "half_open":
            self.buses[bus].lost_share = 1.0 if share else 0.0
        else:  # a turned bit in the request or in the reply
            self.buses[bus].lost_share = 1 - (1 - share) ** 2

    def broker(self, up: bool) -> None:
        raise NotImplementedError("there is no broker in virtual time")

    def jump_clock(self, seconds: float) -> None:
        """The engine learns of the wall clock at its start alone; what it does from then on can't depend on it."""
        self.wall_offset_s = WALL_S + seconds
        if self.engine is not None:
            self.engine.wall_offset_s = self.wall_offset_s

    def forget(self) -> None:
        """Let what was seen, sampled and caused so far be forgotten; and the controller begins anew."""
        self.saved = {}
        self.seen, self.log = Seen(), []
        self.recorder = Recorder(self.recorder.channels)

    def publish(self, messages: Iterable[tuple[str, bytes, bool]]) -> None:
        raise NotImplementedError("there is no broker in virtual time")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.heal()

    # ------------------------------------------------------------ for the proof

    def wire_reading(self, point: str, at: float) -> Reading:
        """Return what the wire would bring for a point now: its emulator's words through the controller's codec."""
        device, _, name = point.partition(".")
        emulator = self.emulators[device]
        row = emulator.rows[name]
        return decode(row, list(emulator.read(row.table, row.address, row.width)), at)


def follow_caps(plant: Plant, plan: Plan, cap_pct: Callable[[str], float | None]) -> None:
    """Let the plant's cluster manager take the caps it is asked for; one that is not known changes nothing.

    Args:
        cap_pct: returns the value of an ``it_cap`` point, in % of rated power.
    """
    whole = cap_pct("pod.it_cap")
    if whole is not None:
        plant.cluster.cap = whole / 100
    for rack, part in zip(plan.pod.racks, plant.racks, strict=True):
        own = cap_pct(f"{rack.name}.it_cap")
        if own is not None:
            part.cap = own / 100


def _bus_clock(stage: VirtualStage, bus: str) -> Any:
    return lambda: max(stage.buses[bus].at, stage.now) if hasattr(stage, "buses") else 0.0


def virtual_plan(plan: Plan, *, autostart: bool = True) -> Plan:
    """Return the plan with a controller that starts by itself and a folder of its own."""
    return replace(plan, pod=replace(plan.pod, autostart=autostart), state_dir=Path(tempfile.gettempdir()))
