"""Modbus TCP: replies are matched by their transaction number, so several requests may be on their way."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from dataclasses import dataclass

from controller.config.enclosure import Bus
from controller.fieldbus.capture import Ring
from controller.fieldbus.frames import LinkError, NoReply, Request, WrongReply
from controller.fieldbus.link import CONNECT_S, Deadline, keep_alive

MBAP_BYTES = 7
MBAP_LENGTH_MAX = 254


@dataclass(slots=True)
class _Asked:
    """A request on its way over TCP, and when its time is over (seconds of the event loop)."""

    request: Request
    answer: asyncio.Future[bytes]
    until: float

    def settle(self, result: bytes | Exception) -> None:
        if self.answer.done():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class TcpLink(asyncio.Protocol):
    """A Modbus TCP connection."""

    def __init__(self, settings: Bus) -> None:
        self.faults: Counter[str] = Counter()
        self.heard_at = 0.0
        self.ring = Ring()
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._transaction = 0
        self._asked: dict[int, _Asked] = {}
        self._deadline = Deadline(self._timed_out)

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def open(self) -> None:
        await self.close()
        host, port = self._settings.host or "", int(self._settings.port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: self, host, port)
        except TimeoutError:
            raise LinkError(f"{host}:{port} did not accept in {CONNECT_S:.0f} s") from None
        except OSError as error:
            raise LinkError(f"can't connect to {host}:{port}: {error.strerror or error}") from None

    async def close(self) -> None:
        self._deadline.close()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._settle_all(LinkError("the connection was closed"))

    def free_at(self, request: Request) -> float:  # noqa: ARG002  TCP numbers its transactions
        return 0.0

    async def exchange(self, request: Request, timeout_s: float) -> bytes:
        if self._transport is None:
            raise LinkError("not connected")
        loop = asyncio.get_running_loop()
        number = self._transaction = (self._transaction + 1) & 0xFFFF
        asked = self._asked[number] = _Asked(request, loop.create_future(), loop.time() + timeout_s)
        self._deadline.set_at(min(other.until for other in self._asked.values()))
        frame = struct.pack(">HHHB", number, 0, len(request.pdu) + 1, request.unit) + request.pdu
        self._transport.write(frame)
        self.ring.add(time.monotonic(), True, frame)
        try:
            return await asked.answer
        finally:
            del self._asked[number]
            if not self._asked:
                self._deadline.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer.clear()
        connection = transport.get_extra_info("socket")
        if connection is not None:
            keep_alive(connection)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self.faults["link"] += 1
            self._transport = None
        self._settle_all(LinkError(f"the connection was lost: {exc or 'closed by the peer'}"))

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        self.ring.add(self.heard_at, False, data)
        buffer = self._buffer
        buffer += data
        while len(buffer) >= MBAP_BYTES:
            transaction, protocol, length, unit = struct.unpack_from(">HHHB", buffer)
            if protocol != 0 or not 2 <= length <= MBAP_LENGTH_MAX:
                self._out_of_step()
                return
            if len(buffer) < 6 + length:
                return
            pdu = bytes(buffer[MBAP_BYTES : 6 + length])
            del buffer[: 6 + length]
            self._reply(transaction, unit, pdu)

    def _reply(self, transaction: int, unit: int, pdu: bytes) -> None:
        asked = self._asked.get(transaction)
        if asked is None or asked.answer.done():
            self.faults["late"] += 1
        elif unit != asked.request.unit:
            self.faults["wrong unit"] += 1
            asked.settle(WrongReply(f"unit {unit} for {asked.request.unit}"))
        elif not asked.request.answers(pdu):
            self.faults["wrong shape"] += 1
            why = f"{len(pdu)} bytes of function {pdu[0]}, asked for {asked.request.reply_bytes}"
            asked.settle(WrongReply(why))
        else:
            asked.settle(pdu)

    def _out_of_step(self) -> None:
        """Bytes that are no Modbus TCP: nothing after them can be trusted, so the connection goes."""
        self.faults["wrong shape"] += 1
        self._settle_all(LinkError("the peer does not speak Modbus TCP"))
        if self._transport is not None:
            self._transport.abort()

    def _timed_out(self) -> None:
        now, left = asyncio.get_running_loop().time(), []
        for asked in self._asked.values():
            if asked.answer.done():
                continue
            if asked.until <= now:
                self.faults["timeout"] += 1
                asked.settle(NoReply("no reply in time"))
            else:
                left.append(asked.until)
        if left:
            self._deadline.set_at(min(left))

    def _settle_all(self, error: Exception) -> None:
        for asked in self._asked.values():
            asked.settle(error)
