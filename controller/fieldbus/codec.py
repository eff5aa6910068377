"""Words <-> values. Pure. A sentinel or a value out of range is a quality, never a number, never 0."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from controller.config.profile import Row
from controller.core.points import Kind, Reading, Value, bad, good

_FORMATS = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "uint64": ">Q",
    "float32": ">f", "float64": ">d",
}  # fmt: skip
RANGE_SLACK = 1e-6  # a value at the very edge of its range is inside, whatever binary fractions make of it


class EncodeError(ValueError):
    """A value that the register can't hold; the text says which and what is allowed."""


def raw_number(row: Row, words: Sequence[int]) -> int | float:
    """Return the unscaled number in ``words`` (as many as the row is wide)."""
    ordered = words if row.word_order == "big" else words[::-1]
    number: int | float = struct.unpack(_FORMATS[row.type], struct.pack(f">{len(ordered)}H", *ordered))[0]
    return number


def decode(row: Row, words: Sequence[int], at: float) -> Reading:
    """Return what ``words`` mean.

    Args:
        words: the row's registers in address order, or one 0/1 for a coil or discrete.
        at: monotonic seconds at which the device answered.
    """
    if row.table in ("coil", "discrete"):
        return good(bool(words[0]), at)
    if row.type == "text":
        raw = struct.pack(f">{len(words)}H", *words).split(b"\0", 1)[0]
        return good(raw.decode("ascii", "replace").strip(), at)
    if row.bit is not None:
        return good(bool(words[0] >> row.bit & 1), at)
    if row.on is not None:
        return _decode_flag(row, words[0], at)
    raw_value = raw_number(row, words)
    if raw_value in row.sentinels or any([*words] == _pattern(row, sentinel) for sentinel in row.sentinels):
        return bad("the device says it has no value", at)
    if row.kind in (Kind.CODE, Kind.BITS):
        if not float(raw_value).is_integer():  # NaN and infinity too
            return bad(f"{raw_value:g} is not a whole number", at)
        return good(int(raw_value), at)
    value = raw_value * row.scale + row.offset
    return _ranged(row, value, at)


def _decode_flag(row: Row, word: int, at: float) -> Reading:
    """A flag that is a whole word: ``on``, or anything else when the row names no ``off``."""
    if word & row.mask == row.on_words[-1] & row.mask:
        return good(True, at)
    if row.off is None or word & row.mask == row.off_words[-1] & row.mask:
        return good(False, at)
    return good(False, at) if row.access != "r" else bad(f"word 0x{word:04X} is neither on nor off", at)


def _pattern(row: Row, sentinel: int) -> list[int]:
    """The words of a sentinel given as the unsigned number the registers make up (a NaN pattern, 0x8000)."""
    words = [sentinel >> shift & 0xFFFF for shift in range(16 * (row.width - 1), -1, -16)]
    return words if row.word_order == "big" else words[::-1]


def _ranged(row: Row, value: float, at: float) -> Reading:
    if not math.isfinite(value):
        return bad("not a number", at)
    if row.range is not None:
        low, high = row.range
        slack = RANGE_SLACK * (high - low)
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
    if not math.isfinite(value):
        raise EncodeError(f"{value!r} is not a number")
    if row.kind is not Kind.NUMBER and not float(value).is_integer():
        raise EncodeError(f"{value:g} is not a whole number")
    if row.kind is Kind.CODE and value not in row.texts:
        raise EncodeError(f"{value:g} is not one of {', '.join(row.enum)}")
    if row.range is not None and not row.range[0] <= value <= row.range[1]:
        raise EncodeError(f"{value:g} is outside {row.range[0]:g} to {row.range[1]:g}")
    raw = (value - row.offset) / row.scale
    try:
        packed = struct.pack(_FORMATS[row.type], raw if row.type.startswith("float") else round(raw))
    except (struct.error, OverflowError):
        raise EncodeError(f"{value:g} does not fit {row.type} at scale {row.scale:g}") from None
    words = list(struct.unpack(f">{len(packed) // 2}H", packed))
    return [words if row.word_order == "big" else words[::-1]]
