"""The warm start: most scenarios begin with a pod that runs at its load, found by a controller that has just started.

It is brought up in virtual time by a controller in a hurry, for either body: then its devices show running equipment
and a real-time run needs seconds to begin, not ten minutes.
"""

from __future__ import annotations

from dataclasses import replace

from controller.config.plan import Plan
from hil.scenarios.model import ScenarioError
from hil.virtual import VirtualStage

NORMAL_MAX_S = 600.0
LOOK_S = 1.0
WARM_S = 90.0  # in NORMAL under the hurried controller, and on until the supply stands at its set point
WARM_MAX_S = 900.0
STANDS_K = 0.3
WARM_CHILLER_START_S, WARM_CHILLER_IDLE_S = 5.0, 5.0


def hurried(plan: Plan) -> Plan:
    """Return the plan of a controller that starts the pod in the shortest time, for the warm start."""
    pod = plan.pod
    startup = replace(pod.startup, pump_start_hold_s=2.0, primary_prove_s=1.0, ready_hold_s=2.0)
    power = replace(pod.power, rack_stagger_s=1.0, outlet_stagger_s=0.2)
    fws = replace(pod.fws, chiller_min_on_s=0.0, chiller_min_off_s=0.0)
    tcs = replace(pod.tcs, setpoint_slew_k_per_min=60.0)
    return replace(plan, pod=replace(pod, startup=startup, power=power, fws=fws, tcs=tcs, autostart=True))


def warm_up(stage: VirtualStage) -> None:
    """Bring the pod to NORMAL by a hurried controller, then end that one as a crash would: equipment runs on.

    Raises:
        ScenarioError: the pod does not come up.
    """
    chillers = stage.plant.facility.chillers
    kept = [(chiller.start_s, chiller.least_idle_s) for chiller in chillers]
    for chiller in chillers:
        chiller.start_s, chiller.least_idle_s = WARM_CHILLER_START_S, WARM_CHILLER_IDLE_S
    plan, stage.plan = stage.plan, hurried(stage.plan)
    stage.controller(True)
    _until_normal(stage)
    stage.advance(WARM_S)
    _until_warm(stage)
    stage.controller(False)
    stage.plan = plan
    for chiller, (start_s, least_idle_s) in zip(chillers, kept, strict=True):
        chiller.start_s, chiller.least_idle_s = start_s, least_idle_s
    stage.forget()


def _until_warm(stage: VirtualStage) -> None:
    """Go on until the supply is at its set point; a load too small for that, or one too large, ends it by its time."""
    end, target = stage.now + WARM_MAX_S, stage.plan.pod.tcs.supply_temp_sp_c
    while abs(stage.plant.supply_c - target) > STANDS_K and stage.now < end:
        stage.advance(LOOK_S)


def _until_normal(stage: VirtualStage) -> None:
    end = stage.now + NORMAL_MAX_S
    while stage.seen.mode != "NORMAL":
        stage.advance(LOOK_S)
        if stage.now > end:
            raise ScenarioError(f"the pod is still in {stage.seen.mode or 'no mode'} after {NORMAL_MAX_S:g} s")
