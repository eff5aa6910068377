"""A serial line with RTU slaves on it: who talks when, and what of it arrives. It knows neither pty nor socket.

Silences and character times are those of MODBUS over Serial Line V1.02, 2.5.1.1: 3.5 characters up to 19200 baud,
1.75 ms above. A character is 11 bits (start, 8 data, parity or second stop, stop).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

from hil.wire.faults import LineFaults
from hil.wire.pdu import BROADCAST, Responder, faults_of, respond
from hil.wire.timer import Agenda

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
IDLE_BABBLE_S = 0.1  # how often a line that nobody babbles on is asked whether somebody does
BABBLE_BYTES = (3, 12)


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


def silence_s(baud: int) -> float:
    """Return t3.5."""
    return 3.5 * CHARACTER_BITS / baud if baud <= FAST_BAUD else FAST_SILENCE_S


def exchange_s(baud: int, request_bytes: int, reply_bytes: int, device_time_s: float) -> float:
    """Return how long an exchange takes on a real line, from the request's first bit to the reply's last."""
    return (request_bytes + reply_bytes) * CHARACTER_BITS / baud + silence_s(baud) + device_time_s


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
class Line:
    """The line's state. Whoever carries its bytes calls ``heard`` with the master's and gives ``put`` the units'.

    Attributes:
        spin_s: how long before a reply is due the slave wakes and watches the clock, for measurements that can't
            put up with the fifth of a millisecond it takes to wake a process. It costs that much processor time.
        seed: of what chance does to the bytes while faults damage them.
    """

    units: Mapping[int, Responder]
    baud: int
    _: KW_ONLY
    counters: Counters = field(default_factory=Counters)
    exchanges: deque[Exchange] = field(default_factory=lambda: deque(maxlen=EXCHANGES_KEPT))
    spin_s: float = 0.0
    faults: LineFaults = field(default_factory=LineFaults)
    seed: int = 1
    _buffer: bytearray = field(default_factory=bytearray)
    _busy_until: float = 0.0
    _agenda: Agenda | None = None
    _resync: asyncio.TimerHandle | None = None
    _babbler: asyncio.TimerHandle | None = None
    _chance: random.Random = field(init=False)
    _former: dict[int, bytes] = field(default_factory=dict)
    _thinking: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    @property
    def character_s(self) -> float:
        return CHARACTER_BITS / self.baud

    @property
    def silence_s(self) -> float:
        """t3.5"""
        return silence_s(self.baud)

    def put(self, data: bytes) -> None:
        """Hand bytes of the units to the master."""
        raise NotImplementedError

    def master_baud(self) -> int:
        """Return the rate at which the master talks."""
        return self.baud

    def begin(self) -> None:
        """Make the line ready for its master."""
        self._agenda = Agenda()
        self._busy_until = 0.0
        self._babbler = asyncio.get_running_loop().call_later(IDLE_BABBLE_S, self._babble)

    def end(self) -> None:
        """Forget everything that is under way."""
        if self._agenda:
            self._agenda.close()
            self._agenda = None
        if self._babbler:
            self._babbler.cancel()
        self._thinking.clear()
        self._forget()

    def _forget(self) -> None:
        self._buffer.clear()
        if self._resync:
            self._resync.cancel()
            self._resync = None

    # ------------------------------------------------------------ requests

    def heard(self, data: bytes, now: float) -> None:
        """Take bytes of the master that came at monotonic ``now``."""
        faults = self.faults
        if faults.echo:
            self._at(now + len(data) * self.character_s, partial(self._deliver, data))
        if faults.damages:
            data = self._damaged(data)
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
            frame = bytes(self._buffer)
            self._forget()
            self._frame(frame, now)
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
        if crc16(frame) != 0 or self.master_baud() != (self.faults.baud or self.baud):
            self.counters.crc_errors += 1
            return
        unit, pdu = frame[0], frame[1:-2]
        if unit == BROADCAST:
            for device in self.units.values():
                if not device.silent:
                    respond(device, pdu)
            return
        addressed = self.units.get(unit)
        if addressed is None or addressed.silent or unit in self._thinking:
            self.counters.foreign += addressed is None
            return
        answer = self._answer(addressed, unit, pdu)
        if answer:
            self._schedule(addressed, _Reply(unit, pdu[0], len(frame), arrived, heard, answer))

    def _answer(self, device: Responder, unit: int, pdu: bytes) -> bytes:
        """Return the frame ``device`` sends; nothing, when it answers what came before and nothing did."""
        faults = faults_of(device)
        reply = with_crc(bytes((faults.answers_as or unit,)) + respond(device, pdu))
        if faults.stale_reply:
            former, self._former[unit] = self._former.get(unit, b""), reply
            return former
        self._former[unit] = reply
        if faults.twin:
            return self._doubled(reply)
        return reply

    def _schedule(self, device: Responder, reply: _Reply) -> None:
        """Set when a reply, whose ``due`` is yet the end of its request, leaves."""
        delay_s, wire_s = faults_of(device).reply_delay_s, len(reply.frame) * self.character_s
        reply.due += self.silence_s + device.device_time_s + delay_s + wire_s
        self.counters.busy_s += wire_s
        if delay_s:  # the line is free meanwhile, and the unit deaf
            self._thinking.add(reply.unit)
            self._at(reply.due, partial(self._send_late, reply))
        else:
            self._busy_until = reply.due
            self._at(reply.due - self.spin_s, partial(self._send, reply))

    # ------------------------------------------------------------ replies

    def _at(self, instant: float, action: partial[None]) -> None:
        if self._agenda:
            self._agenda.at(instant, action)

    def _send_late(self, reply: _Reply) -> None:
        self._thinking.discard(reply.unit)
        if time.monotonic() < self._busy_until:
            self.counters.collisions += 1  # into what others are saying
            reply.frame = self._chance.randbytes(len(reply.frame))
        self._send(reply)

    def _send(self, reply: _Reply) -> None:
        while self.spin_s and time.monotonic() < reply.due:
            pass
        # Before the write: the master may well be the next to get the processor.
        self._busy_until = max(self._busy_until, time.monotonic())
        self._deliver(self._damaged(reply.frame) if self.faults.damages else reply.frame)
        written = time.monotonic()
        self.counters.replies += 1
        self.exchanges.append(
            Exchange(
                reply.unit, reply.function, reply.request_bytes, len(reply.frame), reply.arrived, reply.due, written
            )
        )

    def _deliver(self, data: bytes) -> None:
        """Hand bytes to the master as the adapter does."""
        dribble_s, latency_s = self.faults.dribble_s, self.faults.latency_s
        if dribble_s:
            now = time.monotonic()
            self._busy_until = max(self._busy_until, now + dribble_s * (len(data) - 1))
            for at, byte in enumerate(data):
                self._at(now + at * dribble_s, partial(self.put, bytes((byte,))))
        elif latency_s:
            now = time.monotonic()
            self._at(now + latency_s - now % latency_s, partial(self.put, data))
        else:
            self.put(data)

    def _babble(self) -> None:
        babble_s = self.faults.babble_s
        if babble_s:
            noise = self._chance.randbytes(self._chance.randint(*BABBLE_BYTES))
            self._busy_until = max(self._busy_until, time.monotonic())
            self._deliver(noise)
        self._babbler = asyncio.get_running_loop().call_later(babble_s or IDLE_BABBLE_S, self._babble)

    # ------------------------------------------------------------ damage

    def _damaged(self, data: bytes) -> bytes:
        """Return what is left of ``data`` at the other end."""
        chance, faults = self._chance, self.faults
        kept = bytearray()
        merging = 0
        for byte in data:
            if chance.random() < faults.dropped:
                continue
            if chance.random() < faults.merged:
                merging |= byte
                continue
            kept.append(merging | byte)
            merging = 0
        if kept and chance.random() < faults.noise:
            kept[chance.randrange(len(kept))] ^= 1 << chance.randrange(8)
        return bytes(kept)

    def _doubled(self, reply: bytes) -> bytes:
        """Return what two slaves with one id make of ``reply``: both at once, or one right after the other."""
        if self._chance.random() < 0.5:  # as likely as not
            return reply + reply
        later = self._chance.randint(1, 3)  # characters by which the second is slower; the stronger driver wins a bit
        first, second = reply + b"\xff" * later, b"\xff" * later + reply
        return bytes(one & other for one, other in zip(first, second, strict=True))
