"""What page, keyboard and HTTP need to break a bench that runs: every fault of the catalogue, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.points import Value
from hil.faults import Fault as Known
from hil.faults import FaultError, checked_target, checked_value, find
from hil.real import BenchStage
from hil.runner import Bench

__all__ = ["Desk", "Fault", "FaultError", "Faults", "Standing"]
STANDING_MAX = 64


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the catalogue as people are shown it.

    Attributes:
        kind: what it may be aimed at, a key of ``Faults.targets``.
        unit: of its value; empty for a fault that takes none.
        low, high, default: what the value may be, and is when none is given.
        choices: the words of which the value is one; empty for a number.
    """

    name: str
    kind: str
    text: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    default: Value | None = None
    choices: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Return the first word of its name: the part of the bench that it breaks."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that acts now."""

    name: str
    target: str
    value: Value | None


class Faults(Protocol):
    """What page and keyboard need of whoever can break the bench."""

    def catalogue(self) -> Sequence[Fault]:
        """Return every fault there is, those of one family together."""

    def targets(self, kind: str) -> Sequence[str]:
        """Return what faults of a kind may be aimed at."""

    def standing(self) -> Sequence[Standing]:
        """Return the faults that act now, the oldest first."""

    async def inject(self, name: str, target: str, value: float | str | None) -> None:
        """Cause a fault. Raises FaultError: no such name or target, or a value that is not allowed."""

    async def heal(self, name: str = "", target: str = "") -> None:
        """Undo one fault, all of a name, or all. Raises FaultError: none such acts."""


class Desk:
    """The catalogue of faults at a bench.

    Attributes:
        stage: the bench as the catalogue knows it.
    """

    def __init__(self, bench: Bench) -> None:
        self.stage = BenchStage(bench)
        targets = {fault.kind: tuple(self.stage.targets(fault.name)) for fault in self.stage.catalogue()}
        self._targets: Mapping[str, tuple[str, ...]] = targets
        known = [_shown(fault) for fault in self.stage.catalogue()]
        families = list(dict.fromkeys(fault.family for fault in known))
        self._catalogue = tuple(sorted(known, key=lambda fault: families.index(fault.family)))

    def catalogue(self) -> Sequence[Fault]:
        return self._catalogue

    def targets(self, kind: str) -> Sequence[str]:
        return self._targets[kind]

    def standing(self) -> Sequence[Standing]:
        return tuple(Standing(active.fault.name, active.target, active.value) for active in self.stage.active.values())

    async def inject(self, name: str, target: str, value: float | str | None) -> None:
        fault, active = find(name), self.stage.active
        key = name, checked_target(fault, self.stage, target)
        checked_value(fault, value)
        if key not in active and len(active) >= STANDING_MAX:
            raise FaultError(f"{len(active)} faults act; allowed: at most {STANDING_MAX}, heal one first")
        self.stage.inject(name, target, value)
        await self.stage.done()

    async def heal(self, name: str = "", target: str = "") -> None:
        if name:
            find(name)
        ended = self.stage.heal(name, target)
        self.stage.log.clear()  # of a scenario; here nobody asks for it, and a demo may run for days
        await self.stage.done()
        if name and not ended:
            acting = ", ".join(f"{one} {other}" for one, other in self.stage.active) or "none"
            raise FaultError(f"{' '.join(filter(None, (name, target)))}: does not act; acting: {acting}")


def _shown(fault: Known) -> Fault:
    return Fault(
        fault.name, fault.kind, fault.text, fault.unit, fault.low, fault.high, fault.default, fault.choices
    )  # fmt: skip
