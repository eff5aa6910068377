"""Sparkplug B payloads: the part of the protobuf message that an edge node writes and reads (pure).

Field numbers are those of the payload definition in Sparkplug 3.0.0, chapter 6; they stand below beside their use. Data
sets, templates and metadata are skipped when read and never written. Docs: decisions/0017-sparkplug-codec.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = range(1, 13)
SIGNED_BITS: Final = {INT8: 8, INT16: 16, INT32: 32, INT64: 64}
METRICS_MAX: Final = 256  # of a payload that is read
QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE = 0, 192, 500  # the only values of the property "Quality"

_MASK_64: Final = (1 << 64) - 1
_DOUBLE: Final = struct.Struct("<d")
_FLOAT: Final = struct.Struct("<f")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX: Final = 10
_NULL: Final = b"\x38\x01"  # field 7, true
_HISTORICAL: Final = b"\x28\x01"  # field 5, true
_TRUE, _FALSE = b"\x70\x01", b"\x70\x00"  # field 14

Raw = int | float | bool | str


class Metric(NamedTuple):
    """One metric as it was read.

    Attributes:
        name: empty where only an alias was given.
        datatype: None where it was left out, as commands should.
        value: None where there is none; integers as they stand on the wire, without sign: see ``as_number``.
    """

    name: str
    value: Raw | None
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    historical: bool = False
    quality: int | None = None


class Payload(NamedTuple):
    timestamp: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def varint(number: int) -> bytes:
    """Return ``number``, zero or more, in base 128, least significant first."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def name_field(name: str) -> bytes:
    """Return the encoded name of a metric; made once, used in every payload."""
    text = name.encode()
    return b"\x0a" + varint(len(text)) + text  # field 1


def _quality_field(quality: int) -> bytes:
    value = b"\x08\x03\x18" + varint(quality)  # type 1 is Int32, int_value 3
    properties = b"\x0a\x07Quality\x12" + varint(len(value)) + value  # keys 1, values 2
    return b"\x4a" + varint(len(properties)) + properties  # field 9


_QUALITY: Final = {code: _quality_field(code) for code in (QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE)}


def metric(
    name: bytes,
    datatype: int,
    value: Raw | None,
    timestamp: int,
    quality: int = QUALITY_GOOD,
    *,
    birth: bool = False,
    historical: bool = False,
) -> bytes:
    """Return one encoded metric.

    Args:
        name: what ``name_field`` made.
        datatype: INT32, INT64, DOUBLE, BOOLEAN or STRING; written in births only.
        value: None is written as null; an integer that does not fit 64 bits keeps its low ones.
        timestamp: milliseconds since the Unix epoch.
        quality: left out where it is good, but for births.
    """
    parts = [name, b"\x18", varint(timestamp)]  # field 3
    if birth:
        parts.append(b"\x20" + varint(datatype))  # field 4
    if historical:
        parts.append(_HISTORICAL)
    if birth or quality != QUALITY_GOOD:
        parts.append(_QUALITY[quality])
    if value is None:
        parts.append(_NULL)
    elif datatype == DOUBLE:
        parts.append(b"\x69" + _DOUBLE.pack(value))  # field 13
    elif datatype == BOOLEAN:
        parts.append(_TRUE if value else _FALSE)
    elif datatype == INT64:
        parts.append(b"\x58" + varint(int(value) & _MASK_64))  # field 11
    elif datatype == INT32:
        parts.append(b"\x50" + varint(int(value) & 0xFFFF_FFFF))  # field 10
    else:
        text = str(value).encode()
        parts.append(b"\x7a" + varint(len(text)) + text)  # field 15
    return b"".join(parts)


def payload(timestamp: int, metrics: Iterable[bytes], seq: int | None) -> bytes:
    """Return an encoded payload of encoded metrics; ``seq`` is None for a death certificate of the node."""
    parts = [b"\x08", varint(timestamp)]  # field 1
    for encoded in metrics:
        parts += (b"\x12", varint(len(encoded)), encoded)  # field 2
    if seq is not None:
        parts += (b"\x18", varint(seq))  # field 3
    return b"".join(parts)


def decode(data: bytes, metrics_max: int = METRICS_MAX) -> Payload:
    """Return the payload in ``data``.

    Raises:
        ValueError: it is not one, or has more than ``metrics_max`` metrics.
    """
    timestamp = seq = None
    metrics: list[Metric] = []
    for field, kind, value in _fields(data):
        if field == 1 and kind == _VARINT:
            timestamp = int(value)
        elif field == 2 and kind == _BYTES:
            metrics.append(_metric(value))  # type: ignore[arg-type]
            if len(metrics) > metrics_max:
                raise ValueError(f"more than {metrics_max} metrics")
        elif field == 3 and kind == _VARINT:
            seq = int(value)
    return Payload(timestamp, seq, tuple(metrics))


def as_number(value: Raw | None, datatype: int) -> float | None:
    """Return a metric's value as a number of ``datatype``, or None if it is none; negative integers get their sign."""
    if value is None or isinstance(value, bool | str):
        return None
    bits = SIGNED_BITS.get(datatype)
    if bits is None or isinstance(value, float):
        return float(value)
    value &= (1 << bits) - 1
    return float(value - (1 << bits) if value >> (bits - 1) else value)


def _metric(data: bytes) -> Metric:
    found = Metric("", None)
    null = False
    for field, kind, value in _fields(data):
        if isinstance(value, bytes):
            if (field, kind) == (1, _BYTES):
                found = found._replace(name=value.decode())  # UnicodeDecodeError is a ValueError
            elif (field, kind) == (9, _BYTES):
                found = found._replace(quality=_quality(value))
            elif (field, kind) == (12, _FIXED32):
                found = found._replace(value=float(_FLOAT.unpack(value)[0]))
            elif (field, kind) == (13, _FIXED64):
                found = found._replace(value=float(_DOUBLE.unpack(value)[0]))
            elif (field, kind) == (15, _BYTES):
                found = found._replace(value=value.decode())
        elif field in (10, 11):
            found = found._replace(value=value)
        elif field == 14:
            found = found._replace(value=bool(value))
        elif field == 7:
            null = bool(value)
        elif field == 5:
            found = found._replace(historical=bool(value))
        elif field == 2:
            found = found._replace(alias=value)
        elif field == 3:
            found = found._replace(timestamp=value)
        elif field == 4:
            found = found._replace(datatype=value)
    return found._replace(value=None) if null else found


def _quality(data: bytes) -> int | None:
    keys: list[bytes] = []
    values: list[Sequence[tuple[int, int, int | bytes]]] = []
    for field, kind, value in _fields(data):
        if kind == _BYTES and isinstance(value, bytes):
            if field == 1:
                keys.append(value)
            elif field == 2:
                values.append(list(_fields(value)))
    for key, fields in zip(keys, values, strict=False):
        if key == b"Quality":
            return next((int(value) for field, kind, value in fields if (field, kind) == (3, _VARINT)), None)
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (field number, wire type, value) of a message; fixed and length-delimited values are bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _read_varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, at = _read_varint(data, at)
            yield field, kind, number
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("cut short")
        yield field, kind, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number & _MASK_64, at + place + 1
    raise ValueError("cut short or too long a number")
