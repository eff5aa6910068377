"""What takes more than one scan to see: a pump that moves nothing, a loop that clogs, a level that falls, a hot branch.

Each watch takes measured numbers and the time, and keeps no more than it needs. None of them is asked for a decision:
they give figures, rows compare them with limits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.core.blocks import clamp
from controller.core.loops import Tcs

SAME_SPEED_PCT = 5.0  # pumps within this of each other should draw alike
LEAST_POWER_KW = 0.4  # under this a pump's power tells nothing
JUMP = 1.08  # of the resistance as it was: a step that no strainer makes
LEARN_S = 60.0
LEARN_LEAST, LEARN_MOST = 0.7, 3.0  # of the resistance as commissioned
STEADY_PCT = 1.0  # speeds that moved less than this in STEADY_S are steady
STEADY_S = 4.0
FALL_WINDOW_S = 6.0
QUICK_WINDOW_S = 3.0  # where another sign says the same
FALL_SAMPLES_MIN = 6
SMOOTH_S = 10.0
TRIP_HEAT = 1.44  # of a thermal-magnetic breaker that holds 1.2 times its rating for ever (IEC 60947-2)


@dataclass(slots=True)
class Slope:
    """Rate of change of a number over the last ``window_s``, by least squares over the values as they came.

    A value further than ``jump`` from the one before comes from elsewhere: what was seen is forgotten.
    """

    window_s: float
    jump: float = math.inf
    seen: deque[tuple[float, float]] = field(default_factory=deque)

    def step(self, value: float | None, at: float) -> float | None:
        """Return units per second; None until there is enough. ``at`` is when the device gave the value."""
        if value is None or (self.seen and abs(value - self.seen[-1][1]) > self.jump):
            self.seen.clear()
        if value is None:
            return None
        if not self.seen or at > self.seen[-1][0]:
            self.seen.append((at, value))
        while self.seen and at - self.seen[0][0] > self.window_s:
            self.seen.popleft()
        if len(self.seen) < FALL_SAMPLES_MIN or self.seen[-1][0] - self.seen[0][0] < self.window_s / 2:
            return None
        middle = sum(t for t, _ in self.seen) / len(self.seen)
        spread = sum((t - middle) ** 2 for t, _ in self.seen)
        return sum((t - middle) * v for t, v in self.seen) / spread


class Fall(NamedTuple):
    """How fast the level falls in %/s, the same over a shorter time and less sure, and what is lost in all in %."""

    sure: float = 0.0
    quick: float = 0.0
    lost: float = 0.0


@dataclass(slots=True)
class LevelWatch:
    """How fast the reservoir falls, and what it has lost within ``loss_s``."""

    loss_s: float
    slope: Slope = field(default_factory=lambda: Slope(FALL_WINDOW_S))
    quick: Slope = field(default_factory=lambda: Slope(QUICK_WINDOW_S))
    smooth: float | None = None
    highest: deque[tuple[float, float]] = field(default_factory=deque)
    at: float = 0.0

    def step(self, level_pct: float | None, at: float) -> Fall:
        """Return how the level goes; zeros while nothing is known. ``at`` is when the device gave it."""
        rate, quick = self.slope.step(level_pct, at), self.quick.step(level_pct, at)
        if level_pct is None:
            self.smooth = None
            return Fall()
        if self.smooth is None:
            self.smooth = level_pct
            self.highest.clear()
        passed = max(0.0, at - self.at)
        self.smooth += (level_pct - self.smooth) * passed / (SMOOTH_S + passed)
        self.at = at
        while self.highest and self.highest[-1][1] <= self.smooth:
            self.highest.pop()
        self.highest.append((at, self.smooth))
        while at - self.highest[0][0] > self.loss_s:
            self.highest.popleft()
        return Fall(-(rate or 0.0), -(quick or 0.0), self.highest[0][1] - self.smooth)


@dataclass(slots=True)
class LoopWatch:
    """Resistance of the loop against what was commissioned, from flow, speed and number of proven pumps.

    ``known`` follows slowly and is what the pumps' feed-forward goes by; ``jumped`` tells that what is seen now lies
    above it by a step: a pump that counts as proven gives nothing, or a valve has shut.
    """

    tcs: Tcs
    known: float = 1.0
    jumped: bool = False
    speeds: deque[tuple[float, float]] = field(default_factory=deque)
    at: float | None = None

    def step(self, flow_lpm: float | None, speeds_pct: list[float], now: float) -> float | None:
        """Return the resistance seen now, 1 for the commissioned one; None while it can't be told.

        Args:
            speeds_pct: of the proven pumps.
        """
        passed = 0.0 if self.at is None else clamp(now - self.at, 0.0, 1.0)
        self.at = now
        seen = self._seen(flow_lpm, speeds_pct, now)
        if seen is None:
            self.jumped = False
            return None
        self.jumped = seen > JUMP * self.known
        self.known = clamp(self.known + (seen - self.known) * passed / LEARN_S, LEARN_LEAST, LEARN_MOST)
        return seen

    def _seen(self, flow_lpm: float | None, speeds_pct: list[float], now: float) -> float | None:
        tcs = self.tcs
        if flow_lpm is None or not speeds_pct or flow_lpm < tcs.flow_min_lpm / 2:
            self.speeds.clear()
            return None
        speed = sum(speeds_pct) / len(speeds_pct)
        self.speeds.append((now, speed))
        while now - self.speeds[0][0] > STEADY_S:
            self.speeds.popleft()
        values = [value for _, value in self.speeds]
        if max(values) - min(values) > STEADY_PCT or now - self.speeds[0][0] < STEADY_S / 2:
            return None
        droop = tcs.pump_droop_kpa * (flow_lpm / len(speeds_pct) / tcs.pump_rated_lpm) ** 2
        head = tcs.pump_shutoff_kpa * (speed / 100) ** 2 - droop
        return head / (tcs.system_drop_kpa * (flow_lpm / tcs.flow_design_lpm) ** 2)


def idle_pumps(powers_kw: Mapping[str, float], speeds_pct: Mapping[str, float], low_pct: float) -> set[str]:
    """Return the running pumps that draw less than ``low_pct`` of what a partner at the same speed draws.

    A pump whose coupling is broken or that stands in air spins and draws next to nothing.
    """
    found = set()
    for pump, power in powers_kw.items():
        partners = [
            other_kw
            for other, other_kw in powers_kw.items()
            if other != pump and abs(speeds_pct[other] - speeds_pct[pump]) <= SAME_SPEED_PCT
        ]
        most = max(partners, default=0.0)
        if most >= LEAST_POWER_KW and power < low_pct / 100 * most:
            found.add(pump)
    return found


@dataclass(slots=True)
class BranchWatch:
    """Heat of one branch breaker's thermal release: follows the square of the current with ``time_s``."""

    rated_a: float
    time_s: float
    heat: float | None = None
    amps: float = 0.0
    at: float = 0.0

    def step(self, amps: float | None, now: float) -> float:
        """Return the heat in % of that at which the breaker opens; a current that is not known counts as before."""
        self.amps = self.amps if amps is None else amps
        target = (self.amps / self.rated_a) ** 2
        if self.heat is None:
            self.heat = target
        passed = clamp(now - self.at, 0.0, self.time_s)
        self.heat += (target - self.heat) * passed / self.time_s
        self.at = now
        return 100 * self.heat / TRIP_HEAT
