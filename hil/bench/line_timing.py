"""How near an emulated serial line's exchanges come to the time that a real line would take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from statistics import median

from controller.fieldbus import frames
from controller.fieldbus.client import made
from hil.bench import plans
from hil.bench.result import Result
from hil.bench.slave import Line, served
from hil.wire.rtu import Exchange

NAME = "line-timing"
BAR = "<= 0.02"
BAUDS = (9600, 19200, 115200)
UNIT = 1
SIZES = (1, 10, 60)
DEVICE_TIME_S = 0.005
TIMEOUT_S = 2.0
SETTLED = 5  # exchanges left out at the start


def measure(quick: bool) -> Iterator[Result]:
    """Return, for each speed, how far the median exchange is from theory, as a share, in the size where it is worst.

    From the request's first bit to the reply's last: both frames' characters, t3.5 and the unit's 5 ms.
    """
    count = 60 if quick else 400
    for baud in BAUDS:
        line = Line(baud, (UNIT,), DEVICE_TIME_S)
        off, detail = {}, {}
        with served(line) as slaves:
            for words in SIZES:
                before = len(slaves.ask("exchanges"))
                asyncio.run(_read(slaves.told, line, words, count))
                found = [_off(line, exchange) for exchange in slaves.ask("exchanges")[before + SETTLED :]]
                off[words] = median(found)
                detail[f"{words} words"] = {"median": off[words], "p99": sorted(found)[int(0.99 * len(found))]}
        params = {"baud": baud, "words": list(SIZES), "device_time_ms": 1000 * DEVICE_TIME_S, "exchanges": count}
        yield Result(NAME, {"figure": "off theory", **params}, max(off.values(), key=abs), BAR, detail)


def _off(line: Line, exchange: Exchange) -> float:
    """Return the exchange's time over what theory gives it, less one; an early reply counts as much as a late one."""
    theory = line.legal_s(exchange) - line.silence_s
    return abs((exchange.written - exchange.arrived) / theory - 1)


async def _read(port: str, line: Line, words: int, count: int) -> None:
    link = made(plans.serial(port, line.baud))
    await link.open()
    try:
        for _ in range(count):
            await link.exchange(frames.read(UNIT, "holding", 0, words), TIMEOUT_S)
            await asyncio.sleep(line.silence_s)
    finally:
        await link.close()
