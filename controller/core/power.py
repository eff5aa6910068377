"""Feeds and racks: in which order racks are energised and put off; the electrical twin of loops.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import NamedTuple

from controller.core.image import Fact, Image, numbers_of
from controller.core.points import USABLE, Kind, Reading, record
from controller.core.sequences import Demand


class Phases(NamedTuple):
    """Currents of one branch in A: the highest, None where none is known, their mean, and how far one is off it."""

    most: float | None
    mean: float
    apart: float
    known: int


@record
class RackSeen:
    """What the power units of one rack say.

    Attributes:
        energised: any outlet is on, or is not known to be off.
        pending: any outlet is known to be off.
        on: any outlet is known to be on.
        power_kw: None when one of its meters can't be trusted.
        branches: currents of each power unit.
    """

    energised: bool
    pending: bool
    on: bool
    power_kw: float | None
    branches: tuple[Phases, ...]


def sum_of(readings: Sequence[Reading]) -> float | None:
    """Return the sum of the numbers, or None when one of them can't be trusted."""
    values = numbers_of(readings)
    return sum(values) if len(values) == len(readings) else None


def any_on(readings: Iterable[Reading]) -> bool:
    """Return whether one of the flags is known to be on."""
    return any(reading.usable and reading.value for reading in readings)


def phases_of(readings: Sequence[Reading]) -> Phases:
    amps = numbers_of(readings)
    if not amps:
        return Phases(None, 0.0, 0.0, 0)
    most, mean = max(amps), sum(amps) / len(amps)
    return Phases(most, mean, max(most - mean, mean - min(amps)), len(amps))


@dataclass(frozen=True, slots=True)
class Rack:
    """One rack: its outlets, meters, liquid valve, leak detectors and shed tier (3 is shed first, 0 never).

    ``currents`` are those of each phase of its power units; a unit is the device they are read from.
    ``flow`` and ``outlet_temps`` are its own coolant meters; a rack without any shares what is measured in the main.
    """

    outlets: tuple[str, ...] = field(metadata={"kind": Kind.FLAG})
    power: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "kW"})
    currents: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "A"})
    valve: str = field(metadata={"class": "valve", "optional": True})
    flow: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "L/min"})
    outlet_temps: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "Cel"})
    leak: tuple[str, ...] = field(metadata={"kind": Kind.FLAG})
    rated_kw: float
    shed_tier: int
    name: str = ""
    valve_cmd_id: str = field(init=False, repr=False, compare=False)
    _said: Fact[RackSeen] = field(init=False, repr=False, compare=False)
    _parts: tuple[slice, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = [self.outlets, self.power, *branches_of(self).values()]
        object.__setattr__(self, "valve_cmd_id", f"{self.valve}.position_cmd")
        ends = [*accumulate(map(len, parts))]
        object.__setattr__(self, "_parts", tuple(map(slice, [0, *ends], ends)))
        object.__setattr__(self, "_said", Fact(self._see, (*chain.from_iterable(parts),)))

    def seen(self, image: Image) -> RackSeen:
        """Return what its power units say now."""
        return image.follows(self._said)

    def energised(self, image: Image) -> bool:
        """True when any outlet is on, or is not known to be off."""
        return image.follows(self._said).energised

    def pending(self, image: Image) -> bool:
        """True when an outlet is known to be off."""
        return image.follows(self._said).pending

    def power_kw(self, image: Image) -> float | None:
        """Return the rack's power, or None when one of its meters can't be trusted."""
        return image.follows(self._said).power_kw

    def _see(self, readings: Sequence[Reading]) -> RackSeen:
        outlets, power, *units = (readings[part] for part in self._parts)
        known = [bool(outlet.value) for outlet in outlets if outlet.quality in USABLE]
        on, pending = True in known, False in known
        energised = on or len(known) < len(outlets)
        return RackSeen(energised, pending, on, sum_of(power), tuple(map(phases_of, units)))


def branches_of(rack: Rack) -> dict[str, list[str]]:
    """Return the phase currents of ``rack`` by power unit; each unit hangs on a branch of its own."""
    found: dict[str, list[str]] = {}
    for point in rack.currents:
        found.setdefault(point.split(".")[0], []).append(point)
    return found


@dataclass(frozen=True, slots=True)
class Power:
    """Meters of the pod's IT feeds, and how racks are put on."""

    feeds: tuple[str, ...] = field(metadata={"kind": Kind.NUMBER, "unit": "kW"})
    rack_stagger_s: float
    outlet_stagger_s: float


def it_power_kw(power: Power, racks: Sequence[Rack], image: Image) -> float | None:
    """Return the IT power in kW: the higher of the feeds' sum and the racks' sum; None if neither is whole."""
    return max(it_power_sources(power, racks, image), default=None)


def it_power_sources(power: Power, racks: Sequence[Rack], image: Image) -> list[float]:
    """Return the feeds' sum and the racks' sum in kW, each only if it is whole."""
    feeds = image.numbers(power.feeds)
    by_rack = [rack.power_kw(image) for rack in racks]
    whole = [sum(feeds)] if feeds and len(feeds) == len(power.feeds) else []
    if by_rack and None not in by_rack:
        whole.append(sum(value for value in by_rack if value is not None))
    return whole


@dataclass(slots=True)
class EnergiseSequence:
    """Puts racks on one outlet at a time, lowest shed tier first, with the staggers of the enclosure file."""

    power: Power
    racks: Sequence[Rack]
    commanded: set[str] = field(default_factory=set)
    last_outlet_at: float = float("-inf")
    last_rack_at: float = float("-inf")
    rack: str = ""

    def step(self, image: Image, blocked: set[str], now: float) -> Iterable[Demand]:
        """Return the outlets wanted on. ``blocked`` names racks that must stay off."""
        for rack in sorted(self.racks, key=lambda item: item.shed_tier):
            if rack.name in blocked:
                continue
            for outlet in rack.outlets:
                if outlet in self.commanded or image.flag(outlet, otherwise=False):
                    continue
                if not image.usable(outlet) or not self._turn(rack, now):
                    break
                self.commanded.add(outlet)
                self.last_outlet_at = now
        return [Demand(outlet, True, "energise") for outlet in sorted(self.commanded)]

    def _turn(self, rack: Rack, now: float) -> bool:
        """Return whether the next outlet of ``rack`` may go on now; a new rack starts its stagger."""
        if now - self.last_outlet_at < self.power.outlet_stagger_s:
            return False
        if rack.name != self.rack:
            if now - self.last_rack_at < self.power.rack_stagger_s:
                return False
            self.rack, self.last_rack_at = rack.name, now
        return True

    def clear(self) -> None:
        self.commanded.clear()


@dataclass(slots=True)
class DeenergiseSequence:
    """Takes racks off one after another, in the reverse order of energising; a trip takes all off at once instead."""

    power: Power
    racks: Sequence[Rack]
    released: list[Rack] = field(default_factory=list)
    last_at: float = float("-inf")

    def step(self, image: Image, now: float) -> list[Demand]:
        """Return the outlets wanted off by now. A rack that is off already takes no turn."""
        for rack in sorted(self.racks, key=lambda item: item.shed_tier)[::-1]:
            if rack in self.released:
                continue
            if rack.energised(image):
                if now - self.last_at < self.power.rack_stagger_s:
                    break
                self.last_at = now
            self.released.append(rack)
        return off_demands(self.released, "shutdown")

    def clear(self) -> None:
        self.released.clear()


def pending(racks: Sequence[Rack], image: Image, blocked: set[str]) -> list[str]:
    return [rack.name for rack in racks if rack.pending(image) and rack.name not in blocked]


def off_demands(racks: Sequence[Rack], reason: str) -> list[Demand]:
    return [Demand(outlet, False, reason) for rack in racks for outlet in rack.outlets]
