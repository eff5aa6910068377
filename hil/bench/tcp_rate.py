"""How many reads a second the controller's link makes over TCP, beside libmodbus' own client."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from controller.fieldbus import frames
from controller.fieldbus.client import Link, made
from hil.bench import plans
from hil.bench.libmodbus import compiled, server
from hil.bench.master import Inbox, run, working
from hil.bench.result import Result

NAME = "tcp-rate"
WORDS, UNIT = 100, 1
BARS = {1: ">= 0.45", 32: ">= 1.0"}
TIMEOUT_S = 2.0


def measure(quick: bool) -> Iterator[Result]:
    """Return the link's rate of 100-word reads over that of libmodbus' C client, from one server, turn by turn.

    One connection reads one request after another; so does each of 32. The C client always has one connection.
    """
    seconds, rounds = (1.0, 9) if quick else (2.0, 40)
    with server() as port, tempfile.TemporaryDirectory(prefix="podkeeper-libmodbus-") as folder:
        client = compiled("libmodbus_client", Path(folder))
        rates: list[tuple[float, float, float, float]] = []
        for _ in range(rounds):
            theirs = float(subprocess.check_output([client, str(port), str(seconds)]))
            links = {count: run(_links(port, count, seconds)) for count in BARS}
            rates.append((theirs, links[1], links[32], run(_worker(port, seconds))))
    params = {"words": WORDS, "seconds": seconds * rounds, "server": "libmodbus"}
    theirs = median(rate[0] for rate in rates)
    for place, (count, bar) in enumerate(BARS.items(), 1):
        ratios = [rate[place] / rate[0] for rate in rates]
        detail = {"reads_per_s": median(rate[place] for rate in rates), "libmodbus_per_s": theirs, "each": ratios}
        shown = {"figure": "link / libmodbus client", "connections": count, **params}
        yield Result(NAME, shown, median(ratios), bar, detail)
    detail = {"reads_per_s": median(rate[3] for rate in rates)}
    shown = {"figure": "bus worker with 100 points / libmodbus client", "connections": 1, **params}
    yield Result(NAME, shown, median(rate[3] / rate[0] for rate in rates), "", detail)


async def _links(port: int, count: int, seconds: float) -> float:
    links = [made(plans.tcp(port)) for _ in range(count)]
    for link in links:
        await link.open()
    gc.collect()
    gc.freeze()
    begun = time.monotonic()
    reads = await asyncio.gather(*(_read(link, begun + seconds) for link in links))
    rate = sum(reads) / (time.monotonic() - begun)
    gc.unfreeze()
    for link in links:
        await link.close()
    return rate


async def _read(link: Link, until: float) -> int:
    reads, request = 0, frames.read(UNIT, "holding", 0, WORDS)
    while time.monotonic() < until:
        words = request.values(await link.exchange(request, TIMEOUT_S))
        assert words[-1] == plans.word(UNIT, WORDS - 1)
        reads += 1
    return reads


async def _worker(port: int, seconds: float) -> float:
    rows = {f"r{at}": plans.row(at) for at in range(WORDS)}
    bus = plans.bus(plans.tcp(port), [plans.device("unit_1", UNIT, rows, device_time_s=0.0)])
    async with working([bus], Inbox()) as (worker,):
        await asyncio.sleep(0.2)
        before, begun = worker.counters["transactions"], time.monotonic()
        await asyncio.sleep(seconds)
        return (worker.counters["transactions"] - before) / (time.monotonic() - begun)
