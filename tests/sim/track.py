"""What the invariants look at: the plant as it is, what the scan decided, since when things stand as they do."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.core.engine import Effects
from controller.core.interlocks import Interlocks, Row
from controller.core.pod import outputs
from controller.core.points import Value
from controller.core.sequences import Demand
from controller.core.slots import Floor, Slots
from hil.plant import slots as at
from tests.sim.swarm import Strike, Swarm

if TYPE_CHECKING:
    from tests.sim.world import World

RECENT_S = 5.0  # that meters lag and loops take; and the last scan's own time
OF_PLANT = "hot "  # begins the names of conditions that no controller need know of
PROBES = 3  # so many vote
DEAF = ("device.", "wire.", "point.")  # begin the names of faults after which a device may not do what it is told
ALIVE_LPS = 0.5  # a pump that moves less makes no flow


@dataclass(slots=True)
class Put:
    """What was last written to a point, and when."""

    value: Value
    at: float


class Track:
    """One run as seen so far. Times are seconds of the stage; ``zero`` is the take-over.

    Attributes:
        since: for how long a named condition has held, see ``held``.
        off_since: by rack, since when none of its outlets has been on.
        puts: the last write of each point; ``before`` what each write of this scan took the place of.
        boot_at, stood: time of the last start of the controller and where the outputs stood then.
    """

    def __init__(self, world: World, swarm: Swarm, zero: float) -> None:
        pod, x = world.plan.pod, world.plant.x
        self.world, self.pod, self.plant, self.swarm, self.zero = world, pod, world.plant, swarm, zero
        self.now = zero
        self.effects: Effects | None = None
        racks = len(pod.racks)
        self.junctions: Any = x[at.JUNCTION_C : at.JUNCTION_C + racks]
        self.outlets_on: Any = x[at.OUTLET_ON : at.OUTLET_ON + at.OUTLETS_MAX * racks].reshape(racks, at.OUTLETS_MAX)
        self.outlets_live: Any = x[at.OUTLET_LIVE : at.OUTLET_LIVE + at.OUTLETS_MAX * racks].reshape(
            self.outlets_on.shape
        )
        movers = at.DRIVE_LPS + (at.FAN_DRIVE if x[at.AIR_COOLED] else 0)
        self.pump_lps: Any = x[movers : movers + len(pod.tcs.pumps)]
        self.water_lps: Any = x[at.DRIVE_LPS + at.FWS_DRIVE : at.DRIVE_LPS + at.FWS_DRIVE + len(pod.fws.pumps)]
        self.branches: Any = x[at.BRANCH_TRIPPED : at.BRANCH_TRIPPED + at.FEEDS * racks]
        self.outputs = {output.point: output for output in outputs(pod)}
        self.puts: dict[str, Put] = {}
        self.before: dict[str, Put | None] = {}
        self.on: Any = np.zeros(racks, dtype=bool)
        self.live: Any = self.on
        self._switched = (b"", b"")  # how the outlets stood when they were looked at last
        self.off_since = [zero - 1e6] * racks
        self.since: dict[str, float] = {}
        self.boot_at = zero
        self.stood: dict[str, float] = {}
        self.kept: list[str] = []
        self.needs: deque[tuple[float, float]] = deque()
        self.least_need = 0.0
        self.dry = bool(x[at.AIR_COOLED])  # nothing that may not get wet is colder than the air
        self.cold_s = self.seen_s = 0.0
        self.strikes: list[tuple[float, Strike]] = []  # begun so far
        self.active: dict[str, Strike] = {}
        self.healed_at: float | None = None
        self.off_at = zero  # when the pod was OFF last; off_s: for how long it has been so
        self.off_s = 0.0
        self.raised: deque[float] = deque()
        self.detected: set[str] = set()
        self.served0 = (float(x[at.BOOK_IT]), float(x[at.BOOK_DEMAND]))
        self.at_strike: tuple[float, float, float] | None = None
        self.stopped: dict[str, float] = {}
        self.started: dict[str, list[float]] = {}
        self.scans = 0
        self.gaps_s = (0.0, 0.0)  # between the last three scans
        self.conditions: Mapping[str, bool] = {}  # of the interlocks' rows, as they were given to them in this scan
        self.has_reset = False  # a reset was given with them
        self.acting: frozenset[str] = frozenset()
        self.acted: frozenset[str] = frozenset()  # in the scan before, or before the controller's start
        self.machines: dict[str, str] = {}
        self.rows: dict[str, Row] = {}
        self.there_since: dict[str, float] = {}  # of the conditions that are there
        self.due_at: dict[str, float] = {}  # when each row whose condition has held for its delay has to act
        self.there_at: dict[str, float] = {}  # when each condition was there last
        self.asked: list[Demand] = []  # by sequences and loops in this scan, whatever the gate makes of it
        self.floors: Mapping[str, Floor] = {}  # protection's, of set points
        self.came: set[str] = set()  # alarms that have come and not gone
        self.twice: set[str] = set()  # those that have come again meanwhile
        self.rack_valves = {rack.valve_cmd_id: index for index, rack in enumerate(pod.racks) if rack.valve}
        votes = {"supply_temp": pod.tcs.supply_temps, "return_temp": pod.tcs.return_temps}
        self.voted = {f"pod.{role}": probes for role, probes in votes.items() if len(probes) == PROBES}

    # ------------------------------------------------------------ what happens

    def struck(self, do: str, strike: Strike | None, _at: float) -> None:
        if do == "heal":
            self.active.clear()
            self.healed_at = self.world.now
            return
        assert strike is not None
        if do == "mend":
            self.active.pop(strike.name, None)
            return
        self.active[strike.name] = strike
        self.strikes.append((self.world.now, strike))
        may_have_fallen = self.pod.tcs.pump_down_pct_per_s * (self.world.now - self.now)  # since the last scan
        self.at_strike = (self.world.now, self._commanded_pct() - may_have_fallen, float(self.plant.it_kw))

    def _commanded_pct(self) -> float:
        speeds = [self.puts.get(f"{pump}.speed_cmd") for pump in self.pod.tcs.pumps]
        return max((float(put.value) for put in speeds if put is not None), default=0.0)

    def booted(self, world: World, now: float) -> None:
        """Note where the outputs stand when a new process of the controller begins."""
        self.boot_at = now
        self.puts.clear()
        drives = zip(self.pod.tcs.pumps, self.plant.tcs_pumps, strict=True)
        self.stood = self.stands() | {f"{name}.speed_cmd": 100 * drive.command for name, drive in drives}
        self.kept = list(world.saved.get("latched", ()))
        self.acting = frozenset(self.kept)
        self.machines.clear()
        self.rows = {row.id: row for row in self.interlocks.rows}
        self.there_since.clear()
        self.due_at.clear()
        self.there_at.clear()
        self.came.clear()
        self.since = {name: since for name, since in self.since.items() if name.startswith(OF_PLANT)}

    def stands(self) -> dict[str, float]:
        """Return where valve and pumps are now, by output, in %."""
        drives = zip(self.pod.tcs.pumps, self.plant.tcs_pumps, strict=True)
        speeds = {f"{name}.speed_cmd": 100 * drive.speed for name, drive in drives}
        return {f"{self.pod.tcs.valve}.position_cmd": 100 * self.plant.valve.position} | speeds

    def is_off(self, point: str) -> bool:
        """Whether this is an outlet of a rack that is off anyway."""
        racks = (index for index, rack in enumerate(self.pod.racks) if point in rack.outlets)
        return any(not self.on[index] for index in racks)

    def look_at_plant(self, now: float) -> None:
        """Take in how the plant stands."""
        self.now = now
        switched = (self.outlets_on.tobytes(), self.outlets_live.tobytes())
        if switched != self._switched:
            self._switched = switched
            self.on, self.live = self.outlets_on.any(axis=1), self.outlets_live.any(axis=1)
        for index, on in enumerate(self.on.tolist()):
            self.off_since[index] = float("inf") if on else min(self.off_since[index], now)

    def look(self, world: World, effects: Effects, now: float) -> None:
        """Take in one scan, after its decision and before its writes have gone anywhere."""
        passed_s = now - self.now
        self.gaps_s = (self.gaps_s[1], passed_s)
        self.look_at_plant(now)
        self.effects = effects
        self.scans += 1
        off = effects.view.mode == "OFF"
        self.off_s, self.off_at = (self.off_s + passed_s, now) if off else (0.0, self.off_at)
        self.acted, self.acting = self.acting, frozenset(effects.view.acting)
        x = self.plant.x
        liquid = float(x[at.IT_KW]) * self.pod.tcs.liquid_share_pct / 100
        need = min(self.pod.tcs.flow_max_lpm, max(self.pod.tcs.flow_min_lpm, self.pod.tcs.flow_per_kw_lpm * liquid))
        self.needs.append((now, need))
        while self.needs[0][0] < now - RECENT_S - passed_s:
            self.needs.popleft()
        self.least_need = min(value for _, value in self.needs)
        self.seen_s += passed_s
        if not self.dry and self.margin_k < 2.0:
            self.cold_s += passed_s
        self.before.clear()
        for write in effects.writes:
            self.before[write.point] = self.puts.get(write.point)
            self.puts[write.point] = Put(write.value, now)
        for event in effects.alarms:
            if event.what == "came":
                (self.twice if event.alarm.row.id in self.came else self.came).add(event.alarm.row.id)
            elif event.what == "returned":
                self.came.discard(event.alarm.row.id)
            if event.alarm.state is not event.before and event.alarm.active:
                self.raised.append(now)
                self.detected.add(event.alarm.row.id)

    # ------------------------------------------------------------ for the invariants

    def held(self, name: str, condition: bool) -> float:
        """Return for how many seconds a condition has held by now; 0 while it does not."""
        if not condition:
            self.since.pop(name, None)
            return 0.0
        return self.now - self.since.setdefault(name, self.now)

    @property
    def interlocks(self) -> Interlocks:
        assert self.world.engine is not None
        return self.world.engine.interlocks

    @property
    def slots(self) -> Slots:
        assert self.world.engine is not None
        return self.world.engine.authority.slots

    def any_active(self, *names: str) -> bool:
        """True when a fault whose name begins so is at work now."""
        return any(strike.fault.startswith(names) for strike in self.active.values())

    def is_hit(self, device: str) -> bool:
        """True while a fault is at work on a device's way to the controller, so that it may go on as it did."""
        places = {strike.target.split(".")[0] for strike in self.active.values() if strike.fault.startswith(DEAF)}
        return not places.isdisjoint((device, self.pod.device_bus.get(device)))

    def turning_nothing(self) -> set[str]:
        """Return the speed commands of drives that stand still: wherever they go, nothing turns."""
        drives = zip(self.pod.tcs.pumps, self.plant.tcs_pumps, strict=True)
        return {f"{name}.speed_cmd" for name, drive in drives if not drive.running}

    @property
    def flow_lpm(self) -> float:
        """What all pumps of the TCS move now."""
        return 60 * float(self.pump_lps.sum())

    @property
    def margin_k(self) -> float:
        """What is coldest over the dew point; of the loop alone where nothing can shut off water from outside."""
        x = self.plant.x
        supply_c = float(x[at.SUPPLY_C + at.PIPE_CELLS - 1])
        return float(x[at.MARGIN_K]) if self.pod.room.door_valves else supply_c - float(x[at.DEW_C])

    @property
    def t(self) -> float:
        return self.now - self.zero

    def any_of(self, *names: str) -> bool:
        """True when a fault whose name begins so has been at work in this run."""
        return any(strike.fault.startswith(names) for _, strike in self.strikes)

    def number(self, point: str) -> float | None:
        assert self.effects is not None
        return self.effects.view.image.number(point, otherwise=None)
