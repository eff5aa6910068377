"""A device server: RTU frames in a TCP stream, handed on to a serial line one after another (bus kind rtu_over_tcp).

It asks the line for one request at a time and waits for the answer or its own timeout, so a unit that is silent keeps
those of all masters waiting, as real device servers do.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

from hil.wire.faults import LineFaults
from hil.wire.line import FRAME_MAX, RESYNC_S, Counters, Exchange, Line, frame_length
from hil.wire.pdu import BROADCAST, Responder, faults_of
from hil.wire.tcp import LOOPBACK, Connection, Server

WAIT_S = 0.5
QUEUED_MAX = 32


class Gateway(Server):
    """One serial line behind one address.

    Args:
        wait_s: how long the device server waits for a unit.

    Attributes:
        faults: of the line; ``tcp_faults``: of the server. dropped: requests beyond QUEUED_MAX that waited.
    """

    def __init__(
        self, units: Mapping[int, Responder], baud: int, host: str = LOOPBACK, port: int = 0, wait_s: float = WAIT_S
    ) -> None:
        super().__init__(host, port)
        self.line = _Behind(units, baud, self._from_line)
        self.wait_s = wait_s
        self.dropped = 0
        self._queue: deque[tuple[Connection, bytes]] = deque()
        self._asking: Connection | None = None
        self._next: asyncio.TimerHandle | None = None
        self._torso: dict[Connection, asyncio.TimerHandle] = {}

    @property
    def units(self) -> Mapping[int, Responder]:
        return self.line.units

    @property
    def faults(self) -> LineFaults:
        return self.line.faults

    @property
    def counters(self) -> Counters:
        return self.line.counters

    @property
    def exchanges(self) -> deque[Exchange]:
        return self.line.exchanges

    @property
    def requests(self) -> int:
        return self.line.counters.requests

    async def start(self) -> None:
        if self._server is None:
            self.line.begin()
        await super().start()

    async def stop(self) -> None:
        if self._server is not None:
            self.line.end()
            for handle in (self._next, *self._torso.values()):
                if handle:
                    handle.cancel()
            self._queue.clear()
            self._torso.clear()
            self._next, self._asking = None, None
        await super().stop()

    # ------------------------------------------------------------ masters' side

    def received(self, connection: Connection) -> None:
        """Cut the stream into frames: by their function's length, or where a pause follows."""
        if handle := self._torso.pop(connection, None):
            handle.cancel()
        buffer = connection.buffer
        while (length := frame_length(bytes(buffer))) and len(buffer) >= length:
            self._queued(connection, bytes(buffer[:length]))
            del buffer[:length]
        if buffer:
            loop = asyncio.get_running_loop()
            self._torso[connection] = loop.call_later(RESYNC_S, self._paused, connection)

    def _paused(self, connection: Connection) -> None:
        self._torso.pop(connection, None)
        frame = bytes(connection.buffer[:FRAME_MAX])
        connection.buffer.clear()
        self._queued(connection, frame)

    def _queued(self, connection: Connection, frame: bytes) -> None:
        device = self.units.get(frame[0])
        if device is not None and faults_of(device).reset:
            connection.reset()
        elif len(self._queue) >= QUEUED_MAX:
            self.dropped += 1
        else:
            self._queue.append((connection, frame))
            if self._asking is None and self._next is None:
                self._ask()

    # ------------------------------------------------------------ the line's side

    def _ask(self) -> None:
        """Send the next request into the line."""
        self._next, self._asking = None, None
        if not self._queue:
            return
        self._asking, frame = self._queue.popleft()
        on_line_s = len(frame) * self.line.character_s
        wait_s = self.line.silence_s if frame[0] == BROADCAST else self.wait_s
        self._next = asyncio.get_running_loop().call_later(on_line_s + wait_s, self._ask)
        self.line.heard(frame, time.monotonic())

    def _from_line(self, data: bytes) -> None:
        """Hand on what the line says, to whoever asked last; what nobody asked for is lost."""
        if self._asking is None:
            return
        self._asking.send(data)
        if self._next:
            self._next.cancel()
        # The line may go on talking (dribbling, a second slave): t3.5 after its last byte the next may ask.
        self._next = asyncio.get_running_loop().call_later(self.line.silence_s + self.faults.dribble_s, self._ask)


class _Behind(Line):
    """The line behind a device server."""

    def __init__(self, units: Mapping[int, Responder], baud: int, put: Callable[[bytes], None]) -> None:
        super().__init__(units, baud)
        self._put = put

    def put(self, data: bytes) -> None:
        self._put(data)
