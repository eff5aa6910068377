"""What the racks are asked to compute, the cluster manager that can hold it back, and the weather outside.

Training repeats an iteration of 0.5 to 5 s with 30 to 65 % depth (published swings have content at 0.2 to 3 Hz),
writes checkpoints, and crashes; its mean is 76 % of rated power. Inference wanders.
"""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.kernel import Numbers, Words, kernel
from hil.plant.part import Flag, Number, Part
from hil.plant.streams import gauss, uniform

PROFILES = ("manual", "training", "inference", "square", "random")
MANUAL, TRAINING, INFERENCE, SQUARE, RANDOM = 0, 1, 2, 3, 4
PHASES = ("idle", "running", "checkpoint", "crashed")
IDLE, RUNNING, CHECKPOINT, CRASHED = 0, 1, 2, 3
IDLE_LEVEL, CHECKPOINT_LEVEL = 0.10, 0.25
COMPUTING = 0.7  # share of an iteration at full power; the rest exchanges gradients
WANDER_S, WANDER = 60.0, 0.12
CAP_DOWN, CAP_UP = 0.10, 0.02  # per second
CRASH_CHANCE = 0.15
DAY_S = 86400.0


@kernel
def between(streams: Words, low: float, high: float) -> float:
    """Return a number between two others, from the jobs' stream."""
    return low + (high - low) * uniform(streams, at.JOB_STREAM)


@kernel
def next_phase(x: Numbers, streams: Words) -> None:
    """Begin the next part of a job: checkpoints between runs, restarts after crashes, pauses between random jobs."""
    phase, drawn = int(x[at.JOB_PHASE]), int(x[at.JOB_PROFILE]) == RANDOM
    if phase == RUNNING:
        ends = drawn and uniform(streams, at.JOB_STREAM) < CRASH_CHANCE
        if ends:
            crashes = uniform(streams, at.JOB_STREAM) < 0.5
            x[at.JOB_PHASE] = CRASHED if crashes else IDLE
            x[at.JOB_LEFT_S] = between(streams, 20.0, 120.0) if crashes else between(streams, 60.0, 1800.0)
        else:
            x[at.JOB_PHASE] = CHECKPOINT
            x[at.JOB_LEFT_S] = between(streams, 5.0, 30.0) if drawn else x[at.JOB_CHECKPOINT_S]
        return
    if drawn and phase == IDLE:
        x[at.JOB_PERIOD_S], x[at.JOB_DEPTH] = between(streams, 0.5, 5.0), between(streams, 0.30, 0.65)
    x[at.JOB_PHASE] = RUNNING
    x[at.JOB_LEFT_S] = between(streams, 300.0, 1800.0) if drawn else x[at.JOB_EVERY_S]


@kernel
def iterating(x: Numbers, now: float) -> float:
    """Return the share of full level at this moment of an iteration, whose mean is 1 - depth x 0.3."""
    period = max(0.1, x[at.JOB_PERIOD_S])
    part = (now / period) % 1.0
    return 1.0 if part < COMPUTING else 1.0 - x[at.JOB_DEPTH]


@kernel
def level_at(x: Numbers, now: float) -> float:
    """Return what a rack of no jitter computes at ``now``, as a share of its rated power."""
    profile, phase, level = int(x[at.JOB_PROFILE]), int(x[at.JOB_PHASE]), x[at.JOB_LEVEL]
    if profile == SQUARE:
        return level if (now / max(0.1, x[at.JOB_PERIOD_S])) % 1.0 < 0.5 else x[at.JOB_LOW]
    if profile == INFERENCE:
        return min(1.0, max(IDLE_LEVEL, level + x[at.JOB_WANDER]))
    if phase in (IDLE, CRASHED):
        return IDLE_LEVEL
    if phase == CHECKPOINT:
        return CHECKPOINT_LEVEL * level
    return level * iterating(x, now)


@kernel
def step_second(x: Numbers, streams: Words) -> None:
    """Do once a second what is slow: jitter, the wandering of inference, and what the cluster manager has heard."""
    asked = x[at.CLUSTER_CAP] if x[at.CLUSTER_REFUSES] == 0 else 1.0
    for r in range(int(x[at.RACKS])):
        x[at.RACK_JITTER + r] = x[at.JOB_JITTER] * (2 * uniform(streams, at.JOB_STREAM) - 1)
        pipe = at.CAP_PIPE + r * at.LATENCY_S
        for k in range(at.LATENCY_S - 1, 0, -1):
            x[pipe + k] = x[pipe + k - 1]
        x[pipe] = min(asked, x[at.RACK_CAP + r] if x[at.REFUSES_CAP + r] == 0 else 1.0)
    kick = WANDER * math.sqrt(2 / WANDER_S) * gauss(streams, at.JOB_STREAM)
    x[at.JOB_WANDER] += kick - x[at.JOB_WANDER] / WANDER_S


@kernel
def step_jobs(x: Numbers, streams: Words, dt: float) -> None:
    """Set what each rack is asked for, and what its cap leaves of that."""
    x[at.JOB_SECOND] -= dt
    if x[at.JOB_SECOND] <= 1e-9:
        x[at.JOB_SECOND] += 1.0
        step_second(x, streams)
    profile = int(x[at.JOB_PROFILE])
    if profile in (TRAINING, RANDOM):
        x[at.JOB_LEFT_S] -= dt
        if profile == TRAINING and x[at.JOB_PHASE] == RUNNING:
            x[at.JOB_LEFT_S] = min(x[at.JOB_LEFT_S], x[at.JOB_EVERY_S])
        if x[at.JOB_LEFT_S] <= 0:
            next_phase(x, streams)
    demanded = 0.0
    for r in range(int(x[at.RACKS])):
        wanted = x[at.LOAD + r]
        if profile != MANUAL:
            late = x[at.JOB_SKEW_S] * x[at.RACK_SKEW + r]
            wanted = level_at(x, max(0.0, x[at.NOW_S] - late)) * (1 + x[at.RACK_JITTER + r])
        heard = x[at.CAP_PIPE + r * at.LATENCY_S + at.LATENCY_S - 1]
        applied = x[at.APPLIED_CAP + r]
        x[at.APPLIED_CAP + r] = max(heard, applied - CAP_DOWN * dt) if heard < applied else (
            min(heard, applied + CAP_UP * dt)
        )  # fmt: skip
        demanded += x[at.RACK_KW] * wanted
        cap = x[at.APPLIED_CAP + r]
        x[at.DEMAND + r] = min(wanted, cap) if cap < 1 else wanted
    x[at.IT_DEMAND_KW] = demanded
    x[at.BOOK_DEMAND] += demanded * dt


@kernel
def step_weather(x: Numbers) -> None:
    """Let the air outside follow the day."""
    if x[at.WEATHER_FOLLOWS] > 0:
        angle = 2 * math.pi * (x[at.NOW_S] - x[at.WEATHER_HOTTEST_S]) / DAY_S
        x[at.AMBIENT_C] = x[at.WEATHER_MEAN_C] + x[at.WEATHER_SWING_K] * math.cos(angle)
        x[at.OUTDOOR_DEW_C] = min(x[at.OUTDOOR_DEW_C], x[at.AMBIENT_C])


class Jobs(Part):
    """What runs on the racks. ``profile`` is one of PROFILES; "manual" leaves each rack to its ``load``.

    Settings: ``level`` (share of rated power), ``low`` (of the square), ``period_s``, ``depth`` of an iteration,
    ``checkpoint_s`` and ``checkpoint_every_s``, ``jitter`` (0.02) and ``skew_s`` (0.2) between racks.
    """

    __slots__ = ()
    level, low, period_s, depth = (
        Number(at.JOB_LEVEL),
        Number(at.JOB_LOW),
        Number(at.JOB_PERIOD_S),
        Number(at.JOB_DEPTH),
    )
    checkpoint_s, checkpoint_every_s = Number(at.JOB_CHECKPOINT_S), Number(at.JOB_EVERY_S)
    jitter, skew_s = Number(at.JOB_JITTER), Number(at.JOB_SKEW_S)

    @property
    def profile(self) -> str:
        return PROFILES[int(self.x[at.JOB_PROFILE])]

    @profile.setter
    def profile(self, name: str) -> None:
        if name not in PROFILES:
            raise ValueError(f"no load profile {name!r}; there are {', '.join(PROFILES)}")
        self.x[at.JOB_PROFILE] = PROFILES.index(name)
        self.x[at.JOB_PHASE], self.x[at.JOB_LEFT_S] = RUNNING, self.checkpoint_every_s

    @property
    def phase(self) -> str:
        return PHASES[int(self.x[at.JOB_PHASE])]

    def crash(self, seconds: float = 60.0) -> None:
        """Let the job fall to idle and start again after ``seconds`` (20 to 120 on real clusters)."""
        self.x[at.JOB_PHASE], self.x[at.JOB_LEFT_S] = CRASHED, seconds


class Cluster(Part):
    """The cluster manager: ``cap`` for all racks (1 is none), heard after 5 s, down 10 %/s, up 2 %/s; ``refuses``."""

    __slots__ = ()
    cap, refuses = Number(at.CLUSTER_CAP), Flag(at.CLUSTER_REFUSES)

    @property
    def applied_cap(self) -> float:
        """The lowest cap that a rack runs under."""
        return min(float(self.x[at.APPLIED_CAP + r]) for r in range(int(self.x[at.RACKS])))


class Weather(Part):
    """``follows``: the ambient temperature swings about ``mean_c`` by ``swing_k``, hottest at ``hottest_at_s``."""

    __slots__ = ()
    follows, mean_c, swing_k = Flag(at.WEATHER_FOLLOWS), Number(at.WEATHER_MEAN_C), Number(at.WEATHER_SWING_K)
    hottest_at_s = Number(at.WEATHER_HOTTEST_S)
