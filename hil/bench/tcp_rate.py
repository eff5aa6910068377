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
from typing import Any

from controller.fieldbus import frames
from controller.fieldbus.client import made
from controller.fieldbus.link import Link
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

    One connection reads one request after another; so does each of 32. The bars are against one C client, which waits
    for each reply; 32 of them at once, each a process, are shown beside it, because much of the second bar is that
    many connections wait together.
    """
    seconds, rounds = (1.0, 9) if quick else (2.0, 20)
    rates: dict[str, list[float]] = {"one": [], "many": [], "1": [], "32": [], "worker": []}
    with server() as port, tempfile.TemporaryDirectory(prefix="podkeeper-libmodbus-") as folder:
        client = compiled("libmodbus_client", Path(folder))
        for _ in range(rounds):
            rates["one"].append(_clients(client, port, 1, seconds))
            for count in BARS:
                rates[str(count)].append(run(_links(port, count, seconds)))
            rates["many"].append(_clients(client, port, max(BARS), seconds))
            rates["worker"].append(run(_worker(port, seconds)))
    params = {"words": WORDS, "seconds": seconds * rounds, "server": "libmodbus"}
    for count, bar in BARS.items():
        shown = {"figure": "link / one libmodbus client", "connections": count, **params}
        yield _ratio(shown, rates[str(count)], rates["one"], bar)
    shown = {"figure": "link / as many libmodbus clients at once", "connections": max(BARS), **params}
    yield _ratio(shown, rates["32"], rates["many"], "")
    shown = {"figure": "bus worker with 100 points / one libmodbus client", "connections": 1, **params}
    yield _ratio(shown, rates["worker"], rates["one"], "")


def _ratio(params: dict[str, Any], ours: list[float], theirs: list[float], bar: str) -> Result:
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    detail = {"reads_per_s": median(ours), "libmodbus_per_s": median(theirs), "least": min(ratios), "most": max(ratios)}
    return Result(NAME, params, median(ratios), bar, detail)


def _clients(client: Path, port: int, count: int, seconds: float) -> float:
    """Return the reads a second of ``count`` C clients together."""
    command = [str(client), str(port), str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    said = [process.communicate()[0] for process in processes]
    return sum(map(float, said))


async def _links(port: int, count: int, seconds: float) -> float:
    links = [made(plans.tcp(port)) for _ in range(count)]
    for link in links:
        await link.open()
    gc.collect()
    gc.freeze()
    begun = time.monotonic()
    reads = await asyncio.gather(*(_read(link, place, begun + seconds) for place, link in enumerate(links)))
    rate = sum(reads) / (time.monotonic() - begun)
    gc.unfreeze()
    for link in links:
        await link.close()
    return rate


async def _read(link: Link, address: int, until: float) -> int:
    """Read until then; every connection has an address of its own, so that another's reply would be seen."""
    reads, request = 0, frames.read(UNIT, "holding", address, WORDS)
    while time.monotonic() < until:
        words = request.values(await link.exchange(request, TIMEOUT_S))
        assert (words[0], words[-1]) == (plans.word(UNIT, address), plans.word(UNIT, address + WORDS - 1))
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
