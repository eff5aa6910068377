"""Time, as a thing that is handed in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Return seconds that never go back; all timers and ages use them."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch; only what leaves the controller carries them."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
