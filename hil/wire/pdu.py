"""Modbus requests and replies without their envelopes (MODBUS Application Protocol V1.1b3, chapter 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hil.wire.faults import NO_FAULTS, UnitFaults

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, TARGET_SILENT = 1, 2, 3, 4, 0x0B
READ_TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
BITS_MAX, WORDS_MAX = 2000, 125
WRITE_BITS_MAX, WRITE_WORDS_MAX = 1968, 123
COIL_ON, COIL_OFF = 0xFF00, 0x0000
BROADCAST = 0


class ModbusFault(Exception):  # noqa: N818  the protocol calls it an exception
    """The device refuses; it answers with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class Responder(Protocol):
    """A slave, seen from the wire. One that can do more wrong than these has ``faults`` too (UnitFaults).

    Attributes:
        device_time_s: from the end of a request to the start of the reply.
        silent: takes requests and does nothing with them.
        refusal: exception code every request is answered with, or 0.
    """

    device_time_s: float
    silent: bool
    refusal: int

    def read(self, table: str, address: int, count: int) -> Sequence[int]:
        """Return ``count`` words or bits; raises ModbusFault."""

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        """Take words or bits; raises ModbusFault."""


def faults_of(device: Responder) -> UnitFaults:
    """Return what is wrong with ``device`` beyond silence and refusal; nothing, of one that has no such faults."""
    found: UnitFaults = getattr(device, "faults", NO_FAULTS)
    return found


def respond(device: Responder, pdu: bytes) -> bytes:
    """Return the reply to ``pdu`` (function code and data)."""
    function = pdu[0]
    try:
        if device.refusal:
            raise ModbusFault(device.refusal)
        if function in READ_TABLES:
            body = _read(device, READ_TABLES[function], pdu)
        elif function in (5, 6):
            body = _write_one(device, pdu)
        elif function in (15, 16):
            body = _write_many(device, pdu)
        else:
            raise ModbusFault(ILLEGAL_FUNCTION)
    except ModbusFault as fault:
        return bytes((function | 0x80, fault.code))
    return bytes((function,)) + body


def _two(pdu: bytes, length: int) -> tuple[int, int]:
    if len(pdu) < length:
        raise ModbusFault(ILLEGAL_VALUE)
    return pdu[1] << 8 | pdu[2], pdu[3] << 8 | pdu[4]


def _read(device: Responder, table: str, pdu: bytes) -> bytes:
    address, count = _two(pdu, 5)
    bits = table in ("coil", "discrete")
    if not 1 <= count <= (BITS_MAX if bits else WORDS_MAX):
        raise ModbusFault(ILLEGAL_VALUE)
    values = device.read(table, address, count)
    if not bits:
        return bytes((2 * count,)) + b"".join(value.to_bytes(2, "big") for value in values)
    size = (count + 7) // 8
    packed = sum(1 << index for index, value in enumerate(values) if value)
    return bytes((size,)) + packed.to_bytes(size, "little")


def _write_one(device: Responder, pdu: bytes) -> bytes:
    address, value = _two(pdu, 5)
    if pdu[0] == 6:
        device.write("holding", address, [value])
    elif value in (COIL_ON, COIL_OFF):
        device.write("coil", address, [int(value == COIL_ON)])
    else:
        raise ModbusFault(ILLEGAL_VALUE)
    return pdu[1:5]


def _write_many(device: Responder, pdu: bytes) -> bytes:
    address, count = _two(pdu, 6)
    data = pdu[6:]
    if pdu[0] == 16:
        if not 1 <= count <= WRITE_WORDS_MAX or pdu[5] != 2 * count or len(data) != 2 * count:
            raise ModbusFault(ILLEGAL_VALUE)
        device.write("holding", address, [data[at] << 8 | data[at + 1] for at in range(0, 2 * count, 2)])
        return pdu[1:5]
    size = (count + 7) // 8
    if not 1 <= count <= WRITE_BITS_MAX or pdu[5] != size or len(data) != size:
        raise ModbusFault(ILLEGAL_VALUE)
    packed = int.from_bytes(data, "little")
    device.write("coil", address, [packed >> index & 1 for index in range(count)])
    return pdu[1:5]
