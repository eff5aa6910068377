"""What a link to devices is, whatever carries it; and what the links have in common."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from controller.fieldbus.capture import Ring
from controller.fieldbus.frames import Request

CONNECT_S = 3.0
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


class Link(Protocol):
    """One serial line or TCP connection. One exchange at a time: its bus worker is its only user.

    Attributes:
        faults: counted by cause (timeout, crc, wrong unit, wrong shape, late, link).
        heard_at: monotonic seconds of the last byte that came.
        ring: the last frames, at monotonic seconds.
    """

    faults: Counter[str]
    heard_at: float
    ring: Ring

    @property
    def connected(self) -> bool: ...

    async def open(self) -> None:
        """Connect; raises LinkError with the reason."""

    async def close(self) -> None:
        """Drop the connection; what is pending fails with LinkError."""

    def free_at(self, request: Request) -> float:
        """Return from when on ``request`` may be sent without risk of taking a late reply for its own."""

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        """Send ``request`` and return the PDU that answers it; raises LinkError, NoReply or WrongReply."""


class Deadline:
    """Calls back when what is waited for did not come in time.

    One timer of the event loop serves many exchanges: it is moved on when it fires, not with each of them.
    """

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed
        self._at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.set_at(asyncio.get_running_loop().time() + seconds)

    def set_at(self, at: float) -> None:
        """Set it to a time of the event loop."""
        loop = asyncio.get_running_loop()
        self._at = at
        if self._timer is not None and self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(self._at, self._fire)

    def clear(self) -> None:
        self._at = float("inf")

    def close(self) -> None:
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._at <= loop.time():
            self._at = float("inf")
            self._passed()
        elif self._at < float("inf"):
            self._timer = loop.call_at(self._at, self._fire)


def keep_alive(connection: socket.socket) -> None:
    """Have the system find out that the peer is gone, though nothing is said."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
