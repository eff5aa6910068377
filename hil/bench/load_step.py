"""How well the supply temperature is held when the load jumps: the whole engine against a plain PI, by plant truth.

Virtual time, transmitters with their noise, every point polled once a second. Both controls begin on twins of one pod
at 10 % load. The plants that differ from the design differ by all extremes together, so that each pair of extremes
meets (a fractional factorial plan of five factors in eight runs): conductance of the exchanger, volumes, stroke and
curve of the valve, and how much of the measured power becomes heat in the coolant.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from controller.config.plan import Plan, load_plan
from hil.bench.plain_pi import PlainPi, twin
from hil.bench.result import Result
from hil.plant import slots as at
from hil.plant.plant import Plant
from hil.runner import REFERENCE_POD
from hil.virtual import VirtualStage, virtual_plan
from hil.warm import warm_up

NAME = "load-step"
IDLE, FULL = 0.1, 1.0
SETTLE_S, PLAIN_SETTLE_S, NORMAL_MAX_S, REST_S = 30.0, 600.0, 90.0, 120.0
SAMPLE_S = 0.2
QUARTER_S, LONG_S = 900.0, 1e6
POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What a plant has in place of the design's figures: factors, but for the valve's stroke and rangeability."""

    conductance: float = 1.0
    volume: float = 1.0
    stroke_s: float = 30.0
    rangeability: float = 30.0
    heat: float = 1.0

    def apply(self, plant: Plant) -> None:
        x = plant.x
        x[at.FOULING] = self.conductance
        for slot in (at.SUPPLY_L, at.BACK_L, at.TANK_L):
            x[slot] *= self.volume
        plant.valve.stroke_s, x[at.RANGEABILITY] = self.stroke_s, self.rangeability
        x[at.LIQUID_SHARE] *= self.heat


def mismatched() -> Iterator[Mismatch]:
    """Return eight plants: three factors in all combinations, the other two by products of those."""
    for a in (0, 1):
        for b in (0, 1):
            for c in (0, 1):
                yield Mismatch((0.75, 1.1)[a], (0.7, 1.4)[b], (20.0, 45.0)[c], (22.0, 40.0)[a ^ b], (0.95, 1.05)[a ^ c])


@dataclass(slots=True)
class Samples:
    """The truth of one run, taken every SAMPLE_S."""

    error_k: list[float] = field(default_factory=list)
    hottest_c: list[float] = field(default_factory=list)
    valve: list[float] = field(default_factory=list)
    supply_sp_c: float = 30.0

    def take(self, plant: Plant) -> None:
        self.error_k.append(plant.supply_c - self.supply_sp_c)
        self.hottest_c.append(plant.hottest_c)
        self.valve.append(plant.valve.position)

    @property
    def peak_k(self) -> float:
        return max(map(abs, self.error_k))

    @property
    def rms_k(self) -> float:
        return math.sqrt(sum(error * error for error in self.error_k) / len(self.error_k))

    @property
    def integral_k_s(self) -> float:
        return SAMPLE_S * sum(map(abs, self.error_k))

    @property
    def strokes(self) -> float:
        """Whole strokes of the valve in a quarter of an hour."""
        travel = sum(abs(after - before) for before, after in zip(self.valve, self.valve[1:], strict=False))
        return travel * QUARTER_S / (SAMPLE_S * len(self.valve))


class Pod:
    """One pod under one control. ``advance`` lets SAMPLE_S pass."""

    def __init__(self, plant: Plant, advance: Callable[[], None], supply_sp_c: float) -> None:
        self.plant, self.advance, self.supply_sp_c = plant, advance, supply_sp_c

    def run(self, seconds: float) -> Samples:
        samples = Samples(supply_sp_c=self.supply_sp_c)
        for _ in range(round(seconds / SAMPLE_S)):
            self.advance()
            samples.take(self.plant)
        return samples

    def load(self, share: float) -> None:
        self.plant.jobs.profile = "manual"
        for rack in self.plant.racks:
            rack.load = share

    def square(self, period_s: float) -> None:
        self.plant.jobs.profile, self.plant.jobs.period_s = "square", period_s


@cache
def polled_plan() -> Plan:
    """Return the reference pod with one reading of each point a second."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site.toml"
        site.write_text(f'base = "{REFERENCE_POD}"\n[rates]\nfast_s = {POLL_S}\n')
        return virtual_plan(load_plan(site))


def pods(mismatch: Mismatch) -> tuple[Pod, Pod]:
    """Return twins at idle load: one under the engine, one under the plain PI, both settled.

    Raises:
        RuntimeError: the engine does not take the pod over.
    """
    plan = polled_plan()
    stage = VirtualStage(plan, load=IDLE, seed=1)
    mismatch.apply(stage.plant)
    warm_up(stage)
    plain = twin(stage.plant)
    stage.controller(True)
    stage.advance(NORMAL_MAX_S)  # in which the chiller that is too many at this load goes off
    if stage.seen.mode != "NORMAL":
        raise RuntimeError(f"the engine is in {stage.seen.mode} after {NORMAL_MAX_S:g} s")
    stage.advance(SETTLE_S)
    for plant in (stage.plant, plain):  # idle for long: what stands still has rested
        plant.x[at.CHILLER_IDLE_S : at.CHILLER_IDLE_S + at.CHILLERS_MAX] = LONG_S
        plant.x[at.CHILLER_SINCE_START_S : at.CHILLER_SINCE_START_S + at.CHILLERS_MAX] = LONG_S
    setpoint = plan.pod.tcs.supply_temp_sp_c
    control = PlainPi(plain, setpoint)
    ours = Pod(stage.plant, lambda: stage.advance(SAMPLE_S), setpoint)
    theirs = Pod(plain, lambda: control.step(SAMPLE_S), setpoint)
    theirs.run(PLAIN_SETTLE_S)
    return ours, theirs


def step(pair: tuple[Pod, Pod], seconds: float) -> tuple[Samples, Samples]:
    for pod in pair:
        pod.load(FULL)
    return pair[0].run(seconds), pair[1].run(seconds)


def measure(quick: bool) -> Iterator[Result]:
    pair = pods(Mismatch())
    ours, plain = step(pair, 300.0 if quick else QUARTER_S)
    params = {"from": IDLE, "to": FULL, "poll_s": POLL_S}
    detail = {"integral_k_s": ours.integral_k_s, "plain_integral_k_s": plain.integral_k_s, "plain_k": plain.peak_k}
    yield Result(NAME, {"figure": "step_peak_k"} | params, ours.peak_k, "<= 0.6", detail)
    yield Result(NAME, {"figure": "step_times_better"} | params, plain.peak_k / ours.peak_k, ">= 6")
    yield Result(
        NAME, {"figure": "step_hottest_c"} | params, max(ours.hottest_c), "<= 80", {"plain_c": max(plain.hottest_c)}
    )
    steady = pair[0].run(REST_S if quick else QUARTER_S)
    yield Result(NAME, {"figure": "steady_strokes", "load": FULL}, steady.strokes, "<= 0.5", {"peak_k": steady.peak_k})
    yield from squares(pair, 240.0 if quick else QUARTER_S)
    yield from mismatches(list(mismatched())[:1] if quick else list(mismatched()))


def squares(pair: Sequence[Pod], seconds: float) -> Iterator[Result]:
    for pod in pair:
        pod.square(60.0)
    ours, plain = [pod.run(seconds) for pod in pair]
    params = {"period_s": 60.0, "low": IDLE, "high": FULL, "seconds": seconds}
    detail = {"peak_k": ours.peak_k, "plain_rms_k": plain.rms_k, "plain_peak_k": plain.peak_k}
    yield Result(NAME, {"figure": "square_rms_k"} | params, ours.rms_k, "<= 0.2", detail)
    yield Result(NAME, {"figure": "square_times_better"} | params, plain.rms_k / ours.rms_k, ">= 5")
    yield Result(NAME, {"figure": "square_strokes"} | params, ours.strokes, "<= 12", {"plain": plain.strokes})
    yield Result(NAME, {"figure": "square_hottest_c"} | params, max(ours.hottest_c), "<= 80")


def mismatches(plants: Sequence[Mismatch]) -> Iterator[Result]:
    found = [(mismatch, step(pods(mismatch), REST_S)) for mismatch in plants]
    params = {"plants": len(plants), "from": IDLE, "to": FULL, "poll_s": POLL_S}
    each = [
        dataclasses.asdict(mismatch) | {"peak_k": ours.peak_k, "plain_k": plain.peak_k}
        for mismatch, (ours, plain) in found
    ]
    worst = max(ours.peak_k for _, (ours, _) in found)
    yield Result(NAME, {"figure": "mismatched_peak_k"} | params, worst, "<= 1.0", {"each": each})
    plain_worst = max(plain.peak_k for _, (_, plain) in found)
    yield Result(
        NAME,
        {"figure": "mismatched_times_better"} | params,
        plain_worst / worst,
        ">= 4",
        {
            "least_of_a_plant": min(plain.peak_k / ours.peak_k for _, (ours, plain) in found),
        },
    )
    yield Result(
        NAME, {"figure": "mismatched_hottest_c"} | params, max(max(o.hottest_c) for _, (o, _) in found), "<= 80"
    )
