"""What silent units cost the others on a serial line, and how soon one that comes back is live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from controller.fieldbus.units import ANSWERS_KNOWN
from hil.bench import plans
from hil.bench.child import Child
from hil.bench.master import Inbox, run, until, working
from hil.bench.result import Result
from hil.bench.slave import Line, served

NAME = "dead-units"
BAUD, TIMEOUT_MS, WORDS = 19200, 500, 10
UNITS = tuple(range(1, 11))
DEAD = (2, 5, 8)
REFRESH_BAR, BACK_BAR_S = 1.05, 5.0
EDGE_S = 0.5
KNOWN = ANSWERS_KNOWN + 1  # readings after which a worker knows how quick a unit is
Times = Mapping[str, Sequence[float]]


def measure(quick: bool) -> Iterator[Result]:
    """Return how much longer the healthy units' refresh is with three of ten silent, and how long a return takes.

    The bus is polled as fast as it goes, so with three units off the schedule 0.7 would be ideal. One figure counts
    from a start with the three silent, one from the instant at which they fall silent; those come back in the end.
    """
    alive_s, dead_s, back_limit_s = (5.0, 14.0, 15.0) if quick else (30.0, 120.0, 90.0)
    line = Line(BAUD, UNITS)
    params: dict[str, Any] = {"units": len(UNITS), "silent": len(DEAD), "words": WORDS, "baud": BAUD}
    params |= {"timeout_ms": TIMEOUT_MS, "seconds": dead_s}
    alive = _periods(_run(line, _watch, alive_s, ()))
    from_start = _periods(_run(Line(BAUD, UNITS, silent=DEAD), _watch, dead_s, ()))
    later, back = _run(line, _fall_and_return, dead_s, back_limit_s)
    for case, found in ("silent from the start", from_start), ("falling silent later", _periods(later)):
        detail = {"all_alive_s": mean(alive), "mean_s": mean(found), "worst_s": max(found), "worst_alive_s": max(alive)}
        name = f"healthy refresh, {case} / all alive"
        yield Result(NAME, {"figure": name, **params}, mean(found) / mean(alive), f"<= {REFRESH_BAR}", detail)
    name = "s from a unit's return to its first value"
    yield Result(NAME, {"figure": name, **params}, max(back), f"<= {BACK_BAR_S}", {"each_s": back})


def _periods(times: Times) -> list[float]:
    """Return the time from each reading of a healthy unit to the next."""
    healthy = [stamps for point, stamps in times.items() if _unit(point) not in DEAD]
    return [after - before for stamps in healthy for before, after in pairwise(stamps)]


def _unit(point: str) -> int:
    return int(point.partition(".")[0].removeprefix("unit_"))


def _plan(port: str, line: Line) -> Any:
    rows = {f"r{at}": plans.row(at) for at in range(WORDS)}
    devices = [plans.device(f"unit_{unit}", unit, rows, device_time_s=line.device_time_s) for unit in line.units]
    return plans.bus(plans.serial(port, BAUD, TIMEOUT_MS), devices)


def _run(line: Line, what: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    with served(line) as slaves:
        return run(what(slaves, line, *arguments))


async def _watch(slaves: Child, line: Line, seconds: float, falling: Sequence[int]) -> Times:
    """Return when each unit's first register was read in ``seconds``."""
    async with _polled(slaves, line) as inbox:
        return await _times(slaves, line, inbox, seconds, falling)


async def _fall_and_return(slaves: Child, line: Line, seconds: float, limit_s: float) -> tuple[Times, list[float]]:
    """Let three units fall silent for ``seconds``; return the times, and how long each took to be read again."""
    async with _polled(slaves, line) as inbox:
        times = await _times(slaves, line, inbox, seconds, DEAD)
        since = time.monotonic()
        slaves.ask("silent")
        last = {unit: inbox.good[f"unit_{unit}.r0"] for unit in DEAD}
        with contextlib.suppress(TimeoutError):
            await until(lambda: all(stamps[-1] > since for stamps in last.values()), limit_s)
        firsts = {unit: [at for at in stamps if at > since] for unit, stamps in last.items()}
    return times, [found[0] - since if found else limit_s for found in firsts.values()]


@contextlib.asynccontextmanager
async def _polled(slaves: Child, line: Line) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    alive = [unit for unit in line.units if unit not in line.silent]
    async with working([_plan(slaves.told, line)], inbox):
        least = 1 if line.silent else KNOWN
        await until(lambda: all(len(inbox.good[f"unit_{unit}.r0"]) >= least for unit in alive))
        yield inbox


async def _times(slaves: Child, line: Line, inbox: Inbox, seconds: float, falling: Sequence[int]) -> Times:
    since = time.monotonic()
    if falling:
        slaves.ask("silent", *falling)
    await asyncio.sleep(seconds)
    found = {f"unit_{unit}.r0": inbox.good[f"unit_{unit}.r0"] for unit in line.units}
    # the reading before the first is where the first period begins
    return {point: [at for at in stamps if at >= since - EDGE_S] for point, stamps in found.items()}
