"""A Modbus TCP server for the devices of one bus (MODBUS Messaging on TCP/IP Implementation Guide V1.0b)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from functools import partial

from hil.wire.faults import TcpFaults
from hil.wire.pdu import TARGET_SILENT, Responder, faults_of, respond

HEADER = 6  # transaction, protocol, length; the length counts the unit id and the PDU
LENGTH_MIN, LENGTH_MAX = 2, 254
LOOPBACK = "127.0.0.1"
LINGER_NONE = struct.pack("ii", 1, 0)  # closing sends RST


class Server:
    """A listening socket and its connections, and what goes wrong with them all.

    Attributes:
        port: given, or a free loopback port taken at the first start; kept over unplug and replug.
    """

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        self.host, self.port = host, port
        self.tcp_faults = TcpFaults()
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self.host, self.port)
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

    async def unplug(self) -> None:
        await self.stop()

    async def replug(self) -> None:
        await self.start()

    def reset_connections(self) -> None:
        """Send RST to every master that is connected now."""
        for connection in list(self.connections):
            connection.reset()

    def received(self, connection: Connection) -> None:
        """Take what has come into a connection's ``buffer``."""
        raise NotImplementedError


class Connection(asyncio.Protocol):
    """One master's connection. ``buffer`` is what came and is not yet understood."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None
        self.former: dict[int, bytes] = {}
        self._free_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        limit = self.server.tcp_faults.connection_limit
        if limit and len(self.server.connections) >= limit:
            self.reset()
            return
        self.server.connections.add(self)
        if not self.server.listening:  # accepted in the moment of stopping
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        self.transport = None
        self.server.connections.discard(self)

    def abort(self) -> None:
        if self.transport:
            self.transport.abort()

    def reset(self) -> None:
        """End the connection with RST."""
        if self.transport:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self.server.tcp_faults.half_open:
            self.buffer += data
            self.server.received(self)

    def send(self, data: bytes) -> None:
        """Send bytes; one after the other, where they dribble."""
        pause_s = self.server.tcp_faults.dribble_s
        if not pause_s:
            self._write(data)
            return
        loop = asyncio.get_running_loop()
        start = max(self._free_at, loop.time())
        for at, byte in enumerate(data):
            loop.call_at(start + at * pause_s, self._write, bytes((byte,)))
        self._free_at = start + len(data) * pause_s

    def _write(self, data: bytes) -> None:
        if self.transport:
            self.transport.write(data)


class TcpBus(Server):
    """The units of one bus behind one address.

    Attributes:
        requests: requests taken since the start.
        faults: of the server; those of one unit are the unit's own.
    """

    def __init__(self, units: Mapping[int, Responder], host: str = LOOPBACK, port: int = 0) -> None:
        super().__init__(host, port)
        self.units = units
        self.requests = 0

    @property
    def faults(self) -> TcpFaults:
        return self.tcp_faults

    def received(self, connection: Connection) -> None:
        buffer = connection.buffer
        while len(buffer) >= HEADER:
            protocol = int.from_bytes(buffer[2:4], "big")
            length = int.from_bytes(buffer[4:6], "big")
            if protocol != 0 or not LENGTH_MIN <= length <= LENGTH_MAX:
                connection.abort()
                return
            if len(buffer) < HEADER + length:
                return
            frame = bytes(buffer[: HEADER + length])
            del buffer[: HEADER + length]
            self._request(connection, frame)

    def _request(self, connection: Connection, frame: bytes) -> None:
        self.requests += 1
        unit, pdu = frame[HEADER], frame[HEADER + 1 :]
        device = self.units.get(unit)
        if device is None:
            connection.send(_enveloped(frame, unit, bytes((pdu[0] | 0x80, TARGET_SILENT))))
        elif not device.silent:
            faults = faults_of(device)
            if faults.reset:
                connection.reset()
                return
            delay_s = device.device_time_s + faults.reply_delay_s
            asyncio.get_running_loop().call_later(delay_s, partial(self._answer, connection, device, frame))

    def _answer(self, connection: Connection, device: Responder, frame: bytes) -> None:
        faults, unit = faults_of(device), frame[HEADER]
        reply = _enveloped(frame, faults.answers_as or unit, respond(device, frame[HEADER + 1 :]))
        former, connection.former[unit] = connection.former.get(unit, b""), reply
        connection.send(former if faults.stale_reply else reply)


def _enveloped(request: bytes, unit: int, pdu: bytes) -> bytes:
    """Return the reply to ``request`` as it is sent: its transaction number, then unit and PDU."""
    return request[:4] + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu
