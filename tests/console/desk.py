"""A desk for the console's tests: the real engine over the reference pod, fed with readings by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from controller.config.plan import Plan, load_plan
from controller.core.commands import Command, Operation, Outcome
from controller.core.engine import Engine, View
from controller.core.image import Freezer
from controller.core.pod import Pod
from controller.core.points import Kind, Point, Quality, Reading, Value, bad, good

PLAN = Path(__file__).parents[2] / "profiles" / "enclosures" / "reference-pod.toml"
NUMBERS: Mapping[str, float] = {
    "supply_temp": 30.0,
    "return_temp": 41.5,
    "fws_supply_temp": 20.0,
    "tcs_flow": 1302.0,
    "flow": 162.75,
    "suction_pressure": 140.0,
    "temperature": 24.0,
    "humidity": 45.0,
    "speed": 71.5,
    "position": 100.0,
    "position_cmd": 100.0,
    "power": 60.0,
    "soc": 80.0,
    "fws_flow": 1600.0,
    "reservoir_level": 90.0,
}


@cache
def plan() -> Plan:
    return load_plan(PLAN)


def healthy(point: Point) -> Value:
    """Return what a pod at work would read."""
    if point.kind is Kind.FLAG:
        on = ("running", "run_cmd", "comms", "online", "reservoir_level_ok")
        return point.name in on or point.name.startswith("outlet")
    if point.kind is Kind.TEXT:
        return "A1"
    if point.kind is Kind.NUMBER:
        stem = point.name.rstrip("0123456789").rstrip("_")
        if point.device.startswith("pdu") and point.name.startswith("phase") and point.name.endswith("_power"):
            return 20.0
        return 480.0 if point.device.startswith("meter") and stem == "power" else NUMBERS.get(stem, 0.0)
    return 0


class FakeDesk:
    """What the service is to a console: it keeps the newest view and judges commands in the next scan."""

    def __init__(self) -> None:
        self.at = 5000.0
        self.engine = Engine(plan().pod, {}, self.at)
        self.inbox: dict[str, Reading] = {}
        self.newest: View | None = None
        self.asked: list[tuple[str, str, str]] = []
        self.deaf = False
        self.orders = 0
        self.about: Mapping[str, str] = {
            "name": plan().name,
            "site": plan().site,
            "version": "0.1.0",
            "revision": plan().revision,
        }

    @property
    def pod(self) -> Pod:
        return self.engine.pod

    @property
    def points(self) -> Mapping[str, Point]:
        return self.engine.points

    def links(self) -> Mapping[str, str]:
        return {"mqtt native": "connected, MQTT 5; 1207 published, 0 dropped, 1 connects"}

    def view(self) -> View | None:
        return self.newest

    def now(self) -> float:
        return self.at

    async def submit(
        self,
        operation: Operation,
        target: str,
        principal: str,
        *,
        value: Value | None = None,
        slot: int = 0,
        ttl_s: float = 0.0,
        reason: str = "",
    ) -> Outcome:
        self.asked.append((operation, target, principal))
        if self.deaf:
            await asyncio.Event().wait()
        self.orders += 1
        name = str(self.orders)
        told = self.scan(Command(name, principal, operation, target, self.at + 5, value, slot, ttl_s, reason))
        return [outcome for outcome in told if outcome.id == name][-1]

    def scan(self, *commands: Command, seconds: float = 0.2) -> list[Outcome]:
        self.at += seconds
        effects = self.engine.step(self.at, self.inbox, commands)
        self.newest = effects.view
        return list(effects.outcomes)

    # -------------------------------------------------------- what happens to the pod

    def fill(self, **changed: Value) -> None:
        """Make every point GOOD now, but for what is lost on purpose."""
        expected = {item.point: item.value for item in self.pod.expected}
        for name, point in self.engine.points.items():
            value = expected.get(name, healthy(point))
            self.inbox[name] = good(changed.get(name.replace(".", "__"), value), self.at)

    def run(self, seconds: float = 2.0, **changed: Value) -> FakeDesk:
        """Let time pass with every reading fresh."""
        for _ in range(int(seconds / 0.2)):
            self.fill(**changed)
            self.scan()
        return self

    def lose(self, device: str, ago: float) -> None:
        """A device has not answered for ``ago`` seconds."""
        for name in self.inbox:
            if name.startswith(f"{device}."):
                self.inbox[name] = Reading(self.inbox[name].value, Quality.GOOD, self.at - ago)
        self.inbox[f"{device}.comms"] = good(False, self.at)
        self.engine.freezer = Freezer(self.engine.points)  # this past is made up: readings of a bus only get newer

    def breaks(self, point: str, reason: str) -> None:
        self.inbox[point] = bad(reason, self.at)


def running() -> FakeDesk:
    """Return a pod at work: found running, taken over, NORMAL."""
    return FakeDesk().run(10)


def troubled() -> FakeDesk:
    """Return a pod with a silent pump, a broken sensor and a wet rack: the examples of docs/console.md."""
    desk = running()
    last = {name: reading.value for name, reading in desk.inbox.items()}
    silent_at = desk.at
    for _ in range(40):
        desk.fill(leak_1__zone_2_leak=True)
        desk.breaks("io_1.supply_temp_3", "sentinel 8500")
        for name in desk.inbox:
            if name.startswith("pump_2.") and name != "pump_2.comms":
                desk.inbox[name] = Reading(last[name], Quality.GOOD, silent_at)
        desk.inbox["pump_2.comms"] = good(False, desk.at)
        desk.scan()
    return desk
