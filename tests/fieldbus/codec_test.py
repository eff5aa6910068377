"""The codec: every type both ways, and no value where the words hold none."""

from __future__ import annotations

import math
import struct
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.profile import Row
from controller.core.points import Quality, Value
from controller.fieldbus.codec import EncodeError, decode, encode

INTEGERS = {
    "int24": (-0x80_0000, 0x7F_FFFF),
    "uint24": (0, 0xFF_FFFF),
    "int48": (-0x8000_0000_0000, 0x7FFF_FFFF_FFFF),
    "uint48": (0, 0xFFFF_FFFF_FFFF),
    "bcd16": (0, 9999),
    "bcd32": (0, 99_999_999),
    "bcd64": (0, 2**53),
    "int16": (-0x8000, 0x7FFF),
    "uint16": (0, 0xFFFF),
    "int32": (-0x8000_0000, 0x7FFF_FFFF),
    "uint32": (0, 0xFFFF_FFFF),
    "int64": (-(2**53), 2**53),  # a float holds whole numbers up to here
    "uint64": (0, 2**53),
}
FLOATS = {"float16": 65504.0, "float32": 2.0**127, "float64": 1.0e300}
BYTES = ("uint8l", "uint8h", "int8l", "int8h")
SWAPPED = ("swapped_pairs", "swapped_halves")


def row(**keys: Any) -> Row:
    numbers = {"range": [-1.0e301, 1.0e301]} if not {"bit", "on", "enum", "bits"} & keys.keys() else {}
    return Row.model_validate({"table": "holding", "address": 0, "access": "rw", **numbers, **keys})


def value_of(row: Row, words: list[int] | tuple[int, ...]) -> Value | None:
    reading = decode(row, words, at=2.5)
    assert reading.at == 2.5
    assert (reading.value is None) == (reading.quality is Quality.BAD)
    assert reading.quality is Quality.GOOD or reading.reason
    return reading.value


orders = pytest.mark.parametrize("word_order", ["big", "little"])


@orders
@pytest.mark.parametrize("kind", INTEGERS)
@given(data=st.data())
def test_an_integer_reads_back_within_one_count(kind: str, word_order: str, data: st.DataObject) -> None:
    scale = data.draw(st.sampled_from([1.0, 0.1, 0.001, 10.0, 100 / 16384, 1 / 1024, -0.5]))
    offset = data.draw(st.sampled_from([0.0, -273.15, 40.0]))
    byte_order = data.draw(st.sampled_from(["big", "little"]))
    point = row(type=kind, word_order=word_order, byte_order=byte_order, scale=scale, offset=offset)
    low, high = INTEGERS[kind]
    value = data.draw(st.integers(low, high)) * scale + offset
    (words,) = encode(point, value)
    assert len(words) == point.width
    assert value_of(point, words) == pytest.approx(value, abs=abs(scale) * 1.000001, rel=1e-12)


@orders
@pytest.mark.parametrize("kind", FLOATS)
@given(data=st.data())
def test_a_float_reads_back(kind: str, word_order: str, data: st.DataObject) -> None:
    limit = FLOATS[kind]
    width: Literal[16, 32, 64] = {"float16": 16, "float32": 32, "float64": 64}[kind]  # type: ignore[assignment]
    value = data.draw(st.floats(-limit, limit, allow_subnormal=False, width=width))
    point = row(type=kind, word_order=word_order, byte_order=data.draw(st.sampled_from(["big", "little"])))
    (words,) = encode(point, value)
    assert value_of(point, words) == value


@orders
@given(words=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4))
@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS, *BYTES])
def test_any_words_give_a_finite_value_or_none(kind: str, word_order: str, words: list[int]) -> None:
    point = row(type=kind, word_order=word_order, access="r")
    value = value_of(point, words[: point.width])
    assert value is None or math.isfinite(float(value))


def test_words_are_taken_in_the_stated_order() -> None:
    assert encode(row(type="uint32"), 0x0001_86A0) == [[0x0001, 0x86A0]]
    assert encode(row(type="uint32", word_order="little"), 0x0001_86A0) == [[0x86A0, 0x0001]]
    assert value_of(row(type="uint64"), [0, 1, 2, 3]) == 1 * 2**32 + 2 * 2**16 + 3
    assert value_of(row(type="uint64", word_order="little"), [3, 2, 1, 0]) == 1 * 2**32 + 2 * 2**16 + 3


@pytest.mark.parametrize("as_type", [list, tuple])
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"type": "int16", "sentinels": [0x8000]}, [0x8000]),
        ({"type": "int16", "sentinels": [-32768]}, [0x8000]),
        ({"type": "int16", "sentinels": [-1]}, [0xFFFF]),
        ({"type": "uint16", "sentinels": [0xFFFF]}, [0xFFFF]),
        ({"type": "int32", "sentinels": [0x8000_0000]}, [0x8000, 0]),
        ({"type": "int32", "word_order": "little", "sentinels": [0x8000_0000]}, [0, 0x8000]),
        ({"type": "uint16", "sentinels": [0]}, [0]),
        ({"type": "float32", "sentinels": [0xFF7F_FFFF]}, [0xFF7F, 0xFFFF]),
    ],
)
def test_a_sentinel_is_no_value(keys: dict[str, Any], words: list[int], as_type: type) -> None:
    reading = decode(row(**keys), as_type(words), at=0.0)
    assert (reading.quality, reading.value) == (Quality.BAD, None)


def test_a_sentinel_of_a_code_is_no_value() -> None:
    point = row(enum={"0": "off", "1": "on"}, sentinels=[0xFFFF])
    assert value_of(point, [0xFFFF]) is None
    assert value_of(point, [1]) == 1


@orders
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "layout"), [("float32", ">f"), ("float64", ">d")])
def test_a_float_that_is_no_number_is_no_value(kind: str, layout: str, number: float, word_order: str) -> None:
    packed = struct.pack(layout, number)
    words = list(struct.unpack(f">{len(packed) // 2}H", packed))
    ordered = words if word_order == "big" else words[::-1]
    assert value_of(row(type=kind, word_order=word_order), ordered) is None


def test_a_code_in_a_float_register_that_is_no_number_is_no_value() -> None:
    point = row(type="float32", access="r", enum={"0": "kilo", "1": "mega"})
    assert value_of(point, [0x7FC0, 0]) is None
    assert value_of(point, [0x3F80, 0]) == 1
    assert value_of(point, [0x3F00, 0]) is None  # 0.5 is no code


@pytest.mark.parametrize(("word", "expected"), [(49, None), (50, 5.0), (300, 30.0), (301, None), (0xFFFF, None)])
def test_a_value_outside_its_range_is_no_value(word: int, expected: float | None) -> None:
    assert value_of(row(scale=0.1, range=[5, 30]), [word]) == expected


def test_the_end_of_a_range_is_inside_whatever_binary_fractions_make_of_it() -> None:
    assert value_of(row(scale=0.1, range=[0, 0.3]), [3]) == pytest.approx(0.3)


def test_one_count_outside_a_wide_range_is_outside() -> None:
    point = row(type="int64", scale=0.001, range=[0, 1_000_000_000])
    assert value_of(point, [0xFFFF] * 4) is None
    assert value_of(point, [0] * 4) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 100.1, "50", True])
def test_a_number_that_must_not_be_written_is_refused(value: Value) -> None:
    with pytest.raises(EncodeError):
        encode(row(scale=0.01, range=[0, 100]), value)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"type": "int16"}, 32768),
        ({"type": "uint16"}, -1),
        ({"type": "uint32"}, 2.0**32),
        ({"type": "uint16", "scale": 0.01}, 700.0),
        ({"type": "float32"}, 1e39),
    ],
)
def test_a_number_too_large_for_its_register_is_refused(keys: dict[str, Any], value: float) -> None:
    with pytest.raises(EncodeError, match="does not fit"):
        encode(row(**keys), value)


@pytest.mark.parametrize("value", [1, 0, 1.0, "on"])
def test_a_flag_takes_only_true_and_false(value: Value) -> None:
    for point in (row(on=1, off=0), row(table="coil", type="bool")):
        with pytest.raises(EncodeError):
            encode(point, value)


@pytest.mark.parametrize("value", [1.5, 3, -1, True, "reset"])
def test_a_code_takes_only_its_own_numbers(value: Value) -> None:
    point = row(enum={"2": "reset", "4": "acknowledge"})
    assert encode(point, 4) == [[4]]
    with pytest.raises(EncodeError):
        encode(point, value)


def test_bits_take_only_whole_numbers() -> None:
    point = row(bits={"0": "first"})
    assert encode(point, 3) == [[3]]
    with pytest.raises(EncodeError):
        encode(point, 1.5)


def test_text_is_never_written() -> None:
    with pytest.raises(EncodeError):
        encode(row(type="text", words=2, access="r"), "AB")


def test_a_command_sequence_is_several_writes() -> None:
    point = row(on=[0x0006, 0x0007, 0x000F, 0x002F, 0x006F], off=0x006E, step_wait_s=0.1)
    assert encode(point, True) == [[0x0006], [0x0007], [0x000F], [0x002F], [0x006F]]
    assert encode(point, False) == [[0x006E]]
    assert value_of(point, [0x006F]) is True
    assert value_of(point, [0x006E]) is False


def test_a_coil_is_one_write() -> None:
    point = row(table="coil", type="bool")
    assert (encode(point, True), encode(point, False)) == ([[1]], [[0]])
    assert (value_of(point, [1]), value_of(point, [0])) == (True, False)


@pytest.mark.parametrize("bit", range(16))
def test_a_bit_is_that_bit_and_no_other(bit: int) -> None:
    point = row(bit=bit, access="r")
    assert value_of(point, [1 << bit]) is True
    assert value_of(point, [0xFFFF ^ 1 << bit]) is False


def test_a_flag_that_is_a_whole_word_knows_only_its_words() -> None:
    assert value_of(row(on=1, off=0, access="r"), [7]) is None
    assert value_of(row(on=32, access="r"), [2]) is False  # without an off word, all others are off
    assert value_of(row(on=0x0100, off=0, mask=0xFF00, access="r"), [0x01FF]) is True


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([0x4142, 0x4300, 0x0000], "ABC"),
        ([0x4142, 0x4320, 0x2020], "ABC"),
        ([0x4142, 0x0043, 0x4445], "AB"),
        ([0, 0, 0], ""),
    ],
)
def test_text_ends_at_its_first_nul(words: list[int], text: str) -> None:
    assert value_of(row(type="text", words=3, access="r"), words) == text


@given(words=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4))
def test_text_of_any_words_can_be_shown(words: list[int]) -> None:
    text = value_of(row(type="text", words=4, access="r"), words)
    assert isinstance(text, str)
    assert "\0" not in text


def test_named_bits_are_a_whole_number() -> None:
    point = row(type="uint32", access="r", bits={"0": "first", "31": "last"})
    assert value_of(point, [0x8000, 0x0001]) == 0x8000_0001


@pytest.mark.parametrize(
    ("word_order", "byte_order", "text"),
    [
        ("big", "big", b"ABCDEFGH"),
        ("little", "big", b"GHEFCDAB"),
        ("big", "little", b"BADCFEHG"),
        ("little", "little", b"HGFEDCBA"),
        ("swapped_pairs", "big", b"CDABGHEF"),
        ("swapped_halves", "big", b"EFGHABCD"),
        ("swapped_pairs", "little", b"DCBAHGFE"),
        ("swapped_halves", "little", b"FEHGBADC"),
    ],
)
def test_every_order_of_eight_bytes(word_order: str, byte_order: str, text: bytes) -> None:
    point = row(type="uint64", word_order=word_order, byte_order=byte_order)
    sent = list(struct.unpack(">4H", text))
    assert value_of(point, sent) == float(int.from_bytes(b"ABCDEFGH", "big"))


@pytest.mark.parametrize("word_order", SWAPPED)
@given(value=st.integers(0, 2**53))
def test_swapped_orders_read_back(word_order: str, value: int) -> None:
    point = row(type="uint64", word_order=word_order)
    assert value_of(point, encode(point, value)[0]) == value


@pytest.mark.parametrize(
    ("keys", "words", "value"),
    [
        ({"type": "uint8l"}, [0xFE03], 3),
        ({"type": "uint8h"}, [0xFE03], 254),
        ({"type": "int8h"}, [0xFE03], -2),
        ({"type": "int8l"}, [0x7F80], -128),
        ({"type": "uint8l", "byte_order": "little"}, [0xFE03], 254),
        ({"type": "int24"}, [0xAAFF, 0xFFFF], -1),
        ({"type": "uint24"}, [0x0001, 0x0002], 65538),
        ({"type": "uint24", "word_order": "little"}, [0x0002, 0x0001], 65538),
        ({"type": "uint48"}, [1, 0, 2], 2**32 + 2),
        ({"type": "int48", "word_order": "little"}, [0xFFFE, 0xFFFF, 0xFFFF], -2),
        ({"type": "float16"}, [0xC500], -5.0),
        ({"type": "bcd16"}, [0x2359], 2359),
        ({"type": "bcd32"}, [0x0102, 0x0304], 1020304),
        ({"type": "bcd16"}, [0x1A00], None),
        ({"field": [12, 4]}, [0x3210], 3),
        ({"field": [4, 4]}, [0x3210], 1),
        ({"field": [12, 8], "type": "uint32"}, [0x0001, 0x2000], 0x12),
        ({"field": [8, 1], "enum": {"0": "lubricate", "1": "change"}}, [0x0106], 1),
        ({"field": [0, 8], "sentinels": [0xFF]}, [0x00FF], None),
        ({"type": "uint8l", "sentinels": [0xFF]}, [0x01FF], None),
        ({"type": "int8l", "sentinels": [0x80]}, [0x0080], None),
        ({"type": "int24", "sentinels": [0x800000]}, [0x0080, 0x0000], None),
        ({"type": "int16", "byte_order": "little", "sentinels": [0x8000]}, [0x0080], None),
    ],
)
def test_parts_and_rarer_types(keys: dict[str, Any], words: list[int], value: float | None) -> None:
    assert value_of(row(access="r", **keys), words) == value


@pytest.mark.parametrize(
    ("exponent", "value"),
    [(0, -1234), (0xFFFF, -123.4), (0xFFFE, -12.34), (3, -1_234_000), (0x8000, None), (11, None), (0xFFF5, None)],
)
def test_a_scale_factor_comes_from_its_register(exponent: int, value: float | None) -> None:
    point = row(type="int16", address=10, scale_from=13, access="r")
    assert point.width == 4
    assert value_of(point, [0xFB2E, 0x1111, 0x2222, exponent]) == (None if value is None else pytest.approx(value))


def test_a_sentinel_is_no_value_whatever_its_scale_factor() -> None:
    point = row(type="int32", scale_from=2, sentinels=[0x8000_0000], access="r")
    assert value_of(point, [0x8000, 0, 0]) is None
    assert value_of(point, [0xFFFF, 0xFFFB, 1]) == -50


@pytest.mark.parametrize(
    "keys",
    [
        {"word_order": "swapped_pairs", "type": "uint32"},
        {"byte_order": "little", "bit": 3},
        {"lane": "low"},
        {"field": [12, 5]},
        {"field": [-1, 2]},
        {"field": [0, 0]},
        {"field": [0, 4], "type": "int16"},
        {"field": [0, 4], "access": "rw"},
        {"type": "uint8l", "access": "rw"},
        {"scale_from": 0},
        {"scale_from": 125},
        {"scale_from": 1, "type": "uint32"},
        {"scale_from": 4, "access": "rw"},
        {"scale_from": 4, "enum": {"0": "off"}},
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        row(**{"access": "r", **keys})


@pytest.mark.parametrize(
    ("keys", "words", "text"),
    [
        ({"byte_order": "little"}, [0x4241, 0x0043], "ABC"),
        ({"lane": "low"}, [0x0041, 0x0042], "AB"),
        ({"lane": "high"}, [0x4100, 0x4220], "AB"),
        ({"word_order": "little"}, [0x4344, 0x4142], "ABCD"),
    ],
)
def test_text_in_other_orders(keys: dict[str, Any], words: list[int], text: str) -> None:
    assert value_of(row(type="text", words=2, access="r", **keys), words) == text


@pytest.mark.parametrize("value", [-1, 10000])
def test_binary_coded_decimal_has_no_sign_and_its_digits(value: float) -> None:
    with pytest.raises(EncodeError, match="does not fit"):
        encode(row(type="bcd16"), value)
