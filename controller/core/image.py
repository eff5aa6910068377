"""The process image: every point's reading, frozen for one scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf

from controller.core.points import NEVER_READ, USABLE, Point, Quality, Reading, Value

LOOK_S = 2.0  # how long a reading may be watched that has become good and fresh meanwhile
ROUNDING_S = 1e-6  # far below a scan; sums of seconds are not exact


class Image:
    """Readings of one scan. A reading that is not usable forces its reader to say what to do instead.

    Built by ``freeze`` and never changed; what the scan derives from it goes into a new one (``with_derived``).
    """

    __slots__ = ("_readings", "at")

    def __init__(self, readings: Mapping[str, Reading], at: float) -> None:
        self._readings = readings
        self.at = at

    def __iter__(self) -> Iterator[str]:
        return iter(self._readings)

    def reading(self, point: str) -> Reading:
        return self._readings.get(point, NEVER_READ)

    def usable(self, point: str) -> bool:
        return self._readings.get(point, NEVER_READ).quality in USABLE

    def value(self, point: str, *, otherwise: Value | None) -> Value | None:
        reading = self._readings.get(point, NEVER_READ)
        return reading.value if reading.quality in USABLE else otherwise

    def number(self, point: str, *, otherwise: float | None) -> float | None:
        """Return the value in the point's unit, or ``otherwise`` when it can't be trusted."""
        reading = self._readings.get(point, NEVER_READ)
        value = reading.value
        if reading.quality not in USABLE or value is None or isinstance(value, str):
            return otherwise
        return float(value)

    def flag(self, point: str, *, otherwise: bool) -> bool:
        """Return the flag, or ``otherwise`` when it can't be trusted."""
        reading = self._readings.get(point, NEVER_READ)
        return bool(reading.value) if reading.quality in USABLE else otherwise

    def numbers(self, points: Iterable[str]) -> list[float]:
        """Return the usable values among ``points``, in their order."""
        found = (self.number(point, otherwise=None) for point in points)
        return [value for value in found if value is not None]

    def with_derived(self, derived: Mapping[str, Reading]) -> Image:
        return Image({**self._readings, **derived}, self.at)

    def items(self) -> Iterable[tuple[str, Reading]]:
        return self._readings.items()


class Freezer:
    """Makes the images of one pod, scan after scan: every configured point has a reading, too old ones are STALE.

    A reading gives way to newer ones only, so none can be too old before the oldest good one is: ages are looked at
    then, and in between only those of readings that were not good and fresh.
    """

    def __init__(self, points: Mapping[str, Point]) -> None:
        """Take every configured point by id; those that can't be read have no reading."""
        self._max_age_s = {name: point.max_age_s for name, point in points.items() if point.readable}
        self._unread = list(self._max_age_s)
        self._watched: list[str] = []
        self._look_at = -inf

    def freeze(self, inbox: Mapping[str, Reading], now: float) -> Image:
        """Return the image of ``inbox`` at monotonic ``now``; ``inbox`` holds the newest reading of each point."""
        limits, readings = self._max_age_s, dict(inbox)  # a copy as a whole: most readings are those of before
        for name in self._unread:
            readings.setdefault(name, NEVER_READ)
        if len(readings) != len(limits):
            readings = {name: inbox.get(name, NEVER_READ) for name in limits}
        if now >= self._look_at:
            self._look(readings, now)
        for name in self._watched:
            reading = readings[name]
            age = now - reading.at
            if reading.quality is Quality.GOOD and age > limits[name]:
                readings[name] = Reading(reading.value, Quality.STALE, reading.at, f"no answer for {age:.1f} s")
        return Image(readings, now)

    def _look(self, readings: Mapping[str, Reading], now: float) -> None:
        """Find what is not good and fresh, and when the first of the rest will be too old."""
        self._watched.clear()
        self._unread = [name for name, reading in readings.items() if reading is NEVER_READ]
        look_at = inf
        for name, reading in readings.items():
            too_old_at = reading.at + self._max_age_s[name] - ROUNDING_S
            if reading.quality is not Quality.GOOD or now >= too_old_at:
                self._watched.append(name)
            elif too_old_at < look_at:
                look_at = too_old_at
        self._look_at = min(look_at, now + LOOK_S) if self._watched else look_at


def freeze(inbox: Mapping[str, Reading], points: Mapping[str, Point], now: float) -> Image:
    """Return one image; ``Freezer`` makes many."""
    return Freezer(points).freeze(inbox, now)
