"""What happened to the bench's equipment, noted by the bench itself and not by the controller."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from controller.config.plan import Plan
from controller.core.points import Value

OUTLET: Final = "outlet"  # an outlet was switched
COMMAND: Final = "command"  # a machine was told to run or stop
RUNNING: Final = "running"  # a machine began or ceased to run
BROKEN: Final = "broken sequence"  # a command word came out of order, so the drive stopped or paid no heed
BUS_LOST: Final = "bus lost"  # a device's own watch over its bus ran out (true), or the bus is back (false)


@dataclass(frozen=True, slots=True)
class Event:
    """One change. ``at`` is monotonic seconds, ``value`` what the thing is now."""

    at: float
    kind: str
    device: str
    point: str
    value: bool
    note: str = ""


@dataclass(slots=True)
class Record:
    """Every switching of outlets and every start and stop of machines, and how often each point was written."""

    clock: Callable[[], float] = time.monotonic
    events: list[Event] = field(default_factory=list)
    writes: Counter[str] = field(default_factory=Counter)
    listener: Callable[[str, Value | None], object] | None = None

    def wrote(self, point: str, value: Value | None) -> None:
        """Count a write as its device took it, and tell who listens."""
        self.writes[point] += 1
        if self.listener is not None:
            self.listener(point, value)

    def add(self, kind: str, device: str, point: str, value: bool, note: str = "") -> None:
        self.events.append(Event(self.clock(), kind, device, point, value, note))

    def since(self, mark: float, *kinds: str) -> list[Event]:
        """Return the events of ``kinds`` (all, if none is named) from monotonic ``mark`` on."""
        return [event for event in self.events if event.at >= mark and (not kinds or event.kind in kinds)]

    def stops(self, mark: float) -> list[Event]:
        """Return every stop from ``mark`` on: a machine told to stop, ceasing to run, or sent a wrong command word."""
        return [
            event for event in self.since(mark, COMMAND, RUNNING, BROKEN) if not event.value or event.kind == BROKEN
        ]

    def outlets(self, mark: float) -> list[Event]:
        """Return every switching of an outlet from ``mark`` on."""
        return self.since(mark, OUTLET)


class Watch:
    """Notes when a machine of the plant begins or ceases to run."""

    def __init__(self, plan: Plan, plant: Any, record: Record) -> None:
        pod = plan.pod
        self._machines: dict[str, Any] = {
            **dict(zip(pod.tcs.pumps, plant.tcs_pumps, strict=True)),
            **dict(zip(pod.fws.pumps, plant.facility.pumps, strict=True)),
            **dict(zip(pod.fws.chillers, plant.facility.chillers, strict=True)),
        }
        self._record = record
        self._running = dict.fromkeys(self._machines, False)

    def look(self) -> None:
        for name, machine in self._machines.items():
            if machine.running is not self._running[name]:
                self._running[name] = machine.running
                self._record.add(RUNNING, name, "running", machine.running)
