"""Modbus RTU slaves on a pseudo-terminal that takes the time a real line would.

A pty hands bytes over at once, so the time on the wire is added by the slave: a reply leaves when its last byte would
have arrived on a real line.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
import time
import tty
from dataclasses import dataclass
from pathlib import Path

from hil.wire.line import Exchange, Line, crc16, exchange_s, frame_length, with_crc

__all__ = ["Exchange", "RtuLine", "crc16", "exchange_s", "frame_length", "with_crc"]
OUTPUT_SPEED = 5  # its place among what termios tells
SPEEDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
}


@dataclass(slots=True)
class RtuLine(Line):
    """One serial line: a pty, the slaves on it, and a symlink that always names the pty's slave side.

    Attributes:
        link: path a master opens; ``unplug`` removes it, ``replug`` points it to a new pty in one step.
        heeds_baud: whether units hear only a master that has opened the port at their rate. A pty carries bytes at
            any rate, so this is looked up; parity can't be, a pty does not keep it.
    """

    link: Path
    heeds_baud: bool = False
    _master: int = -1
    _slave: int = -1

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
        self.begin()
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    async def stop(self) -> None:
        """Take the adapter away: the master's next read or write fails, and its path is gone."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.end()
        self.link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    unplug = stop
    replug = start

    def master_baud(self) -> int:
        if not self.heeds_baud:
            return self.baud
        return SPEEDS.get(termios.tcgetattr(self._slave)[OUTPUT_SPEED], 0)

    def _readable(self) -> None:
        now = time.monotonic()
        try:
            data = os.read(self._master, 4096)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EAGAIN):
                return
            raise
        self.heard(data, now)

    def put(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except BlockingIOError:
            return  # nobody has read the line for thousands of bytes
