"""Modbus requests and what answers them, as bytes. Pure; the envelopes (RTU, MBAP) are the links' own."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

READ_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
BITS_MAX, WORDS_MAX, WORDS_WRITTEN_MAX = 2000, 125, 123
EXCEPTION_BIT = 0x80
EXCEPTION_BYTES = 2  # function and code
NOT_MAPPED = (2, 3)
OWN_CODES = 12  # the specification ends at 11; Danfoss drives say 64 where others say 2
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target silent",
}  # fmt: skip

Shape = tuple[int, int]  # function and length of a reply: all that tells one RTU reply from another


class LinkError(Exception):
    """The link itself is gone or can't be made."""


class NoReply(Exception):  # noqa: N818  the field's own word, and not an error of the link
    """The unit did not answer in time."""


class WrongReply(Exception):  # noqa: N818  likewise
    """Something answered, but not what was asked."""


class Refused(Exception):  # noqa: N818  likewise
    """The unit answered with a Modbus exception; ``code`` is its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        self.code = code

    @property
    def not_mapped(self) -> bool:
        """True when a shorter read may be answered: for an address, a value, or by a code of the maker's own."""
        return self.code in NOT_MAPPED or self.code >= OWN_CODES


@dataclass(frozen=True, slots=True)
class Request:
    """One request and the reply it expects.

    Attributes:
        pdu: function code and data.
        reply_bytes: length of the good reply's PDU.
        count: registers or bits asked for; 0 for a write.
    """

    unit: int
    pdu: bytes
    reply_bytes: int
    count: int = 0

    @property
    def function(self) -> int:
        return self.pdu[0]

    @property
    def shape(self) -> Shape:
        return self.function, self.reply_bytes

    def answers(self, pdu: bytes) -> bool:
        """Return whether ``pdu`` can be this request's reply: its function, length and echo, or an exception of it."""
        if len(pdu) == EXCEPTION_BYTES and pdu[0] == self.function | EXCEPTION_BIT:
            return True
        if len(pdu) != self.reply_bytes or pdu[0] != self.function:
            return False
        if self.count:
            return pdu[1] == self.reply_bytes - 2
        return pdu == self.pdu[: self.reply_bytes]

    def values(self, pdu: bytes) -> list[int]:
        """Return the registers, or bits as 0 and 1, in a reply for which ``answers`` holds; none for a write.

        Raises:
            Refused: the reply is an exception.
        """
        if pdu[0] & EXCEPTION_BIT:
            raise Refused(pdu[1])
        if not self.count:
            return []
        if self.function in (READ_FUNCTIONS["coil"], READ_FUNCTIONS["discrete"]):
            return [pdu[2 + index // 8] >> index % 8 & 1 for index in range(self.count)]
        return list(struct.unpack_from(f">{self.count}H", pdu, 2))


def read(unit: int, table: str, address: int, count: int) -> Request:
    """Return the request for ``count`` registers or bits from ``address`` (0-based)."""
    data = (count + 7) // 8 if table in ("coil", "discrete") else 2 * count
    pdu = struct.pack(">BHH", READ_FUNCTIONS[table], address, count)
    return Request(unit, pdu, 2 + data, count)


def write(unit: int, table: str, address: int, words: Sequence[int], *, multiple: bool = False) -> Request:
    """Return the request that writes ``words``, or one bit: function 5 or 6, or 16 for several or by ``multiple``."""
    if table == "coil":
        return Request(unit, struct.pack(">BHH", WRITE_COIL, address, 0xFF00 if words[0] else 0), 5)
    if len(words) == 1 and not multiple:
        return Request(unit, struct.pack(">BHH", WRITE_REGISTER, address, words[0]), 5)
    count = len(words)
    head = struct.pack(">BHHB", WRITE_REGISTERS, address, count, 2 * count)
    return Request(unit, head + struct.pack(f">{count}H", *words), 5)


def parsed(unit: int, pdu: bytes) -> Request:
    """Return the request that ``pdu`` is: functions 1 to 6 and 16, with lengths and counts as the protocol allows.

    Raises:
        ValueError: it is something else.
    """
    tables = {function: table for table, function in READ_FUNCTIONS.items()}
    if len(pdu) == 5 and pdu[0] in tables:
        address, count = struct.unpack(">HH", pdu[1:])
        table = tables[pdu[0]]
        if 1 <= count <= (BITS_MAX if table in ("coil", "discrete") else WORDS_MAX) and address + count <= 0x10000:
            return read(unit, table, address, count)
    elif (len(pdu) == 5 and pdu[0] == WRITE_REGISTER) or (pdu[:1] == b"\5" and pdu[3:] in (b"\xff\0", b"\0\0")):
        return Request(unit, pdu, 5)
    elif len(pdu) >= 8 and pdu[0] == WRITE_REGISTERS:
        _, address, count, size = struct.unpack_from(">BHHB", pdu)
        if size == 2 * count == len(pdu) - 6 and count <= WORDS_WRITTEN_MAX and address + count <= 0x10000:
            return Request(unit, pdu, 5)
    raise ValueError("allowed: reads by functions 1 to 4, writes by 5, 6 and 16, within the protocol's limits")
