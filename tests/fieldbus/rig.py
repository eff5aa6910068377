"""A serial line with units that a test shapes, a bus worker on it, and the door to both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controller.clock import SystemClock
from controller.config.enclosure import Bus
from controller.config.plan import BusPlan
from controller.fieldbus.bus import BusWorker
from controller.fieldbus.door import serve_door
from controller.fieldbus.frames import Request
from controller.fieldbus.guard import objection
from controller.unixsocket import listens
from hil.bench import plans
from hil.bench.master import Inbox
from hil.wire.pdu import ILLEGAL_ADDRESS, ModbusFault
from hil.wire.rtu import RtuLine

BAUD = 115200
WAIT_S = 10.0


@dataclass
class Memory:
    """A unit that has the registers it has. ``bent`` may spoil what it answers to a read; ``writes`` are kept."""

    words: dict[int, int]
    device_time_s: float = 0.001
    silent: bool = False
    refusal: int = 0
    bent: Callable[[int, int, list[int]], list[int]] | None = None
    held: dict[int, int] = field(default_factory=dict)  # registers that a write does not change
    reads: list[tuple[str, int, int]] = field(default_factory=list)
    writes: list[tuple[int, list[int]]] = field(default_factory=list)

    def read(self, table: str, address: int, count: int) -> Sequence[int]:
        self.reads.append((table, address, count))
        if table not in ("holding", "input"):
            return [address + at & 1 for at in range(count)]
        if not all(at in self.words for at in range(address, address + count)):
            raise ModbusFault(ILLEGAL_ADDRESS)
        found = [self.words[at] for at in range(address, address + count)]
        return self.bent(address, count, found) if self.bent else found

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        if table == "holding" and address not in self.words:
            raise ModbusFault(ILLEGAL_ADDRESS)
        self.writes.append((address, list(values)))
        for at, value in enumerate(values, address):
            self.words[at] = self.held.get(at, value)


def settings(line: RtuLine, **more: int) -> Bus:
    return plans.serial(str(line.link), line.baud).model_copy(update={"timeout_ms": 60, "write_budget_ms": 100, **more})


@contextlib.asynccontextmanager
async def serial_line(units: Mapping[int, Memory], folder: Path, baud: int = BAUD) -> AsyncIterator[RtuLine]:
    line = RtuLine(units, baud, folder / "line")
    await line.start()
    try:
        yield line
    finally:
        await line.stop()


@contextlib.asynccontextmanager
async def running(coroutine: object) -> AsyncIterator[None]:
    task: asyncio.Task[None] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], limit_s: float = WAIT_S) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class Served:
    """A host of the door: one bus, whose worker runs."""

    plan: BusPlan
    worker: BusWorker
    inbox: Inbox
    path: Path
    mode: str = "OFF"
    owned: frozenset[str] = frozenset()

    @property
    def about(self) -> Mapping[str, str]:
        return {"name": "rig", "site": "bench", "version": "0", "revision": "r1"}

    @property
    def workers(self) -> Mapping[str, BusWorker]:
        return {self.plan.name: self.worker}

    def objection(self, bus: str, request: Request) -> str:
        return objection(self.plan, request, self.mode, self.owned)


@contextlib.asynccontextmanager
async def served(plan: BusPlan, folder: Path) -> AsyncIterator[Served]:
    """Run a worker for the bus and the tools' door in front of it, until all its units have been read once."""
    inbox = Inbox()
    worker = BusWorker(plan, inbox, SystemClock(), lambda: None)
    host = Served(plan, worker, inbox, folder / "fieldbus.sock")
    readable = [point.point.id for device in plan.devices for point in device.points if point.row.access != "w"]
    async with running(worker.run()), running(serve_door(host.path, host)):
        await until(lambda: listens(host.path) and all(point in inbox for point in readable))
        yield host
