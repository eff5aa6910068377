"""How much of a serial line's time the worker uses, and whether it keeps the silence between frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median

from hil.bench import plans
from hil.bench.master import Inbox, run, working
from hil.bench.result import Result
from hil.bench.slave import Line, Use, served, use

NAME = "rtu-utilisation"
BARS = {9600: ">= 0.98", 19200: ">= 0.98", 115200: ">= 0.94"}
UNITS = (1, 2, 3)
WORDS = 10
DEVICE_TIME_S = 0.005
SETTLED = 20  # exchanges left out at the start


def measure(quick: bool) -> Iterator[Result]:
    """Return, for each speed, the share of the wall time that a perfect master would have needed, and the short gaps.

    Every register is polled as fast as it goes: 10-word reads of three units, each with 5 ms of device time.
    """
    seconds, repeats = (8.0, 1) if quick else (30.0, 2)
    for baud, bar in BARS.items():
        line = Line(baud, UNITS, DEVICE_TIME_S)
        uses = [_once(line, seconds) for _ in range(repeats)]
        params = {"baud": baud, "words": WORDS, "device_time_ms": 1000 * DEVICE_TIME_S, "seconds": seconds * repeats}
        gaps = sorted(gap for found in uses for gap in found.gaps_s)
        detail = {
            "each": [found.utilisation for found in uses],
            "exchanges": sum(found.exchanges for found in uses),
            "slave_late_us": 1e6 * median(found.late_s for found in uses),
            "t35_us": 1e6 * line.silence_s,
            "gap_min_us": 1e6 * gaps[0],
            "gap_p50_us": 1e6 * median(gaps),
            "gap_p99_us": 1e6 * gaps[int(0.99 * len(gaps))],
        }
        value = median(found.utilisation for found in uses)
        yield Result(NAME, {"figure": "legal time / wall time", **params}, value, bar, detail)
        short = sum(found.short(line.silence_s) for found in uses)
        yield Result(NAME, {"figure": "gaps below t3.5", **params}, short, "== 0", {"gaps": len(gaps)})


def _once(line: Line, seconds: float) -> Use:
    with served(line) as slaves:
        run(_poll(slaves.told, line, seconds))
        return use(line, slaves.ask("exchanges")[SETTLED:])


async def _poll(port: str, line: Line, seconds: float) -> None:
    rows = {f"r{at}": plans.row(at) for at in range(WORDS)}
    devices = [plans.device(f"unit_{unit}", unit, rows, device_time_s=line.device_time_s) for unit in line.units]
    async with working([plans.bus(plans.serial(port, line.baud), devices)], Inbox()):
        await asyncio.sleep(seconds)
