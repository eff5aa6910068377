"""Modbus RTU slaves on a pseudo-terminal that takes the time a real line would.

A pty hands bytes over at once, so the time on the wire is added by the slave: a reply leaves when its last byte would
have arrived on a real line. Silences and character times are those of MODBUS over Serial Line V1.02, 2.5.1.1:
3.5 characters up to 19200 baud, 1.75 ms above. A character is 11 bits (start, 8 data, parity or second stop, stop).
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
import tty
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hil.wire.pdu import BROADCAST, Responder, respond
from hil.wire.timer import Timer

CHARACTER_BITS = 11
FAST_BAUD = 19200
FAST_SILENCE_S = 0.00175
FRAME_MAX = 256
RESYNC_S = (
    0.02  # silence after which an unfinished frame is given up: t3.5 plus what a busy master needs between writes
)
GAP_SLACK_S = 0.0002  # a gap counts as short only beyond what two processes' clocks readings differ
EXCHANGES_KEPT = 2000
FIXED_FRAME = 8
COUNTED_HEADER = 7


def crc16(data: bytes) -> int:
    """Return the CRC of MODBUS over Serial Line V1.02, 6.2.2 (polynomial 0xA001, start 0xFFFF)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value


_CRC_TABLE = tuple(_crc_entry(value) for value in range(256))


def with_crc(frame: bytes) -> bytes:
    return frame + crc16(frame).to_bytes(2, "little")


def frame_length(buffer: bytes) -> int | None:
    """Return the length of the request that starts ``buffer``; None while unknown, 0 for a function without a rule."""
    if len(buffer) < 2:
        return None
    if 1 <= buffer[1] <= 6:
        return FIXED_FRAME
    if buffer[1] in (15, 16):
        return COUNTED_HEADER + buffer[6] + 2 if len(buffer) >= COUNTED_HEADER else None
    return 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as the slave side saw it, in monotonic seconds.

    Attributes:
        arrived: when the master handed the request over.
        due: when the reply's last byte has to leave; written: when it left; 0 where there was no reply.
    """

    unit: int
    function: int
    request_bytes: int
    reply_bytes: int
    arrived: float
    due: float
    written: float


@dataclass(slots=True)
class Counters:
    """What went wrong or right on the line since it was started."""

    requests: int = 0
    replies: int = 0
    crc_errors: int = 0
    foreign: int = 0
    unfinished: int = 0
    collisions: int = 0
    short_gaps: int = 0
    busy_s: float = 0.0


@dataclass(slots=True)
class _Reply:
    unit: int
    function: int
    request_bytes: int
    arrived: float
    due: float
    frame: bytes


@dataclass(slots=True)
class RtuLine:
    """One serial line: a pty, the slaves on it, and a symlink that always names the pty's slave side.

    Attributes:
        link: path a master opens; ``unplug`` removes it, ``replug`` points it to a new pty in one step.
        spin_s: how long before a reply is due the slave wakes and watches the clock, for measurements that can't
            put up with the fifth of a millisecond it takes to wake a process. It costs that much processor time.
    """

    units: Mapping[int, Responder]
    baud: int
    link: Path
    counters: Counters = field(default_factory=Counters)
    exchanges: deque[Exchange] = field(default_factory=lambda: deque(maxlen=EXCHANGES_KEPT))
    spin_s: float = 0.0
    _master: int = -1
    _slave: int = -1
    _buffer: bytearray = field(default_factory=bytearray)
    _busy_until: float = 0.0
    _timer: Timer | None = None
    _resync: asyncio.TimerHandle | None = None

    @property
    def character_s(self) -> float:
        return CHARACTER_BITS / self.baud

    @property
    def silence_s(self) -> float:
        """t3.5"""
        return 3.5 * self.character_s if self.baud <= FAST_BAUD else FAST_SILENCE_S

    async def start(self) -> None:
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        fresh = self.link.with_name(f".{self.link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.link)
        self._timer = Timer()
        self._busy_until = 0.0
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    async def stop(self) -> None:
        """Take the adapter away: the master's next read or write fails, and its path is gone."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        if self._timer:
            self._timer.close()
        self._forget()
        self.link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    unplug = stop
    replug = start

    def _forget(self) -> None:
        self._buffer.clear()
        if self._resync:
            self._resync.cancel()
            self._resync = None

    def _readable(self) -> None:
        now = time.monotonic()
        try:
            data = os.read(self._master, 4096)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EAGAIN):
                return
            raise
        if now < self._busy_until:
            self.counters.collisions += 1  # two talk at once: nobody understands the request
            return
        if not self._buffer and self._busy_until and now - self._busy_until < self.silence_s - GAP_SLACK_S:
            self.counters.short_gaps += 1
        self._buffer += data
        if self._resync:
            self._resync.cancel()
            self._resync = None
        length = frame_length(bytes(self._buffer))
        if length and len(self._buffer) >= length:
            self._frame(bytes(self._buffer), now)
            self._forget()
        elif len(self._buffer) > FRAME_MAX:
            self.counters.unfinished += 1
            self._forget()
        else:
            wait = max(RESYNC_S, self.silence_s)
            self._resync = asyncio.get_running_loop().call_later(wait, self._silent, now)

    def _silent(self, arrived: float) -> None:
        """A silence ended what has come so far: a frame of a function without a length rule, or a torso."""
        frame = bytes(self._buffer)
        self._forget()
        if frame_length(frame) == 0 and len(frame) >= 4:
            self._frame(frame, arrived)
        else:
            self.counters.unfinished += 1

    def _frame(self, frame: bytes, arrived: float) -> None:
        self.counters.requests += 1
        heard = arrived + len(frame) * self.character_s
        self._busy_until = heard
        self.counters.busy_s += heard - arrived
        if crc16(frame) != 0:
            self.counters.crc_errors += 1
            return
        unit, pdu = frame[0], frame[1:-2]
        if unit == BROADCAST:
            for device in self.units.values():
                if not device.silent:
                    respond(device, pdu)
            return
        addressed = self.units.get(unit)
        if addressed is None or addressed.silent:
            self.counters.foreign += addressed is None
            return
        reply = with_crc(bytes((unit,)) + respond(addressed, pdu))
        wire_s = len(reply) * self.character_s
        due = heard + self.silence_s + addressed.device_time_s + wire_s
        self._busy_until = due
        self.counters.busy_s += wire_s
        pending = _Reply(unit, pdu[0], len(frame), arrived, due, reply)
        assert self._timer is not None
        self._timer.at(due - self.spin_s, lambda: self._send(pending))

    def _send(self, reply: _Reply) -> None:
        while self.spin_s and time.monotonic() < reply.due:
            pass
        self._busy_until = time.monotonic()  # before the write: the master may well be the next to get the processor
        try:
            os.write(self._master, reply.frame)
        except BlockingIOError:
            return  # nobody has read the line for thousands of bytes
        written = time.monotonic()
        self.counters.replies += 1
        self.exchanges.append(
            Exchange(
                reply.unit, reply.function, reply.request_bytes, len(reply.frame), reply.arrived, reply.due, written
            )
        )


def exchange_s(baud: int, request_bytes: int, reply_bytes: int, device_time_s: float) -> float:
    """Return how long an exchange takes on a real line, from the request's first bit to the reply's last."""
    character = CHARACTER_BITS / baud
    silence = 3.5 * character if baud <= FAST_BAUD else FAST_SILENCE_S
    return (request_bytes + reply_bytes) * character + silence + device_time_s
