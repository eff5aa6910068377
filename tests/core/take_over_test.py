"""A controller killed at any scan and started again from what it had saved: nothing stops, and nothing jumps."""

from __future__ import annotations

import copy
import functools
import json
import math
import random

import pytest

from controller.core.engine import Engine
from controller.core.primary import Primary
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


EPOCH_S = 1_800_000_000.0  # of the wall clock at monotonic 0


def test_least_times_of_chillers_go_on_over_a_restart_by_the_wall_clock() -> None:
    before, after = Primary(quick_plan().pod, {}), Primary(quick_plan().pod, {})
    before.chillers[0].stopped_at, before.chillers[1].started_at = 900.0, 950.4
    saved = json.loads(json.dumps(before.saved(EPOCH_S)))
    after.restore(saved, 50.0, EPOCH_S + 910.0)
    assert [chiller.stopped_at for chiller in after.chillers] == [-10.0, -math.inf]
    assert [chiller.started_at for chiller in after.chillers] == [-math.inf, 41.0], "never early by a rounded second"
    after.restore(saved, 50.0, EPOCH_S - 5000.0)
    assert after.chillers[0].stopped_at == 50.0, "a clock that was put back makes nobody wait for longer than anew"


def test_without_a_clock_to_trust_least_times_are_neither_kept_nor_taken_up() -> None:
    before, after = Primary(quick_plan().pod, {}), Primary(quick_plan().pod, {})
    before.chillers[0].stopped_at = 900.0
    assert before.saved(None) == {}
    after.restore(before.saved(EPOCH_S), 50.0, None)
    after.restore({"chiller_1": ["yesterday", None], "chiller_9": [1, 2]}, 50.0, EPOCH_S)
    assert all(chiller.stopped_at == chiller.started_at == -math.inf for chiller in after.chillers)


def test_a_chiller_stopped_before_the_restart_is_not_started_before_its_time() -> None:
    rig = Rig.make()
    rig.running()
    engine, model = rig.engine, rig.model
    engine.wall_offset_s = EPOCH_S
    idle = next(chiller for chiller in engine.primary.chillers if not chiller.proven)
    idle.stopped_at = model.now - 100.0
    again = Rig(model, Engine(quick_plan().pod, json.loads(json.dumps(engine.saved())), model.now, 1, EPOCH_S))
    model.rack_kw = 130.0
    again.run(model.plan.pod.fws.chiller_min_off_s - 110.0)
    assert not model.values[f"{idle.device}.run_cmd"]
    again.run(30.0)
    assert model.values[f"{idle.device}.run_cmd"], "its least time off is over"


def test_a_machine_that_has_failed_stays_so_over_a_restart_until_a_reset() -> None:
    rig = Rig.make()
    rig.running()
    rig.engine.pumps[2].fail(rig.model.now)
    rig.run(10.0)
    again = Rig(rig.model, Engine(quick_plan().pod, json.loads(json.dumps(rig.engine.saved())), rig.model.now))
    again.run(10.0)
    assert [pump.state.value for pump in again.engine.pumps] == ["running", "running", "failed"]
    assert not rig.model.values["pump_3.run_cmd"]
    again.step("reset")
    again.run(10.0)
    assert again.engine.pumps[2].proven
