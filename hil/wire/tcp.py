"""A Modbus TCP server for the devices of one bus (MODBUS Messaging on TCP/IP Implementation Guide V1.0b)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from hil.wire.pdu import TARGET_SILENT, Responder, respond

HEADER = 6  # transaction, protocol, length; the length counts the unit id and the PDU
LENGTH_MIN, LENGTH_MAX = 2, 254
LOOPBACK = "127.0.0.1"


class TcpBus:
    """One listening socket and the units behind it.

    Attributes:
        port: free loopback port taken at the first start and kept over unplug and replug.
        requests: requests taken since the start.
    """

    def __init__(self, units: Mapping[int, Responder], host: str = LOOPBACK) -> None:
        self.units = units
        self.host = host
        self.port = 0
        self.requests = 0
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection and refuse new ones."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None
        await asyncio.sleep(0)  # the connections' ends come with the loop's next turn

    @property
    def listening(self) -> bool:
        return self._server is not None and self._server.is_serving()

    unplug = stop
    replug = start


class _Connection(asyncio.Protocol):
    def __init__(self, bus: TcpBus) -> None:
        self.bus = bus
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.bus.connections.add(self)
        if not self.bus.listening:  # accepted in the moment of stopping
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        self.transport = None
        self.bus.connections.discard(self)

    def abort(self) -> None:
        if self.transport:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= HEADER:
            protocol = int.from_bytes(self.buffer[2:4], "big")
            length = int.from_bytes(self.buffer[4:6], "big")
            if protocol != 0 or not LENGTH_MIN <= length <= LENGTH_MAX:
                self.abort()
                return
            if len(self.buffer) < HEADER + length:
                return
            frame = bytes(self.buffer[: HEADER + length])
            del self.buffer[: HEADER + length]
            self._request(frame)

    def _request(self, frame: bytes) -> None:
        self.bus.requests += 1
        unit, pdu = frame[HEADER], frame[HEADER + 1 :]
        device = self.bus.units.get(unit)
        if device is None:
            self._reply(frame, bytes((pdu[0] | 0x80, TARGET_SILENT)))
        elif not device.silent:
            asyncio.get_running_loop().call_later(device.device_time_s, partial(self._answer, device, frame))

    def _answer(self, device: Responder, frame: bytes) -> None:
        self._reply(frame, respond(device, frame[HEADER + 1 :]))

    def _reply(self, frame: bytes, pdu: bytes) -> None:
        if self.transport:
            self.transport.write(frame[:4] + (len(pdu) + 1).to_bytes(2, "big") + frame[HEADER : HEADER + 1] + pdu)
