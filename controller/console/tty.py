"""The console on a serial line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from controller.console.session import Desk, Session
from controller.console.talk import CHUNK, STALLED_S, Manner, talk
from controller.log import Repeats
from controller.serialport import close_port, open_port

BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
QUIET_S = 1.0  # of silence, until typing is heard again after more than that
CANCEL_LINE = b"\x15"
TYPE_AHEAD = 4096  # bytes kept while an answer is being written
MANNER = Manner(end=b"podkeeper> ", over=b"", newline="\r\n", editing=True)


async def serve_tty(path: str, baud: int, desk: Desk, *, back_off_s: Sequence[float] = BACK_OFF_S) -> None:
    """Serve one console session after the other on the serial device ``path`` until cancelled.

    A line that can't be opened, was unplugged or takes nothing is closed and tried again, ever more rarely.
    """
    repeats = Repeats("console_line_lost", "console_line_open")
    structlog.get_logger().info("console_line", path=path, baud=baud)
    tries = 0
    while True:
        try:
            line = await open_port(path, baud)
        except (OSError, ValueError) as error:  # serial.SerialException is an OSError
            repeats.failed(path, reason=str(error))
        else:
            repeats.worked(path)
            port = _Port(line.descriptor)
            try:
                while True:
                    tries = 0
                    await talk(port, Session(desk, f"console:{Path(path).name}"), MANNER)
            except ConnectionError as error:
                repeats.failed(path, reason=str(error))
            finally:
                port.stop()
                await close_port(line)
        await asyncio.sleep(back_off_s[min(tries, len(back_off_s) - 1)])
        tries += 1


class _Port:
    """An open line as a Port."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._loop = asyncio.get_running_loop()
        self._typed = bytearray()
        self._deaf_until = float("-inf")
        self._lost = ""
        self._news = asyncio.Event()
        self._loop.add_reader(self._fd, self._readable)

    def stop(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)

    async def read(self) -> bytes:
        while not self._typed:
            if self._lost:
                raise ConnectionError(self._lost)
            self._news.clear()
            await self._news.wait()
        typed = bytes(self._typed)
        self._typed.clear()
        return typed

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                raise ConnectionError(f"write failed: {error.strerror}") from error
            if self._lost:
                raise ConnectionError(self._lost)

    async def _writable(self) -> None:
        free = asyncio.Event()
        self._loop.add_writer(self._fd, free.set)
        try:
            async with asyncio.timeout(STALLED_S):
                await free.wait()
        except TimeoutError:
            raise ConnectionError(f"took nothing for {STALLED_S:.0f} s") from None
        finally:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"read failed: {error.strerror}")
            return
        if not data:
            self._lose("ready to be read, but empty: unplugged")
            return
        now = self._loop.time()
        if now < self._deaf_until:  # the rest of a paste that was too long: nothing of it is heard
            self._deaf_until = now + QUIET_S
            return
        room = TYPE_AHEAD - len(self._typed)
        if len(data) > room:
            self._deaf_until = now + QUIET_S
            data = data[:room] + CANCEL_LINE  # a line cut in two might mean something else
        self._typed += data
        self._news.set()

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self._loop.remove_reader(self._fd)
        self._news.set()
