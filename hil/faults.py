"""Faults as data: what can be done to the pod, by name, at what it may be aimed, how strong, and how it is undone.

Names are ``part.what``. The hooks are those of hil/plant/README.md, hil/devices/README.md and hil/wire/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any

from controller.core.points import Value

if TYPE_CHECKING:
    from hil.stage import Stage

Undo = Callable[[], None]
Apply = Callable[["Stage", str, Any], Undo]
NAMES_SHOWN = 12


class FaultError(ValueError):
    """No such fault, target or value; the text says what is allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the catalogue.

    Attributes:
        kind: what it may be aimed at, a key of TARGETS.
        unit: of its parameter; empty for a plain fault, ``choice`` for one of ``choices``.
        low, high, default: range and default of the parameter in ``unit``.
        only: ``real`` or ``virtual`` when the other body can't make it.
        apply: brings it about and returns what undoes it.
    """

    name: str
    kind: str
    text: str
    apply: Apply
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    default: Value | None = None
    choices: tuple[str, ...] = ()
    only: str = ""

    @property
    def virtual(self) -> bool:
        """Whether it can be made in virtual time."""
        return self.only != "real"


# ---------------------------------------------------------------- targets


def _liquid(stage: Stage) -> bool:
    """Whether something that can leak cools the racks."""
    return stage.plan.pod.tcs.coolant != "air"


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{index + 1}" for index in range(count)]


TARGETS: dict[str, Callable[[Stage], Iterable[str]]] = {
    "pod": lambda _stage: ("pod",),
    "pump": lambda stage: (*stage.plan.pod.tcs.pumps, *stage.plan.pod.fws.pumps),
    "chiller": lambda stage: stage.plan.pod.fws.chillers,
    "water": lambda stage: () if stage.plan.pod.fws.pumps else ("building",),
    "valve": lambda stage: (stage.plan.pod.tcs.valve, *filter(None, (rack.valve for rack in stage.plan.pod.racks))),
    "rack": lambda stage: (rack.name for rack in stage.plan.pod.racks),
    "loop": lambda stage: ("pod",) if _liquid(stage) else (),
    "wet_rack": lambda stage: (rack.name for rack in stage.plan.pod.racks) if _liquid(stage) else (),
    "feed": lambda stage: _numbered("feed", len(stage.plant.feed_kwh)),
    "branch": lambda stage: (
        f"{rack.name}.feed_{feed + 1}" for rack in stage.plan.pod.racks for feed in range(len(stage.plant.feed_kwh))
    ),
    "sensor": lambda stage: stage.plant.sensors,
    "device": lambda stage: stage.emulators,
    "point": lambda stage: (p.point.id for d in stage.plan.devices for p in d.points if p.point.readable),
    "bus": lambda stage: (bus.name for bus in stage.plan.buses),
    "line": lambda stage: (bus.name for bus in stage.plan.buses if bus.settings.serial),
    "connection": lambda stage: (bus.name for bus in stage.plan.buses if bus.settings.networked),
}


@cache
def catalogue() -> tuple[Fault, ...]:
    """Return every fault, in the order in which people are shown them."""
    found = tuple(import_module("hil.fault_rows").rows())  # the rows are made of what stands here
    assert len({fault.name for fault in found}) == len(found), "two faults of one name"
    return found


def find(name: str) -> Fault:
    """Return the fault of this name.

    Raises:
        FaultError: there is none.
    """
    for fault in catalogue():
        if fault.name == name:
            return fault
    part = name.split(".", maxsplit=1)[0]
    near = [fault.name for fault in catalogue() if fault.name.startswith(part)] or [f.name for f in catalogue()]
    raise FaultError(f"no fault {name!r}; there are: {', '.join(near)}")


def targets(fault: Fault, stage: Stage) -> list[str]:
    return list(TARGETS[fault.kind](stage))


def checked_target(fault: Fault, stage: Stage, target: str) -> str:
    known = targets(fault, stage)
    if not target and len(known) == 1:
        return known[0]
    if target in known:
        return target
    more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
    raise FaultError(f"{fault.name}: no {fault.kind} {target!r}; allowed: {', '.join(known[:NAMES_SHOWN])}{more}")


def checked_value(fault: Fault, value: Value | None) -> Value | None:
    """Return the parameter, or its default."""
    if not fault.unit:
        if value is not None:
            raise FaultError(f"{fault.name} takes no value, not {value!r}")
        return None
    if value is None:
        return fault.default
    if fault.choices:
        if value not in fault.choices:
            raise FaultError(f"{fault.name}: {value!r} is not allowed; allowed: {', '.join(fault.choices)}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not fault.low <= float(value) <= fault.high:
        raise FaultError(
            f"{fault.name}: {value!r} is not allowed; allowed: {fault.low:g} to {fault.high:g} {fault.unit}"
        )
    return float(value)


# ---------------------------------------------------------------- ways to apply


Part = Callable[["Stage", str], Any]


def attribute(part: Part, name: str, held: Value | None = None) -> Apply:
    """Return what sets an attribute to the parameter (or to ``held``) and puts back what was there before."""

    def apply(stage: Stage, target: str, value: Any) -> Undo:
        owner = part(stage, target)
        *path, last = name.split(".")
        owner = reduce(getattr, path, owner)
        if not hasattr(owner, last):
            raise FaultError(f"{target}: this plant has no {last}")
        before = getattr(owner, last)
        setattr(owner, last, value if held is None else held)

        def undo() -> None:
            setattr(owner, last, before)

        return undo

    return apply


def several(*ways: Apply) -> Apply:
    """Return what applies all of ``ways`` and undoes them in reverse order."""

    def apply(stage: Stage, target: str, value: Any) -> Undo:
        undos = [way(stage, target, value) for way in ways]

        def undo() -> None:
            for step in reversed(undos):
                step()

        return undo

    return apply


def called(do: Callable[[Stage, str, Any], object], undone: Callable[[Stage, str], object] | None = None) -> Apply:
    """Return what calls ``do``, and ``undone`` at the end."""

    def apply(stage: Stage, target: str, value: Any) -> Undo:
        do(stage, target, value)

        def undo() -> None:
            if undone is not None:
                undone(stage, target)

        return undo

    return apply


def index_of(names: Sequence[str], name: str) -> int:
    return list(names).index(name)


def pump(stage: Stage, target: str) -> Any:
    pod = stage.plan.pod
    if target in pod.tcs.pumps:
        return stage.plant.tcs_pumps[index_of(pod.tcs.pumps, target)]
    return stage.plant.facility.pumps[index_of(pod.fws.pumps, target)]


def chiller(stage: Stage, target: str) -> Any:
    return stage.plant.facility.chillers[index_of(stage.plan.pod.fws.chillers, target)]


def rack(stage: Stage, target: str) -> Any:
    return stage.plant.racks[[rack.name for rack in stage.plan.pod.racks].index(target)]


def valve(stage: Stage, target: str) -> Any:
    if target == stage.plan.pod.tcs.valve:
        return stage.plant.valve
    return stage.plant.racks[[rack.valve for rack in stage.plan.pod.racks].index(target)].valve


def feed(stage: Stage, target: str) -> Any:
    return physics(stage).feeds[int(target.rpartition("_")[2]) - 1]


def branch(stage: Stage, target: str) -> Any:
    name, _, number = target.partition(".feed_")
    return rack(stage, name).branches[int(number) - 1]


def plant(stage: Stage, _target: str) -> Any:
    return stage.plant


def physics(stage: Stage) -> Any:
    return stage.plant


def sensor(stage: Stage, target: str) -> Any:
    return stage.plant.sensors[target]


def emulator(stage: Stage, target: str) -> Any:
    return stage.emulators[target]
