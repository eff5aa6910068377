"""How long a safety write waits while the bus is read without a pause."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

from controller.config.plan import BusPlan
from controller.core.interlocks import Write
from controller.fieldbus.schedule import analyse
from hil.bench import plans
from hil.bench.master import Inbox, run, until, working
from hil.bench.result import Result
from hil.bench.slave import Line, served

NAME = "write-latency"
BAUD, UNITS, WORDS, DEVICE_TIME_S = 19200, (1, 2, 3), 32, 0.005
OUTPUT = 4000
PAUSE_S = (0.06, 0.15)
QUANTILE = 0.999
REFRESH_S = 2.0
SINGLE_WRITE = 6


def measure(quick: bool) -> Iterator[Result]:
    """Return p99.9 of the time from a safety write's submission to its first byte at the slave, over the bound.

    The bound: the longest read that can stand in the way, with the silence after it.
    """
    writes = 250 if quick else 2000
    line = Line(BAUD, UNITS, DEVICE_TIME_S)
    with served(line) as slaves:
        submitted, plan = run(_run(slaves.told, line, writes))
        exchanges = slaves.ask("exchanges")
    seen = [exchange.arrived for exchange in exchanges if exchange.function == SINGLE_WRITE]
    waits = sorted(arrived - at for at, arrived in zip(submitted, seen, strict=False))
    bound_s, source = bound(plan)
    busy_s = sum(map(line.legal_s, exchanges[:-1])) / (exchanges[-1].arrived - exchanges[0].arrived)
    params: dict[str, Any] = {
        "figure": "p99.9 / bound",
        "baud": BAUD,
        "span_words": WORDS,
        "device_time_ms": 1000 * DEVICE_TIME_S,
        "writes": len(waits),
        "bound": source,
    }
    detail = {
        "p50_ms": 1000 * waits[len(waits) // 2],
        "p99.9_ms": 1000 * quantile(waits, QUANTILE),
        "max_ms": 1000 * waits[-1],
        "bound_ms": 1000 * bound_s,
        "lost": len(submitted) - len(seen),
        "line_utilisation": busy_s,
    }
    lost = len(submitted) != len(seen)
    yield Result(NAME, params, None if lost else quantile(waits, QUANTILE) / bound_s, "<= 1.0", detail)


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bound(plan: BusPlan) -> tuple[float, str]:
    """Return the longest time a write waits for one read and the silence after it, in seconds, and how it was got."""
    outputs = [point.point.id for device in plan.devices for point in device.points if point.row.access == "w"]
    return analyse(plan, outputs, REFRESH_S).blocking_s, "the planner's blocking_s: the longest span and its gap"


async def _run(port: str, line: Line, writes: int) -> tuple[list[float], BusPlan]:
    rows = {f"r{at}": plans.row(at) for at in range(WORDS)} | {"out": plans.row(OUTPUT, access="w", safety=True)}
    seen_s = line.device_time_s + line.silence_s
    devices = [plans.device(f"unit_{unit}", unit, rows, device_time_s=seen_s) for unit in line.units]
    plan = plans.bus(plans.serial(port, line.baud), devices)
    dice, submitted, inbox = random.Random(1), [], Inbox()
    async with working([plan], inbox) as (worker,):
        await until(lambda: all(inbox.good[f"unit_{unit}.r0"] for unit in line.units))
        for number in range(writes):
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            done = worker.counters["writes"]
            submitted.append(time.monotonic())
            worker.submit(Write(f"unit_{dice.choice(line.units)}.out", float(number % 1000), True, "bench"))
            await until(lambda done=done: worker.counters["writes"] > done, 5.0)  # type: ignore[misc]
    return submitted, plan
