"""Flags, a clock and one set of alarms: what tests of the alarm model step through."""

from __future__ import annotations

from typing import Any

from controller.core.alarm_states import AlarmEvent
from controller.core.alarms import Alarm, AlarmRow, Alarms, AlarmState
from controller.core.image import Image
from controller.core.points import Value, good

A, B, C, D, E, F, G = AlarmState
ANN = "console:ann"


def row(name: str, **more: Any) -> AlarmRow:
    return AlarmRow(name, f"io.{name}", "on", name, "high", "c", "a", **more)


class Plant:
    """Flags and a clock around one set of alarms."""

    def __init__(self, *rows: AlarmRow) -> None:
        self.rows = rows
        self.alarms = Alarms(rows, boot=1)
        self.now = 1000.0
        self.values: dict[str, Value] = {r.point: False for r in rows}
        self.events: list[AlarmEvent] = []

    def step(self, seconds: float = 0.0, **changed: Value) -> list[AlarmEvent]:
        self.now += seconds
        self.values |= {name.replace("__", "."): value for name, value in changed.items()}
        readings = {name: good(value, self.now) for name, value in self.values.items()}
        told = self.alarms.step(Image(readings, self.now), self.now)
        self.events += told
        return told

    def settle(self, seconds: float = 10.0, **changed: Value) -> None:
        """Change something and let every delay pass."""
        self.step(0.0, **changed)
        self.step(seconds)
        self.step()

    def alarm(self, name: str = "wet") -> Alarm | None:
        found = [a for a in (*self.alarms.standing, *self.alarms.suppressed) if a.row.id == name]
        return found[0] if found else None

    def state(self, name: str = "wet") -> AlarmState:
        alarm = self.alarm(name)
        return alarm.state if alarm else A
