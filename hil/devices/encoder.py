"""The devices' own way from values to registers and back.

Written apart from the controller's codec on purpose: were both one, a mistake in it would cancel itself out on the
bench. A value is taken apart into bytes here, highest first, and those are dealt out to the registers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, MutableMapping, Sequence

from controller.config.profile import EXPONENT_MAX, Row
from controller.core.points import Kind, Value

Bank = MutableMapping[int, int]

BIT_TABLES = ("coil", "discrete")
TEXT_PAD = b"\0"
FLOAT_FORMS = {"float16": ">e", "float32": ">f", "float64": ">d"}
HALVES = ("l", "h")  # how the types of half a register end


def bytes_in(kind: str) -> int:
    """Return how many bytes a register type's value has; half a byte counts as none."""
    return int(kind.strip("abcdefghijklmnopqrstuvwxyz")) // 8


# ---------------------------------------------------------------- values to registers


def place(bank: Bank, row: Row, value: Value) -> None:
    """Put ``value`` into ``bank``; what shares its register with other points keeps to its own bits.

    A number with a scale factor of its own is written by the factor that stands in the bank.

    Raises:
        ValueError: the value does not fit the register.
    """
    address = row.address
    if row.table in BIT_TABLES:
        bank[address] = int(bool(value))
    elif row.bit is not None:
        kept = bank.get(address, 0) & ~(1 << row.bit)
        bank[address] = kept | (1 << row.bit if value else 0)
    elif row.on is not None:
        _place_word_flag(bank, row, bool(value))
    elif row.type == "text":
        _place_text(bank, row, str(value))
    else:
        exponent = 0 if row.scale_from is None else signed(bank.get(row.scale_from, 0), 2)
        place_bits(bank, row, _whole(row, value, exponent))


def placer(row: Row) -> Callable[[Bank, Value], None]:
    """Return ``place`` for one row, worked out beforehand where the value is a bit or fills its registers alone."""
    if row.table in BIT_TABLES:
        return _bit_placer(row.address)
    if row.bit is not None:
        return _flag_placer(row.address, 1 << row.bit)
    counted = row.on is None and row.type.startswith(("int", "uint")) and row.byte_order == "big"
    alone = counted and row.scale_from is None and told(row) == ((1 << 16 * row.value_words) - 1, 0)
    if not alone or row.value_words > 2 or row.word_order not in ("big", "little"):
        return lambda bank, value: place(bank, row, value)
    return _number_placer(row)


def _bit_placer(address: int) -> Callable[[Bank, Value], None]:
    def put(bank: Bank, value: Value) -> None:
        bank[address] = 1 if value else 0

    return put


def _flag_placer(address: int, mask: int) -> Callable[[Bank, Value], None]:
    def put(bank: Bank, value: Value) -> None:
        kept = bank.get(address, 0)
        bank[address] = kept | mask if value else kept & ~mask

    return put


def _number_placer(row: Row) -> Callable[[Bank, Value], None]:
    scaled = row.kind not in (Kind.CODE, Kind.BITS)
    offset, scale = (row.offset, row.scale) if scaled else (0.0, 1.0)
    modulus = 1 << 16 * row.value_words
    low, high = (-modulus // 2, modulus // 2 - 1) if row.type.startswith("int") else (0, modulus - 1)
    first, last = row.address, row.address + row.value_words - 1
    upper, lower = (first, last) if row.word_order == "big" else (last, first)

    def put(bank: Bank, value: Value) -> None:
        number = round((float(value) - offset) / scale)
        if not low <= number <= high:
            raise ValueError(f"{number} is outside {low} to {high} of {row.type}")
        number %= modulus
        if upper != lower:
            bank[upper] = number >> 16
        bank[lower] = number & 0xFFFF

    return put


def place_bits(bank: Bank, row: Row, bits: int) -> None:
    """Put the bits of a value into its registers, and leave others' bits alone."""
    at = range(row.address, row.address + row.value_words)
    former = gathered(row, [bank.get(register, 0) for register in at])
    mask, shift = told(row)
    bank.update(zip(at, dealt(row, former & ~mask | bits << shift & mask), strict=True))


def words_of(row: Row, value: Value) -> list[int]:
    """Return the registers that hold ``value`` alone, in address order, up to and without a scale factor.

    Raises:
        ValueError: the value does not fit the register.
    """
    bank: Bank = {}
    place(bank, row, value)
    return [bank[at] for at in range(row.address, row.address + row.value_words)]


def told(row: Row) -> tuple[int, int]:
    """Return which bits of the row's registers its value takes, and the lowest of them."""
    if row.field is not None:
        low, size = row.field
        return (1 << size) - 1 << low, low
    size = 8 * bytes_in(row.type)
    shift = 8 if row.type.endswith(HALVES[1]) else 0
    return (1 << size) - 1 << shift, shift


def signed(number: int, size: int) -> int:
    """Return what ``size`` bytes mean in two's complement."""
    return number - (1 << 8 * size) if number >> 8 * size - 1 else number


def _whole(row: Row, value: Value, exponent: int) -> int:
    """Return the bits of the type that mean ``value``, as an unsigned number."""
    unscaled = float(value) if row.kind in (Kind.CODE, Kind.BITS) else (float(value) - row.offset) / row.scale
    return packed(row, unscaled / 10**exponent if exponent >= 0 else unscaled * 10**-exponent)


def packed(row: Row, unscaled: float) -> int:
    """Return the bits of the type, or of its field, that hold a number.

    Raises:
        ValueError: it does not fit.
    """
    size = bytes_in(row.type)
    if row.type in FLOAT_FORMS:
        return int.from_bytes(struct.pack(FLOAT_FORMS[row.type], unscaled), "big")
    number = round(unscaled)
    if row.type.startswith("bcd"):
        if not 0 <= number < 10 ** (2 * size):
            raise ValueError(f"{number} has more digits than {row.type}, or a sign")
        return sum(number // 10**digit % 10 << 4 * digit for digit in range(2 * size))
    bits = row.field[1] if row.field is not None else 8 * size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if row.type.startswith("int") else (0, (1 << bits) - 1)
    if not low <= number <= high:
        raise ValueError(f"{number} is outside {low} to {high} of {row.type}")
    return number % (1 << bits)


def dealt(row: Row, whole: int) -> list[int]:
    """Return ``whole`` as registers in address order, in the row's order of words and bytes."""
    raw = whole.to_bytes(2 * row.value_words, "big")
    pairs = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    if row.word_order == "little":
        pairs.reverse()
    elif row.word_order == "swapped_pairs":
        pairs = [pairs[1], pairs[0], pairs[3], pairs[2]]
    elif row.word_order == "swapped_halves":
        pairs = pairs[2:] + pairs[:2]
    return [int.from_bytes(pair, row.byte_order) for pair in pairs]


def _place_text(bank: Bank, row: Row, text: str) -> None:
    lanes = 2 if row.lane == "both" else 1
    raw = text.encode("ascii")[: lanes * row.value_words].ljust(lanes * row.value_words, TEXT_PAD)
    if row.lane == "low":
        raw = b"".join(b"\0" + raw[at : at + 1] for at in range(row.value_words))
    elif row.lane == "high":
        raw = b"".join(raw[at : at + 1] + b"\0" for at in range(row.value_words))
    words = dealt(row, int.from_bytes(raw, "big"))
    bank.update(zip(range(row.address, row.address + len(words)), words, strict=True))


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


def exponent_for(rows: Sequence[Row]) -> int:
    """Return the scale factor that lets all ``rows``, which share it, reach their ranges, as finely as they can."""
    least = -EXPONENT_MAX
    for row in rows:
        assert row.range is not None
        largest = max(abs((edge - row.offset) / row.scale) for edge in row.range)
        size = 8 * bytes_in(row.type)
        most = (1 << size - 1) - 1 if row.type.startswith("int") else (1 << size) - 2  # the last means "no value"
        if largest > 0:
            least = max(least, math.ceil(math.log10(largest / most)))
    return min(EXPONENT_MAX, max(least, -3))  # nobody sends more than thousandths


# ---------------------------------------------------------------- registers to values


def gathered(row: Row, words: Sequence[int]) -> int:
    """Return registers in address order as one unsigned number."""
    pairs = [word.to_bytes(2, row.byte_order) for word in words]
    if row.word_order == "little":
        pairs.reverse()
    elif row.word_order == "swapped_pairs":
        pairs = [pairs[1], pairs[0], pairs[3], pairs[2]]
    elif row.word_order == "swapped_halves":
        pairs = pairs[2:] + pairs[:2]
    return int.from_bytes(b"".join(pairs), "big")


def meaning(row: Row, words: Sequence[int]) -> Value | None:
    """Return what a master that wrote ``words`` meant; None for what has no meaning: neither on nor off, not a digit.

    What can't be written (text, a part of a register, a number with a scale factor) has none either.
    """
    if row.table == "coil":
        return bool(words[0])
    if row.kind is Kind.FLAG:
        word = words[0] & row.mask
        if word == row.on_words[-1] & row.mask:
            return True
        return False if row.off is not None and word == row.off_words[-1] & row.mask else None
    if row.type == "text" or row.field is not None or row.scale_from is not None:
        return None
    mask, shift = told(row)
    unscaled = unpacked(row, (gathered(row, words) & mask) >> shift)
    if unscaled is None:
        return None
    if row.kind in (Kind.CODE, Kind.BITS):
        return int(unscaled) if math.isfinite(unscaled) else None
    return unscaled * row.scale + row.offset


def unpacked(row: Row, whole: int) -> float | None:
    """Return the number that the bits of the type, or of its field, hold; None for digits that are none."""
    size = bytes_in(row.type)
    if row.type in FLOAT_FORMS:
        number: float = struct.unpack(FLOAT_FORMS[row.type], whole.to_bytes(size, "big"))[0]
        return number
    if row.type.startswith("bcd"):
        digits = [whole >> 4 * digit & 15 for digit in range(2 * size)]
        return None if max(digits) > 9 else sum(digit * 10**at for at, digit in enumerate(digits))
    return signed(whole, size) if row.type.startswith("int") else whole


# ---------------------------------------------------------------- rubbish

WAYS = ("ffff", "8000", "nan", "swapped", "negated", "times_10", "stuck")


def spoilt(row: Row, words: Sequence[int], how: str) -> list[int]:
    """Return rubbish in place of a value's ``words``.

    Args:
        how: one of WAYS; "stuck" is for the caller, who knows what the words were.

    Raises:
        ValueError: no such way, or not of this type.
    """
    whole_registers = row.table in ("holding", "input") and row.kind is not Kind.FLAG and row.type != "text"
    if how not in WAYS or not (how == "stuck" or whole_registers):
        raise ValueError(f"{how!r} of a {row.type} that is a {row.kind.value}; allowed: {', '.join(WAYS)}, of numbers")
    if how == "nan" and row.type not in FLOAT_FORMS:
        raise ValueError(f'"nan" of a {row.type}; allowed: of {", ".join(FLOAT_FORMS)}')
    if how == "ffff":
        return [0xFFFF] * len(words)
    if how == "8000":
        return dealt(row, 0x8000 << 16 * (len(words) - 1))
    if how == "nan":
        return dealt(row, packed(row, math.nan))
    if how == "swapped":
        return list(words)[::-1] if len(words) > 1 else [words[0] >> 8 | words[0] << 8 & 0xFF00]
    if how in ("negated", "times_10"):
        return _counted_wrong(row, words, how)
    return list(words)


def _counted_wrong(row: Row, words: Sequence[int], how: str) -> list[int]:
    """Return the words of minus or ten times the number; of what does not fit, the bits that are left."""
    (mask, shift), former = told(row), gathered(row, words)
    bits = (former & mask) >> shift
    number = unpacked(row, bits) or 0
    if row.type in FLOAT_FORMS:
        bits = packed(row, -number if how == "negated" else 10 * number)
    elif row.type.startswith("bcd"):
        bits = bits << 4 if how == "times_10" else bits
    else:
        bits = int(-number if how == "negated" else 10 * number)
    return dealt(row, former & ~mask | bits << shift & mask)
