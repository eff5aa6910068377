"""The faults a person may cause on a running bench, by name: what page and keyboard offer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.config.plan import Plan
from controller.core.points import Value
from hil.plant.facility import Chiller
from hil.plant.hydraulics import Drive, Valve
from hil.runner import Bench

STANDING_MAX = 64
LOAD_PCT = (0.0, 110.0)
EXCEPTIONS = (1.0, 11.0)


class FaultError(ValueError):
    """A fault that can't be caused or healed; says what is allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the catalogue.

    Attributes:
        unit: of its value; None for a fault that takes none.
        low, high: what the value may be, where that is known.
        default: the value when none is given; None if one must be.
        choices: the words of which the value is one; empty for a number.
    """

    name: str
    text: str
    targets: tuple[str, ...]
    unit: str | None = None
    low: float = -math.inf
    high: float = math.inf
    default: float | str | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Return what its value may be, in words."""
        if self.unit is None:
            return "none"
        return ", ".join(self.choices) or f"{self.low:g} to {self.high:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that acts now."""

    name: str
    target: str
    value: float | str | None


class Faults(Protocol):
    """What page and keyboard need of whoever can break the bench."""

    def catalogue(self) -> Sequence[Fault]:
        """Return every fault there is."""

    def standing(self) -> Sequence[Standing]:
        """Return the faults that act now, the oldest first."""

    async def inject(self, name: str, target: str, value: float | str | None) -> None:
        """Cause a fault. Raises FaultError: no such name or target, or a value that is not allowed."""

    async def heal(self, name: str = "", target: str = "") -> None:
        """Undo one fault, all of a name, or all. Raises FaultError: none such acts."""


class Desk:
    """The faults of a Bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._rows = {row.name: row for row in rows_of(bench.plan)}
        self._standing: dict[tuple[str, str], Standing] = {}
        self._load = bench.plant.racks[0].load if bench.plant.racks else 0.0

    def catalogue(self) -> Sequence[Fault]:
        return tuple(self._rows.values())

    def standing(self) -> Sequence[Standing]:
        return tuple(self._standing.values())

    async def inject(self, name: str, target: str, value: float | str | None) -> None:
        row = self._row(name)
        if target not in row.targets:
            raise FaultError(f"{name}: target {target!r}; allowed: {', '.join(row.targets)}")
        value = judged(row, value)
        if (name, target) not in self._standing and len(self._standing) >= STANDING_MAX:
            raise FaultError(f"{len(self._standing)} faults act; allowed: at most {STANDING_MAX}, heal one first")
        await self._act(name, target, value, on=True)
        self._standing[name, target] = Standing(name, target, value)

    async def heal(self, name: str = "", target: str = "") -> None:
        if name:
            self._row(name)
        chosen = [key for key in self._standing if name in ("", key[0]) and target in ("", key[1])]
        if name and not chosen:
            acting = ", ".join(f"{one} {other}" for one, other in self._standing) or "none"
            raise FaultError(f"{name} {target}: does not act; acting: {acting}".replace(" :", ":"))
        for key in chosen:
            await self._act(*key, None, on=False)
            del self._standing[key]

    def _row(self, name: str) -> Fault:
        if name not in self._rows:
            raise FaultError(f"fault {name!r}; allowed: {', '.join(self._rows)}")
        return self._rows[name]

    async def _act(self, name: str, target: str, value: float | str | None, *, on: bool) -> None:
        bench = self._bench
        match name:
            case "pump.trip" | "chiller.trip":
                machine_of(bench, target).tripped = on
            case "valve.jammed":
                valve_of(bench, target).jammed = on
            case "device.silent":
                bench.silence(target, silent=on)
            case "device.exception":
                bench.exception(target, int(float(value or 0)) if on else 0)
            case "wire.unplugged":
                await (bench.unplug(target) if on else bench.replug(target))
            case "sensor.stuck_at" | "contact.made":
                held: Value = True if value is None else value
                bench.force(target, held if on else None)
            case "load.step":
                for rack in bench.plant.racks:
                    rack.load = float(value or 0.0) / 100 if on else self._load


def judged(row: Fault, value: float | str | None) -> float | str | None:
    """Return the value a fault takes.

    Raises:
        FaultError: it takes none, needs one, or needs another.
    """
    given = row.default if value is None else value
    if row.unit is None or row.choices:
        fits = given is None if row.unit is None else given in row.choices
    else:
        fits = isinstance(given, float | int) and math.isfinite(given) and row.low <= given <= row.high
    if not fits:
        raise FaultError(f"{row.name}: value {given}; allowed: {row.allowed}")
    return given


def machine_of(bench: Bench, name: str) -> Drive | Chiller:
    pod, plant = bench.plan.pod, bench.plant
    machines: Mapping[str, Drive | Chiller] = {
        **dict(zip(pod.tcs.pumps, plant.tcs_pumps, strict=True)),
        **dict(zip(pod.fws.pumps, plant.facility.pumps, strict=True)),
        **dict(zip(pod.fws.chillers, plant.facility.chillers, strict=True)),
    }
    return machines[name]


def valve_of(bench: Bench, name: str) -> Valve:
    pod, plant = bench.plan.pod, bench.plant
    racks = {rack.valve: part.valve for rack, part in zip(pod.racks, plant.racks, strict=True)}
    return {pod.tcs.valve: plant.valve, **racks}[name]


def rows_of(plan: Plan) -> list[Fault]:
    """Return the catalogue of an enclosure: its own machines, devices, buses and sensors as targets."""
    pod = plan.pod
    devices = tuple(device.name for device in plan.devices)
    valves = (pod.tcs.valve, *(rack.valve for rack in pod.racks))
    leaks = (*pod.protection.cdu_leak, *(point for rack in pod.racks for point in rack.leak))
    contacts = tuple(dict.fromkeys((*leaks, pod.protection.epo, *pod.protection.watched)))
    sensors = (*pod.tcs.supply_temps, *pod.tcs.return_temps, *pod.fws.supply_temps)
    return [
        Fault("pump.trip", "the drive trips and coasts down", (*pod.tcs.pumps, *pod.fws.pumps)),
        Fault("chiller.trip", "the chiller faults and stops", tuple(pod.fws.chillers)),
        Fault("valve.jammed", "the valve stays where it is", valves),
        Fault("sensor.stuck_at", "the probe shows this, whatever is true", sensors, "°C", -20, 120, 30),
        Fault("contact.made", "the contact shows: leak, EPO pressed, smoke and so on", contacts),
        Fault("device.silent", "the device takes requests and answers none", devices),
        Fault("device.exception", "the device answers with this exception", devices, "code", *EXCEPTIONS, 4),
        Fault("wire.unplugged", "the bus is pulled out", tuple(bus.name for bus in plan.buses)),
        Fault("load.step", "every rack asks for so much of its rated power", ("racks",), "%", *LOAD_PCT, 100),
    ]  # fmt: skip
