"""A pod one can break on purpose: the interface of both bodies, what was seen of the controller, faults at work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from controller.config.plan import Plan
from controller.core.points import Value
from hil import faults
from hil.channels import Recorder
from hil.faults import Fault, FaultError, Undo
from hil.plant.plant import Plant
from hil.record import Record

EVENTS_MAX = 20_000  # of each sort; a run that makes more is cut off there and says so


@dataclass(frozen=True, slots=True)
class Said:
    """One thing the controller said or did. ``t`` is seconds of the stage, ``what`` as the trace names it."""

    t: float
    what: Mapping[str, Any]


@dataclass(slots=True)
class Seen:
    """What was seen of the controller: modes, alarms, interlocks as it says them, writes as they reach the devices."""

    modes: list[Said] = field(default_factory=list)
    alarms: list[Said] = field(default_factory=list)
    interlocks: list[Said] = field(default_factory=list)
    writes: list[Said] = field(default_factory=list)
    first_out: str = ""
    overruns: float = 0.0
    scan_ms: float = 0.0
    cut_off: bool = False

    def note(self, where: list[Said], t: float, **what: Any) -> None:
        if len(where) >= EVENTS_MAX:
            self.cut_off = True
            return
        where.append(Said(t, what))

    @property
    def mode(self) -> str:
        return str(self.modes[-1].what["mode"]) if self.modes else ""


@dataclass(slots=True)
class Active:
    """A fault at work."""

    fault: Fault
    target: str
    value: Value | None
    since: float
    undo: Undo


class Stage(ABC):
    """Plant, emulated devices and the controller, in real or in virtual time.

    Attributes:
        body: ``real`` or ``virtual``.
        plan, plant, emulators (by device), record (what devices noted), seen (what the controller said), recorder
        (samples of the plant's truth), active (faults at work by name and target), log (every fault that was at work).
    """

    body: str
    plan: Plan
    plant: Plant
    emulators: Mapping[str, Any]
    record: Record
    recorder: Recorder
    seed: int

    def __init__(self) -> None:
        self.seen = Seen()
        self.active: dict[tuple[str, str], Active] = {}
        self.log: list[dict[str, Any]] = []

    # ------------------------------------------------------------ faults

    def catalogue(self) -> list[Fault]:
        """Return the faults that this body can make, of what there is on this pod."""
        possible = (fault for fault in faults.catalogue() if self.body == "real" or fault.virtual)
        return [fault for fault in possible if self.targets(fault.name)]

    def targets(self, name: str) -> list[str]:
        """Return what the fault may be aimed at on this pod."""
        return faults.targets(faults.find(name), self)

    def inject(self, name: str, target: str = "", value: Value | None = None) -> Active:
        """Bring a fault about; once more on the same target takes the place of what is there.

        Raises:
            FaultError: no such fault, target or value, or not in this body; it names what is allowed.
        """
        fault = faults.find(name)
        if fault.only and fault.only != self.body:
            known = ", ".join(other.name for other in self.catalogue())
            raise FaultError(f"{name} can't be made in {self.body} time; allowed there: {known}")
        target = faults.checked_target(fault, self, target)
        value = faults.checked_value(fault, value)
        if (name, target) in self.active:
            self.heal(name, target)
        entry = {"t": self.now, "until": None, "fault": name, "target": target, "value": value, "text": fault.text}
        active = Active(fault, target, value, self.now, fault.apply(self, target, value))
        self.active[name, target] = active
        self.log.append(entry)
        return active

    def heal(self, name: str = "", target: str = "") -> int:
        """End the faults of this name (all, if empty) on this target (every one, if empty); return how many."""
        ended = [key for key in self.active if name in ("", key[0]) and target in ("", key[1])]
        for key in ended:
            active = self.active.pop(key)
            active.undo()
            for entry in self.log:
                if (entry["fault"], entry["target"]) == key and entry["until"] is None:
                    entry["until"] = self.now
        return len(ended)

    def written(self, point: str, value: Value | None) -> None:
        """Take note of a write as a device has taken it."""
        self.seen.note(self.seen.writes, self.now, point=point, value=value)

    # ------------------------------------------------------------ what a body does

    @property
    @abstractmethod
    def now(self) -> float:
        """Seconds since the stage was made."""

    @abstractmethod
    async def run(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Make it ready; the controller is started by ``controller(True)``."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Clear everything away."""

    @abstractmethod
    def controller(self, alive: bool) -> None:
        """Start the controller, or end it at once as a crash would."""

    @abstractmethod
    def plug(self, bus: str, plugged: bool) -> None:
        """Pull a bus, or put it back."""

    @abstractmethod
    def line_noise(self, bus: str, name: str, value: Value) -> None:
        """Set a fault of a line or connection by its name in hil/wire/README.md."""

    @abstractmethod
    def broker(self, up: bool) -> None:
        """Take the MQTT broker away, or bring it back."""

    @abstractmethod
    def jump_clock(self, seconds: float) -> None:
        """Set the controller's wall clock so much off."""

    @abstractmethod
    def publish(self, messages: Iterable[tuple[str, bytes, bool]]) -> None:
        """Send MQTT messages (topic below the root, payload, retained) as somebody else would."""
