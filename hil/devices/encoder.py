"""The devices' own way from values to registers and back.

Written apart from the controller's codec on purpose: were both one, a mistake in it would cancel itself out on the
bench. Integers are taken apart with shifts here, not with struct.
"""

from __future__ import annotations

import struct
from collections.abc import MutableMapping, Sequence

from controller.config.profile import Row
from controller.core.points import Kind, Value

Bank = MutableMapping[int, int]

TEXT_PAD = b"\0"


def words_of(row: Row, value: Value) -> list[int]:
    """Return the registers that hold ``value``, in address order; not for flags, which share registers.

    Raises:
        ValueError: the value does not fit the register.
    """
    if row.type == "text":
        raw = str(value).encode("ascii")[: 2 * row.width].ljust(2 * row.width, TEXT_PAD)
        return [raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2)]
    unscaled = (float(value) - row.offset) / row.scale
    if row.type.startswith("float"):
        number = int.from_bytes(struct.pack(">f" if row.type == "float32" else ">d", unscaled), "big")
    else:
        number = _whole(row, round(unscaled))
    shifts = range(0, 16 * row.width, 16)
    words = [number >> shift & 0xFFFF for shift in shifts]
    return words if row.word_order == "little" else words[::-1]


def _whole(row: Row, number: int) -> int:
    size = 1 << 16 * row.width
    low, high = (-size // 2, size // 2 - 1) if row.type.startswith("int") else (0, size - 1)
    if not low <= number <= high:
        raise ValueError(f"{number} is outside {low} to {high} of {row.type}")
    return number % size


def place(bank: Bank, row: Row, value: Value) -> None:
    """Put ``value`` into ``bank``; a flag moves only its own bits of a shared register."""
    address = row.address
    if row.table in ("coil", "discrete"):
        bank[address] = int(bool(value))
    elif row.bit is not None:
        kept = bank.get(address, 0) & ~(1 << row.bit)
        bank[address] = kept | (1 << row.bit if value else 0)
    elif row.on is not None:
        _place_word_flag(bank, row, bool(value))
    else:
        for offset, word in enumerate(words_of(row, value)):
            bank[address + offset] = word


def _place_word_flag(bank: Bank, row: Row, value: bool) -> None:
    kept = bank.get(row.address, 0)
    if value:
        word = row.on_words[-1]
    elif row.off is not None:
        word = row.off_words[-1]
    elif kept & row.mask == row.on_words[-1] & row.mask:
        word = 0
    else:
        return  # the register says something else than "on" already
    bank[row.address] = kept & ~row.mask & 0xFFFF | word & row.mask


def meaning(row: Row, words: Sequence[int]) -> Value | None:
    """Return what a master that wrote ``words`` meant; None for a word that is neither on nor off."""
    if row.table == "coil":
        return bool(words[0])
    if row.kind is Kind.FLAG:
        word = words[0] & row.mask
        if word == row.on_words[-1] & row.mask:
            return True
        return False if row.off is not None and word == row.off_words[-1] & row.mask else None
    number = 0
    for word in words if row.word_order == "big" else reversed(words):
        number = number << 16 | word
    if row.type.startswith("float"):
        form = ">f" if row.type == "float32" else ">d"
        unscaled: float = struct.unpack(form, number.to_bytes(2 * row.width, "big"))[0]
    else:
        negative = row.type.startswith("int") and number >> 16 * row.width - 1
        unscaled = number - (1 << 16 * row.width) if negative else number
    if row.kind in (Kind.CODE, Kind.BITS):
        return int(unscaled)
    return unscaled * row.scale + row.offset
