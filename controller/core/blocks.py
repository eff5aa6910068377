"""Small stateful blocks: each has step(...), takes time as an argument and never looks at a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


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
class Latch:
    """Stays set until reset, and can't be reset while its cause is there."""

    state: bool = False

    def step(self, cause: bool, *, reset: bool = False) -> bool:
        self.state = cause or (self.state and not reset)
        return self.state


@dataclass(slots=True)
class PeakHold:
    """Follows a rising input at once, holds ``hold_s`` after the last peak, then lets go at ``fall_per_s``."""

    hold_s: float
    fall_per_s: float
    value: float | None = None
    peak_at: float = 0.0
    at: float = 0.0

    def step(self, target: float, now: float) -> float:
        if self.value is None or target >= self.value:
            self.value, self.peak_at = target, now
        elif now - self.peak_at >= self.hold_s:
            self.value = max(target, self.value - self.fall_per_s * max(0.0, now - self.at))
        self.at = now
        return self.value


def vote(values: Sequence[float], *, safer_is_high: bool) -> float | None:
    """Return the median of three or more, the safer of two, the one, or None."""
    if not values:
        return None
    if len(values) >= 3:
        return float(median(values))
    return max(values) if safer_is_high else min(values)
