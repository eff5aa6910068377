"""The console on a unix socket. Who may open the socket file may use the console; sessions are few, and end by silence.

One line in gives one answer, which ends with ETX; EOT ends the session. ``client.py`` is the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import struct
from pathlib import Path

import structlog

from controller.console.session import Desk, Session
from controller.console.talk import CHUNK, STALLED_S, Manner, talk

SESSIONS_MAX = 8
IDLE_S = 600.0
MODE = 0o660
PROBE_S = 1.0
PASSWD = Path("/etc/passwd")


class ConsoleError(Exception):
    """The console can't be served; the message says why and what to do."""


async def serve(path: Path, desk: Desk, *, idle_s: float = IDLE_S) -> None:
    """Serve the console on the unix socket ``path`` until cancelled.

    Raises:
        ConsoleError: the socket can't be made, or another controller serves it.
    """
    doors = _Doors(desk, Manner(idle_s=idle_s))
    listening = _bound(path)
    ours = path.stat().st_ino  # noqa: ASYNC240 - a memory file system, once
    try:
        server = await asyncio.start_unix_server(doors.opened, sock=listening, limit=CHUNK)
        structlog.get_logger().info("console_open", path=str(path))
        async with server:
            await server.serve_forever()
    finally:
        listening.close()
        await doors.shut()
        _remove(path, ours)


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
        principal = _principal(writer.get_extra_info("socket"))
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


def _bound(path: Path) -> socket.socket:
    """Return a socket bound to ``path`` with its mode set, not listening yet."""
    if not path.parent.is_dir():
        raise ConsoleError(f"no directory {path.parent} for the console's socket; systemd makes it (RuntimeDirectory)")
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(MODE)
    except OSError as error:
        bound.close()
        raise ConsoleError(f"can't make the console's socket {path}: {error}") from error
    return bound


def _remove(path: Path, inode: int) -> None:
    """Remove the socket file, unless another one stands in its place."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket file that nobody listens on, such as a kill leaves behind."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConsoleError(f"{path} exists and is not a socket; remove it, or set console.socket to another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except OSError as error:
        raise ConsoleError(f"can't tell whether somebody listens on {path}: {error}") from error
    raise ConsoleError(f"another controller listens on {path}")


def _principal(peer: socket.socket) -> str:
    """Return who opened the socket, as the kernel knows it: ``console:<user>``."""
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    names = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):  # the local file alone: a directory service could block
        names = {fields[2]: fields[0] for line in PASSWD.read_text().splitlines() if len(fields := line.split(":")) > 2}
    return f"console:{names.get(str(uid), f'uid{uid}')}"
