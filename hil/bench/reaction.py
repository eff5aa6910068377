"""How long it takes from an input's flip in a device to the corrective write that reaches a device."""

from __future__ import annotations

import asyncio
import contextlib
import os
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
from hil.bench.child import REALTIME_PRIORITY
from hil.bench.master import NICE
from hil.bench.result import Result
from hil.bench.write_latency import quantile
from hil.devices.build import split
from hil.real import RealStage
from hil.scenarios.model import every, find

NAME = "reaction"
QUANTILE = 0.99
QUANTILES = (("p50", 0.5), ("p99", QUANTILE), ("max", 1.0))
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


@dataclass(frozen=True, slots=True)
class Wait:
    """A reaction: from the flip, and from the first reply after it that told of the input, to the write."""

    whole_s: float
    from_read_s: float


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
        shares = sorted(wait.whole_s / bar_s(plan, flip) for flip in flips for wait in found[flip])
        detail: dict[str, Any] = {flip.point: _figures(plan, flip, found[flip]) for flip in flips}
        own = sorted(wait.from_read_s for flip in flips for wait in found[flip])
        if own:
            detail["from the reply that told of it"] = {f"{n}_ms": 1000 * quantile(own, q) for n, q in QUANTILES}
        lost = cycles * len(flips) - len(shares)
        params = {"figure": "p99 / bar", "bus": kind, "flips": len(shares), "bar": BARS[kind]}
        yield Result(NAME, params, quantile(shares, QUANTILE) if shares and not lost else None, "<= 1.0",
                     {**detail, "without a write": lost, "load": os.getloadavg()[0]})  # fmt: skip


BARS = {"tcp": "poll period + 30 ms", "rtu": "planner's bound of the input's age + of a write"}


def _figures(plan: Plan, flip: Flip, waits: Sequence[Wait]) -> dict[str, float]:
    ordered = sorted(wait.whole_s for wait in waits)
    shown = {f"{name}_ms": 1000 * quantile(ordered, share) for name, share in QUANTILES if ordered}
    return {"bar_ms": 1000 * bar_s(plan, flip), **shown}


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


async def _run(cycles: int) -> tuple[Plan, dict[Flip, list[Wait]]]:
    """Return the plan, and for each flip the times from it to its write.

    The bench gets real-time priority: devices of a pod are punctual, whoever else uses this machine. The controller has
    the priority that its unit gives it.
    """
    scenario = find("B1", every())
    punctual()
    found: dict[Flip, list[Wait]] = {flip: [] for flip in FLIPS}
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


def punctual() -> bool:
    """Take real-time priority, for this process alone; return whether it was granted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(REALTIME_PRIORITY))
    except OSError:
        return False
    return True


class _Pod:
    """The pod under measurement; it is put back into the same state for every cycle."""

    def __init__(self, stage: RealStage) -> None:
        self.stage, self.bench = stage, stage.bench
        self._awaited: tuple[str, Value] = ("", False)
        self._read: list[float] | None = None  # when the awaited input was read; a write before that is no answer to it
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
        if self._read == []:
            return
        if self._arrived is not None and not self._arrived.done() and value == wanted and fnmatchcase(point, pattern):
            self._arrived.set_result(time.monotonic() - self._own_s(point))

    def _own_s(self, point: str) -> float:
        """Return how long the device has had a write already when it obeys: a unit on TCP takes its own time first."""
        serial = bus_of(self.stage.plan, point).settings.serial
        return 0.0 if serial else self.bench.emulators[split(point)[0]].device_time_s

    def _await(self, pattern: str, value: Value) -> asyncio.Future[float]:
        self._awaited, self._arrived = (pattern, value), asyncio.get_running_loop().create_future()
        return self._arrived

    async def taken_over(self) -> None:
        """Start the controller and wait until it has the pod in hand and stops what fails."""
        first = self._await("pump_3.run_cmd", True)
        process = await self.bench.start_controller()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        async with asyncio.timeout(60):
            await first
        await asyncio.sleep(UNDISTURBED_S)

    async def reaction(self, flip: Flip) -> Wait | None:
        """Return how long the write for a flip took; None if there was none."""
        arrived = self._await(flip.output, False)
        with self._reads(flip.point) as read:
            flipped = time.monotonic()
            self.bench.force(flip.point, flip.value)
            try:
                async with asyncio.timeout(LONGEST_S):
                    wrote = await arrived
            except TimeoutError:
                return None
        return Wait(wrote - flipped, wrote - read[0])

    @contextlib.contextmanager
    def _reads(self, point: str) -> Iterator[list[float]]:
        """Yield the instants at which the device hands out the point's register."""
        device, name = split(point)
        emulator, found = self.bench.emulators[device], list[float]()
        row, plain = emulator.rows[name], emulator.read

        def read(table: str, address: int, count: int) -> Sequence[int]:
            words = plain(table, address, count)
            if table == row.table and address <= row.address < address + count:
                found.append(time.monotonic())
            return words

        emulator.read = read  # type: ignore[method-assign]
        self._read = found
        try:
            yield found
        finally:
            emulator.read = plain  # type: ignore[method-assign]
            self._read = None

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
