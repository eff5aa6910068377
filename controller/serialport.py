"""Serial lines, for the field bus and the console alike: the only importer of pyserial.

pyserial opens and sets the line; reading and writing go through its descriptor, because pyserial's own write spins
while a line takes nothing (a terminal that sent XOFF).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from dataclasses import dataclass

import serial

# <linux/serial.h>, <linux/tty_flags.h>: struct serial_struct begins with type, line, port, irq, flags.
TIOCGSERIAL = 0x541E
SERIAL_STRUCT_BYTES = 72
FLAGS_AT = 16
ASYNC_LOW_LATENCY = 1 << 13

PARITIES = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


@dataclass(frozen=True, slots=True)
class SerialPort:
    """An open line, non-blocking.

    ``low_latency`` tells whether the adapter hands bytes on at once; None where it can't be told.
    """

    line: serial.Serial
    low_latency: bool | None

    @property
    def descriptor(self) -> int:
        number: int = self.line.fileno()
        return number


async def open_port(path: str, baud: int, parity: str = "none", stop_bits: int = 1) -> SerialPort:
    """Open the line for this process alone, in a thread: a modem or a USB adapter may take its time.

    Raises:
        OSError: it does not exist, is taken, or can't be set so.
        ValueError: the line does not know these settings.
    """
    opening = asyncio.get_running_loop().run_in_executor(None, _open, path, baud, parity, stop_bits)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _open(path: str, baud: int, parity: str, stop_bits: int) -> SerialPort:
    try:
        line = serial.Serial(path, baud, parity=PARITIES[parity], stopbits=stop_bits, timeout=0, exclusive=True)
        _tell_gone(line.fileno())
    except termios.error as error:  # no OSError: what pyserial lets through from a line that goes while it is opened
        raise OSError(*error.args) from error
    os.set_blocking(line.fileno(), False)
    return SerialPort(line, _hurried(line))


def _tell_gone(descriptor: int) -> None:
    """Have a read of no bytes mean that the device is gone, never that there is nothing to read just now (VMIN)."""
    settings = termios.tcgetattr(descriptor)
    settings[6][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)


def _hurried(line: serial.Serial) -> bool | None:
    """Ask a USB adapter to hand bytes on at once instead of after its latency timer (16 ms from the factory).

    Returns:
        What it says when asked back; None where a line has no such setting.
    """
    try:
        line.set_low_latency_mode(True)
        told = fcntl.ioctl(line.fileno(), TIOCGSERIAL, bytes(SERIAL_STRUCT_BYTES))
    except (AttributeError, OSError, ValueError):
        return None
    flags: int = struct.unpack_from("i", told, FLAGS_AT)[0]
    return bool(flags & ASYNC_LOW_LATENCY)


def _close_late(opening: asyncio.Future[SerialPort]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().line.close()


async def close_port(port: SerialPort) -> None:
    """Close in a thread, and drop what waits to be sent: a close may otherwise wait for it."""

    def close() -> None:
        for step in (port.line.reset_output_buffer, port.line.close):
            with contextlib.suppress(OSError, termios.error):
                step()

    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, close))
