"""Words <-> values. Pure. A sentinel or a value out of range is a quality, never a number, never 0."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache

from controller.config.profile import EXPONENT_MAX, Row
from controller.core.points import Kind, Reading, Value, bad, good

_FLOATS = {"float16": ">e", "float32": ">f", "float64": ">d"}
_PLACES = {"swapped_pairs": (1, 0, 3, 2), "swapped_halves": (2, 3, 0, 1)}
RANGE_SLACK = 1e-6  # a value at the very edge of its range is inside, whatever binary fractions make of it


class EncodeError(ValueError):
    """A value that the register can't hold; the text says which and what is allowed."""


def ordered(row: Row, words: Sequence[int]) -> list[int]:
    """Return a value's words highest first, or such words as they are sent: every order is its own inverse."""
    if row.byte_order == "little":
        words = [word >> 8 | word << 8 & 0xFF00 for word in words]
    if row.word_order in _PLACES:
        return [words[place] for place in _PLACES[row.word_order]]
    return list(words) if row.word_order == "big" else list(words)[::-1]


def _pattern(row: Row, words: Sequence[int]) -> int:
    """Return the bits that make up the value, as one unsigned number."""
    if row.value_words == 1 and row.byte_order == "big":
        whole = words[0]
    else:
        whole = 0
        for word in ordered(row, words[: row.value_words]):
            whole = whole << 16 | word
    if row.type.endswith("h"):
        whole >>= 8
    whole &= (1 << _bits(row.type)) - 1
    if row.field is not None:
        low, size = row.field
        whole = whole >> low & (1 << size) - 1
    return whole


@cache
def _bits(kind: str) -> int:
    """How many bits the type has: its number, 24 of the 32 bits of two registers for a uint24."""
    return int("".join(filter(str.isdigit, kind)))


def _number(row: Row, pattern: int) -> int | float | None:
    """Return the unscaled number that ``pattern`` is; None for none (a digit over 9 in binary-coded decimal)."""
    size = _bits(row.type)
    if row.type in _FLOATS:
        number: float = struct.unpack(_FLOATS[row.type], pattern.to_bytes(size // 8, "big"))[0]
        return number
    if row.type.startswith("bcd"):
        digits = f"{pattern:x}"
        return int(digits) if digits.isdigit() else None
    return pattern - (1 << size) if row.type.startswith("int") and pattern >> size - 1 else pattern


def decode(row: Row, words: Sequence[int], at: float) -> Reading:
    """Return what ``words`` mean.

    Args:
        words: the row's registers in address order, or one 0/1 for a coil or discrete. With ``scale_from`` they reach
            as far as the scale factor.
        at: monotonic seconds at which the device answered.
    """
    if row.table in ("coil", "discrete"):
        return good(bool(words[0]), at)
    if row.type == "text":
        return good(_text(row, words), at)
    if row.bit is not None:
        return good(bool(words[0] >> row.bit & 1), at)
    if row.on is not None:
        return _decode_flag(row, words[0], at)
    pattern = _pattern(row, words)
    raw_value = _number(row, pattern)
    if raw_value is None:
        return bad("a digit is over 9", at)
    if row.sentinels and (raw_value in row.sentinels or pattern in row.sentinels):
        return bad("the device says it has no value", at)
    if row.kind in (Kind.CODE, Kind.BITS):
        if not float(raw_value).is_integer():  # NaN and infinity too
            return bad(f"{raw_value:g} is not a whole number", at)
        return good(int(raw_value), at)
    if row.scale_from is None:
        return _ranged(row, raw_value * row.scale + row.offset, at)
    exponent = words[-1] - (1 << 16) if words[-1] >> 15 else words[-1]
    if abs(exponent) > EXPONENT_MAX:
        return bad(f"register {row.scale_from} holds no scale factor", at)
    shifted = raw_value * 10**exponent if exponent >= 0 else raw_value / 10**-exponent
    return _ranged(row, shifted * row.scale + row.offset, at)


def _text(row: Row, words: Sequence[int]) -> str:
    raw = struct.pack(f">{len(words)}H", *ordered(row, words))
    raw = {"both": raw, "high": raw[0::2], "low": raw[1::2]}[row.lane]
    return raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()


def _decode_flag(row: Row, word: int, at: float) -> Reading:
    """A flag that is a whole word: ``on``, or anything else when the row names no ``off``."""
    if word & row.mask == row.on_words[-1] & row.mask:
        return good(True, at)
    if row.off is None or word & row.mask == row.off_words[-1] & row.mask:
        return good(False, at)
    return good(False, at) if row.access != "r" else bad(f"word 0x{word:04X} is neither on nor off", at)


def _ranged(row: Row, value: float, at: float) -> Reading:
    low, high = row.range or (-math.inf, math.inf)
    if low <= value <= high and abs(value) != math.inf:
        return good(value, at)
    if not math.isfinite(value):
        return bad("not a number", at)
    if row.range is not None:
        slack = min(RANGE_SLACK * (high - low), abs(row.scale) / 2)  # never a whole count, however wide the range
        if not low - slack <= value <= high + slack:
            return bad(f"{value:g} is outside {low:g} to {high:g}", at)
    return good(value, at)


def encode(row: Row, value: Value) -> list[list[int]]:
    """Return the words to write, one list for each write in turn (a command sequence has several).

    Raises:
        EncodeError: the value is not of the row's kind, not finite, out of range, or does not fit the register.
    """
    if row.kind is Kind.FLAG:
        if not isinstance(value, bool):
            raise EncodeError(f"{value!r} is not on or off")
        if row.table == "coil":
            return [[int(value)]]
        return [[word] for word in (row.on_words if value else row.off_words)]
    if row.type == "text" or isinstance(value, str | bool):
        raise EncodeError(f"{value!r} can't be written to a {row.kind.value}")
    if row.scale_from is not None or row.field is not None:
        raise EncodeError("a part of a register, or a number with its own scale factor, can't be written")
    if not math.isfinite(value):
        raise EncodeError(f"{value!r} is not a number")
    if row.kind is not Kind.NUMBER and not float(value).is_integer():
        raise EncodeError(f"{value:g} is not a whole number")
    if row.kind is Kind.CODE and value not in row.texts:
        raise EncodeError(f"{value:g} is not one of {', '.join(row.enum)}")
    if row.range is not None and not row.range[0] <= value <= row.range[1]:
        raise EncodeError(f"{value:g} is outside {row.range[0]:g} to {row.range[1]:g}")
    try:
        whole = _unsigned(row, (value - row.offset) / row.scale)
    except (struct.error, OverflowError, ValueError):
        raise EncodeError(f"{value:g} does not fit {row.type} at scale {row.scale:g}") from None
    words = [whole >> shift & 0xFFFF for shift in range(16 * (row.value_words - 1), -1, -16)]
    return [ordered(row, words)]


def _unsigned(row: Row, raw: float) -> int:
    """Return the bits of the type that hold ``raw``; raises OverflowError or ValueError where it doesn't fit."""
    size = _bits(row.type)
    if row.type in _FLOATS:
        return int.from_bytes(struct.pack(_FLOATS[row.type], raw), "big")
    if row.type.startswith("bcd"):
        digits = str(round(raw))
        if len(digits) > size // 4 or not digits.isdigit():
            raise OverflowError
        return int(digits, 16)
    return int.from_bytes(round(raw).to_bytes(size // 8, "big", signed=row.type.startswith("int")), "big")
