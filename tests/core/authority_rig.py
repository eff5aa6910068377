"""An authority without the rest of the scan: what judging and following commands is tested with."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from controller.config.plan import load_plan
from controller.core.alarms import AlarmRow, Alarms
from controller.core.authority import Authority, Scene, Verdict
from controller.core.commands import Code, Command, Operation, Outcome, State
from controller.core.image import Image
from controller.core.interlocks import Action, Interlocks, Row
from controller.core.pod import Pod
from controller.core.points import Value, good

REFERENCE = Path(__file__).parents[2] / "profiles/enclosures/reference-pod.toml"
SP, WATER = "pod.supply_temp_sp", "pod.fws_supply_temp_sp"
ANN, BMS = "console:ann", "bms"
EPOCH_S = 1_780_000_000.0


@functools.cache
def pod() -> Pod:
    return load_plan(REFERENCE).pod


class Desk:
    """An authority, its alarms and interlocks, and what they see; every field may be changed between two scans."""

    def __init__(self, saved: dict[str, Any] | None = None, epoch_s: float | None = None) -> None:
        self.now, self.mode, self.cause = 100.0, "NORMAL", ""
        self.latched: list[str] = []
        self.values: dict[str, Value] = {}
        self.authority = Authority(pod(), saved or {}, self.now, epoch_s)
        self.alarms = Alarms([AlarmRow("wet", "io.wet", "on", "Wet", "high", "c", "a", latched=True, off_delay_s=0.0)])
        self.interlocks = Interlocks([Row("warm", "warm", 0.0, False, actions=(Action("warn"),), bypass_max_s=3600.0)])
        self.verdict = Verdict()

    def image(self) -> Image:
        return Image({name: good(value, self.now) for name, value in self.values.items()}, self.now)

    def scene(self) -> Scene:
        return Scene(self.image(), self.mode, self.cause, self.latched, self.now, self.interlocks)

    def ask(
        self, operation: Operation, target: str = "", by: str = BMS, name: str = "c1", **more: Any
    ) -> list[Outcome]:
        command = Command(name, by, operation, target, self.now + 5, **more)
        self.verdict = self.authority.judge([command], self.scene(), self.alarms)
        return self.verdict.outcomes

    def follow(self, seconds: float = 0.0) -> list[Outcome]:
        self.now += seconds
        return self.authority.follow(self.scene())


def told(state: State, code: Code = "", message: str = "", by: str = BMS, name: str = "c1", **more: Any) -> Outcome:
    return Outcome(name, by, state, code, message, **more)


def racks() -> list[str]:
    return [rack.name for rack in pod().racks]
