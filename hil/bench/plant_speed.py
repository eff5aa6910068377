"""How fast the plant alone runs on one core, and whether it keeps its energy: a day of random jobs and weather."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hil.bench.result import Result
from hil.plant.plant import STEP_S, Layout, Plant
from hil.plant.settled import settled

NAME = "plant-speed"
DAY_S, QUICK_S, RESIDUAL_S = 86400.0, 3600.0, 300.0
SPEED_BAR, RESIDUAL_BAR = "<= 90", "<= 1e-6"


def residual(plant: Plant, seconds: float) -> float:
    """Return the energy that came from nowhere while the plant ran so long, as a share of what came in."""
    before, in_before, out_before = plant.stored_kj, plant.energy.heat_in, plant.energy.heat_out
    plant.advance(seconds)
    given = plant.energy.heat_in - in_before
    return abs(plant.stored_kj - before - given + plant.energy.heat_out - out_before) / given


def measure(quick: bool) -> Iterator[Result]:
    plant = settled(Layout.reference(), load=0.7)
    plant.jobs.profile, plant.weather.follows = "random", True
    plant.advance(STEP_S)
    simulated = QUICK_S if quick else DAY_S
    started = time.process_time()
    lost = residual(plant, simulated)
    took = time.process_time() - started
    params = {"racks": len(plant.racks), "step_s": STEP_S}
    detail = {"simulated_s": simulated, "processor_s": took, "times_real": simulated / took}
    yield Result(NAME, {"figure": "day_s"} | params, took * DAY_S / simulated, SPEED_BAR, detail)
    for rack in plant.racks:
        rack.load = 1.0
    plant.jobs.profile = "manual"
    worst = max(lost, residual(plant, RESIDUAL_S))
    yield Result(NAME, {"figure": "energy_residual"} | params, worst, RESIDUAL_BAR, {"step_s": RESIDUAL_S})
