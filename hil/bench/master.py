"""The worker under test, run in this process through its public interface."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

from controller.clock import SystemClock
from controller.config.plan import BusPlan
from controller.core.points import Quality, Reading
from controller.fieldbus.bus import BusWorker
from controller.service import precise_loop

Outcome = TypeVar("Outcome")

CANCEL_AGAIN_S = 2.0
NICE = -10  # as systemd/podkeeper.service has it


class Inbox(dict[str, Reading]):
    """The worker's inbox, which also notes when each point was read well.

    Attributes:
        good: monotonic times of each point's GOOD readings.
        poor: how many readings were not GOOD.
    """

    def __init__(self) -> None:
        super().__init__()
        self.good: dict[str, list[float]] = defaultdict(list)
        self.poor = 0

    def __setitem__(self, point: str, reading: Reading) -> None:
        super().__setitem__(point, reading)
        if reading.quality is Quality.GOOD:
            self.good[point].append(reading.at)
        else:
            self.poor += 1


def run(main: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run ``main`` on the event loop that the service runs on."""
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(main)


def as_the_service() -> bool:
    """Take the service's priority, for all that is started from here too; return whether it was granted."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except OSError:
        return False
    return True


def quiet() -> None:
    """Keep the worker's own log off the output: only results are printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # the bare client's


@contextlib.asynccontextmanager
async def working(plans: Iterable[BusPlan], inbox: dict[str, Reading]) -> AsyncIterator[list[BusWorker]]:
    """Run a worker for each bus while the context lasts."""
    workers = [BusWorker(plan, inbox, SystemClock(), _nothing) for plan in plans]
    gc.collect()
    gc.freeze()
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield workers
    finally:
        for task in tasks:
            await ended(task)
        gc.unfreeze()
    for task in tasks:
        if not task.cancelled():
            task.result()


async def ended(task: asyncio.Task[None]) -> int:
    """Cancel ``task`` until it ends and return how often that took: one should do."""
    cancels = 0
    while not task.done():
        task.cancel()
        cancels += 1
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
    return max(1, cancels)


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait until ``condition`` holds.

    Raises:
        TimeoutError
    """
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  what is awaited is a value in a dictionary
            await asyncio.sleep(0.02)


def _nothing() -> None:
    """A safety point changed; nobody waits for it."""
