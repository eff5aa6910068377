"""What a point is, and what one reading of it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar, dataclass_transform

Value = float | int | bool | str
T = TypeVar("T")
N = TypeVar("N", bound=NamedTuple)


@dataclass_transform(frozen_default=True)
def record(made: type[T]) -> type[T]:
    """Make a frozen dataclass of ``made``, for what is made by the hundred in each scan.

    mypy keeps it frozen. At run time nothing does: that would make it four times as slow to make.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)


def points_of(device: str, made: type[N]) -> N:
    """Return the ids of the points of ``device`` that the named tuple ``made`` names by its fields."""
    return made._make(f"{device}.{name}" for name in made._fields)


class Quality(Enum):
    """How far a reading may be trusted. Only GOOD and FORCED carry a value that control may use."""

    GOOD = "good"
    STALE = "stale"
    BAD = "bad"
    FORCED = "forced"


USABLE = (Quality.GOOD, Quality.FORCED)


class Kind(Enum):
    """What the value of a point is in Python."""

    NUMBER = "number"  # float in the point's unit
    FLAG = "flag"  # bool
    CODE = "code"  # int with a text for each known number
    BITS = "bits"  # int whose bits have names
    TEXT = "text"  # str


@dataclass(frozen=True, slots=True)
class Point:
    """One named quantity of one device.

    Attributes:
        device: device id from the enclosure file, or a pseudo-device (``pod``, a bus).
        name: standard point of the device's class, or the profile's own name.
        unit: UCUM code (``Cel``, ``kPa``, ``L/min``, ``kW``, ``%``, ``{rpm}``), empty where there is none.
        low, high: engineering range in ``unit``; a value outside it is BAD.
        readable: False for a register that can only be written; it has no readings.
        max_age_s: a reading older than this is STALE.
        fail_value: what an output falls back to, in the direction of more cooling; None where holding is safest.
        texts: text by number for CODE, name by bit for BITS.
        deadband: least change worth publishing, in ``unit``.
    """

    device: str
    name: str
    kind: Kind
    unit: str = ""
    low: float | None = None
    high: float | None = None
    readable: bool = True
    writable: bool = False
    safety: bool = False
    max_age_s: float = 5.0
    fail_value: Value | None = None
    texts: Mapping[int, str] = field(default_factory=dict)
    deadband: float = 0.0
    description: str = ""

    @property
    def id(self) -> str:
        return f"{self.device}.{self.name}"


@record
class Reading:
    """One value as it was seen.

    Attributes:
        value: None unless there is a value worth showing; STALE keeps the last one, BAD never has one.
        at: monotonic seconds at which the device gave the value (not when it was looked at).
        reason: why the quality is not GOOD, in words for a technician.
    """

    value: Value | None
    quality: Quality
    at: float
    reason: str = ""

    @property
    def usable(self) -> bool:
        return self.quality in USABLE


def good(value: Value, at: float) -> Reading:
    return Reading(value, Quality.GOOD, at)


def bad(reason: str, at: float) -> Reading:
    return Reading(None, Quality.BAD, at, reason)


NEVER_READ = Reading(None, Quality.STALE, float("-inf"), "never read")
