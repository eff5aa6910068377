"""Whether any value ever stands under another point's name, whatever the units do."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ModbusException

from controller.clock import SystemClock
from controller.config.plan import BusPlan
from controller.core.interlocks import Write
from controller.core.points import Quality, Reading
from controller.fieldbus.bus import BusWorker
from controller.fieldbus.planner import Span, plan_spans
from hil.bench import plans
from hil.bench.child import Child
from hil.bench.faulty import FAULTS, LATE_S, SWAPPED_ECHO_SHARE, Lines, serve
from hil.bench.master import ended, run
from hil.bench.result import Result

NAME = "wrong-values"
TRANSACTIONS = 1_000_000
LINES, UNITS = 32, (1, 2, 3, 4)
BAUD, TIMEOUT_S = 115200, 0.1
SINGLES, BLOCKS, BLOCK_WORDS = range(100, 900, 100), (1000, 1100), 10
OUTPUTS, LONG_OUTPUT = (2000, 2001, 2002), 2010
LIMIT_S, QUICK_S = 400.0, 30.0
BEYOND_S, BEYOND_QUICK_S = 40.0, 9.0
BARE_S, BARE_QUICK_S = 40.0, 7.0
CANCEL_EVERY_S = 2.0
WRITE_EVERY_S = 0.05
EXAMPLES = 5


class Checked(dict[str, Reading]):
    """An inbox that knows what every point must be."""

    def __init__(self, expected: Mapping[str, int]) -> None:
        super().__init__()
        self._expected = expected
        self.right = self.wrong = 0
        self.examples: list[str] = []

    def __setitem__(self, point: str, reading: Reading) -> None:
        super().__setitem__(point, reading)
        expected = self._expected.get(point)
        if expected is None or reading.quality is not Quality.GOOD:
            return
        self.judge(point, expected, reading.value)

    def judge(self, point: str, expected: int, value: object) -> None:
        if value == expected:
            self.right += 1
            return
        self.wrong += 1
        if len(self.examples) < EXAMPLES:
            line = point.partition("_")[0] + "_"
            owners = (name for name, held in self._expected.items() if held == value and name.startswith(line))
            owner = next(owners, "nothing")
            self.examples.append(f"{point} got the value of {owner}")


@dataclass(frozen=True, slots=True)
class Outcome:
    transactions: int
    right: int
    wrong: int
    examples: Sequence[str]
    seconds: float
    detail: Mapping[str, Any]


def line_plan(number: int, path: str) -> BusPlan:
    """Return one line: four units, each with single registers, blocks, and outputs nobody reads."""
    rows = {f"r{at}": plans.row(at) for at in SINGLES}
    rows |= {f"r{at + word}": plans.row(at + word) for at in BLOCKS for word in range(BLOCK_WORDS)}
    rows |= {f"w{at}": plans.row(at, access="w") for at in OUTPUTS}
    rows[f"w{LONG_OUTPUT}"] = plans.row(LONG_OUTPUT, 2, access="w")
    name = f"line{number}"
    devices = [plans.device(f"{name}_u{unit}", unit, rows, bus=name, device_time_s=0.001) for unit in UNITS]
    return plans.bus(plans.serial(path, BAUD, round(1000 * TIMEOUT_S)), devices, name)


def expected(buses: Sequence[BusPlan]) -> dict[str, int]:
    """Return what every readable point must be."""
    devices = [device for bus in buses for device in bus.devices]
    return {
        plan.point.id: plans.word(device.unit, plan.row.address)
        for device in devices
        for plan in device.points
        if plan.row.access != "w"
    }


def measure(quick: bool) -> Iterator[Result]:
    """Return how many values stood under a wrong name: by the worker, and by a bare pymodbus client beside it."""
    with Child(serve, Lines(LINES, UNITS, TIMEOUT_S)) as slaves:
        ours = run(_ours(slaves, QUICK_S if quick else LIMIT_S, TRANSACTIONS))
    with Child(serve, Lines(LINES, UNITS, TIMEOUT_S, compounding=True)) as slaves:
        beyond = run(_ours(slaves, BEYOND_QUICK_S if quick else BEYOND_S, TRANSACTIONS))
    with Child(serve, Lines(LINES, UNITS, TIMEOUT_S, seed=2)) as slaves:
        bare = run(_bare(slaves, BARE_QUICK_S if quick else BARE_S))
    params = {
        "wire": "ptys without line timing",
        "lines": LINES,
        "units": len(UNITS),
        "nominal_baud": BAUD,
        "timeout_s": TIMEOUT_S,
        "late_s_after_timeout": LATE_S,
        "faults": {**FAULTS, "swapped_echo of writes": SWAPPED_ECHO_SHARE},
        "busy": "units 2 and 4 queue what comes while they are busy, 1 and 3 drop it",
        "cancels": f"each line's task cancelled and started again every {CANCEL_EVERY_S:g} s",
    }
    yield Result(NAME, {"figure": "values under a wrong name", **params}, ours.wrong, "== 0", _detail(ours))
    writes = ours.detail["writes"] - ours.detail["slaves"]["writes rightly echoed"]
    detail = {"writes": ours.detail["writes"], "failed": ours.detail["writes failed"]}
    yield Result(NAME, {"figure": "writes taken as done beyond those rightly echoed"}, max(0, writes), "== 0", detail)
    bar = "" if quick else f">= {TRANSACTIONS}"
    yield Result(NAME, {"figure": "transactions"}, ours.transactions, bar, {"seconds": ours.seconds})
    name = "values under a wrong name, replies of queued requests later than stated"
    yield Result(NAME, {"figure": name}, beyond.wrong, "", _detail(beyond))
    yield Result(NAME, {"figure": "values under a wrong name, bare pymodbus client"}, bare.wrong, "", _detail(bare))


def _detail(outcome: Outcome) -> dict[str, Any]:
    return {
        "transactions": outcome.transactions,
        "right": outcome.right,
        "wrong_per_million_values": 1e6 * outcome.wrong / max(1, outcome.right + outcome.wrong),
        "seconds": outcome.seconds,
        "examples": outcome.examples,
        **outcome.detail,
    }


async def _ours(slaves: Child, limit_s: float, target: int) -> Outcome:
    buses = [line_plan(number, path) for number, path in enumerate(slaves.told)]
    inbox = Checked(expected(buses))
    workers = [BusWorker(bus, inbox, SystemClock(), lambda: None) for bus in buses]
    started = time.monotonic()
    counts: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(_cancelled_now_and_then(worker, number, counts)) for number, worker in enumerate(workers)
    ]
    tasks += [
        asyncio.create_task(_write(worker, bus, number))
        for number, (worker, bus) in enumerate(zip(workers, buses, strict=True))
    ]
    while sum(worker.counters["transactions"] for worker in workers) < target and time.monotonic() < started + limit_s:
        await asyncio.sleep(0.2)
        for task in tasks:
            if task.done():
                task.result()
    seconds = time.monotonic() - started
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    totals: Counter[str] = Counter()
    for worker in workers:
        totals.update(worker.counters)
    master = {name: totals[name] for name in ("timeouts", "wrong replies", "links lost", "writes", "writes failed")}
    detail = {**master, **counts, "slaves": slaves.ask("counts")}
    transactions = sum(worker.counters["transactions"] for worker in workers)
    return Outcome(transactions, inbox.right, inbox.wrong, inbox.examples, seconds, detail)


async def _cancelled_now_and_then(worker: BusWorker, seed: int, counts: Counter[str]) -> None:
    """Run a worker, cancelled at a random moment every two seconds or so, and at once run again."""
    dice = random.Random(seed)
    while True:
        task = asyncio.create_task(worker.run())
        try:
            await asyncio.wait({task}, timeout=dice.uniform(0.5, 1.5) * CANCEL_EVERY_S)
        finally:
            counts["swallowed cancels"] += await ended(task) - 1
        if not task.cancelled():
            task.result()
        counts["cancels"] += 1


async def _write(worker: BusWorker, bus: BusPlan, seed: int) -> None:
    dice = random.Random(seed)
    outputs = [plan.point.id for device in bus.devices for plan in device.points if plan.row.access == "w"]
    while True:
        await asyncio.sleep(dice.uniform(0.5, 1.5) * WRITE_EVERY_S)
        worker.submit(Write(dice.choice(outputs), float(dice.randrange(1, 1000)), False, "bench"))


async def _bare(slaves: Child, limit_s: float) -> Outcome:
    """The same reads through pymodbus alone, which gives each reply to whoever waits."""
    buses = [line_plan(number, path) for number, path in enumerate(slaves.told)]
    inbox = Checked(expected(buses))
    started = time.monotonic()
    lines = (_bare_line(bus, number, inbox, started + limit_s) for number, bus in enumerate(buses))
    await asyncio.gather(*lines)
    counts = slaves.ask("counts")
    seconds = time.monotonic() - started
    return Outcome(counts["requests"], inbox.right, inbox.wrong, inbox.examples, seconds, {"slaves": counts})


async def _bare_line(bus: BusPlan, seed: int, inbox: Checked, until: float) -> None:
    dice = random.Random(seed)
    settings = bus.settings
    client = AsyncModbusSerialClient(
        str(settings.port), framer=FramerType.RTU, baudrate=BAUD, stopbits=2, timeout=TIMEOUT_S, retries=0
    )
    client.set_max_no_responses(10**9)
    await client.connect()
    spans = [span for device in bus.devices for span in plan_spans(device, bus.settings)]
    cancel_at = time.monotonic() + CANCEL_EVERY_S
    try:
        while time.monotonic() < until:
            for span in spans:
                patience = 2 * TIMEOUT_S
                if time.monotonic() > cancel_at:  # give up before the reply can be there
                    patience, cancel_at = 0.0002, time.monotonic() + dice.uniform(0.5, 1.5) * CANCEL_EVERY_S
                await _bare_read(client, span, inbox, patience)
    finally:
        client.close()


async def _bare_read(client: AsyncModbusSerialClient, span: Span, inbox: Checked, patience_s: float) -> None:
    unit, address = span.device.unit, span.address
    try:
        async with asyncio.timeout(patience_s):
            reply = await client.read_holding_registers(address, count=span.count, device_id=unit)
    except (ModbusException, TimeoutError):
        return
    if reply.isError():
        return
    held = dict(zip(range(address, address + span.count), reply.registers, strict=False))
    for plan in span.points:
        if plan.row.address in held:
            inbox.judge(plan.point.id, plans.word(unit, plan.row.address), held[plan.row.address])
