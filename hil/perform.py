"""Runs one scenario on a stage of either body, from the warm start to the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from controller.config.plan import Plan
from hil.checks import Check, Run, judged, verdict
from hil.faults import FaultError
from hil.scenarios.model import Scenario, ScenarioError
from hil.stage import Stage
from hil.trace import trace
from hil.virtual import VirtualStage

NORMAL_MAX_S = 600.0
LOOK_S = 1.0
WARM_S = 90.0  # in NORMAL under the warm-up's own controller, until temperatures stand
WARM_CHILLER_START_S, WARM_CHILLER_IDLE_S = 5.0, 5.0
FULL_SHARE = 0.95
HANDS_OFF = ("controller", "broker", "clock", "bms", "device.reboot", "load.crash")  # not tried out beforehand


@dataclass(frozen=True, slots=True)
class Performed:
    """A run: its checks and the document for reports."""

    scenario: Scenario
    checks: list[Check]
    document: dict[str, Any]

    @property
    def verdict(self) -> str:
        return verdict(self.checks)


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
    stage.controller(False)
    stage.plan = plan
    for chiller, (start_s, least_idle_s) in zip(chillers, kept, strict=True):
        chiller.start_s, chiller.least_idle_s = start_s, least_idle_s
    stage.forget()


def _until_normal(stage: VirtualStage) -> None:
    end = stage.now + NORMAL_MAX_S
    while stage.seen.mode != "NORMAL":
        stage.advance(LOOK_S)
        if stage.now > end:
            raise ScenarioError(f"the pod is still in {stage.seen.mode or 'no mode'} after {NORMAL_MAX_S:g} s")


def unavailable(scenario: Scenario, stage: Stage) -> str:
    """Return why this plant or bench can't run the scenario, or nothing."""
    log, active = list(stage.log), dict(stage.active)
    try:
        for event in scenario.event:
            if event.fault.startswith(HANDS_OFF):
                continue
            for target in event.targets:
                stage.inject(event.fault, target, event.value)
                stage.heal(event.fault)
    except (FaultError, AttributeError) as error:
        return str(error)
    finally:
        stage.log[:] = log
        stage.active = active
    for expect in scenario.expect:
        if expect.channel and expect.channel not in stage.recorder.channels:
            return f"this plant has no channel {expect.channel}"
    return ""


async def perform(scenario: Scenario, stage: Stage) -> Performed:
    """Run ``scenario`` on a stage that has been made ready (entered) and warmed up; return what came of it.

    Raises:
        ScenarioError: the stage can't do what the scenario asks, or the controller does not take over.
    """
    why = unavailable(scenario, stage)
    if why:
        raise ScenarioError(f"{scenario.id} {scenario.name}: {why}")
    zero = stage.now
    stage.controller(True)
    if not scenario.start.cold:
        end = stage.now + NORMAL_MAX_S
        while stage.seen.mode != "NORMAL":
            await stage.run(LOOK_S)
            if stage.now > end:
                raise ScenarioError(f"{scenario.id}: the controller is still in {stage.seen.mode or 'no mode'}")
        await stage.run(scenario.settle_s)
        zero = stage.now
        stage.seen.first_out = ""
    for at, begins, index in timeline(scenario):
        await stage.run(max(0.0, zero + at - stage.now))
        event = scenario.event[index]
        for target in event.targets:
            if begins:
                stage.inject(event.fault, target, event.value)
            else:
                stage.heal(event.fault, target)
    await stage.run(max(0.0, zero + scenario.seconds - stage.now))
    run = Run(scenario, stage, zero)
    checks = judged(run)
    return Performed(scenario, checks, trace(run, checks))


def timeline(scenario: Scenario) -> list[tuple[float, bool, int]]:
    """Return (time, begins, which event) in order; of two at once, what ends comes first."""
    found = [(event.at, True, index) for index, event in enumerate(scenario.event)]
    found += [(event.until, False, index) for index, event in enumerate(scenario.event) if event.until is not None]
    return sorted(found)


async def perform_virtual(scenario: Scenario, plan: Plan, seed: int = 1) -> Performed:
    """Run a scenario in virtual time.

    Raises:
        ScenarioError: it can't be run there.
    """
    if not scenario.fast:
        raise ScenarioError(f"{scenario.id} {scenario.name} can't run in virtual time: fast = false")
    sample_s = max(0.2, scenario.seconds / 20_000)
    stage = VirtualStage(plan, load=scenario.start.load, seed=seed, sample_s=sample_s)
    stage.plant.ambient_c = scenario.start.ambient_c
    async with stage:
        if not scenario.start.cold:
            warm_up(stage)
        return await perform(scenario, stage)
