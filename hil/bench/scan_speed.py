"""How long one scan of the reference pod takes, and how many times real time engine and plant run together."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from controller.config.plan import Plan, load_plan
from controller.core.engine import Engine
from hil.bench.result import Result
from hil.runner import REFERENCE_POD
from hil.virtual import VirtualStage, virtual_plan
from hil.warm import warm_up

NAME = "scan-speed"
SCANS, QUICK_SCANS = 3000, 500
SCAN_BAR, TOGETHER_BAR = "<= 1", ">= 300"
SIMULATED_SCAN_S = 0.5  # as `make sim` scans while anything happens


@dataclass(slots=True)
class _Timed:
    """An engine whose scans are timed, in processor seconds."""

    engine: Engine
    took: list[float] = field(default_factory=list)

    def step(self, *given: Any) -> Any:
        began = time.process_time()
        effects = self.engine.step(*given)
        self.took.append(time.process_time() - began)
        return effects

    def saved(self) -> Any:
        return self.engine.saved()


def measure(quick: bool) -> Iterator[Result]:
    plan = virtual_plan(load_plan(REFERENCE_POD))
    scans = QUICK_SCANS if quick else SCANS
    for scan_s in (plan.scan_s, SIMULATED_SCAN_S):
        yield from _at(replace(plan, scan_s=scan_s), scans, simulated=scan_s == SIMULATED_SCAN_S)


def _at(plan: Plan, scans: int, *, simulated: bool) -> Iterator[Result]:
    """Measure at one scan period: how long a scan takes counts at the pod's, how quick both run at the simulation's."""
    stage = VirtualStage(plan, load=0.7, seed=1)
    warm_up(stage)
    stage.controller(True)
    stage.advance(60.0)
    assert stage.engine is not None
    stage.plant.jobs.profile = "training"
    gc.collect()
    gc.freeze()  # as the service does once it runs
    timed = _Timed(stage.engine)
    stage.engine = timed  # type: ignore[assignment]
    began = time.process_time()
    stage.advance(scans * stage.scan_s)
    whole_s = time.process_time() - began
    stage.engine = timed.engine
    began = time.process_time()
    stage.plant.advance(scans * stage.scan_s)
    plant_s = time.process_time() - began
    mean_s = statistics.fmean(timed.took)
    params = {"points": len(plan.pod.points), "scan_s": plan.scan_s}
    detail = {
        "scans": scans, "p99_ms": 1000 * statistics.quantiles(timed.took, n=100)[98], "mean_ms": 1000 * mean_s,
        "plant_ms": 1000 * plant_s / scans, "with_buses_times_real": scans * stage.scan_s / whole_s,
    }  # fmt: skip
    median_ms, together = 1000 * statistics.median(timed.took), stage.scan_s / (mean_s + plant_s / scans)
    bars = ("", TOGETHER_BAR) if simulated else (SCAN_BAR, "")
    yield Result(NAME, {"figure": "scan_ms"} | params, median_ms, bars[0], detail)
    yield Result(NAME, {"figure": "times_real"} | params, together, bars[1], detail)
