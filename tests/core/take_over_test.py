"""A controller killed at any scan and started again from what it had saved: nothing stops, and nothing jumps."""

from __future__ import annotations

import copy
import functools
import random

import pytest

from controller.core.engine import Engine
from tests.core.model import SCAN_S, PodModel, Rig, quick_plan

KILLS = 12
DEAD_S = (0.4, 3.0, 8.0)
MOST_PER_S = 5.0


@functools.cache
def killed() -> tuple[tuple[PodModel, dict[str, object]], ...]:
    """Return pods and what their controllers had saved, at random scans of a start-up, a job's start and its end."""
    rig, dice = Rig.make(), random.Random(7)
    rig.step()
    rig.step("start")
    rig.run_until("STARTUP.energise", 300)
    scans = sorted(dice.sample(range(600), KILLS))
    found = []
    for scan in range(600):
        rig.model.rack_kw = 78.0 if scan < 250 else 125.0 if scan < 400 else 30.0
        if scan in scans:
            found.append((copy.deepcopy(rig.model), copy.deepcopy(rig.engine.saved())))
        rig.step()
    return tuple(found)


@pytest.mark.parametrize("kill", range(KILLS))
def test_nothing_stops_and_nothing_jumps(kill: int) -> None:
    before, saved = killed()[kill]
    model = copy.deepcopy(before)
    dead_s = DEAD_S[kill % len(DEAD_S)]
    for _ in range(round(dead_s / SCAN_S)):
        model.step()
    log_at = len(model.log)
    rig = Rig(model, Engine(quick_plan().pod, saved, model.now))
    tcs = model.plan.pod.tcs
    numbers = [f"{pump}.speed_cmd" for pump in tcs.pumps] + [f"{tcs.valve}.position_cmd"]
    for _ in range(50):
        last = {name: float(model.values[name]) for name in numbers}
        for _ in range(5):
            rig.step()
        for name in numbers:
            moved = abs(float(model.values[name]) - last[name])
            assert moved <= MOST_PER_S * 5 * SCAN_S + 0.5, f"{name} from {last[name]} in {rig.mode}"
        if model.now - before.now > 10 + dead_s:
            break
    stops = [(point, value) for _, point, value in model.log[log_at:] if value is False and not point.endswith("ing")]
    assert not [point for point, _ in stops if point.endswith(".run_cmd") or ".outlet_" in point]
