"""The expansion vessel, its make-up, leaks, and the ropes that notice them. Engineering judgement."""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.kernel import Numbers, kernel

LITRES = 60.0
LEVEL_SWITCH_L = 20.0
LEAK_AT_KPA = 200.0
MAKEUP_LPS, MAKEUP_MAX_S = 5 / 60, 180.0  # then it locks: Coolcentric CDU-AC5 manual p.38
ROPE_L = 0.1
STILL_SUCTION_KPA, SUCTION_DROP_KPA = 150.0, 30.0


@kernel
def step_leaks(x: Numbers, dt: float) -> float:
    """Let water out where there are holes, wet the ropes under them, and return the L/s that the loop loses."""
    lost = 0.0
    racks = int(x[at.RACKS])
    for z in range(1 + racks):
        rate = 0.0
        shut = z > 0 and x[at.VALVE_POSITION + z] < 0.01
        if x[at.LEAK_LPS + z] > 0 and x[at.LEVEL_L] > 0 and not shut:
            rate = x[at.LEAK_LPS + z] * math.sqrt(x[at.HEAD_KPA] / LEAK_AT_KPA)
        lost += rate
        x[at.POOLED_L + z] += rate * dt
        wet = x[at.POOLED_L + z] > ROPE_L
        x[at.ROPE_WET_S + z] = x[at.ROPE_WET_S + z] + dt if wet else 0.0
        x[at.ROPE_WET + z] = 1.0 if wet and x[at.ROPE_WET_S + z] >= x[at.ROPE_DELAY_S + z] else 0.0
    return lost


@kernel
def step_reservoir(x: Numbers, dt: float) -> None:
    """Advance the level with make-up and leaks."""
    lost = min(step_leaks(x, dt), x[at.LEVEL_L] / dt)
    asked = x[at.MAKEUP] > 0
    x[at.MAKEUP_RAN_S] = x[at.MAKEUP_RAN_S] + dt if asked else 0.0
    if x[at.MAKEUP_RAN_S] > MAKEUP_MAX_S:
        x[at.MAKEUP_LOCKED] = 1.0
    fills = asked and x[at.MAKEUP_LOCKED] == 0 and x[at.MAKEUP_FAILED] == 0
    full = LITRES * x[at.SCALE]
    given = min(MAKEUP_LPS, max(0.0, full - x[at.LEVEL_L]) / dt + lost) if fills else 0.0
    x[at.LEVEL_L] += (given - lost) * dt
    x[at.MAKEUP_L] += given * dt
    x[at.LOST_L] += lost * dt


@kernel
def suction_kpa(x: Numbers) -> float:
    """Return the pressure before the pumps: of the expansion vessel less the return's friction; gone when it is."""
    held = min(1.0, x[at.LEVEL_L] / 5.0)
    share = x[at.FLOW_LPS] / x[at.DESIGN_LPS]
    return max(0.0, held * STILL_SUCTION_KPA - SUCTION_DROP_KPA * share * share)
