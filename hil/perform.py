"""Runs one scenario on a stage of either body, from the warm start to the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller.config.plan import Plan
from hil.checks import Check, Run, judged, verdict
from hil.faults import FaultError
from hil.real import RealStage
from hil.runner import REFERENCE_POD
from hil.scenarios.model import Scenario, ScenarioError
from hil.stage import Stage
from hil.trace import trace
from hil.virtual import VirtualStage
from hil.warm import warm_up

NORMAL_MAX_S = 600.0
LOOK_S = 1.0
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


def refuse(scenario: Scenario, stage: Stage) -> None:
    """Raise ScenarioError if this plant or bench can't run the scenario."""
    why = unavailable(scenario, stage)
    if why:
        raise ScenarioError(f"{scenario.id} {scenario.name}: {why}")


async def perform(scenario: Scenario, stage: Stage) -> Performed:
    """Run ``scenario`` on a stage that has been made ready (entered) and warmed up; return what came of it.

    Raises:
        ScenarioError: the stage can't do what the scenario asks, or the controller does not take over.
    """
    refuse(scenario, stage)
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
    for table, keys in scenario.start.overrides.items():
        plan = replace(plan, pod=replace(plan.pod, **{table: replace(getattr(plan.pod, table), **keys)}))
    stage = VirtualStage(plan, load=scenario.start.load, seed=seed, sample_s=sample_s)
    stage.plant.ambient_c = scenario.start.ambient_c
    async with stage:
        refuse(scenario, stage)
        if not scenario.start.cold:
            warm_up(stage)
        return await perform(scenario, stage)


async def perform_real(scenario: Scenario, seed: int = 1, enclosure: Path = REFERENCE_POD) -> Performed:
    """Run a scenario in real time against the controller's own process.

    Raises:
        ScenarioError: it can't be run there.
    """
    async with RealStage(scenario, enclosure=enclosure, seed=seed) as stage:
        return await perform(scenario, stage)
