"""Many serial lines without line timing whose units misbehave in every way that can put a value under a wrong name."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import tty
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hil.bench.child import Orders
from hil.bench.plans import word
from hil.wire.pdu import READ_TABLES, respond
from hil.wire.rtu import crc16, frame_length, with_crc

LATE_S = (0.02, 2.0)  # how much later than the master's timeout, evenly spread over the orders of magnitude
SLOW_S = (0.001, 0.01)  # still in time
SLOW_SHARE = 0.1
WRITES = (5, 6, 15, 16)

# Share of the requests that each fault befalls.
FAULTS: Mapping[str, float] = {
    "late": 0.006,
    "drop": 0.002,
    "short": 0.002,
    "corrupt": 0.002,
    "wrong_unit": 0.002,
    "wrong_count": 0.002,
    "wrong_function": 0.002,
}
SWAPPED_ECHO_SHARE = 0.02  # of the writes
KINDS, WEIGHTS = ("none", *FAULTS), (1 - sum(FAULTS.values()), *FAULTS.values())


@dataclass(frozen=True, slots=True)
class Lines:
    """``count`` lines with the same units; even units queue what comes while they are busy, odd units drop it.

    A queued request may itself be answered late. Unless lateness is ``compounding``, no reply comes later than
    ``LATE_S`` allows, counted from its own request.
    """

    count: int
    units: tuple[int, ...]
    timeout_s: float
    seed: int = 1
    compounding: bool = False


@dataclass(slots=True)
class _Unit:
    number: int
    device_time_s: float = 0.0
    silent: bool = False
    refusal: int = 0
    busy: bool = False
    waiting: deque[tuple[bytes, float]] = field(default_factory=deque)  # and when they came

    @property
    def queues(self) -> bool:
        return self.number % 2 == 0

    def read(self, table: str, address: int, count: int) -> list[int]:  # noqa: ARG002  all tables are alike
        return [word(self.number, at) for at in range(address, address + count)]

    def write(self, table: str, address: int, values: Any) -> None:
        """Take the words."""


class FaultyLine:
    """One pty and its units."""

    def __init__(self, lines: Lines, number: int, counts: Counter[str]) -> None:
        self._lines, self._counts = lines, counts
        self._random = random.Random(lines.seed * 1000 + number)
        self._units = {unit: _Unit(unit) for unit in lines.units}
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._buffer = bytearray()
        self._last_echo = b""
        self.path = os.ttyname(self._slave)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._readable)

    def _readable(self) -> None:
        try:
            self._buffer += os.read(self._master, 4096)
        except OSError:
            return
        while (length := frame_length(bytes(self._buffer))) and len(self._buffer) >= length:
            frame = bytes(self._buffer[:length])
            del self._buffer[:length]
            if crc16(frame) != 0:  # a request torn by a cancel: wait for the next
                self._counts["requests not understood"] += 1
                self._buffer.clear()
                return
            unit = self._units.get(frame[0])
            if unit is not None:
                self._request(unit, frame)

    def _request(self, unit: _Unit, frame: bytes) -> None:
        self._counts["requests"] += 1
        if not unit.busy:
            self._answer(unit, frame, self._loop.time())
        elif unit.queues:
            self._counts["queued while busy"] += 1
            unit.waiting.append((frame, self._loop.time()))
        else:
            self._counts["dropped while busy"] += 1

    def _answer(self, unit: _Unit, frame: bytes, arrived: float) -> None:
        reply = bytes((unit.number,)) + respond(unit, frame[1:-2])
        write = frame[1] in WRITES
        (kind,) = self._random.choices(KINDS, WEIGHTS)
        if write and self._random.random() < SWAPPED_ECHO_SHARE and self._last_echo:
            kind, reply = "swapped_echo", bytes((unit.number,)) + self._swapped(reply[1:])
        self._counts[kind] += 1
        if write:
            self._last_echo = reply[1:]
            self._counts["writes rightly echoed"] += kind in ("none", "late")
        if kind == "late":
            low, high = map(math.log, LATE_S)
            late_s = self._lines.timeout_s + math.exp(self._random.uniform(low, high))
            latest = arrived + self._lines.timeout_s + LATE_S[1]
            if self._loop.time() + late_s > latest:
                self._counts["later than stated" if self._lines.compounding else "held to what is stated"] += 1
                late_s = late_s if self._lines.compounding else max(0.0, latest - self._loop.time())
            self._later(unit, late_s, with_crc(reply))
            return
        fault: Callable[[bytes], bytes] | None = getattr(self, f"_{kind}", None)
        data = fault(reply) if fault else with_crc(reply)
        if self._random.random() < SLOW_SHARE:
            self._later(unit, self._random.uniform(*SLOW_S), data)
        else:
            self._send(data)

    def _later(self, unit: _Unit, seconds: float, data: bytes) -> None:
        unit.busy = True
        self._loop.call_later(seconds, partial(self._free, unit, data))

    def _free(self, unit: _Unit, data: bytes) -> None:
        unit.busy = False
        self._send(data)
        while unit.waiting and not unit.busy:
            self._answer(unit, *unit.waiting.popleft())

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            if data:
                os.write(self._master, data)

    def _swapped(self, echo: bytes) -> bytes:
        """Return the echo of another write: the last one, or else this one with another address."""
        if self._last_echo[0] == echo[0] and self._last_echo != echo:
            return self._last_echo
        return echo[:2] + bytes((echo[2] ^ 1,)) + echo[3:]

    def _drop(self, _reply: bytes) -> bytes:
        return b""

    def _short(self, reply: bytes) -> bytes:
        whole = with_crc(reply)
        return whole[: self._random.randrange(1, len(whole))]

    def _corrupt(self, reply: bytes) -> bytes:
        whole = bytearray(with_crc(reply))
        whole[self._random.randrange(len(whole))] ^= 1 << self._random.randrange(8)
        return bytes(whole)

    def _wrong_unit(self, reply: bytes) -> bytes:
        other = self._random.choice([unit for unit in self._units if unit != reply[0]])
        return with_crc(bytes((other,)) + reply[1:])

    def _wrong_count(self, reply: bytes) -> bytes:
        """One register more or fewer than asked for; its frame is right in itself."""
        if reply[1] not in READ_TABLES:
            return self._corrupt(reply)
        data = reply[3:] + b"\x12\x34" if self._random.random() < 0.5 or len(reply) < 6 else reply[3:-2]
        return with_crc(reply[:2] + bytes((len(data),)) + data)

    def _wrong_function(self, reply: bytes) -> bytes:
        other = {3: 4, 6: 16, 16: 6}.get(reply[1], 3)
        return with_crc(bytes((reply[0], other)) + reply[2:])


async def serve(lines: Lines) -> tuple[list[str], Orders]:
    """Run the lines; the parent is told their paths."""
    counts: Counter[str] = Counter()
    kept = [FaultyLine(lines, number, counts) for number in range(lines.count)]

    def orders(order: str) -> Any:
        assert order == "counts"
        return dict(counts)

    return [line.path for line in kept], orders
