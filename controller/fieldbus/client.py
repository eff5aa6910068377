"""The Modbus links: the thin master on the event loop. The only importer of pymodbus, whose CRC it uses.

Every reply is checked against its request. RTU has no transaction number, so after a reply that did not come in time
its shape (unit, function, length) stays suspect: the unit is asked nothing of that shape until an answer that can't be
a late one has shown that it is in step, or the reply can't come any more. docs/decisions/0012 tells why pymodbus's own
client is not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import time
from collections import Counter
from collections.abc import Callable

import structlog
from pymodbus.framer import FramerRTU

from controller.config.enclosure import Bus
from controller.fieldbus.capture import Ring
from controller.fieldbus.frames import EXCEPTION_BIT, LinkError, NoReply, Request, Shape, WrongReply
from controller.fieldbus.link import CONNECT_S, Deadline, Link, keep_alive
from controller.fieldbus.tcp import TcpLink
from controller.serialport import SerialPort, close_port, open_port

LATE_MAX_S = 2.5  # a reply later than this after its timeout does not come any more
RTU_FRAME_MAX = 256

_log = structlog.get_logger("fieldbus")


def made(settings: Bus) -> Link:
    kinds: dict[str, Callable[[Bus], Link]] = {"rtu": RtuLink, "tcp": TcpLink, "rtu_over_tcp": RtuOverTcpLink}
    return kinds[settings.kind](settings)


class RtuLink:
    """A serial line."""

    def __init__(self, settings: Bus) -> None:
        self.faults: Counter[str] = Counter()
        self.heard_at = 0.0
        self.ring = Ring()
        self._settings = settings
        self._descriptor: int | None = None
        self._port: SerialPort | None = None
        self._dead = False  # lost, and not closed yet
        self._pending: Request | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = bytearray()
        self._suspects: dict[int, dict[Shape, float]] = {}
        self._deadline = Deadline(self._timed_out)

    @property
    def connected(self) -> bool:
        return self._descriptor is not None and not self._dead

    async def open(self) -> None:
        await self.close()
        self._descriptor = await self._opened()
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    async def close(self) -> None:
        self._deadline.close()
        descriptor, self._descriptor, self._dead = self._descriptor, None, False
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._settle(LinkError("the line was lost"))
            await self._closed()

    async def _opened(self) -> int:
        """Open the line; return its descriptor, which does not block."""
        settings = self._settings
        try:
            opening = open_port(
                str(settings.port), settings.baud or 0, settings.parity or "none", settings.stop_bits or 1
            )
            async with asyncio.timeout(CONNECT_S):  # not wait_for, which can swallow a cancel until Python 3.12
                self._port = await opening
        except TimeoutError:
            raise LinkError(f"{settings.port} did not open in {CONNECT_S:.0f} s") from None
        except (OSError, ValueError) as error:
            raise LinkError(f"can't open {settings.port}: {getattr(error, 'strerror', None) or error}") from None
        if self._port.low_latency is False:
            _log.warning(
                "serial adapter stays slow", port=settings.port, remedy="set its latency_timer to 1 (udev rule)"
            )
        return self._port.descriptor

    async def _closed(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await close_port(port)

    def _drop_received(self) -> None:
        """Forget what has come and was not read yet."""
        assert self._descriptor is not None
        termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def free_at(self, request: Request) -> float:
        if request.count == 0:
            return 0.0  # the echo of a write names its register and value, so no late reply passes for it
        return self._suspects.get(request.unit, {}).get(request.shape, 0.0)

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        if not self.connected:
            raise LinkError("the line is not open")
        self._buffer.clear()
        self._pending, self._answer = request, asyncio.get_running_loop().create_future()
        self._deadline.set(timeout_s)
        try:
            self._send(request)
            return await self._answer
        except (asyncio.CancelledError, LinkError):
            self._suspect(request)  # the unit may still answer, though nobody waits or the line was lost
            raise
        finally:
            self._deadline.clear()
            self._pending = self._answer = None

    def _send(self, request: Request) -> None:
        assert self._descriptor is not None
        frame = bytes((request.unit,)) + request.pdu
        frame += FramerRTU.compute_CRC(frame).to_bytes(2, "big")
        try:
            self._drop_received()
            os.write(self._descriptor, frame)
            self.ring.add(time.monotonic(), True, frame)
        except (OSError, termios.error) as error:
            self._lost(error)

    def _readable(self) -> None:
        assert self._descriptor is not None
        try:
            data = os.read(self._descriptor, RTU_FRAME_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if not data:
            self._lost(OSError("the device is gone"))
            return
        self.heard_at = time.monotonic()
        self.ring.add(self.heard_at, False, data)
        if self._pending is None:
            self.faults["late"] += 1
            return
        self._buffer += data
        if len(self._buffer) > RTU_FRAME_MAX:
            self._fail(self._pending, "wrong shape", "more bytes than a frame has")
        else:
            self._frames(self._pending)

    def _frames(self, request: Request) -> None:
        """Look for the reply in what has come; drop whole frames that answer something else."""
        buffer = self._buffer
        while len(buffer) >= 5:
            length = _frame_bytes(buffer)
            expected = 3 + request.reply_bytes
            if buffer[0] != request.unit or buffer[1] & ~EXCEPTION_BIT != request.function:
                if not self._skipped(length):
                    return
                continue
            if len(buffer) < length:
                return
            frame = bytes(buffer[:length])
            if FramerRTU.compute_CRC(frame[:-2]).to_bytes(2, "big") != frame[-2:]:
                if len(buffer) >= expected:
                    self._fail(request, "crc", "check sum does not match")
                return
            del buffer[:length]
            self._judge(request, frame[1:-2])
            if self._answer is None or self._answer.done():
                return

    def _skipped(self, length: int) -> bool:
        """Drop a frame of another unit or function, once it is whole; return whether there was one."""
        if len(self._buffer) < length:
            return False
        frame = bytes(self._buffer[:length])
        if FramerRTU.compute_CRC(frame[:-2]).to_bytes(2, "big") != frame[-2:]:
            return False
        del self._buffer[:length]
        self.faults["wrong unit" if self._pending and frame[0] != self._pending.unit else "late"] += 1
        return True  # not the end of any suspicion: the number of its unit may be wrong

    def _judge(self, request: Request, pdu: bytes) -> None:
        suspects = self._suspects.get(request.unit, {})
        doubtful = pdu[0] & EXCEPTION_BIT and any(function == request.function for function, _ in suspects)
        if not request.answers(pdu) or doubtful:
            self.faults["late" if suspects else "wrong shape"] += 1
            if not suspects:
                self._fail(request, "", f"{len(pdu)} bytes of function {pdu[0]}, asked for {request.reply_bytes}")
            return  # else that was the one we waited for; ours may still come
        if suspects.get(request.shape, 0.0) <= time.monotonic():  # a write may be answered by an earlier one's echo
            self._suspects.pop(request.unit, None)  # it answers in turn, so whatever was late has come or never will
        self._settle(None, pdu)

    def _fail(self, request: Request, cause: str, why: str) -> None:
        if cause:
            self.faults[cause] += 1
        self._suspect(request)
        self._settle(WrongReply(why))

    def _timed_out(self) -> None:
        if self._pending is not None and self._answer is not None and not self._answer.done():
            self.faults["timeout"] += 1
            self._suspect(self._pending)
            torso = f", only {len(self._buffer)} bytes" if self._buffer else ""
            self._settle(NoReply(f"no reply in time{torso}"))

    def _suspect(self, request: Request) -> None:
        self._suspects.setdefault(request.unit, {})[request.shape] = time.monotonic() + LATE_MAX_S

    def _lost(self, error: Exception) -> None:
        self.faults["link"] += 1
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._dead = True
        self._settle(LinkError(f"the line was lost: {error}"))

    def _settle(self, error: Exception | None, pdu: bytes = b"") -> None:
        if self._answer is None or self._answer.done():
            return
        if error is not None:
            self._answer.set_exception(error)
        else:
            self._answer.set_result(pdu)


class RtuOverTcpLink(RtuLink):
    """A serial line behind a device server: the same frames, the same doubts, carried by a TCP connection."""

    def __init__(self, settings: Bus) -> None:
        super().__init__(settings)
        self._socket: socket.socket | None = None

    async def _opened(self) -> int:
        host, port = self._settings.host or "", int(self._settings.port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
                self._socket = socket.socket(family, kind, protocol)
                self._socket.setblocking(False)
                await loop.sock_connect(self._socket, address)
        except TimeoutError:
            await self._closed()
            raise LinkError(f"{host}:{port} did not accept in {CONNECT_S:.0f} s") from None
        except OSError as error:
            await self._closed()
            raise LinkError(f"can't connect to {host}:{port}: {error.strerror or error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(self._socket)
        return self._socket.fileno()

    async def _closed(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _drop_received(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, RTU_FRAME_MAX):
                self.faults["late"] += 1


def _frame_bytes(buffer: bytearray) -> int:
    """Return the length of the reply frame that ``buffer`` begins with, told from its function code."""
    function = buffer[1]
    if function & EXCEPTION_BIT:
        return 5
    return 5 + buffer[2] if function <= 4 else 8
