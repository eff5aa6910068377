"""A part of the bench that runs in a process of its own and takes orders over a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from controller.service import precise_loop

START_S = 30.0
ANSWER_S = 60.0
REALTIME_PRIORITY = 10

Orders = Callable[..., Any]
Body = Callable[[Any], Awaitable[tuple[Any, Orders]]]


class Child:
    """Runs ``body(spec)`` in its own process; use it as a context manager.

    Args:
        body: a module's coroutine; returns what the parent is told at the start, and the function that takes orders.
        realtime: ask for real-time priority, so that a slave is as punctual as hardware on a busy machine.

    Attributes:
        told: what ``body`` returned. realtime: whether the priority was granted.
    """

    def __init__(self, body: Body, spec: Any, *, realtime: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, body, spec, realtime), daemon=True)
        self._theirs = theirs
        self.told: Any = None
        self.realtime = False

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        self.told, self.realtime = self._answer(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._connection.send(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def ask(self, order: str, *arguments: Any) -> Any:
        """Give an order and return the answer. Blocks: not while something under test shares this process."""
        self._connection.send((order, arguments))
        return self._answer(ANSWER_S)

    def send(self, order: str, *arguments: Any) -> None:
        """Give an order whose answer nobody reads."""
        self._connection.send((f"!{order}", arguments))

    def cpu_s(self) -> float:
        """Return the processor time that all threads of the process have had, to the nanosecond."""
        assert self._process.pid is not None
        return cpu_s(self._process.pid)

    def _answer(self, limit_s: float) -> Any:
        if not self._connection.poll(limit_s):
            raise TimeoutError("the other process of the bench does not answer")
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError("the other process of the bench failed; its error stands above") from None


def cpu_s(pid: int) -> float:
    """Return the processor time of a running process: its CPU clock, clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def _main(connection: Connection, body: Body, spec: Any, realtime: bool) -> None:
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(_serve(connection, body, spec, realtime))


async def _serve(connection: Connection, body: Body, spec: Any, realtime: bool) -> None:
    told, orders = await body(spec)
    stopped = asyncio.get_running_loop().create_future()

    def readable() -> None:
        try:
            message = connection.recv()
        except EOFError:
            message = None
        if message is None:
            if not stopped.done():
                stopped.set_result(None)
            return
        order, arguments = message
        answer = orders(order.removeprefix("!"), *arguments)
        if not order.startswith("!"):
            connection.send(answer)

    asyncio.get_running_loop().add_reader(connection.fileno(), readable)
    gc.collect()
    gc.freeze()
    granted = realtime and _realtime()
    connection.send((told, granted))
    await stopped


def _realtime() -> bool:
    gc.disable()
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))
    except OSError:
        return False
    return True
