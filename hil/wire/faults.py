"""Every fault of the wire as an attribute with a neutral default and limits, to be set and undone by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

DELAY_MAX_S = 60.0


class FaultError(ValueError):
    """A fault that is not there or a value it can't have; the text says what is allowed."""


def flag() -> Any:
    return dataclasses.field(default=False)


def number(high: float) -> Any:
    """Return a field of 0.0, its neutral value, to ``high``."""
    return dataclasses.field(default=0.0, metadata={"high": high})


def count(high: int) -> Any:
    """Return a field of 0, its neutral value, to ``high``."""
    return dataclasses.field(default=0, metadata={"high": high})


@dataclass(slots=True)
class UnitFaults:
    """What one unit does wrong, on any kind of bus; README.md says what each name means."""

    silent: bool = flag()
    refusal: int = count(255)
    reply_delay_s: float = number(DELAY_MAX_S)
    answers_as: int = count(255)
    stale_reply: bool = flag()
    reset: bool = flag()
    twin: bool = flag()


@dataclass(slots=True)
class TcpFaults:
    """What a server does wrong with all its connections."""

    half_open: bool = flag()
    connection_limit: int = count(1000)
    dribble_s: float = number(1.0)


@dataclass(slots=True)
class LineFaults:
    """What goes wrong on a serial line or in its adapter."""

    noise: float = number(1.0)
    dropped: float = number(1.0)
    merged: float = number(1.0)
    dribble_s: float = number(1.0)
    echo: bool = flag()
    babble_s: float = number(DELAY_MAX_S)
    latency_s: float = number(1.0)
    baud: int = count(1_000_000)

    @property
    def damages(self) -> bool:
        """Whether bytes may not arrive as they were sent."""
        return self.noise > 0 or self.dropped > 0 or self.merged > 0


NO_FAULTS = UnitFaults()


def put(faults: Any, name: str, value: bool | float) -> None:
    """Set one fault by name.

    Args:
        faults: UnitFaults, TcpFaults, LineFaults or a dataclass made of the fields above.

    Raises:
        FaultError: no such fault, or a value out of its limits.
    """
    fields = {field.name: field for field in dataclasses.fields(faults)}
    where = f"{type(faults).__name__}.{name}"
    if name not in fields:
        raise FaultError(f"{where}: no such fault; allowed: {', '.join(fields)}")
    neutral = fields[name].default
    if isinstance(neutral, bool):
        if not isinstance(value, bool):
            raise FaultError(f"{where}: {value!r} given; allowed: true or false")
        setattr(faults, name, value)
        return
    low, high = fields[name].metadata.get("low", 0), fields[name].metadata["high"]
    number_given = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number_given or not low <= value <= high or (isinstance(neutral, int) and value != int(value)):
        kind = "a whole number" if isinstance(neutral, int) else "a number"
        raise FaultError(f"{where}: {value!r} given; allowed: {kind} from {low:g} to {high:g}")
    setattr(faults, name, int(value) if isinstance(neutral, int) else float(value))


def clear(faults: Any) -> None:
    """Make every fault neutral."""
    for field in dataclasses.fields(faults):
        setattr(faults, field.name, field.default)


def active(faults: Any) -> dict[str, bool | float]:
    """Return the faults that are not neutral."""
    found = {field.name: getattr(faults, field.name) for field in dataclasses.fields(faults)}
    return {field.name: found[field.name] for field in dataclasses.fields(faults) if found[field.name] != field.default}
