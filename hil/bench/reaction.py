"""How long it takes from an input's flip in a device to the corrective write that reaches a device."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from controller.config.plan import BusPlan, Plan
from controller.core.pod import outputs
from controller.core.points import Value
from controller.fieldbus.schedule import analyse
from hil.bench.result import Result
from hil.bench.write_latency import quantile
from hil.real import RealStage
from hil.scenarios.model import every, find

NAME = "reaction"
QUANTILE = 0.99
SCAN_ALLOWANCE_S = 0.03
LONGEST_S = 5.0
UNDISTURBED_S = 31.0  # after a take-over nothing that fails is stopped for half a minute
PAUSE_S = (0.8, 1.4)  # between two flips: no phase of poll, scan or refresh is preferred
CYCLE_S = 50.0
QUICK_CYCLES, FULL_S = 1, 540.0


@dataclass(frozen=True, slots=True)
class Flip:
    """An input, and the write that it must bring about: ``output`` (a pattern) told False."""

    point: str
    output: str
    value: Value = True


# In this order: something is left after each for the next to stop.
FLIPS = (
    Flip("pump_1.fault", "pump_1.run_cmd"),
    Flip("chiller_1.fault", "chiller_1.run_cmd"),
    Flip("fws_pump_1.fault", "fws_pump_1.run_cmd"),
    Flip("pump_2.fault", "pump_2.run_cmd"),
    Flip("io_1.epo", "pdu_*.outlet_*"),
)


def measure(quick: bool) -> Iterator[Result]:
    """Return p99 over the bar, on TCP and on serial lines: the controller's own process in front of the whole pod.

    TCP: the poll period of the input and 30 ms. Serial: the planner's bound of the input's age, and of a write.
    """
    cycles = QUICK_CYCLES if quick else max(1, int(FULL_S / CYCLE_S))
    plan, found = asyncio.run(_run(cycles))
    for kind, serial in (("tcp", False), ("rtu", True)):
        flips = [flip for flip in FLIPS if bus_of(plan, flip.point).settings.serial is serial]
        shares = sorted(waited / bar_s(plan, flip) for flip in flips for waited in found[flip])
        detail = {flip.point: _figures(plan, flip, found[flip]) for flip in flips}
        lost = cycles * len(flips) - len(shares)
        params = {"figure": "p99 / bar", "bus": kind, "flips": len(shares), "bar": BARS[kind]}
        yield Result(NAME, params, quantile(shares, QUANTILE) if shares and not lost else None, "<= 1.0",
                     {**detail, "without a write": lost})  # fmt: skip


BARS = {"tcp": "poll period + 30 ms", "rtu": "planner's bound of the input's age + of a write"}


def _figures(plan: Plan, flip: Flip, waits: Sequence[float]) -> dict[str, float]:
    ordered = sorted(waits)
    shown = {"bar_ms": 1000 * bar_s(plan, flip)}
    if ordered:
        shown |= {"p50_ms": 1000 * quantile(ordered, 0.5), "p99_ms": 1000 * quantile(ordered, QUANTILE)}
        shown["max_ms"] = 1000 * ordered[-1]
    return shown


def bus_of(plan: Plan, point: str) -> BusPlan:
    device = point.partition(".")[0]
    return next(bus for bus in plan.buses if any(one.name == device for one in bus.devices))


def bar_s(plan: Plan, flip: Flip) -> float:
    """Return what a reaction may take."""
    bus = bus_of(plan, flip.point)
    one = next(p for device in bus.devices for p in device.points if p.point.id == flip.point)
    assert one.period_s is not None
    if not bus.settings.serial:
        return one.period_s + SCAN_ALLOWANCE_S
    known = {output.point for output in outputs(plan.pod)}
    written = [p.point.id for device in bus.devices for p in device.points if p.point.id in known]
    schedule = analyse(bus, written, plan.pod.protection.refresh_s)
    age_s = schedule.staleness[one.row.rate].bound_s
    assert age_s is not None, f"{bus.name} has no bound"
    return age_s + schedule.write_s


async def _run(cycles: int) -> tuple[Plan, dict[Flip, list[float]]]:
    """Return the plan, and for each flip the times from it to its write."""
    scenario = find("B1", every())
    found: dict[Flip, list[float]] = {flip: [] for flip in FLIPS}
    chance = random.Random(1)
    async with RealStage(scenario) as stage:
        running = _Pod(stage)
        for _ in range(cycles):
            await running.taken_over()
            for flip in FLIPS:
                await asyncio.sleep(chance.uniform(*PAUSE_S))
                waited = await running.reaction(flip)
                if waited is not None:
                    found[flip].append(waited)
            await running.mended()
    return stage.plan, found


class _Pod:
    """The pod under measurement; it is put back into the same state for every cycle."""

    def __init__(self, stage: RealStage) -> None:
        self.stage, self.bench = stage, stage.bench
        self._awaited: tuple[str, Value] = ("", False)
        self._arrived: asyncio.Future[float] | None = None
        self._outlets = [list(rack.outlets) for rack in stage.plant.racks]
        self._drives: tuple[Any, ...] = (
            *stage.plant.tcs_pumps,
            *stage.plant.facility.pumps,
            *stage.plant.facility.chillers,
        )
        self._ran = [bool(drive.run) for drive in self._drives]
        self.bench.record.listener = self._written

    def _written(self, point: str, value: Value | None) -> None:
        pattern, wanted = self._awaited
        if self._arrived is not None and not self._arrived.done() and value == wanted and fnmatchcase(point, pattern):
            self._arrived.set_result(time.monotonic())

    def _await(self, pattern: str, value: Value) -> asyncio.Future[float]:
        self._awaited, self._arrived = (pattern, value), asyncio.get_running_loop().create_future()
        return self._arrived

    async def taken_over(self) -> None:
        """Start the controller and wait until it has the pod in hand and stops what fails."""
        first = self._await("pump_3.run_cmd", True)
        await self.bench.start_controller()
        async with asyncio.timeout(60):
            await first
        await asyncio.sleep(UNDISTURBED_S)

    async def reaction(self, flip: Flip) -> float | None:
        """Return the seconds from the flip to the write; None if there was none."""
        arrived = self._await(flip.output, False)
        flipped = time.monotonic()
        self.bench.force(flip.point, flip.value)
        try:
            async with asyncio.timeout(LONGEST_S):
                return await arrived - flipped
        except TimeoutError:
            return None

    async def mended(self) -> None:
        """End the controller, heal everything, and let all run as before."""
        await self.bench.kill_controller()
        for flip in FLIPS:
            self.bench.force(flip.point, None)
        for drive, ran in zip(self._drives, self._ran, strict=True):
            drive.run = ran
        for rack, outlets in zip(self.stage.plant.racks, self._outlets, strict=True):
            for index, on in enumerate(outlets):
                rack.outlets[index] = on
        state = self.bench.folder / "state"
        shutil.rmtree(state)
        state.mkdir()
