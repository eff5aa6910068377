"""A timer that fires to a tenth of a millisecond.

The event loop rounds its waits up to whole milliseconds, which is a third of a reply at 19200 baud. A Linux timerfd
wakes the same loop exactly (timerfd_create(2)); Python has it from 3.13 on only.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import os
import time
from collections.abc import Callable

CLOCK_MONOTONIC = 1
TIMER_ABSTIME = 1
FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Timer:
    """Calls back once at an instant of the monotonic clock; setting it anew forgets the former instant."""

    def __init__(self) -> None:
        self._descriptor = _LIBC.timerfd_create(CLOCK_MONOTONIC, FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer to be had")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._fired)
        self._callback: Callable[[], None] | None = None

    def at(self, instant: float, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._set(max(instant, time.monotonic() + 1e-6))

    def cancel(self) -> None:
        self._callback = None
        self._set(0.0)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _set(self, instant: float) -> None:
        seconds, fraction = divmod(instant, 1.0)
        setting = _Setting(_Time(0, 0), _Time(int(seconds), int(fraction * 1e9)))
        if _LIBC.timerfd_settime(self._descriptor, TIMER_ABSTIME, ctypes.byref(setting), None) < 0:
            raise OSError(ctypes.get_errno(), "the timer can't be set")

    def _fired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew since it became ready
        callback, self._callback = self._callback, None
        if callback:
            callback()


class Agenda:
    """Calls back at several instants of the monotonic clock, in their order; those of one instant as they were set."""

    def __init__(self) -> None:
        self._timer = Timer()
        self._order = itertools.count()
        self._entries: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, instant: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._entries, (instant, next(self._order), callback))
        if self._entries[0][0] >= instant:
            self._timer.at(instant, self._due)

    def close(self) -> None:
        self._entries.clear()
        self._timer.close()

    def _due(self) -> None:
        _, _, callback = heapq.heappop(self._entries)
        if self._entries:
            self._timer.at(self._entries[0][0], self._due)
        callback()
