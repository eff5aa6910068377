"""The console on a unix socket. Who may open the socket file may use the console; sessions are few, and end by silence.

One line in gives one answer, which ends with ETX; EOT ends the session. ``client.py`` is the other side.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from controller.console.session import Desk, Session
from controller.console.talk import CHUNK, STALLED_S, Manner, talk
from controller.unixsocket import bound, peer, remove

SESSIONS_MAX = 8
IDLE_S = 600.0


async def serve(path: Path, desk: Desk, *, idle_s: float = IDLE_S) -> None:
    """Serve the console on the unix socket ``path`` until cancelled.

    Raises:
        SocketError: the socket can't be made, or another controller serves it.
    """
    doors = _Doors(desk, Manner(idle_s=idle_s))
    listening = bound(path, "console.socket")
    ours = path.stat().st_ino  # noqa: ASYNC240 - a memory file system, once
    try:
        server = await asyncio.start_unix_server(doors.opened, sock=listening, limit=CHUNK)
        structlog.get_logger().info("console_open", path=str(path))
        async with server:
            await server.serve_forever()
    finally:
        listening.close()
        await doors.shut()
        remove(path, ours)


class _Doors:
    """The open sessions."""

    def __init__(self, desk: Desk, manner: Manner) -> None:
        self._desk, self._manner = desk, manner
        self._sessions: set[asyncio.Task[None]] = set()

    def opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._sessions) >= SESSIONS_MAX:
            writer.write(f"{SESSIONS_MAX} sessions are open already; try again later.\n".encode() + self._manner.over)
            writer.close()
            return
        session = asyncio.create_task(self._session(reader, writer), name="console session")
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def shut(self) -> None:
        sessions = list(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        principal = "console:" + peer(writer.get_extra_info("socket"))
        log = structlog.get_logger().bind(principal=principal)
        log.info("console_session_opened")
        try:
            await talk(_Stream(reader, writer), Session(self._desk, principal), self._manner)
            writer.close()
        except ConnectionError as error:
            log.info("console_session_lost", reason=str(error))
        except Exception:  # whatever a session trips over, the others and the service go on
            log.exception("console_session_failed")
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            log.info("console_session_closed")


class _Stream:
    """A stream as a Port: what a reader does not take within STALLED_S makes it count as gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        writer.transport.set_write_buffer_limits(high=0)  # drain then waits until all has left

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        try:
            async with asyncio.timeout(STALLED_S):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionError(f"took nothing for {STALLED_S:.0f} s") from None
