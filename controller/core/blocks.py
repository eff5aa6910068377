"""Small stateful blocks: each has step(...), takes time as an argument and never looks at a clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

ANCHOR = -1  # the anchor's place among the sensors of a vote
REFILL = 0.25  # PX4's failsafe: a delay refills at a quarter of the rate at which it drains


def clamp(value: float, low: float, high: float) -> float:
    """Return ``value`` held between both; ``high`` where they cross."""
    if value < low:
        value = low
    return high if value > high else value


@dataclass(slots=True)
class Ramp:
    """Follows a target no faster than its rates (units per second); starts at ``value``, or else at the target."""

    up_per_s: float
    down_per_s: float
    value: float | None = None
    at: float = 0.0

    def step(self, target: float, now: float) -> float:
        if self.value is None:
            self.value = target
        else:
            passed = max(0.0, now - self.at)
            self.value = clamp(target, self.value - self.down_per_s * passed, self.value + self.up_per_s * passed)
        self.at = now
        return self.value


@dataclass(slots=True)
class Pi:
    """Proportional-integral control with clamped output, back-calculated integral and bumpless start.

    ``error`` is positive when more output is wanted. ``integral_s`` is the time in which the integral repeats the
    proportional part.
    """

    gain: float
    integral_s: float
    low: float
    high: float
    integral: float = 0.0
    at: float | None = None

    def preset(self, output: float, error: float, now: float) -> None:
        """Make the next output continue from ``output``."""
        self.integral = clamp(output - self.gain * error, self.low, self.high)
        self.at = now

    def step(self, error: float, now: float) -> float:
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now
        self.integral += self.gain * error * passed / self.integral_s
        wanted = self.gain * error + self.integral
        output = clamp(wanted, self.low, self.high)
        if output != wanted:
            self.integral = clamp(self.integral + (output - wanted), self.low, self.high)
        return output


@dataclass(slots=True)
class Delay:
    """True once its input was true for ``on_s`` without a break, false once it was false for ``off_s``."""

    on_s: float
    off_s: float = 0.0
    state: bool = False
    since: float | None = None

    @property
    def idle(self) -> bool:
        """Whether it is false and nothing is under way."""
        return not self.state and self.since is None

    def step(self, condition: bool, now: float) -> bool:
        if condition == self.state:
            self.since = None
            return self.state
        if self.since is None:
            self.since = now
        if now - self.since >= (self.off_s if self.state else self.on_s):
            self.state = condition
            self.since = None
        return self.state


@dataclass(slots=True)
class LeakyDelay:
    """True while its input is, once it was true for ``on_s`` in all; time without it gives back only a quarter.

    So a condition that comes and goes acts in the end, if it is there for more than a fifth of the time. Between two
    steps the input is what it was in the first of them: the step that finds it gone may still act.
    """

    on_s: float
    spent_s: float = 0.0
    condition: bool = False
    at: float | None = None

    @property
    def at_rest(self) -> bool:
        """Whether a step without its condition, however late, would change nothing."""
        return not self.condition and self.spent_s <= 0.0

    def step(self, condition: bool, now: float) -> bool:
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.spent_s = clamp(self.spent_s + (passed if self.condition else -REFILL * passed), 0.0, self.on_s)
        was, self.condition, self.at = self.condition, condition, now
        return (condition or was) and self.spent_s >= self.on_s


@dataclass(slots=True)
class Hysteresis:
    """True from ``on_at`` on until the input is back at ``off_at``; for low inputs ``on_at`` is the lower of both."""

    on_at: float
    off_at: float
    state: bool = False

    def step(self, value: float) -> bool:
        sign = 1.0 if self.on_at >= self.off_at else -1.0
        if self.state:
            self.state = sign * value > sign * self.off_at
        else:
            self.state = sign * value >= sign * self.on_at
        return self.state


@dataclass(slots=True)
class MinMove:
    """Follows its input only in moves of at least ``least``, but always reaches the ends ``low`` and ``high``."""

    least: float
    low: float
    high: float
    value: float | None = None

    def step(self, target: float) -> float:
        target = clamp(target, self.low, self.high)
        if self.value is None or abs(target - self.value) >= self.least or target in (self.low, self.high):
            self.value = target
        return self.value


@dataclass(slots=True)
class Play:
    """Follows its input like a loose joint: stands while the input is within half of ``width``, else keeps so far off.

    So a reading that toggles between two neighbouring digits stands still, and one that moves is late by no time.
    """

    width: float
    value: float | None = None

    def step(self, target: float) -> float:
        half = self.width / 2
        self.value = target if self.value is None else clamp(self.value, target - half, target + half)
        return self.value


@dataclass(slots=True)
class Accumulator:
    """Integral of a rate over time: energy from power, volume from flow, run time from running (rate 1).

    The rate of one step counts until the next. A gap longer than ``gap_max_s`` counts as that long: what was not
    watched is not made up.
    """

    gap_max_s: float
    total: float = 0.0
    rate_per_s: float = 0.0
    at: float | None = None

    def step(self, rate_per_s: float, now: float) -> float:
        passed = 0.0 if self.at is None else clamp(now - self.at, 0.0, self.gap_max_s)
        self.total += self.rate_per_s * passed
        self.rate_per_s, self.at = rate_per_s, now
        return self.total


@dataclass(slots=True)
class Latch:
    """Stays set until reset, and can't be reset while its cause is there."""

    state: bool = False

    def step(self, cause: bool, *, reset: bool = False) -> bool:
        self.state = cause or (self.state and not reset)
        return self.state


@dataclass(slots=True)
class PeakHold:
    """Follows a rising input at once; a fall only at ``fall_per_s``, and never below the highest of ``hold_s`` before.

    Noise on the input can't shorten the hold: what counts is every value of that time, not the moment of the highest.
    """

    hold_s: float
    fall_per_s: float
    value: float | None = None
    at: float = 0.0
    peaks: deque[tuple[float, float]] = field(default_factory=deque)  # (until, value): each lower than the one before

    def step(self, target: float, now: float) -> float:
        while self.peaks and (self.peaks[0][0] <= now or self.peaks[-1][1] <= target):
            if self.peaks[0][0] <= now:
                self.peaks.popleft()
            else:
                self.peaks.pop()
        self.peaks.append((now + self.hold_s, target))
        floor = self.peaks[0][1]
        if self.value is None or floor >= self.value:
            self.value = floor
        else:
            self.value = max(floor, self.value - self.fall_per_s * max(0.0, now - self.at))
        self.at = now
        return self.value


def deadband(error: float, band: float) -> float:
    """Return 0 for an error within ``band``, else by how much it lies beyond: without a step at the edge."""
    return error - clamp(error, -band, band)


def vote(values: Sequence[float], *, safer_is_high: bool) -> float | None:
    """Return the median of three or more, the safer of two, the one, or None."""
    if not values:
        return None
    if len(values) >= 3:
        return float(median(values))
    return max(values) if safer_is_high else min(values)


def majority(flags: Sequence[bool | None], *, safer: bool) -> bool | None:
    """Return what most of the known flags say (2oo3 of three), ``safer`` in a tie, None where none is known."""
    known = [flag for flag in flags if flag is not None]
    on = sum(known)
    if not known:
        return None
    return safer if 2 * on == len(known) else 2 * on > len(known)


class Voted(NamedTuple):
    """What a vote found: the value, None where nothing can be trusted; and by place who is in it and who is ejected."""

    value: float | None
    used: tuple[int, ...] = ()
    ejected: tuple[int, ...] = ()


@dataclass(slots=True)
class _Channel:
    """One sensor in a vote."""

    deviates: LeakyDelay
    holds: Delay
    ejected: bool = False
    value: float | None = None
    changed_at: float = 0.0
    moved: bool = False  # have all others since then
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)  # lowest and highest of each other since then

    @property
    def at_rest(self) -> bool:
        """Whether the same values again, however late, would change nothing."""
        return not self.ejected and not self.moved and self.deviates.at_rest


@dataclass(slots=True)
class Vote:
    """One value from several sensors, without those that can't be right.

    The median of three or more, the mean of two that agree, the safer of two that don't, the one. A sensor is
    ejected when it lies further than ``band`` from the median for ``eject_s`` (comings and goings add up), or has not
    changed at all for ``frozen_s`` while each of the others, and the anchor, moved about by more than ``moved``. It
    comes back once it has held within ``band`` of the others, and alive, for ``readmit_s`` without a break. With fewer
    than three nobody can be told to be wrong, unless there is an anchor: an estimate of another kind. While sensors lie
    further apart than ``band``, the one nearest to it takes the median's place, so two that err together don't outvote
    the third. Numbers are in the unit of the sensors.
    """

    count: int
    band: float
    eject_s: float
    readmit_s: float
    frozen_s: float
    moved: float
    safer_is_high: bool
    channels: list[_Channel] = field(init=False)
    _rested: tuple[tuple[float | None, ...], Voted] | None = None  # what was seen last and found, while all is at rest

    def __post_init__(self) -> None:
        self.channels = [_Channel(LeakyDelay(self.eject_s), Delay(self.readmit_s)) for _ in range(self.count)]

    def step(self, values: Sequence[float | None], now: float, anchor: float | None = None) -> Voted:
        """Return the vote of ``values``, one for each sensor; None for one that can't be read now."""
        if len(values) != self.count:
            raise ValueError(f"a vote of {self.count} got {len(values)} values")
        seen = (*values, anchor)
        if self._rested and self._rested[0] == seen:
            return self._rested[1]
        known = before = self._good(values)
        for place, channel in enumerate(self.channels):
            was = channel.ejected
            self._judge(place, channel, values, known, now, anchor)
            if self.channels[place].ejected is not was:
                known = self._good(values)
        ejected = tuple(place for place, channel in enumerate(self.channels) if channel.ejected)
        voted = Voted(self._of([float(values[place] or 0.0) for place in known]), known, ejected)
        at_rest = known == before and all(channel.at_rest for channel in self.channels)
        self._rested = (seen, voted) if at_rest else None
        return voted

    def _trusted(self, known: Sequence[float], anchor: float | None) -> float | None:
        """Return the value that the anchor speaks for, where sensors lie too far apart."""
        if anchor is None or len(known) < 2 or max(known) - min(known) <= self.band:
            return None
        return min(known, key=lambda value: abs(value - anchor))

    def _judge(
        self, place: int, channel: _Channel, values: Sequence[float | None], known: Sequence[int], now: float,
        anchor: float | None,
    ) -> None:  # fmt: skip
        value = values[place]
        others = [other for other in known if other != place]
        rest = [float(values[other] or 0.0) for other in others]
        if value is None or not rest:
            channel.holds.step(False, now)
            channel.deviates.step(False, now)
            return
        beside = dict(zip(others, rest, strict=True))
        if anchor is not None:
            beside[ANCHOR] = anchor
        frozen = self._frozen(channel, value, beside, now)
        trusted = self._trusted([float(values[other] or 0.0) for other in known], anchor)
        if channel.ejected:
            back = channel.holds.step(abs(value - median(rest)) <= self.band and not frozen, now)
            if back:
                self.channels[place] = _Channel(LeakyDelay(self.eject_s), Delay(self.readmit_s), False, value, now)
            return
        apart = abs(value - (median([*rest, value]) if trusted is None else trusted)) > self.band
        enough = len(rest) >= (2 if trusted is None else 1)
        if channel.deviates.step(apart and enough, now) or (frozen and len(rest) >= 2):
            channel.ejected = True
            channel.holds = Delay(self.readmit_s)

    def _frozen(self, channel: _Channel, value: float, others: Mapping[int, float], now: float) -> bool:
        if value != channel.value or others.keys() != channel.spans.keys():
            channel.value, channel.changed_at = value, now
            channel.spans = {place: (other, other) for place, other in others.items()}
            channel.moved = False
            return False
        for place, other in others.items():
            low, high = channel.spans[place]
            if not low <= other <= high:
                channel.spans[place] = min(low, other), max(high, other)
        channel.moved = all(high - low > self.moved for low, high in channel.spans.values())
        return channel.moved and now - channel.changed_at >= self.frozen_s

    def _good(self, values: Sequence[float | None]) -> tuple[int, ...]:
        return tuple(
            place for place, value in enumerate(values) if value is not None and not self.channels[place].ejected
        )

    def _of(self, values: Sequence[float]) -> float | None:
        if len(values) == 2 and abs(values[0] - values[1]) <= self.band:
            return clamp(values[0] / 2 + values[1] / 2, min(values), max(values))
        return vote(values, safer_is_high=self.safer_is_high)


@dataclass(slots=True)
class DutyStandby:
    """Which members of a group are to run: so many as wanted, their run times kept even.

    A member that is no longer available is replaced at once, first by one that runs already, then by the one with the
    fewest hours. A change for even hours overlaps: who leaves runs on until all on duty have run for ``overlap_s``.

    Attributes:
        swap_s: by how much more than an idle one a member must have run to be changed.
        run_s: run time of each member in seconds; to be kept over a restart.
    """

    members: tuple[str, ...]
    swap_s: float
    overlap_s: float
    run_s: dict[str, float] = field(default_factory=dict)
    duty: list[str] = field(default_factory=list)
    leaving: str = ""
    overlap: Delay = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.run_s = {member: self.run_s.get(member, 0.0) for member in self.members}
        self.overlap = Delay(self.overlap_s)

    def step(
        self, count: int, available: AbstractSet[str], running: AbstractSet[str], now: float, *, may_rotate: bool
    ) -> frozenset[str]:
        """Return who is to run now: at least ``count`` of those available, while there are so many."""
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now
        for member in running & set(self.members):
            self.run_s[member] += passed
        if self.leaving not in available:
            self.leaving = ""
        self._fill(count, available, running)
        if self.leaving and self.overlap.step(set(self.duty) <= running, now):
            self.leaving = ""
        elif may_rotate and not self.leaving:
            self._rotate(available)
        return frozenset(self.duty) | ({self.leaving} if self.leaving else frozenset())

    def _fill(self, count: int, available: AbstractSet[str], running: AbstractSet[str]) -> None:
        self.duty = [member for member in self.duty if member in available]
        spare = [member for member in self.members if member in available and member not in self.duty]
        spare.sort(key=lambda member: (member not in running, self.run_s[member]))
        self.duty += spare[: max(0, count - len(self.duty))]
        while len(self.duty) > max(0, count):
            self.duty.remove(max(self.duty, key=self.run_s.__getitem__))
        if self.leaving in self.duty:
            self.leaving = ""

    def _rotate(self, available: AbstractSet[str]) -> None:
        idle = [member for member in self.members if member in available and member not in self.duty]
        if not idle or not self.duty:
            return
        most = max(self.duty, key=self.run_s.__getitem__)
        least = min(idle, key=self.run_s.__getitem__)
        if self.run_s[most] - self.run_s[least] >= self.swap_s:
            self.duty[self.duty.index(most)] = least
            self.leaving = most
            self.overlap = Delay(self.overlap_s)
