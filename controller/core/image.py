"""The process image: every point's reading, frozen for one scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Generic, TypeVar, cast

from controller.core.points import NEVER_READ, USABLE, Point, Quality, Reading, Value

T = TypeVar("T")
LOOK_S = 2.0  # how long a reading may be watched that has become good and fresh meanwhile
ROUNDING_S = 1e-6  # far below a scan; sums of seconds are not exact


@dataclass(frozen=True, slots=True, eq=False)
class Fact(Generic[T]):
    """What follows from the readings of a few points of devices and from nothing else: ``Image.follows`` tells it.

    Made once, when a part is built: images remember each one they were asked for.

    Attributes:
        work: makes it of the readings, in the order of ``points``.
    """

    work: Callable[[Sequence[Reading]], T]
    points: tuple[str, ...]


@dataclass(slots=True)
class _Known:
    """A fact as it was worked out last, of what, and the mark of the image in which that was last seen to be so."""

    mark: object = None
    readings: list[Reading | None] | None = None
    value: Any = None


def numbers_of(readings: Iterable[Reading]) -> list[float]:
    """Return the usable values among ``readings``, in their order."""
    return [
        float(value)
        for reading in readings
        if reading.quality in USABLE and (value := reading.value) is not None and not isinstance(value, str)
    ]


class Image:
    """Readings of one scan. A reading that is not usable forces its reader to say what to do instead.

    Built by ``freeze``. What the scan derives from it is added (``with_derived``); nothing that is there is changed.

    Args:
        facts: memory of ``follows``, handed on from image to image.
    """

    __slots__ = ("_facts", "_mark", "_readings", "at")

    def __init__(self, readings: dict[str, Reading], at: float, facts: dict[Fact[Any], _Known] | None = None) -> None:
        self._readings = readings
        self._facts: dict[Fact[Any], _Known] = {} if facts is None else facts
        self._mark = object()  # stands for this image where the image itself would be kept alive
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
        return value if value.__class__ is float else float(value)

    def flag(self, point: str, *, otherwise: bool) -> bool:
        """Return the flag, or ``otherwise`` when it can't be trusted."""
        reading = self._readings.get(point, NEVER_READ)
        return bool(reading.value) if reading.quality in USABLE else otherwise

    def numbers(self, points: Iterable[str]) -> list[float]:
        """Return the usable values among ``points``, in their order."""
        get = self._readings.get
        return numbers_of([get(point, NEVER_READ) for point in points])

    def readings(self, points: Iterable[str]) -> list[Reading | None]:
        """Return the reading of each of ``points``; None for what is no point of this image."""
        return [*map(self._readings.get, points)]

    def follows(self, fact: Fact[T]) -> T:
        """Return a fact: worked out anew only where a reading is another one than when it was worked out last.

        A reading that grows too old becomes another one by that, so no fact is staler than the image. What the scan
        itself derives may come after the first question of a scan, so no fact may hang on it.
        """
        known = self._facts.get(fact)
        if known is None:
            known = self._facts[fact] = _Known()
        if known.mark is not self._mark:
            readings = self.readings(fact.points)
            if readings != known.readings:
                known.readings, known.value = readings, fact.work([reading or NEVER_READ for reading in readings])
            known.mark = self._mark
        return cast(T, known.value)

    def with_derived(self, derived: Mapping[str, Reading]) -> Image:
        """Return this image with what the scan has worked out from it. Each point is worked out once a scan."""
        self._readings.update(derived)
        return self

    def items(self) -> Iterable[tuple[str, Reading]]:
        return self._readings.items()


@dataclass(slots=True)
class _Ageing:
    """Points that grow too old in the same time.

    A reading gives way to newer ones only, so none can be too old before the oldest good one is: ages are looked at
    then, and in between only those of readings that were not good and fresh.
    """

    limit_s: float
    names: list[str]
    watched: list[str] = field(default_factory=list)
    look_at: float = -inf

    def age(self, readings: dict[str, Reading], now: float) -> None:
        """Make those of ``readings`` STALE that are too old at ``now``."""
        if now >= self.look_at:
            self._look(readings, now)
        for name in self.watched:
            reading = readings[name]
            age = now - reading.at
            if reading.quality is Quality.GOOD and age > self.limit_s:
                readings[name] = Reading(reading.value, Quality.STALE, reading.at, f"no answer for {age:.1f} s")

    def _look(self, readings: Mapping[str, Reading], now: float) -> None:
        """Find what is not good and fresh, and when the first of the rest will be too old."""
        good, oldest, newest_too_old, watched = Quality.GOOD, inf, now - self.limit_s + ROUNDING_S, []
        for name in self.names:
            reading = readings[name]
            if reading.quality is not good or reading.at <= newest_too_old:
                if reading is not NEVER_READ:
                    watched.append(name)
            elif reading.at < oldest:
                oldest = reading.at
        self.watched, self.look_at = watched, oldest + self.limit_s - ROUNDING_S
        if watched:
            self.look_at = min(self.look_at, now + LOOK_S)


class Freezer:
    """Makes the images of one pod, scan after scan: every configured point has a reading, too old ones are STALE."""

    def __init__(self, points: Mapping[str, Point]) -> None:
        """Take every configured point by id; those that can't be read have no reading."""
        self._facts: dict[Fact[Any], _Known] = {}
        self._names = [name for name, point in points.items() if point.readable]
        self._missing = dict.fromkeys(self._names, NEVER_READ)
        limits = {points[name].max_age_s for name in self._names} - {inf}
        self._ageing = [_Ageing(limit, [n for n in self._names if points[n].max_age_s == limit]) for limit in limits]

    def freeze(self, inbox: Mapping[str, Reading], now: float) -> Image:
        """Return the image of ``inbox`` at monotonic ``now``; ``inbox`` holds the newest reading of each point."""
        readings = dict(inbox)  # a copy as a whole: most readings are those of before
        readings.update(self._missing)
        if not len(readings) == len(self._missing) + len(inbox) == len(self._names):
            readings = {name: inbox.get(name, NEVER_READ) for name in self._names}
            self._missing = {name: NEVER_READ for name in self._names if name not in inbox}
            for ageing in self._ageing:
                ageing.look_at = -inf
        for ageing in self._ageing:
            ageing.age(readings, now)
        return Image(readings, now, self._facts)


def freeze(inbox: Mapping[str, Reading], points: Mapping[str, Point], now: float) -> Image:
    """Return one image; ``Freezer`` makes many."""
    return Freezer(points).freeze(inbox, now)
