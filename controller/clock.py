"""Time, as a thing that is handed in."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Literal, Protocol

Trust = Literal["sync", "unsync", "unknown"]
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")  # made by systemd-timesyncd, gone after a reboot
STA_UNSYNC = 0x0040  # linux/timex.h
NOT_ALLOWED = -1


class _Timex(ctypes.Structure):
    """The first fields of ``struct timex`` (adjtimex(2)), and room for the others."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def kernel_status() -> int | None:
    """Return the status bits of the kernel's clock; None where a sandbox (``ProtectClock=``) forbids to ask."""
    timex = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if answer == NOT_ALLOWED else int(timex.status)


def trust(marker: Path = SYNCHRONISED, status: int | None = None) -> Trust:
    """Return whether the wall clock has been set by a time source since the machine started.

    Args:
        marker: what systemd-timesyncd makes when it has set the clock; works inside the service's sandbox.
        status: of the kernel's clock, which chrony, ntpd and PTP keep; None where it can't be asked.
    """
    if marker.exists():
        return "sync"
    if status is not None:
        return "unsync" if status & STA_UNSYNC else "sync"
    return "unsync" if marker.parent.is_dir() else "unknown"


class Clock(Protocol):
    def monotonic(self) -> float:
        """Return seconds that never go back; all timers and ages use them."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch; only what leaves the controller carries them."""

    def trust(self) -> Trust:
        """Return whether ``wall_ms`` can be believed."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def trust(self) -> Trust:
        return trust(status=kernel_status())
