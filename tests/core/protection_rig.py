"""Evidence, interlocks and their response without the rest of the scan: values in, what protection asks out."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from controller.core.evidence import Evidence, Machines
from controller.core.image import Image
from controller.core.interlocks import Interlocks, Row
from controller.core.pod import Pod, interlock_rows
from controller.core.points import Kind, Reading, Value, bad, good
from controller.core.response import NOTHING, Responder, Response
from controller.core.sequences import RunSequence, RunState
from tests.core.model import reference_plan

SCAN_S = 0.2
SPOILT = None  # as a value: the point is BAD
SILENT = "silent"  # as the value of a device: it does not answer


@functools.cache
def healthy() -> dict[str, Value | None]:
    """Return the readings of the reference pod at full load, with nothing wrong."""
    pod = reference_plan().pod
    values: dict[str, Value | None] = {
        point.id: False for point in pod.points.values() if point.kind is Kind.FLAG and ".outlet_" not in point.id
    }
    limits, tcs = pod.protection, pod.tcs
    for rack in pod.racks:
        values |= dict.fromkeys(rack.outlets, True) | dict.fromkeys(rack.power, 130.0 / len(rack.power))
        values |= dict.fromkeys(rack.currents, 92.0)
        values |= {f"{rack.name}.flow_share": 100.0, f"{rack.name}.chip_temp": 75.0}
    for pump in tcs.pumps:
        values |= {f"{pump}.running": True, f"{pump}.speed": 78.25, f"{pump}.power": 3.3}
    values |= dict.fromkeys((*limits.level, *limits.battery_soc), 90.0)
    values |= dict.fromkeys(limits.discharge_pressure, 380.0) | dict.fromkeys(limits.fws_flow, 1600.0)
    values |= dict.fromkeys(pod.room.temperatures, 30.0) | dict.fromkeys(pod.power.feeds, 520.0)
    values |= {tcs.level_ok: True, tcs.suction_pressure: 120.0, "controller.late_scans": 0.0}
    values |= {
        "pod.flow": 1300.0, "pod.flow_ratio": 100.0, "pod.supply_temp": 30.0, "pod.return_temp": 40.0,
        "pod.supply_temp_error": 0.0, "pod.dew_margin": 18.0, "pod.it_power": 1040.0, "link_native.connected": True,
    }  # fmt: skip
    return values


@dataclass
class ProtectionRig:
    """One pod under protection; ``values`` may be changed between steps."""

    pod: Pod = field(default_factory=lambda: reference_plan().pod)
    mode: str = "NORMAL"
    now: float = 1000.0
    values: dict[str, Value | None] = field(default_factory=lambda: dict(healthy()))
    pumps: list[RunSequence] = field(default_factory=list)
    chillers: list[RunSequence] = field(default_factory=list)
    response: Response = NOTHING

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.pod)
        self.rows = {row.id: row for row in interlock_rows(self.pod)}
        self.interlocks = Interlocks(list(self.rows.values()))
        self.responder = Responder(self.pod)
        self.pumps = [RunSequence(name, 5.0, state=RunState.RUNNING) for name in self.pod.tcs.pumps]
        self.chillers = [RunSequence(name, 300.0, state=RunState.RUNNING) for name in self.pod.fws.chillers]
        self.conditions: dict[str, bool] = {}

    def image(self) -> Image:
        readings: dict[str, Reading] = {
            name: bad("spoilt", self.now) if value is None else good(value, self.now)
            for name, value in self.values.items()
        }
        return Image(readings, self.now)

    def step(self, *, reset: bool = False, asked: tuple[str, ...] = ()) -> Response:
        self.now += SCAN_S
        image = self.image()
        self.conditions = self.evidence.step(image, Machines(self.pumps, self.chillers), self.mode)
        self.interlocks.step(self.conditions | dict.fromkeys(asked, True), self.now, reset=reset)
        shares = {unit: branch.share for unit, branch in self.evidence.branches.items()}
        self.response = self.responder.step(self.interlocks.acting_rows, image, shares)
        return self.response

    def run(self, seconds: float) -> Response:
        for _ in range(round(seconds / SCAN_S)):
            self.step()
        return self.response

    def set(self, **changes: Value | None) -> None:
        """Change values; ``__`` stands for the dot between device and point."""
        self.values |= {name.replace("__", "."): value for name, value in changes.items()}

    def acts_after(self, row: str, limit_s: float) -> float:
        """Step until ``row`` acts; return how long that took."""
        start = self.now
        while row not in self.interlocks.acting:
            assert self.now - start < limit_s, f"{row} does not act within {limit_s} s; {self.interlocks.acting} do"
            self.step()
        return self.now - start

    @property
    def acting(self) -> list[Row]:
        return self.interlocks.acting_rows
