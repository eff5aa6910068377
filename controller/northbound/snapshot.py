"""One read-only picture of the pod per scan: all that publishers ever see.

Wall-clock time is added here and only here: ``Snapshot.ms`` turns a scan's monotonic seconds into milliseconds
since the Unix epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from controller.clock import Trust
from controller.core.engine import View
from controller.core.points import Kind, Point, Quality, Reading, Value

# OPC UA StatusCodes (OPC 10000-8 and OPC 30142, table "Quality"); bits 31-30 are the severity, 0 is the only good one
# that a simple client has to know.
GOOD: Final = 0x0000_0000
GOOD_LOCAL_OVERRIDE: Final = 0x0096_0000
UNCERTAIN_LAST_USABLE: Final = 0x4090_0000
BAD_NO_COMMUNICATION: Final = 0x8031_0000
BAD_SENSOR_FAILURE: Final = 0x808C_0000
STATUS_NAMES: Final = {
    GOOD: "Good",
    GOOD_LOCAL_OVERRIDE: "GoodLocalOverride",
    UNCERTAIN_LAST_USABLE: "UncertainLastUsableValue",
    BAD_NO_COMMUNICATION: "BadNoCommunication",
    BAD_SENSOR_FAILURE: "BadSensorFailure",
}
SIGNIFICANT_DIGITS: Final = 6
WHOLE_NUMBERS_END: Final = 1e15  # above this a float no longer holds every tenth; sent with six digits
TEXT_MAX: Final = 128  # characters of a text value: the 64 registers a row may have


class Sample(NamedTuple):
    """One reading as it leaves the pod.

    Attributes:
        value: None unless ``status`` is Good or Uncertain.
        status: OPC UA StatusCode.
        last: the last value, where ``value`` is None because the device no longer answers.
        at: monotonic seconds at which the device gave the value; minus infinity if it never did.
    """

    value: Value | None
    status: int
    last: Value | None
    at: float


def judged(reading: Reading, *, answering: bool) -> Sample:
    """Return what may be said of ``reading`` when its device does or does not answer."""
    value, quality = reading.value, reading.quality
    if isinstance(value, float) and not math.isfinite(value):
        return Sample(None, BAD_SENSOR_FAILURE, None, reading.at)
    if quality is Quality.GOOD:
        return Sample(value, GOOD, None, reading.at)
    if quality is Quality.STALE:
        if value is None or not answering:
            return Sample(None, BAD_NO_COMMUNICATION, value, reading.at)
        return Sample(value, UNCERTAIN_LAST_USABLE, None, reading.at)
    if quality is Quality.FORCED:
        return Sample(value, GOOD_LOCAL_OVERRIDE, None, reading.at)
    return Sample(None, BAD_SENSOR_FAILURE, None, reading.at)


def decimals(deadband: float) -> int:
    """Return how many decimals show a change by ``deadband``, at most six."""
    if deadband <= 0:
        return SIGNIFICANT_DIGITS
    return min(SIGNIFICANT_DIGITS, max(0, math.ceil(-math.log10(deadband) - 1e-9)))


def shown(value: Value | None, places: int) -> Value | None:
    """Return ``value`` as documents show it: ``places`` decimals, no more than six digits where there are decimals.

    Whole digits are never dropped, so a counter stays exact. What is not finite becomes None.
    """
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if not isinstance(value, float):
        return value
    size = abs(value)
    if not math.isfinite(size):
        return None
    if size >= WHOLE_NUMBERS_END:
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if value.is_integer():
        return int(value)
    whole = len(str(int(size))) if size >= 1 else 0
    value = round(value, max(0, min(places, SIGNIFICANT_DIGITS - whole)))
    return int(value) if value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pod at one scan.

    Attributes:
        view: the scan as the core tells it; its times are monotonic seconds.
        wall_ms: milliseconds since the Unix epoch at ``view.at``.
        boot: number of this start of the controller, counted up in the store.
        clock: whether ``wall_ms`` can be trusted.
    """

    view: View
    wall_ms: int
    boot: int
    clock: Trust = "unknown"

    @property
    def offset_ms(self) -> float:
        """Wall milliseconds minus monotonic milliseconds; it jumps when the wall clock is set."""
        return self.wall_ms - self.view.at * 1000

    def ms(self, at: float | None) -> int | None:
        """Return monotonic ``at`` as milliseconds since the Unix epoch; None for never."""
        if at is None or not math.isfinite(at):
            return None
        return round(self.wall_ms - (self.view.at - at) * 1000)

    def answering(self, device: str) -> bool:
        """Return False only when the bus worker is sure that ``device`` does not answer."""
        return self.view.image.flag(f"{device}.comms", otherwise=True)

    def sample(self, point: Point) -> Sample:
        return judged(self.view.image.reading(point.id), answering=self.answering(point.device))


def snapshot(view: View, wall_ms: int, boot: int, clock: Trust = "unknown") -> Snapshot:
    return Snapshot(view, wall_ms, boot, clock)


def by_device(points: Iterable[Point]) -> dict[str, tuple[Point, ...]]:
    """Return ``points`` grouped by device, both in their given order: what a publisher goes through in each scan."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.device, []).append(point)
    return {device: tuple(points) for device, points in groups.items()}


def differs(one: Value | None, other: Value | None, point: Point) -> bool:
    """Return whether a change from ``one`` to ``other`` is worth publishing."""
    if point.kind is Kind.NUMBER and isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) > point.deadband
    return one != other
