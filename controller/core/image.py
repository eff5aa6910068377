"""The process image: every point's reading, frozen for one scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from controller.core.points import NEVER_READ, Point, Quality, Reading, Value


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
        return self.reading(point).usable

    def value(self, point: str, *, otherwise: Value | None) -> Value | None:
        reading = self.reading(point)
        return reading.value if reading.usable else otherwise

    def number(self, point: str, *, otherwise: float | None) -> float | None:
        """Return the value in the point's unit, or ``otherwise`` when it can't be trusted."""
        reading = self.reading(point)
        if not reading.usable or reading.value is None or isinstance(reading.value, str):
            return otherwise
        return float(reading.value)

    def flag(self, point: str, *, otherwise: bool) -> bool:
        """Return the flag, or ``otherwise`` when it can't be trusted."""
        reading = self.reading(point)
        return bool(reading.value) if reading.usable else otherwise

    def numbers(self, points: Iterable[str]) -> list[float]:
        """Return the usable values among ``points``, in their order."""
        found = (self.number(point, otherwise=None) for point in points)
        return [value for value in found if value is not None]

    def with_derived(self, derived: Mapping[str, Reading]) -> Image:
        return Image({**self._readings, **derived}, self.at)

    def items(self) -> Iterable[tuple[str, Reading]]:
        return self._readings.items()


def freeze(inbox: Mapping[str, Reading], points: Mapping[str, Point], now: float) -> Image:
    """Return the image of ``inbox`` at ``now``: every configured point has a reading, too old ones are STALE.

    Args:
        inbox: newest reading of each point that was ever read.
        points: every configured point by id.
        now: monotonic seconds.
    """
    readings: dict[str, Reading] = {}
    for name, point in points.items():
        if not point.readable:
            continue
        reading = inbox.get(name, NEVER_READ)
        age = now - reading.at
        if reading.quality is Quality.GOOD and age > point.max_age_s:
            reading = Reading(reading.value, Quality.STALE, reading.at, f"no answer for {age:.1f} s")
        readings[name] = reading
    return Image(readings, now)
