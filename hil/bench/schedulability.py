"""Whether the planner foresees how old values get, and refuses what can't be done, on random buses."""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any

from controller.config.plan import BusPlan
from controller.fieldbus.planner import plan_spans
from controller.fieldbus.schedule import Schedule, analyse
from hil.bench import plans
from hil.bench.child import Child, Orders
from hil.bench.master import Inbox, run, working
from hil.bench.result import Result
from hil.bench.slave import Line, Words
from hil.wire.rtu import RtuLine, exchange_s

NAME = "schedulability"
BUSES, MEASURED_QUICK, AT_ONCE = 200, 10, 5
WINDOWS = 2  # the pattern of a bus comes round in each; what only one has seen was the machine
BAUDS = (9600, 19200, 38400, 115200)
RATIOS = {"fast": 1, "normal": 2, "slow": 4}  # of the periods, so that the pattern repeats itself soon
LOADS = (0.3, 1.5)
REQUEST_BYTES, REPLY_BYTES, REFRESH_S = 8, 5, 2.0
WINDOW_S = 12.0
SLOW_MAX_S = 4.0  # longest period of a bus that is measured, so that it comes round a few times
STALENESS_BAR = 0.10


@dataclass(frozen=True, slots=True)
class Drawn:
    """A random bus, and the share of the time its reads take by the slaves' own reckoning."""

    line: Line
    plan: BusPlan
    load: float
    slow_s: float
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Group:
    predicted_s: float
    measured_s: float
    bound_s: float | None

    @property
    def error(self) -> float:
        return abs(self.measured_s / self.predicted_s - 1)


def measure(quick: bool) -> Iterator[Result]:
    """Return how far the worst staleness is off its prediction, and how many impossible buses are let in.

    Impossible is what needs more than the whole time of the line by the slaves' reckoning. Feasible buses are run on
    lines with the timing of real ones, five at once, each twice.
    """
    dice = random.Random(20)
    drawn = [_draw(dice) for _ in range(BUSES)]
    impossible = [bus for bus in drawn if bus.load > 1]
    let_in = sum(bus.schedule.feasible for bus in impossible)
    feasible = [bus for bus in drawn if bus.schedule.feasible and bus.slow_s <= SLOW_MAX_S]
    window_s = WINDOW_S
    chosen = feasible[: MEASURED_QUICK if quick else len(feasible)]
    groups = [group for at in range(0, len(chosen), AT_ONCE) for group in _least(chosen[at : at + AT_ONCE], window_s)]
    errors = sorted(group.error for group in groups)
    params = {"buses": BUSES, "bauds": BAUDS, "load": LOADS, "devices": "2 to 6", "words": "1 to 30 a span"}
    detail: dict[str, Any] = {
        "p50": errors[len(errors) // 2],
        "p95": quantiles(errors, n=20)[-1],
        "groups": len(groups),
        "within": sum(error <= STALENESS_BAR for error in errors),
        "longer_than_bound": sum(group.bound_s is not None and group.measured_s > group.bound_s for group in groups),
    }
    shown = {"figure": "worst error of the worst staleness", "measured": len(chosen), "seconds": window_s, **params}
    yield Result(NAME, shown, errors[-1], f"<= {STALENESS_BAR}", detail)
    refused = sum(not bus.schedule.feasible for bus in drawn)
    detail = {"impossible": len(impossible), "refused": refused, "refused_below_1": refused - len(impossible) + let_in}
    yield Result(NAME, {"figure": "impossible buses let in", **params}, let_in, "== 0", detail)


def _draw(dice: random.Random) -> Drawn:
    """Return a bus whose load is drawn first; its periods follow from what its spans cost."""
    line = Line(dice.choice(BAUDS), tuple(range(1, dice.randint(2, 6) + 1)), dice.choice((0.002, 0.005, 0.01, 0.02)))
    layout = [
        (unit, rate, 200 * number, dice.randint(1, 30))
        for unit in line.units
        for number, rate in enumerate(dice.choices(tuple(RATIOS), k=dice.randint(1, 4)))
    ]
    costs = [(_cost_s(line, words), rate) for _, rate, _, words in layout]
    wanted = dice.uniform(*LOADS)
    base_s = math.ceil(1000 * sum(cost / RATIOS[rate] for cost, rate in costs) / wanted) / 1000
    devices = []
    for unit in line.units:
        rows = {
            f"r{at + word}": plans.row(at + word, rate=rate)
            for owner, rate, at, words in layout
            if owner == unit
            for word in range(words)
        }
        periods = {name: base_s * RATIOS[row.rate] for name, row in rows.items() if row.rate in RATIOS}
        seen_s = line.device_time_s + line.silence_s
        devices.append(plans.device(f"unit_{unit}", unit, rows, period_s=periods, device_time_s=seen_s))
    plan = plans.bus(plans.serial("line", line.baud), devices)
    load = sum(cost / (base_s * RATIOS[rate]) for cost, rate in costs)
    slow_s = base_s * max(RATIOS[rate] for _, rate in costs)
    return Drawn(line, plan, load, slow_s, analyse(plan, (), REFRESH_S))


def _cost_s(line: Line, words: int) -> float:
    sizes = REQUEST_BYTES, REPLY_BYTES + 2 * words
    return exchange_s(line.baud, *sizes, line.device_time_s) + line.silence_s


async def serve(lines: Sequence[Line]) -> tuple[None, Orders]:
    """Run several lines in one process."""
    for line in lines:
        units = {unit: Words(unit, line.device_time_s, moving=False) for unit in line.units}
        await RtuLine(units, line.baud, Path(line.path), exchanges=deque(maxlen=1), spin_s=0.0002).start()
    return None, lambda _order: None


def _least(buses: Sequence[Drawn], window_s: float) -> Iterator[Group]:
    """Return each group as the quieter of ``WINDOWS`` runs has it."""
    for seen in zip(*(_run(buses, window_s) for _ in range(WINDOWS)), strict=True):
        yield min(seen, key=lambda group: group.measured_s)


def _run(buses: Sequence[Drawn], window_s: float) -> Iterator[Group]:
    with tempfile.TemporaryDirectory(prefix="podkeeper-measure-") as folder:
        lines = [replace(bus.line, path=f"{folder}/line{number}") for number, bus in enumerate(buses)]
        running = [_placed(bus.plan, line.path) for bus, line in zip(buses, lines, strict=True)]
        with Child(serve, lines, realtime=True):
            boxes = run(_poll(running, window_s))
    for bus, inbox in zip(buses, boxes, strict=True):
        yield from _groups(bus, inbox)


def _placed(plan: BusPlan, path: str) -> BusPlan:
    return replace(plan, settings=plan.settings.model_copy(update={"port": path}))


async def _poll(buses: Sequence[BusPlan], window_s: float) -> list[Inbox]:
    boxes = [Inbox() for _ in buses]
    async with asyncio.TaskGroup() as group:
        for bus, inbox in zip(buses, boxes, strict=True):
            group.create_task(_poll_one(bus, inbox, window_s))
    return boxes


async def _poll_one(bus: BusPlan, inbox: Inbox, window_s: float) -> None:
    async with working([bus], inbox):
        await asyncio.sleep(window_s)


def _groups(bus: Drawn, inbox: Inbox) -> Iterator[Group]:
    """Return the worst staleness of each rate group: from a value's request to the end of the next answer."""
    worst: dict[str, float] = {}
    for device in bus.plan.devices:
        for span in plan_spans(device, bus.plan.settings):
            took_s = _cost_s(bus.line, span.count) - bus.line.silence_s
            for plan in span.points:
                for before, after in pairwise(inbox.good[plan.point.id]):
                    worst[plan.row.rate] = max(worst.get(plan.row.rate, 0.0), after - before + took_s)
    for rate, staleness in bus.schedule.staleness.items():
        if rate in worst and staleness.worst_s:
            yield Group(staleness.worst_s, worst[rate], staleness.bound_s)
